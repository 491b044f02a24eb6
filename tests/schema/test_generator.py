"""The generator: what it accepts, what it refuses and in which words, and what it emits."""

import os
import sys
import textwrap

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "schema"))

# pylint: disable=wrong-import-position
from generator import (  # noqa: E402
    emit_commands, emit_completion, emit_docs, emit_types, emit_visitors, layout)
from generator.check import check_schema  # noqa: E402
from generator.cpp_names import constant, member_name, pascal  # noqa: E402
from generator.emit_introspection import introspection  # noqa: E402
from generator.lexer import SchemaError  # noqa: E402
from generator.parser import parse_schema  # noqa: E402


def document(text):
    """Puts a documentation block in front of each definition that has none."""
    result = []
    for line in textwrap.dedent(text).strip().splitlines():
        if line.startswith("{ '") and "'include'" not in line:
            name = line.split("'")[3]
            result += ["##", f"# @{name}:", "#", "# Text.", "##"]
        result.append(line)
    return "\n".join(result) + "\n"


def load(tmp_path, text, defines=(), documented=True):
    path = tmp_path / "main.json"
    path.write_text(document(text) if documented else textwrap.dedent(text))
    checker_input = parse_schema(str(path))
    for expression in checker_input.expressions:
        if documented:
            fill_documentation(expression)
    schema = check_schema(checker_input, defines)
    layout.box_recursive_members(schema)
    return schema


def fill_documentation(expression):
    """The tests below are not about documentation: every member gets some."""
    data = expression.body.get("data", {})
    if expression.meta == "union":
        data = expression.body.get("base", {})
    if isinstance(data, str):
        data = {}
    for spec in data:
        name = spec["name"] if isinstance(spec, dict) else spec.lstrip("*")
        expression.doc.members[name] = "text"


def error(tmp_path, text, **kwargs):
    with pytest.raises(SchemaError) as caught:
        load(tmp_path, text, **kwargs)
    return str(caught.value)


def test_reads_every_kind_of_definition(tmp_path):
    schema = load(tmp_path, """
        { 'enum': 'Kind', 'data': [ 'one', { 'name': 'two', 'features': [ 'deprecated' ] } ] }
        { 'struct': 'Base', 'data': { 'id': 'str' } }
        { 'struct': 'More', 'base': 'Base', 'data': { '*list': [ 'int' ], 'any': 'any' } }
        { 'union': 'Either', 'base': { 'kind': 'Kind' }, 'discriminator': 'kind', 'data': { 'one': 'More' } }
        { 'alternate': 'Ref', 'data': { 'definition': 'Either', 'reference': 'str' } }
        { 'command': 'do-it', 'data': 'Either', 'boxed': true, 'returns': [ 'More' ], 'allow-oob': true }
        { 'event': 'DONE', 'data': { 'id': 'str' } }
        """)
    assert list(schema.types) == ["Kind", "Base", "More", "Either", "Ref"]
    assert [m.name for m in schema.types["More"].all_members()] == ["id", "list", "any"]
    assert schema.commands[0].allow_oob
    assert schema.commands[0].returns.element is schema.types["More"]
    assert schema.events[0].data.implicit


def test_conditions_decide_what_exists(tmp_path):
    text = """
        { 'enum': 'Kind', 'data': [ 'a', { 'name': 'b', 'if': 'HAVE_B' } ] }
        { 'struct': 'Only', 'data': { 'x': 'int', 'y': { 'type': 'int', 'if': { 'not': 'HAVE_B' } } }, 'if': { 'any': [ 'HAVE_B', 'HAVE_C' ] } }
        """
    assert list(load(tmp_path, text).types) == ["Kind"]
    schema = load(tmp_path, text, defines=["HAVE_B"])
    assert [v.name for v in schema.types["Kind"].values] == ["a", "b"]
    assert [m.name for m in schema.types["Only"].members] == ["x"]


