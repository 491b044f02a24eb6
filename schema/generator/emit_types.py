"""Emits types_MODULE.h and types_MODULE.cc: plain C++ types without any JSON."""

from . import layout
from .cpp_names import (constant, file_part, member_name, member_type, pascal, type_name)
from .model import Alternate, Builtin, Enum, Object
from .writer import comment, header


def module_objects(schema, module):
    """Structs, unions and alternates of a module, with the implicit ones of its commands and
    events."""
    result = [t for t in schema.types_of(module) if not isinstance(t, Enum)]
    for command in schema.commands:
        if command.module == module and command.arguments.implicit and command.arguments.members:
            result.append(command.arguments)
    for event in schema.events:
        if event.module == module and event.data.implicit and event.data.members:
            result.append(event.data)
    return result


def _enum(enum):
    out = comment(" ".join(enum.doc.body))
    out += f"enum class {enum.name} {{\n"
    for value in enum.values:
        out += f"  {constant(value.name)},"
        out += comment(enum.doc.members[value.name], "  ").replace("  //", "  //", 1) \
            if len(enum.doc.members[value.name]) < 60 else "\n"
    out += "};\n"
    out += f"// The names of the values in the interface, in the order of the values.\n"
    out += f"[[nodiscard]] std::span<const std::string_view> enum_names({enum.name});\n"
    out += f"[[nodiscard]] std::string_view to_string({enum.name} value);\n\n"
    return out


def _member(member, doc):
    text = doc.members.get(member.name, "") if doc else ""
    out = comment(text[:1].upper() + text[1:] + ".", "  ") if text else ""
    initial = ""
    if not member.optional and (isinstance(member.type, Enum) or _scalar(member.type)):
        initial = "{}"
    return out + f"  {member_type(member)} {member_name(member.name)}{initial};\n"


def _scalar(kind):
    return isinstance(kind, Builtin) and kind.name not in ("str", "any", "null")


def _object(kind):
    said = " ".join(kind.doc.body)
    if kind.implicit:
        said = ("The data of the event " if kind.name.isupper() else "The arguments of ") \
            + kind.name + "."
    base = f" : {kind.base.name}" if kind.base else ""
    out = comment(said) + f"struct {type_name(kind)}{base} {{\n"
    for member in kind.members:
        out += _member(member, kind.doc)
    if kind.tag:
        branches = "".join(f",\n                              {branch.name}"
                           for branch in kind.branch_types())
        out += (f"  // What `{member_name(kind.tag.name)}` selects; std::monostate where it adds"
                " nothing.\n")
        out += f"  using Branch = std::variant<std::monostate{branches}>;\n  Branch branch;\n"
    return out + "};\n\n"


def _alternate(kind):
    types = ", ".join(f"Box<{type_name(m.type)}>" if m.boxed else type_name(m.type)
                      for m in kind.members)
    out = comment(" ".join(kind.doc.body)) + f"struct {kind.name} {{\n"
    out += f"  std::variant<{types}> value;\n"
    return out + "};\n\n"


def _foreign_modules(schema, module):
    """Modules whose types this one holds."""
    result = set()
    for kind in module_objects(schema, module):
        used = [m.type for m in kind.members]
        if isinstance(kind, Object):
            used += kind.branch_types() + ([kind.base] if kind.base else [])
        for entry in used:
            while hasattr(entry, "element"):
                entry = entry.element
            if entry.module and entry.module != module:
                result.add(entry.module)
    return sorted(result)


def types_header(schema, module):
    part = file_part(module)
    out = header(module + ".json", "The types that this part of the interface defines.")
    out += "#pragma once\n\n#include <cstdint>\n#include <optional>\n#include <span>\n"
    out += "#include <string>\n#include <string_view>\n#include <variant>\n#include <vector>\n\n"
    out += '#include "schema/builtin.h"\n'
    objects = module_objects(schema, module)
    if any(isinstance(m.type, Builtin) and m.type.name == "any"
           for kind in objects for m in kind.members):
        out += '#include "schema/json.h"\n'
    out += "".join(f'#include "schema/types_{file_part(name)}.h"\n'
                   for name in _foreign_modules(schema, module))
    out += "\nnamespace cairn::schema {\n\n"
    for kind in objects:
        out += f"struct {type_name(kind)};\n"
    out += "\n" if objects else ""
    for kind in schema.types_of(module):
        if isinstance(kind, Enum):
            out += _enum(kind)
    for kind in layout.definition_order(objects):
        out += _alternate(kind) if isinstance(kind, Alternate) else _object(kind)
    del part
    return out + "}  // namespace cairn::schema\n"


def types_source(schema, module):
    out = header(module + ".json", "The names of enumeration values.")
    out += f'#include "schema/types_{file_part(module)}.h"\n\n#include <array>\n\n'
    out += "namespace cairn::schema {\n\n"
    for kind in schema.types_of(module):
        if not isinstance(kind, Enum):
            continue
        names = ", ".join(f'"{value.name}"' for value in kind.values)
        table = f"k{pascal(kind.name)}Names"
        out += "namespace {\n"
        out += (f"constexpr std::array<std::string_view, {len(kind.values)}> {table} = "
                f"{{{names}}};\n")
        out += "}  // namespace\n"
        out += f"std::span<const std::string_view> enum_names({kind.name}) {{ return {table}; }}\n"
        out += f"std::string_view to_string({kind.name} value) {{\n"
        out += f"  const auto index = static_cast<size_t>(value);\n"
        out += f"  return index < {table}.size() ? {table}[index] : std::string_view();\n}}\n\n"
    return out + "}  // namespace cairn::schema\n"
