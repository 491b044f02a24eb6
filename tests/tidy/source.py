"""Reading a tree of C++ sources just far enough to check its style.

Tree lists the files that git tracks (or would track); Source holds one file's text, the same text
with comments and literals blanked out, its includes and its functions. Nothing here knows a rule.
"""

import dataclasses
import functools
import pathlib
import re
import subprocess

_TOKEN = re.compile(
    r"""//[^\n]*"""                                      # a comment to the end of the line
    r"""|/\*.*?\*/"""                                    # a comment with two ends
    r'''|(?:u8|[uUL])?R"([^()\\\s]{0,16})\(.*?\)\1"'''   # a raw string
    r'''|"(?:\\.|[^"\\\n])*"'''
    r"""|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""",         # not the separator in 1'000
    re.DOTALL | re.VERBOSE)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.MULTILINE)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+([<"])([^>"\n]+)[>"]', re.MULTILINE)
_TYPE = re.compile(r"\b(?:class|struct|union|enum|namespace|extern)\b")


def _blank(match):
    """Spaces in place of a token, so that offsets and lines stay."""
    return re.sub(r"[^\n]", " ", match[0])


@dataclasses.dataclass(frozen=True)
class Include:
    line: int
    quoted: bool  # "x" rather than <x>
    path: str


@dataclasses.dataclass(frozen=True)
class Function:
    line: int   # where its body opens
    lines: int  # of the body, with both braces' lines
    name: str   # what stands before the body's parameters, as far as it can be told


class Source:
    def __init__(self, path, text):
        self.path = path  # relative to the root, with slashes
        self.text = text

    @property
    def is_header(self):
        return self.path.endswith(".h")

    @property
    def folder(self):
        return self.path.rpartition("/")[0]

    @functools.cached_property
    def lines(self):
        return self.text.splitlines()

    @functools.cached_property
    def code(self):
        """The text with comments and string and character literals blanked out."""
        return _TOKEN.sub(_blank, self.text)

    @functools.cached_property
    def includes(self):
        # Comments are blanked, but the quotes of an include are not a literal.
        without_comments = re.sub(r"//[^\n]*|/\*.*?\*/", _blank, self.text, flags=re.DOTALL)
        return [Include(self.line_of(m.start(1)), m[1] == '"', m[2])
                for m in _INCLUDE.finditer(without_comments)]

    def line_of(self, offset):
        return self.text.count("\n", 0, offset) + 1

    @functools.cached_property
    def functions(self):
        """Bodies of functions outside other functions; a lambda counts as part of its function.

        A brace outside any function opens a namespace, a type, an initialiser or a body. The words
        since the last ';', '{' or '}' tell which: a body has parameters before it and is not
        assigned."""
        code = _DIRECTIVE.sub(_blank, self.code)
        found, inside, start, opened, depth = [], False, 0, 0, 0
        for match in re.finditer(r"[{};]", code):
            mark, at = match[0], match.start()
            if inside:
                depth += (mark == "{") - (mark == "}")
                if depth == 0:
                    first, last = self.line_of(opened), self.line_of(at)
                    found.append(Function(first, last - first + 1, _name(code[start:opened])))
                    inside, start = False, at + 1
                continue
            words = code[start:at]
            if words.count("(") > words.count(")"):
                continue  # within parameters, as in `f(A a = {})`
            if mark == "{" and _opens_function(words):
                inside, opened, depth = True, at, 1
            else:
                start = at + 1
        return found


def _without_brackets(words):
    """Drops <...>, (...) and [...], innermost first."""
    words = re.sub(r"operator\s*(?:\(\)|\[\]|[<>=!+*/%&|^~-]+)", "operator", words)
    while True:
        shorter = re.sub(r"<[^<>()]*>|\([^()]*\)|\[[^\[\]]*\]", " ", words)
        if shorter == words:
            return words
        words = shorter


def _opens_function(words):
    if "(" not in words or words.rstrip().endswith("="):
        return False
    return not _TYPE.search(_without_brackets(words))


def _name(words):
    match = re.search(r"([~\w:]+)\s*\(", words)
    return match[1] if match else "?"


class Tree:
    """The files of a checkout below `root`."""

    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        listed = subprocess.run(
            ["git", "-C", str(self.root), "ls-files", "-z", "--cached", "--others",
             "--exclude-standard"], stdout=subprocess.PIPE, check=True).stdout.decode().split("\0")
        self.files = sorted(p for p in listed if p and (self.root / p).is_file())

    def read(self, path):
        return (self.root / path).read_text(encoding="utf-8", errors="replace")

    def named(self, *endings):
        return [p for p in self.files if p.endswith(endings)]

    @functools.cached_property
    def sources(self):
        return [Source(p, self.read(p)) for p in self.named(".h", ".cc")]