@pytest.mark.parametrize("text, message", [
    ("{ 'struct': 'S', 'data': { 'a': 'nope' } }", "there is no type 'nope'"),
    ("{ 'struct': 'lower', 'data': {} }", "'lower' is no name for a type"),
    ("{ 'struct': 'S', 'data': { 'a b': 'int' } }", "'a b' is no name for a member"),
    ("{ 'struct': 'S', 'data': { 'a': [ 'int', 'str' ] } }", "an array type is written"),
    ("{ 'struct': 'S', 'data': {}, 'colour': 'red' }", "'struct' has no 'colour'"),
    ("{ 'struct': 'S', 'data': {} }\n{ 'enum': 'S', 'data': [] }", "'S' is defined twice"),
    ("{ 'struct': 'S', 'base': 'S', 'data': {} }", "'S' inherits from itself"),
    ("{ 'struct': 'B', 'data': { 'a': 'int' } }\n"
     "{ 'struct': 'S', 'base': 'B', 'data': { 'a': 'int' } }", "member 'a' is there twice"),
    ("{ 'enum': 'E', 'data': [ 'a', 'a' ] }", "value 'a' is given twice"),
    ("{ 'union': 'U', 'base': { 'k': 'str' }, 'discriminator': 'k', 'data': {} }",
     "discriminator 'k' must be a member of an enum type"),
    ("{ 'enum': 'E', 'data': [ 'a' ] }\n{ 'struct': 'S', 'data': {} }\n"
     "{ 'union': 'U', 'base': { '*k': 'E' }, 'discriminator': 'k', 'data': { 'a': 'S' } }",
     "discriminator 'k' must not be optional"),
    ("{ 'enum': 'E', 'data': [ 'a' ] }\n{ 'struct': 'S', 'data': {} }\n"
     "{ 'union': 'U', 'base': { 'k': 'E' }, 'discriminator': 'k', 'data': { 'b': 'S' } }",
     "'b' is no value of the discriminator"),
    ("{ 'alternate': 'A', 'data': { 'x': 'int', 'y': 'number' } }", "can not be told from others"),
    ("{ 'struct': 'S', 'data': {} }\n{ 'command': 'c', 'data': 'S' }", "say 'boxed': true"),
    ("{ 'command': 'c' }\n{ 'command': 'c' }", "'c' is defined twice"),
    ("{ 'event': 'lower' }", "'lower' is no name for events"),
    ("{ 'struct': 'S', 'data': { 'a': { 'type': 'int', 'if': 5 } } }", "stray '5'"),
    ("{ 'struct': 'S' 'data': {} }", "expected ','"),
    ("{ 'struct': 'S', 'struct': 'T' }", "'struct' is given twice"),
    ("{ 'struct': 'S', 'data': { 'a': 'int } }", "string has no end"),
])
def test_refuses_with_file_and_line(tmp_path, text, message):
    said = error(tmp_path, text)
    assert message in said
    assert said.startswith("main.json:")


def test_wants_documentation_of_everything(tmp_path):
    text = "##\n# @S:\n#\n# Text.\n#\n# @a: text\n##\n{ 'struct': 'S', 'data': { 'b': 'int' } }\n"
    assert "'@b' of 'S' is not documented" in error(tmp_path, text, documented=False)
    text = text.replace("{ 'b'", "{ 'a': 'int' }, 'features': [] }\n#")
    text = "##\n# @S:\n#\n# Text.\n#\n# @a: text\n##\n{ 'struct': 'S', 'data': {} }\n"
    assert "'S' has no '@a'" in error(tmp_path, text, documented=False)
    assert "has no documentation" in error(tmp_path, "{ 'struct': 'S', 'data': {} }\n",
                                           documented=False)


def test_includes_each_file_once_and_no_circles(tmp_path):
    (tmp_path / "common.json").write_text(document("{ 'enum': 'E', 'data': [] }"))
    (tmp_path / "other.json").write_text("{ 'include': 'common.json' }\n")
    schema = load(tmp_path, """
        { 'include': 'common.json' }
        { 'include': 'other.json' }
        { 'struct': 'S', 'data': { 'e': 'E' } }
        """)
    assert schema.modules == {"main": ["common", "other"], "common": [], "other": ["common"]}
    assert '#include "schema/types_common.h"' in emit_types.types_header(schema, "main")
    assert "does not exist" in error(tmp_path, "{ 'include': 'gone.json' }")
    (tmp_path / "other.json").write_text("{ 'include': 'main.json' }\n")
    assert "includes itself" in error(tmp_path, "{ 'include': 'other.json' }")


def test_boxes_what_contains_itself(tmp_path):
    schema = load(tmp_path, """
        { 'struct': 'Node', 'data': { 'child': 'Ref', 'all': [ 'Node' ] } }
        { 'alternate': 'Ref', 'data': { 'node': 'Node', 'name': 'str' } }
        { 'struct': 'Chain', 'data': { '*next': 'Chain', 'plain': 'Node' } }
        """)
    assert [m.boxed for m in schema.types["Ref"].members] == [True, False]
    assert [m.boxed for m in schema.types["Node"].members] == [False, False]
    assert [m.boxed for m in schema.types["Chain"].members] == [True, False]
    header = emit_types.types_header(schema, "main")
    assert "std::variant<Box<Node>, std::string> value;" in header
    assert "std::optional<Box<Chain>> next;" in header
    assert "std::vector<Node> all;" in header


def test_refuses_what_can_not_be_boxed(tmp_path):
    with pytest.raises(ValueError, match="types contain themselves"):
        load(tmp_path, "{ 'struct': 'S', 'data': { 's': 'S' } }")


