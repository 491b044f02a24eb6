"""The tests of the tests: each rule finds what it is for, and leaves alone what is right."""

import json
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import compilers  # noqa: E402
import rules  # noqa: E402
from source import Source, Tree  # noqa: E402


@pytest.fixture
def tree(tmp_path):
    """Makes a Tree of the files given as {path: text}."""
    def make(files):
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return Tree(tmp_path)
    return make


def told(findings):
    return [f"{f.path}:{f.line}" for f in findings]


class TestSource:
    def test_comments_and_literals_are_blank_in_code(self):
        source = Source("io/a.cc", 'int a = 1\'000; // {\n/* } */ auto s = "{\\"";\n'
                        'auto r = R"x(}")x"; char c = \'{\';\n')
        assert "{" not in source.code and "}" not in source.code
        assert "1'000" in source.code
        assert source.code.count("\n") == 3

    def test_includes_ignore_what_is_commented_out(self):
        source = Source("io/a.cc", '#include "io/a.h"\n// #include "io/b.h"\n#include <vector>\n')
        assert [(i.line, i.quoted, i.path) for i in source.includes] == [
            (1, True, "io/a.h"), (3, False, "vector")]

    @pytest.mark.parametrize("text, expected", [
        ("void f() {\n  if (x) {\n  }\n}\n", [("f", 4)]),
        ("namespace a {\nclass B {\n  int get() const {\n    return 1;\n  }\n};\n}\n",
         [("get", 3)]),
        ("B::B(int x)\n    : a_{x}, b_(x) {\n  go();\n}\n", [("B::B", 1), ("b_", 3)]),
        ("template <typename T>\n  requires (sizeof(T) > 1)\nstruct A {\n  int x;\n};\n", []),
        ("struct alignas(64) A {\n  int x;\n};\n", []),
        ("constexpr int kTable[] = {\n  f(1),\n  2,\n};\n", []),
        ("enum class E : int {\n  kA = g(1),\n};\n", []),
        ("Task<int> f(A a = {}) {\n  co_return 1;\n}\n", [("f", 3)]),
        ("bool operator<(A a, A b) {\n  return true;\n}\n", [("operator<", 3)]),
        ("TEST(A, B) {\n  auto x = [&](int i) {\n    return i;\n  };\n}\n", [("TEST", 5)]),
    ])
    def test_functions_are_told_from_other_braces(self, text, expected):
        found = [(f.name, f.lines) for f in Source("io/a.cc", text).functions]
        # What counts is the longest body: a member initialiser may look like a small one.
        assert max([n for _, n in found], default=0) == max([n for _, n in expected], default=0)
        assert len(found) == len(expected)


class TestIncludeDirection:
    @pytest.mark.parametrize("path, include", [
        ("io/a.cc", "block/node.h"), ("base/a.h", "io/task.h"), ("schema/a.cc", "io/task.h"),
        ("block/a.cc", "formats/qcow2/header.h"), ("formats/raw/a.cc", "formats/qcow2/header.h"),
        ("exports/nbd/a.cc", "formats/raw/raw.h"), ("jobs/a.cc", "monitor/session.h"),
        ("monitor/a.cc", "tools/args.h"), ("io/a.cc", "tests/io/helper.h"),
        ("protocols/file/a.cc", "crypto/cipher.h"),
    ])
    def test_finds_what_points_up_or_across(self, tree, path, include):
        found = rules.include_direction(tree({path: f'// A.\n#include "{include}"\n'}))
        assert told(found) == [f"{path}:2"]

    @pytest.mark.parametrize("path, include", [
        ("block/a.cc", "io/task.h"), ("formats/qcow2/a.cc", "base/bytes.h"),
        ("formats/qcow2/a.cc", "formats/qcow2/b.h"), ("formats/luks/a.cc", "crypto/cipher.h"),
        ("formats/all.cc", "formats/qcow2/driver.h"), ("tools/cairnd.cc", "monitor/session.h"),
        ("monitor/a.cc", "exports/nbd/server.h"), ("tests/io/a_test.cc", "tools/args.h"),
        ("formats/qcow2/a.cc", "formats/common.h"),
    ])
    def test_allows_what_points_down(self, tree, path, include):
        assert not list(rules.include_direction(tree({path: f'// A.\n#include "{include}"\n'})))

    def test_a_new_folder_needs_a_place_in_the_design(self, tree):
        assert told(rules.include_direction(tree({"misc/a.cc": "// A.\n"}))) == ["misc/a.cc:1"]


