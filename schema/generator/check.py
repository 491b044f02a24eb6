"""Builds the model from expressions, or says what is wrong with them."""

import re

from .conditions import holds
from .lexer import SchemaError
from .model import (BUILTINS, Alternate, Array, Command, Enum, EnumValue, Event, Member, Object,
                    Schema)

KEYS = {
    "enum": {"data", "if", "features", "prefix"},
    "struct": {"data", "base", "if", "features"},
    "union": {"data", "base", "discriminator", "if", "features"},
    "alternate": {"data", "if", "features"},
    "command": {"data", "returns", "boxed", "gen", "success-response", "allow-oob",
                "allow-preconfig", "coroutine", "if", "features"},
    "event": {"data", "boxed", "if", "features"},
}
_NAME = re.compile(r"(__[a-z0-9.-]+_)?[A-Za-z0-9][A-Za-z0-9_-]*")
_TYPE_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")
_EVENT_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


class Checker:
    """Two passes: declare every type by name, then resolve what they refer to."""

    def __init__(self, parsed, defines=()):
        self.parsed = parsed
        self.defines = set(defines)
        self.schema = Schema(dict(parsed.includes), {}, [], [])
        self.arrays = {}
        self.operations = set()  # ('command' or 'event', name)

    def run(self):
        live = [e for e in self.parsed.expressions if self.wanted(e.body, e.place)]
        for expression in live:
            self.check_keys(expression)
            self.declare(expression)
        for expression in live:
            getattr(self, "define_" + expression.meta)(expression)
        for expression in live:
            self.check_object(expression)
        return self.schema

    # -- helpers

    def wanted(self, body, place):
        return "if" not in body or holds(body["if"], self.defines, place)

    def check_keys(self, expression):
        unknown = set(expression.body) - KEYS[expression.meta]
        if unknown:
            raise SchemaError(expression.place,
                              f"'{expression.meta}' has no '{sorted(unknown)[0]}'")

    def declare(self, e):
        name, place = e.name, e.place
        if e.meta in ("command", "event"):
            pattern = _NAME if e.meta == "command" else _EVENT_NAME
            if not pattern.fullmatch(name):
                raise SchemaError(place, f"'{name}' is no name for {e.meta}s")
            if (e.meta, name) in self.operations:
                raise SchemaError(place, f"'{name}' is defined twice")
            self.operations.add((e.meta, name))
            return
        if not _TYPE_NAME.fullmatch(name):
            raise SchemaError(place, f"'{name}' is no name for a type: it must be in CamelCase")
        if name in self.schema.types:
            raise SchemaError(place, f"'{name}' is defined twice")
        kind = {"enum": Enum, "alternate": Alternate}.get(e.meta, Object)
        self.schema.types[name] = kind(name, module=e.module, doc=e.doc,
                                       features=self.features(e.body, place))

    def features(self, body, place):
        result = []
        for feature in body.get("features", []):
            if isinstance(feature, str):
                feature = {"name": feature}
            if not isinstance(feature, dict) or not isinstance(feature.get("name"), str):
                raise SchemaError(place, "a feature must be a string or have a 'name'")
            if self.wanted(feature, place):
                result.append(feature["name"])
        return result

    def type(self, spec, place):
        """The type that `spec` names: 'name' or ['name']."""
        if isinstance(spec, list):
            if len(spec) != 1 or not isinstance(spec[0], str):
                raise SchemaError(place, "an array type is written [ 'type' ]")
            element = self.type(spec[0], place)
            return self.arrays.setdefault(element.name, Array(element.name + "List",
                                                              element=element))
        if not isinstance(spec, str):
            raise SchemaError(place, "a type must be a name or an array of one name")
        found = BUILTINS.get(spec) or self.schema.types.get(spec)
        if not found:
            raise SchemaError(place, f"there is no type '{spec}'")
        return found

    def members(self, data, place):
        if not isinstance(data, dict):
            raise SchemaError(place, "members must be an object")
        result = []
        for key, spec in data.items():
            optional = key.startswith("*")
            name = key[1:] if optional else key
            if not _NAME.fullmatch(name):
                raise SchemaError(place, f"'{name}' is no name for a member")
            details = spec if isinstance(spec, dict) else {"type": spec}
            unknown = set(details) - {"type", "if", "features"}
            if unknown or "type" not in details:
                raise SchemaError(place, f"member '{name}' must have 'type', 'if', 'features'")
            if self.wanted(details, place):
                result.append(Member(name, self.type(details["type"], place), optional,
                                     self.features(details, place)))
        return result

    def object_named(self, spec, place, what):
        found = self.type(spec, place)
        if not isinstance(found, Object):
            raise SchemaError(place, f"{what} '{spec}' must be a struct or union")
        return found

    # -- one method for each kind of definition

    def define_enum(self, e):
        enum = self.schema.types[e.name]
        for spec in e.body.get("data", []):
            details = spec if isinstance(spec, dict) else {"name": spec}
            name = details.get("name")
            if not isinstance(name, str) or not name:
                raise SchemaError(e.place, "a value must be a string or have a 'name'")
            if any(value.name == name for value in enum.values):
                raise SchemaError(e.place, f"value '{name}' is given twice")
            if self.wanted(details, e.place):
                enum.values.append(EnumValue(name, self.features(details, e.place)))

    def define_struct(self, e):
        struct = self.schema.types[e.name]
        if "base" in e.body:
            struct.base = self.object_named(e.body["base"], e.place, "base")
        struct.members = self.members(e.body.get("data"), e.place)

    def define_union(self, e):
        union = self.schema.types[e.name]
        base = e.body.get("base")
        if isinstance(base, dict):
            union.members = self.members(base, e.place)
        elif isinstance(base, str):
            union.base = self.object_named(base, e.place, "base")
        else:
            raise SchemaError(e.place, f"union '{e.name}' needs a 'base'")
        union.tag = e.body.get("discriminator")  # resolved in check_object
        for case, spec in e.body.get("data", {}).items():
            details = spec if isinstance(spec, dict) else {"type": spec}
            if self.wanted(details, e.place):
                union.variants[case] = self.object_named(details.get("type"), e.place, "branch")

    def define_alternate(self, e):
        alternate = self.schema.types[e.name]
        alternate.members = self.members(e.body.get("data"), e.place)
        seen = {}
        for member in alternate.members:
            kind = json_type(member.type)
            if kind in seen or (kind == "value"):
                raise SchemaError(e.place, f"branch '{member.name}' can not be told from others")
            seen[kind] = member.name

    def define_command(self, e):
        returns = self.type(e.body["returns"], e.place) if "returns" in e.body else None
        self.schema.commands.append(Command(
            e.name, e.module, e.doc, self.arguments(e), returns,
            e.body.get("allow-oob", False), e.body.get("gen", True),
            self.features(e.body, e.place)))

    def define_event(self, e):
        self.schema.events.append(
            Event(e.name, e.module, e.doc, self.arguments(e), self.features(e.body, e.place)))

    def arguments(self, e):
        data = e.body.get("data", {})
        if isinstance(data, str):
            if not e.body.get("boxed"):
                raise SchemaError(e.place, f"'{e.name}' takes a named type: say 'boxed': true")
            return self.object_named(data, e.place, "argument type")
        return Object(e.name, module=e.module, doc=e.doc, implicit=True,
                      members=self.members(data, e.place))

    # -- after everything is resolved

    def check_object(self, e):
        if e.meta in ("struct", "union"):
            subject = self.schema.types[e.name]
            self.check_base(subject, e.place)
            if e.meta == "union":
                self.resolve_tag(subject, e.place)
            names = [member.name for member in subject.all_members()]
            self.check_unique(names, e.place)
            for case, branch in subject.variants.items():
                self.check_unique(names + [m.name for m in branch.all_members()], e.place)
                if case not in [value.name for value in subject.tag.type.values]:
                    raise SchemaError(e.place, f"'{case}' is no value of the discriminator")
        self.check_documentation(e)

    def check_base(self, subject, place):
        base, seen = subject.base, {subject.name}
        while base:
            if base.name in seen:
                raise SchemaError(place, f"'{subject.name}' inherits from itself")
            if base.variants:
                raise SchemaError(place, f"base '{base.name}' must not be a union")
            seen.add(base.name)
            base = base.base

    def resolve_tag(self, union, place):
        name = union.tag
        union.tag = next((m for m in union.all_members() if m.name == name), None)
        if not union.tag or not isinstance(union.tag.type, Enum):
            raise SchemaError(place, f"discriminator '{name}' must be a member of an enum type")
        if union.tag.optional:
            raise SchemaError(place, f"discriminator '{name}' must not be optional")

    def check_unique(self, names, place):
        for index, name in enumerate(names):
            if name in names[:index]:
                raise SchemaError(place, f"member '{name}' is there twice")

    def check_documentation(self, e):
        documented = set(e.doc.members)
        data = e.body.get("base") if e.meta == "union" else e.body.get("data", {})
        if e.meta == "enum":
            data = [spec["name"] if isinstance(spec, dict) else spec for spec in data]
        names = {key.lstrip("*") for key in data} if isinstance(data, (dict, list)) else set()
        for name in sorted(names - documented):
            raise SchemaError(e.doc.place, f"'@{name}' of '{e.name}' is not documented")
        for name in sorted(documented - names):
            raise SchemaError(e.doc.place, f"'{e.name}' has no '@{name}'")


def json_type(kind):
    """The JSON type of values of `kind`; numbers of both sorts count as one."""
    if isinstance(kind, Enum):
        return "string"
    if isinstance(kind, Object):
        return "object"
    if isinstance(kind, Array):
        return "array"
    if isinstance(kind, Alternate):
        return "value"
    return "number" if kind.json == "int" else kind.json


def check_schema(parsed, defines=()):
    """The model of `parsed`; raises SchemaError."""
    return Checker(parsed, defines).run()
