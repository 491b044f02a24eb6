"""Emits commands.h: a tag type for each command and event, and lists of all of them.

The monitor builds its dispatch table from the list, so that a command without a handler does not
compile.
"""

from .cpp_names import file_part, pascal, type_name
from .model import Array
from .writer import comment, header


def _arguments(kind):
    return type_name(kind) if kind.members or kind.base or not kind.implicit else "NoArguments"


def _innermost(kind):
    return _innermost(kind.element) if isinstance(kind, Array) else kind


def _command(command):
    if not command.generated_result:
        result = "JsonValue"
    else:
        result = type_name(command.returns) if command.returns else "void"
    out = comment(" ".join(command.doc.body))
    out += f"struct {pascal(command.name)} {{\n"
    # Qualified: the arguments may be named like the command.
    out += f"  using Arguments = schema::{_arguments(command.arguments)};\n"
    out += f"  using Result = {result};\n"
    out += f'  static constexpr std::string_view kName = "{command.name}";\n'
    out += f"  static constexpr bool kAllowOob = {str(command.allow_oob).lower()};\n"
    return out + "};\n\n"


def _event(event):
    out = comment(" ".join(event.doc.body))
    out += f"struct {pascal(event.name)} {{\n"
    out += f"  using Data = {_arguments(event.data)};\n"
    out += f'  static constexpr std::string_view kName = "{event.name}";\n'
    return out + "};\n\n"


def _list(names):
    return "TypeList<" + ", ".join(names) + ">"


def commands_header(schema):
    out = header("schema.json", "Every command and event of the interface as a type.")
    out += "#pragma once\n\n#include <string_view>\n#include <vector>\n\n"
    out += '#include "schema/type_list.h"\n'
    used = [c.arguments for c in schema.commands] + [e.data for e in schema.events]
    used += [_innermost(c.returns) for c in schema.commands if c.returns]
    modules = sorted({kind.module for kind in used if kind.module})
    out += "".join(f'#include "schema/visit_{file_part(m)}.h"\n' for m in modules)
    out += '#include "schema/visit_containers.h"\n'
    out += "\nnamespace cairn::schema::commands {\n\n"
    for command in schema.commands:
        out += _command(command)
    out += f"using All = {_list(pascal(c.name) for c in schema.commands)};\n\n"
    out += "}  // namespace cairn::schema::commands\n\nnamespace cairn::schema::events {\n\n"
    for event in schema.events:
        out += _event(event)
    out += f"using All = {_list(pascal(e.name) for e in schema.events)};\n\n"
    return out + "}  // namespace cairn::schema::events\n"