class TestOtherRules:
    def test_lengths(self, tree):
        long_function = "void f() {\n" + "  g();\n" * 69 + "}\n"
        fine_function = "void f() {\n" + "  g();\n" * 68 + "}\n"
        found = rules.lengths(tree({"io/a.cc": "// A.\n" * 501, "io/b.cc": "// B.\n" * 500,
                                    "io/c.cc": long_function, "io/d.cc": fine_function}))
        assert told(found) == ["io/a.cc:501", "io/c.cc:1"]

    def test_openssl_in_its_module(self, tree):
        found = rules.openssl_in_its_module(tree({
            "crypto/openssl/a.cc": '#include <openssl/evp.h>\n',
            "tests/crypto/a_test.cc": '#include "crypto/openssl/a.h"\n',
            "block/a.cc": '#include <openssl/evp.h>\n',
            "objects/a.cc": '#include "crypto/cipher.h"\n#include "crypto/openssl/a.h"\n'}))
        assert told(found) == ["block/a.cc:1", "objects/a.cc:2"]

    def test_includes_from_the_root(self, tree):
        found = rules.includes_from_the_root(tree({
            "io/a.cc": '#include "a.h"\n#include "io/a.h"\n#include "schema/types.h"\n',
            "io/a.h": ""}))
        assert told(found) == ["io/a.cc:1"]

    def test_opening_comments(self, tree):
        found = rules.opening_comments(tree({
            "io/a.h": "// A.\n", "io/a.cc": '#include "io/a.h"\n', "io/b.cc": "int b;\n",
            "io/c.h": "#pragma once\n"}))
        assert told(found) == ["io/b.cc:1", "io/c.h:1"]

    def test_headers(self, tree):
        found = rules.headers(tree({
            "io/a.h": "// A.\n", "io/b.h": "#pragma once\nusing namespace std;\n",
            "io/c.h": "#pragma once\n// using namespace x\n"}))
        assert told(found) == ["io/a.h:1", "io/b.h:2"]

    def test_banned_constructs(self, tree):
        found = rules.banned_constructs(tree({
            "io/a.cc": "#define X 1\n", "io/b.cc": "void f() { goto out; }\n",
            "io/c.cc": "// TO" + "DO: later\n", "io/d.cc": "int* p = NULL;\n",
            "io/e.cc": '// No goto here.\nauto s = "NULL";\n#define CAIRN_TRACE(x) x\n',
            "io/f.cc": "do {\n} while (\n    !co_await f(1));\n",
            "io/g.cc": "if (a) {\n  const bool b = co_await f();\n}\nwhile (b) co_await g();\n"}))
        assert told(found) == ["io/a.cc:1", "io/b.cc:1", "io/c.cc:1", "io/d.cc:1", "io/f.cc:3"]

    def test_no_paths_of_a_machine(self, tree):
        found = rules.no_paths_of_a_machine(tree({
            "README.md": "see /ho" + "me/me/x\n", "docs/a.md": "build/work/x and a/root/b\n"}))
        assert told(found) == ["README.md:1"]

    def test_dead_files(self, tree):
        found = rules.dead_files(tree({
            "io/meson.build": "library('io', 'a.cc', '../base/b.cc')\n", "io/a.cc": "",
            "base/b.cc": "", "io/dead.cc": "", "io/dead.h": "", "io/live.h": "",
            "io/user.h": '#include "io/live.h"\n', "io/a_test.cc": '#include "io/user.h"\n'}))
        assert told(found) == ["io/a_test.cc:1", "io/dead.cc:1", "io/dead.h:1"]

    def test_own_header_first(self, tree):
        found = rules.own_header_first(tree({
            "io/a.h": "", "io/a.cc": '#include <vector>\n#include "io/a.h"\n',
            "io/b.h": "", "io/b.cc": '#include "io/b.h"\n#include <vector>\n', "io/c.cc": ""}))
        assert told(found) == ["io/a.cc:1"]

    def test_unnamed_twins(self, tree):
        def hidden(text, outer="cairn"):
            return f"namespace {outer} {{\nnamespace {{\n\n{text}\n}}  // namespace\n}}\n"

        found = rules.unnamed_twins(tree({
            "io/a.cc": hidden("void f() {\n}\nconstexpr int kPart = 1;\nusing A = int;\n"
                              "struct Piece {\n};\nusing B = int;\n"),
            "io/b.cc": hidden("constexpr int kPart[] = {2};\nusing A = int;\nclass Piece {\n};\n"
                              "using B = char;\n"),
            "io/c.cc": hidden("constexpr int kPart = 3;\n", "cairn::other"),
            "base/d.cc": hidden("constexpr int kPart = 4;\nstruct Piece;\n"),
            "io/e.cc": hidden("struct Piece;\nvoid g() {\n  constexpr int kPart = 1;\n}\n")}))
        assert told(found) == ["io/b.cc:4", "io/b.cc:6", "io/b.cc:8"]

    def test_readmes(self, tree):
        found = rules.readmes(tree({
            "formats/raw/raw.cc": "", "formats/qcow2/a.cc": "", "formats/qcow2/README.md": "",
            "formats/meson.build": ""}))
        assert told(found) == ["formats/raw:1"]

    def test_links(self, tree):
        found = rules.links(tree({
            "README.md": "[a](docs/a.md) [b](docs/b.md#x) [c](https://example.org/)\n",
            "docs/a.md": "[up](../README.md)\n[gone](gone.md)\n"}))
        assert told(found) == ["README.md:1", "docs/a.md:2"]