def test_defines_types_after_those_they_hold(tmp_path):
    schema = load(tmp_path, """
        { 'struct': 'Outer', 'base': 'Root', 'data': { 'inner': 'Inner' } }
        { 'struct': 'Inner', 'data': { 'x': 'int' } }
        { 'struct': 'Root', 'data': {} }
        """)
    header = emit_types.types_header(schema, "main")
    assert header.index("struct Inner {") < header.index("struct Outer : Root {")
    assert header.index("struct Root {") < header.index("struct Outer : Root {")


def test_spells_names_for_cpp():
    assert member_name("node-name") == "node_name"
    assert member_name("template") == "template_"
    assert member_name("errno") == "errno_"
    assert constant("null-co") == "kNullCo"
    assert constant("io_uring") == "kIoUring"
    assert pascal("BLOCK_IMAGE_CORRUPTED") == "BlockImageCorrupted"
    assert pascal("qmp_capabilities") == "QmpCapabilities"


def test_visitors_take_the_branch_that_the_tag_names(tmp_path):
    schema = load(tmp_path, """
        { 'enum': 'Kind', 'data': [ 'one', 'uno', 'none' ] }
        { 'struct': 'One', 'data': { 'size': 'size' } }
        { 'union': 'Either', 'base': { 'kind': 'Kind' }, 'discriminator': 'kind', 'data': { 'one': 'One', 'uno': 'One' } }
        """)
    source = emit_visitors.visitors_source(schema, "main")
    assert ("    case Kind::kOne:\n    case Kind::kUno:\n"
            "      return read_members(in, out.branch.emplace<One>());") in source
    assert "default:" in source
    assert 'in.required_size("size", out.size)' in source


def test_introspection_hides_names_and_merges_integers(tmp_path):
    schema = load(tmp_path, """
        { 'struct': 'S', 'data': { 'a': 'uint8', '*b': 'size', 'c': [ 'S' ] }, 'features': [ 'unstable' ] }
        { 'command': 'go', 'data': 'S', 'boxed': true, 'returns': 'S' }
        { 'event': 'GONE' }
        """)
    entities = {e["name"]: e for e in introspection(schema)}
    command = entities["go"]
    assert command["arg-type"] == command["ret-type"]
    struct = entities[command["arg-type"]]
    assert struct["features"] == ["unstable"]
    assert struct["members"] == [{"name": "a", "type": "int"},
                                 {"name": "b", "type": "int", "default": None},
                                 {"name": "c", "type": f"[{command['arg-type']}]"}]
    assert entities[entities["GONE"]["arg-type"]]["members"] == []
    assert entities["int"] == {"name": "int", "meta-type": "builtin", "json-type": "int"}
    assert "S" not in entities


def test_commands_become_types(tmp_path):
    schema = load(tmp_path, """
        { 'command': 'go-on', 'data': { 'x': 'int' }, 'returns': [ 'str' ] }
        { 'command': 'raw', 'returns': 'any', 'gen': false }
        """)
    header = emit_commands.commands_header(schema)
    assert "using Arguments = schema::GoOnArguments;" in header
    assert "using Result = std::vector<std::string>;" in header
    assert "using Result = JsonValue;" in header
    assert "using All = TypeList<GoOn, Raw>;" in header


def test_reference_pages_are_up_to_date(tmp_path):
    schema = check_schema(parse_schema(os.path.join(ROOT, "schema", "schema.json")))
    folder = os.path.join(ROOT, "docs", "reference")
    pages = emit_docs.pages(schema)
    assert sorted(os.listdir(folder)) == sorted(pages), "run scripts/update-reference"
    for name, text in pages.items():
        with open(os.path.join(folder, name), encoding="utf-8") as stream:
            assert stream.read() == text, f"{name} is out of date: run scripts/update-reference"
    del tmp_path


def test_completion_knows_every_argument_by_its_path(tmp_path):
    schema = load(tmp_path, """
        { 'enum': 'E', 'data': [ 'one', 'two' ] }
        { 'struct': 'S', 'data': { 'flag': 'bool', '*inner': 'S' } }
        { 'union': 'U', 'base': { 'kind': 'E' }, 'discriminator': 'kind', 'data': { 'one': 'S' } }
        { 'alternate': 'A', 'data': { 'name': 'str', 'whole': 'U' } }
        { 'command': 'go', 'data': { 'list': [ 'A' ], 'e': 'E' } }
        { 'event': 'GONE' }
    """)
    tables = emit_completion.Tables(schema)
    root = tables.commands["go"]
    members = dict(m.split(":") for m in tables.members[root].split())
    assert tables.enums[members["e"]] == "one two"
    branches = tables.branches[tables.elements[members["list"]]].split()
    assert branches[0] == "s"
    assert tables.tags[branches[1]] == "kind"
    inner = tables.variants[f"{branches[1]}/one"]
    assert tables.members[inner] == f"flag:b inner:{inner}", "a type that contains itself"
    assert f"{branches[1]}/two" not in tables.variants
    assert tables.events == ["GONE"]
