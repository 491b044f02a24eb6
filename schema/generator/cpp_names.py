"""How names of the schema are spelled in C++."""

import re

from .model import Array, Builtin

# Words of the language, a name that generated unions use themselves, and macros.
_RESERVED = frozenset(
    """alignas alignof and asm auto bool break case catch char class concept const constexpr
    continue default delete do double else enum explicit export extern false float for friend goto
    if inline int long mutable namespace new noexcept not operator or private protected public
    register requires return short signed sizeof static struct switch template this throw true try
    typedef typename union unsigned using virtual void volatile while xor
    branch
    errno stdin stdout stderr assert linux unix""".split())

BUILTIN_TYPES = {
    "str": "std::string",
    "int": "int64_t",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
    "size": "uint64_t",
    "number": "double",
    "bool": "bool",
    "null": "Null",
    "any": "JsonValue",
}


def member_name(name):
    """node-name -> node_name; reserved words get a trailing underscore."""
    spelled = re.sub(r"[^A-Za-z0-9]", "_", name)
    if spelled[0].isdigit():
        spelled = "_" + spelled
    return spelled + "_" if spelled in _RESERVED else spelled


def pascal(name):
    """null-co -> NullCo, BLOCK_IO_ERROR -> BlockIoError, qmp_capabilities -> QmpCapabilities."""
    words = re.split(r"[^A-Za-z0-9]+", name)
    if name.isupper():
        words = [word.lower() for word in words]
    return "".join(word[:1].upper() + word[1:] for word in words)


def constant(name):
    """An enum value: host_device -> kHostDevice."""
    return "k" + pascal(name)


def type_name(kind):
    """The C++ type for values of `kind`."""
    if isinstance(kind, Builtin):
        return BUILTIN_TYPES[kind.name]
    if isinstance(kind, Array):
        return f"std::vector<{type_name(kind.element)}>"
    if getattr(kind, "implicit", False):
        return pascal(kind.name) + ("Event" if kind.name.isupper() else "Arguments")
    return kind.name


def member_type(member):
    """The C++ type of a member, with Box and std::optional where they are needed."""
    spelled = type_name(member.type)
    if member.boxed:
        spelled = f"Box<{spelled}>"
    return f"std::optional<{spelled}>" if member.optional else spelled


def file_part(module):
    """block-core -> block_core"""
    return module.replace("-", "_")
