"""Command line of the generator; run with the repository's root as the working directory or not:

    python3 schema/generator --schema schema/schema.json [--output DIR] [--docs DIR]
        [--completion PARTS DIR] [--define NAME]
"""

import argparse
import os
import sys

if __package__ in (None, ""):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from generator import (emit_commands, emit_completion, emit_docs, emit_introspection, emit_types,
                       emit_visitors, layout)
from generator.check import check_schema
from generator.cpp_names import file_part
from generator.lexer import SchemaError
from generator.parser import parse_schema
from generator.writer import write_if_changed


def load(path, defines=()):
    """The checked model of the schema in `path`, laid out for C++."""
    schema = check_schema(parse_schema(path), defines)
    layout.box_recursive_members(schema)
    return schema


def sources(schema):
    """File name -> text for all C++ that is generated."""
    result = {}
    for module in schema.modules:
        if not (schema.types_of(module) or emit_types.module_objects(schema, module)):
            continue
        part = file_part(module)
        result[f"types_{part}.h"] = emit_types.types_header(schema, module)
        result[f"types_{part}.cc"] = emit_types.types_source(schema, module)
        result[f"visit_{part}.h"] = emit_visitors.visitors_header(schema, module)
        result[f"visit_{part}.cc"] = emit_visitors.visitors_source(schema, module)
    result["commands.h"] = emit_commands.commands_header(schema)
    result["introspection.h"] = emit_introspection.introspection_header()
    result["introspection.cc"] = emit_introspection.introspection_source(schema)
    return result


def main(argv=None):
    arguments = argparse.ArgumentParser(description="Generates code from the interface definition")
    arguments.add_argument("--schema", required=True, help="the file that includes all others")
    arguments.add_argument("--output", help="folder for C++ files")
    arguments.add_argument("--docs", help="folder for reference pages")
    arguments.add_argument("--completion", nargs=2, metavar=("PARTS", "DIR"),
                           help="folders with the functions of shell completion, and for scripts")
    arguments.add_argument("--define", action="append", default=[], help="a condition that holds")
    options = arguments.parse_args(argv)
    try:
        schema = load(options.schema, options.define)
    except (SchemaError, ValueError) as error:
        print(f"generator: {error}", file=sys.stderr)
        return 1
    if options.output:
        for name, text in sources(schema).items():
            write_if_changed(os.path.join(options.output, name), text)
    if options.completion:
        parts, folder = options.completion
        for name, text in emit_completion.scripts(schema, parts).items():
            write_if_changed(os.path.join(folder, name), text)
    if options.docs:
        for name, text in emit_docs.pages(schema).items():
            write_if_changed(os.path.join(options.docs, name), text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
