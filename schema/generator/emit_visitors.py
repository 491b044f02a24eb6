"""Emits visit_MODULE.h and visit_MODULE.cc: JSON to and from the types of a module."""

from .cpp_names import constant, file_part, member_name, type_name
from .emit_types import module_objects
from .model import Alternate, Builtin, Object
from .writer import header


def visitors_header(schema, module):
    out = header(module + ".json", "Reading the types of this part from JSON, and writing them.")
    out += '#pragma once\n\n#include "schema/reader.h"\n'
    out += f'#include "schema/types_{file_part(module)}.h"\n'
    out += '#include "schema/writer.h"\n\n'
    out += "namespace cairn::schema {\n\n"
    for kind in module_objects(schema, module):
        name = type_name(kind)
        if isinstance(kind, Object):
            out += f"bool read_members(ObjectReader& in, {name}& out);\n"
            out += f"void write_members(JsonObject& out, const {name}& in);\n"
        out += f"bool read(const Input& in, {name}& out);\n"
        out += f"[[nodiscard]] JsonValue to_json(const {name}& in);\n"
    return out + "\n}  // namespace cairn::schema\n"


def _included_visitors(schema, module):
    """This module and all that it includes, directly or not."""
    result, todo = [], [module]
    while todo:
        name = todo.pop()
        if name not in result:
            result.append(name)
            todo += schema.modules[name]
    return sorted(result)


def visitors_source(schema, module):
    out = header(module + ".json", "Reading and writing JSON.")
    out += f'#include "schema/visit_{file_part(module)}.h"\n\n'
    out += "#include <utility>\n\n"
    for name in _included_visitors(schema, module):
        if name != module:
            out += f'#include "schema/visit_{file_part(name)}.h"\n'
    out += '#include "schema/visit_containers.h"\n\nnamespace cairn::schema {\n\n'
    for kind in module_objects(schema, module):
        out += _alternate(kind) if isinstance(kind, Alternate) else _object(kind)
    return out + "}  // namespace cairn::schema\n"


def _object(kind):
    name = type_name(kind)
    return _read_members(kind, name) + _write_members(kind, name) + f"""\
bool read(const Input& in, {name}& out) {{
  ObjectReader members(in);
  return members.ok() && read_members(members, out) && members.finish();
}}

JsonValue to_json(const {name}& in) {{
  JsonObject out;
  write_members(out, in);
  return JsonValue(std::move(out));
}}

"""


def _cases(kind):
    """(type, [enum constants]) for each distinct branch."""
    result = {}
    for case, branch in kind.variants.items():
        result.setdefault(branch.name, []).append(f"{kind.tag.type.name}::{constant(case)}")
    return result


def _read_members(kind, name):
    unused = not (kind.base or kind.members or kind.variants)
    out = f"bool read_members([[maybe_unused]] ObjectReader& in, [[maybe_unused]] {name}& out) {{\n"
    if unused:
        return out + "  return true;\n}\n\n"
    steps = []
    if kind.base:
        steps.append(f"read_members(in, static_cast<{kind.base.name}&>(out))")
    for member in kind.members:
        how = "optional" if member.optional else "required"
        how += "_size" if member.type.name == "size" else ""
        steps.append(f'in.{how}("{member.name}", out.{member_name(member.name)})')
    joined = " &&\n      ".join(steps)
    if not kind.tag:
        return out + f"  return {joined};\n}}\n\n"
    out += f"  if (!({joined})) {{\n    return false;\n  }}\n"
    out += f"  switch (out.{member_name(kind.tag.name)}) {{\n"
    covered = 0
    for branch, cases in _cases(kind).items():
        covered += len(cases)
        out += "".join(f"    case {case}:\n" for case in cases)
        out += f"      return read_members(in, out.branch.emplace<{branch}>());\n"
    if covered < len(kind.tag.type.values):
        out += "    default:\n      break;\n"
    return out + "  }\n  out.branch = std::monostate();\n  return true;\n}\n\n"


def _write_members(kind, name):
    out = (f"void write_members([[maybe_unused]] JsonObject& out, "
           f"[[maybe_unused]] const {name}& in) {{\n")
    base = f"  write_members(out, static_cast<const {kind.base.name}&>(in));\n" if kind.base else ""
    own = "".join(f'  put(out, "{m.name}", in.{member_name(m.name)});\n' for m in kind.members)
    # What makes a struct special comes before what it shares with others.
    out += base + own if kind.tag else own + base
    if kind.tag and kind.variants:
        out += "  std::visit([&](const auto& branch) { write_branch(out, branch); }, in.branch);\n"
    return out + "}\n\n"


def _alternate(kind):
    return _read_alternate(kind) + f"""\
JsonValue to_json(const {kind.name}& in) {{
  return std::visit([](const auto& value) {{ return to_json(value); }}, in.value);
}}

"""


_TESTS = {
    "string": "in.value().is_string()",
    "object": "in.value().is_object()",
    "array": "in.value().is_array()",
    "boolean": "in.is_bool()",
    "null": "in.value().is_null()",
    "number": "in.is_number()",
}


def _test_for(kind):
    from .check import json_type
    if isinstance(kind, Builtin) and kind.json == "int":
        return "in.is_number()"
    return _TESTS[json_type(kind)]


def _branch_rank(member):
    """Strings last: on a command line every scalar is a string, and the more special type wins.
    An enum comes before numbers, as its values are names."""
    return isinstance(member.type, Builtin) and member.type.name == "str"


def _read_alternate(kind):
    out = f"bool read(const Input& in, {kind.name}& out) {{\n"
    for member in sorted(kind.members, key=_branch_rank):
        spelled = type_name(member.type)
        holder = f"Box<{spelled}>" if member.boxed else spelled
        out += f"  if ({_test_for(member.type)}) {{\n"
        out += f"    return read(in, out.value.emplace<{holder}>());\n  }}\n"
    return out + f'  return in.fail_type("{kind.name}");\n}}\n\n'


