"""Emits the answer of query-qmp-schema as a constant string.

Type names are not part of the interface, so they are replaced by numbers; arrays are named after
their elements. All integer types look alike.
"""

import json

from .model import Alternate, Array, Builtin, Enum, Object
from .writer import header

_BUILTIN_NAMES = {"string": "str", "int": "int", "number": "number", "boolean": "bool",
                  "null": "null", "value": "any"}
# A string literal may not be arbitrarily long for every compiler.
_PIECE = 8000


class Introspection:
    """Collects entities: commands and events first, then every type after its first use."""

    def __init__(self, schema):
        self.numbers = {}
        self.pending = []
        self.entities = []
        self.empty = Object("", implicit=True)
        for event in schema.events:
            self.add(event.name, "event", event.features, {"arg-type": self.object(event.data)})
        for command in schema.commands:
            self.command(command)
        while self.pending:
            self.type(self.pending.pop(0))

    def add(self, name, meta, features, details):
        entity = {"name": name, "meta-type": meta, **details}
        if features:
            entity["features"] = features
        self.entities.append(entity)

    def object(self, kind):
        return self.name(kind if kind.all_members() or kind.variants else self.empty)

    def name(self, kind):
        """The name that stands for `kind`; whoever asks first queues its definition."""
        if isinstance(kind, Array):
            name = f"[{self.name(kind.element)}]"
            if name not in self.numbers:
                self.numbers[name] = name
                self.pending.append(kind)
            return name
        key = kind.json if isinstance(kind, Builtin) else (kind.name, id(kind))
        if key not in self.numbers:
            if isinstance(kind, Builtin):
                self.numbers[key] = _BUILTIN_NAMES[kind.json]
            else:
                self.numbers[key] = str(sum(isinstance(k, tuple) for k in self.numbers))
            self.pending.append(kind)
        return self.numbers[key]

    def command(self, command):
        details = {"arg-type": self.object(command.arguments),
                   "ret-type": self.name(command.returns or self.empty)}
        if command.allow_oob:
            details["allow-oob"] = True
        self.add(command.name, "command", command.features, details)

    def member(self, member):
        entry = {"name": member.name, "type": self.name(member.type)}
        if member.optional:
            entry["default"] = None
        if member.features:
            entry["features"] = member.features
        return entry

    def type(self, kind):
        name = self.name(kind)
        if isinstance(kind, Builtin):
            self.add(name, "builtin", [], {"json-type": kind.json})
        elif isinstance(kind, Array):
            self.add(name, "array", [], {"element-type": self.name(kind.element)})
        elif isinstance(kind, Enum):
            members = [{"name": value.name, **({"features": value.features}
                                               if value.features else {})} for value in kind.values]
            self.add(name, "enum", kind.features,
                     {"members": members, "values": [value.name for value in kind.values]})
        elif isinstance(kind, Alternate):
            members = [{"type": self.name(member.type)} for member in kind.members]
            self.add(name, "alternate", kind.features, {"members": members})
        else:
            self.struct(name, kind)

    def struct(self, name, kind):
        details = {"members": [self.member(member) for member in kind.all_members()]}
        if kind.tag:
            details["tag"] = kind.tag.name
            details["variants"] = [
                {"case": value.name,
                 "type": self.object(kind.variants.get(value.name, self.empty))}
                for value in kind.tag.type.values]
        self.add(name, "object", kind.features, details)


def introspection(schema):
    """The entities, as Python data."""
    return Introspection(schema).entities


def introspection_header():
    return header("schema.json", "The answer of query-qmp-schema.") + """\
#pragma once

#include <string>

namespace cairn::schema {

// A JSON array. It stays text so that a daemon that nobody asks pays nothing for it.
[[nodiscard]] std::string introspection_json();

}  // namespace cairn::schema
"""


def introspection_source(schema):
    text = json.dumps(introspection(schema), separators=(",", ":"))
    out = header("schema.json", "The answer of query-qmp-schema.")
    out += '#include "schema/introspection.h"\n\n#include <string_view>\n\n'
    out += "namespace cairn::schema {\n\nnamespace {\n\n"
    out += "constexpr std::string_view kPieces[] = {\n"
    for start in range(0, len(text), _PIECE):
        out += f'    R"json({text[start:start + _PIECE]})json",\n'
    out += "};\n\n}  // namespace\n\nstd::string introspection_json() {\n  std::string text;\n"
    out += "  for (const std::string_view piece : kPieces) {\n    text += piece;\n  }\n"
    return out + "  return text;\n}\n\n}  // namespace cairn::schema\n"