class TestCompilers:
    def test_formatting(self, tree):
        made = tree({".clang-format": "BasedOnStyle: Google\n",
                     "io/a.cc": "int  a;\n", "io/b.cc": "int b;\n"})
        assert told(compilers.formatting(made, None, None)) == ["io/a.cc:1"]

    def test_lone_headers(self, tree, tmp_path):
        made = tree({"io/bad.h": "#pragma once\nstd::vector<int> v();\n",
                     "io/good.h": "#pragma once\n#include <vector>\nstd::vector<int> v();\n",
                     "io/a.cc": "int a;\n"})
        build = tmp_path / "build"
        build.mkdir()
        (build / "compile_commands.json").write_text(
            '[{"directory": "%s", "file": "../io/a.cc",'
            ' "command": "ccache g++ -I.. -MD -MF x -o x -c ../io/a.cc"}]' % build)
        commands = compilers.Commands(made.root, build)
        stamps = compilers.Stamps(build / "stamps")
        for _ in range(2):  # the second time from the stamps
            assert told(compilers.lone_headers(made, commands, stamps)) == ["io/bad.h:1"]

    def test_clang_tidy_of_files_together(self, tree, tmp_path):
        files = {"io/a.cc": "namespace { int one() { return 1; } }\nint a() { return one(); }\n",
                 "io/b.cc": "#include \"io/b.h\"\nint *b() { return 0; }\n",
                 "io/b.h": "#pragma once\nint* b();\ninline int* c() { return 0; }\n",
                 # Does not compile together with the first.
                 "io/c.cc": "namespace { int* one() { return 0; } }\nint* d() { return one(); }\n",
                 ".clang-tidy": "Checks: '-*,clang-diagnostic-*,modernize-use-nullptr'\n"
                                "WarningsAsErrors: '*'\n"}
        made = tree(files)
        build = made.root / "build"
        build.mkdir()
        (build / "compile_commands.json").write_text(json.dumps([
            {"directory": str(build), "file": f"../io/{name}.cc",
             "command": f"ccache g++ -Wall -I.. -o x -c ../io/{name}.cc"} for name in "abc"]))
        commands = compilers.Commands(made.root, build)
        stamps = compilers.Stamps(tmp_path / "stamps")
        for _ in range(2):
            assert sorted(told(compilers.clang_tidy(made, commands, stamps))) == [
                "io/b.cc:2", "io/b.h:3", "io/c.cc:1"]
        (made.root / "io/b.cc").write_text("")
        (made.root / "io/c.cc").write_text("")
        assert told(compilers.clang_tidy(made, commands, stamps)) == []
        assert len(list(stamps.folder.iterdir())) == 3
