"""The checked interface. Nothing here refers to text or files any more."""

from dataclasses import dataclass, field


@dataclass
class Type:
    """A type that can be named. `module` is None for builtins."""

    name: str
    module: str | None = None
    doc: object = None
    features: list = field(default_factory=list)


@dataclass
class Builtin(Type):
    """`json` is the JSON type: string, int, number, boolean, null or value."""

    json: str = ""


BUILTINS = {
    name: Builtin(name, json=json)
    for name, json in {
        "str": "string",
        "int": "int",
        "int8": "int",
        "int16": "int",
        "int32": "int",
        "int64": "int",
        "uint8": "int",
        "uint16": "int",
        "uint32": "int",
        "uint64": "int",
        "size": "int",
        "number": "number",
        "bool": "boolean",
        "null": "null",
        "any": "value",
    }.items()
}


@dataclass
class EnumValue:
    name: str
    features: list = field(default_factory=list)


@dataclass
class Enum(Type):
    values: list = field(default_factory=list)


@dataclass
class Array(Type):
    element: Type = None


@dataclass
class Member:
    """A member of an object. `boxed` is set by layout when the type contains itself here."""

    name: str
    type: Type = None
    optional: bool = False
    features: list = field(default_factory=list)
    boxed: bool = False


@dataclass
class Object(Type):
    """A struct or a union. A union has a tag member and variants: enum value -> Object.

    `implicit` objects have no name in the schema: the arguments of a command, the base of a union.
    """

    base: "Object" = None
    members: list = field(default_factory=list)
    tag: Member = None
    variants: dict = field(default_factory=dict)
    implicit: bool = False

    def all_members(self):
        """Own and inherited members, the inherited ones first."""
        return (self.base.all_members() if self.base else []) + self.members

    def branch_types(self):
        """The distinct types of the variants, in order of first use."""
        return list({branch.name: branch for branch in self.variants.values()}.values())


@dataclass
class Alternate(Type):
    """`members` are its branches; their names are only documentation."""

    members: list = field(default_factory=list)


@dataclass
class Command:
    name: str
    module: str
    doc: object
    arguments: Object  # never None: no arguments are an empty object
    returns: Type | None
    allow_oob: bool = False
    generated_result: bool = True  # false: the result is handed over as JSON
    features: list = field(default_factory=list)


@dataclass
class Event:
    name: str
    module: str
    doc: object
    data: Object
    features: list = field(default_factory=list)


@dataclass
class Schema:
    """`modules` maps each module to those it includes, in order of inclusion."""

    modules: dict
    types: dict  # name -> Type, arrays excepted, in order of definition
    commands: list
    events: list

    def types_of(self, module):
        return [t for t in self.types.values() if t.module == module]
