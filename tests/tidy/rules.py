"""The rules of the house that reading the sources can check.

Each rule is a function from a Tree to findings; its first docstring line is what it stands for.
RULES at the end lists them all.
"""

import dataclasses
import os
import re

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70

# What a folder may include besides itself. Leave is transitive: who may include block/ may include
# what block/ may include. formats/, protocols/ and exports/ hold one folder a driver, and a driver
# includes no other.
MAY_INCLUDE = {
    "base": [],
    "io": ["base"],
    "crypto": ["io"],
    "schema": ["base"],
    "objects": ["crypto", "schema"],
    "chardev": ["io", "schema"],
    "block": ["io", "schema"],
    "formats": ["block", "crypto"],
    "protocols": ["block", "chardev"],
    "filters": ["block"],
    "jobs": ["block", "filters"],
    "exports": ["block", "chardev"],
    "monitor": ["formats", "protocols", "filters", "jobs", "exports", "chardev", "objects"],
    "tools": ["monitor"],
}
FOLDERS_OF_DRIVERS = ("formats", "protocols", "exports")
# Folders among them that are no driver, and that drivers may include.
SHARED_BY_DRIVERS = ("formats/deflate", "formats/encryption")
# These may include anything, and nothing of the product may include them.
OUTSIDE = ("tests", "bench", "fuzz")


@dataclasses.dataclass(frozen=True)
class Finding:
    path: str
    line: int
    text: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.text}"


def reachable(folder):
    """The folders that `folder` may include, itself among them."""
    seen, todo = set(), [folder]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += MAY_INCLUDE.get(name, [])
    return seen


def driver_of(path):
    """'formats/qcow2/x.h' is of driver 'qcow2'; a file right in formats/ is of none."""
    parts = path.split("/")
    if "/".join(parts[:2]) in SHARED_BY_DRIVERS:
        return None
    return parts[1] if len(parts) > 2 and parts[0] in FOLDERS_OF_DRIVERS else None


def include_direction(tree):
    """includes point from the monitor down to base, never up or across"""
    for source in tree.sources:
        top = source.path.split("/")[0]
        if top in OUTSIDE:
            continue
        if top not in MAY_INCLUDE:
            yield Finding(source.path, 1, f"the folder {top}/ is not part of the design")
            continue
        allowed = reachable(top)
        for include in source.includes:
            if not include.quoted:
                continue
            target = include.path.split("/")[0]
            if target not in allowed:
                yield Finding(source.path, include.line,
                              f'{top}/ may not include "{include.path}"')
            elif target == top and driver_of(source.path) \
                    and driver_of(include.path) not in (None, driver_of(source.path)):
                yield Finding(source.path, include.line,
                              f'a driver may not include another\'s "{include.path}"')


def openssl_in_its_module(tree):
    """OpenSSL, and what is written on it, are included by the module alone, which is loaded later"""
    module = "crypto/openssl/"
    for source in tree.sources:
        if source.path.startswith((module, "tests/crypto/")):
            continue
        for include in source.includes:
            if include.path.startswith(("openssl/", module)):
                yield Finding(source.path, include.line,
                              f"{include.path} is for {module} alone")


def includes_from_the_root(tree):
    """a quoted include names a file of this tree, from the root"""
    known = set(tree.files)
    for source in tree.sources:
        for include in source.includes:
            generated = include.path.startswith("schema/")  # made by the build
            if include.quoted and include.path not in known and not generated:
                yield Finding(source.path, include.line,
                              f'there is no "{include.path}" below the root')


def lengths(tree):
    """a file has at most 500 lines, a function 70"""
    for source in tree.sources:
        if len(source.lines) > MAX_FILE_LINES:
            yield Finding(source.path, MAX_FILE_LINES + 1,
                          f"the file has {len(source.lines)} lines, over {MAX_FILE_LINES}")
        for function in source.functions:
            if function.lines > MAX_FUNCTION_LINES:
                yield Finding(source.path, function.line, f"{function.name} has {function.lines} "
                              f"lines, over {MAX_FUNCTION_LINES}")


def opening_comments(tree):
    """a file opens by saying what it owns"""
    # A .cc beside its header is covered by the header's comment.
    headers = {s.path for s in tree.sources if s.is_header}
    for source in tree.sources:
        if source.path.endswith(".cc") and source.path[:-3] + ".h" in headers:
            continue
        if not source.text.startswith("//"):
            yield Finding(source.path, 1, "the file does not open with a comment on what it owns")


def headers(tree):
    """a header is guarded, and opens no namespace to those who include it"""
    for source in tree.sources:
        if not source.is_header:
            continue
        if not re.search(r"^#pragma once$", source.text, re.MULTILINE):
            yield Finding(source.path, 1, "the header has no #pragma once")
        for match in re.finditer(r"^\s*using namespace\b", source.code, re.MULTILINE):
            yield Finding(source.path, source.line_of(match.end()), "using namespace in a header")


def banned_constructs(tree):
    """no macros of our own, no goto, no co_await in conditions, no notes of work left undone"""
    code = {
        r"^[ \t]*#[ \t]*define\b(?!\s+CAIRN_TRACE)": "a macro; write a function or a constant",
        r"\bgoto\b": "goto",
        r"\bNULL\b": "NULL; write nullptr",
        # g++ 12 may never come back from one.
        r"\b(?:if|while)\s*\((?:[^();{}]|\([^();{}]*\)|\()*?\bco_await\b": "co_await in a condition; name what comes of it",
    }
    for source in tree.sources:
        for pattern, text in code.items():
            for match in re.finditer(pattern, source.code, re.MULTILINE):
                yield Finding(source.path, source.line_of(match.end()), text)
        for match in re.finditer(r"\b(?:TODO|FIXME|XXX|HACK)\b", source.text):
            yield Finding(source.path, source.line_of(match.start()),
                          f"{match[0]}: do it, or say in the docs that it is not there")


def no_paths_of_a_machine(tree):
    """no file names a folder of somebody's machine"""
    pattern = re.compile(r"(?<![\w.$}/])/(?:work|home|root|Users)/\w")
    for path in tree.files:
        if path.startswith(("tests/golden/img/", "tests/golden/qmp/", "tests/tidy/")):
            continue
        for number, line in enumerate(tree.read(path).splitlines(), 1):
            if pattern.search(line):
                yield Finding(path, number, "the path of a machine")


def dead_files(tree):
    """every .cc is built and every header is included"""
    # The schema's generator lists what it writes; every other build file names its sources.
    named = set()
    for build_file in tree.named("meson.build"):
        folder = os.path.dirname(build_file)
        text = tree.read(build_file)
        names = re.findall(r"'([^'\n]+\.cc)'", text)
        # A loop over names may add the ending: name + '_fuzz.cc'.
        for ending in re.findall(r"name \+ '([^'\n]+\.cc)'", text):
            names += [stem + ending for stem in re.findall(r"'(\w+)'", text)]
        named.update(os.path.normpath(os.path.join(folder, name)) for name in names)
    included = {i.path for s in tree.sources for i in s.includes if i.quoted}
    for source in tree.sources:
        if source.is_header and source.path not in included:
            yield Finding(source.path, 1, "nobody includes this header")
        if not source.is_header and source.path not in named:
            yield Finding(source.path, 1, "no meson.build names this file")


def own_header_first(tree):
    """x.cc includes x.h before anything else, which proves that x.h compiles alone"""
    known = {s.path for s in tree.sources if s.is_header}
    for source in tree.sources:
        header = source.path[:-3] + ".h"
        if source.is_header or header not in known:
            continue
        if not source.includes or source.includes[0].path != header:
            yield Finding(source.path, 1, f'the first include is not "{header}"')


def unnamed_twins(tree):
    """no two files of a folder use one name for things of their own: they may be compiled as one"""
    local = re.compile(r"^(?:inline |static )*(?:constexpr|const|constinit) [^(=\n]*?\b(k[A-Z]\w*)"
                       r"(?:\[[^\]\n]*\])*[ \n]*[={]"
                       r"|^(using \w+ = [^;]*);"
                       r"|^(?:class|struct|enum class|enum) (\w+)\b[^;\n]*\{", re.MULTILINE)
    unnamed = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.MULTILINE | re.DOTALL)
    seen = {}
    for source in tree.sources:
        # Each fuzz target is a program.
        if source.is_header or source.folder == "tests/fuzz":
            continue
        outer = re.search(r"^namespace ([\w:]+) \{", source.code, re.MULTILINE)
        for part in unnamed.finditer(source.text):
            for match in local.finditer(source.code, part.start(1), part.end(1)):
                constant, alias, type_ = match.groups()
                name = constant or type_ or alias.split()[1]
                first = seen.setdefault((source.folder, outer and outer[1], name),
                                        (source.path, alias))
                # The same alias twice is one.
                if first[0] != source.path and (alias is None or alias != first[1]):
                    yield Finding(source.path, source.line_of(match.start()),
                                  f"{name} is a name of {first[0]}, too")


def readmes(tree):
    """every driver's folder has a README.md"""
    folders = {"/".join(p.split("/")[:2]) for p in tree.files if driver_of(p)}
    for folder in sorted(folders):
        if f"{folder}/README.md" not in tree.files:
            yield Finding(folder, 1, "the folder has no README.md")


def links(tree):
    """a link in the docs leads to a file of the tree"""
    for path in tree.named(".md"):
        for number, line in enumerate(tree.read(path).splitlines(), 1):
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
                if re.match(r"[a-z]+:", target):
                    continue
                full = os.path.normpath(os.path.join(os.path.dirname(path), target))
                if not (tree.root / full).exists():
                    yield Finding(path, number, f"the link leads nowhere: {target}")


RULES = [include_direction, openssl_in_its_module, includes_from_the_root, lengths, opening_comments, headers,
         banned_constructs, no_paths_of_a_machine, dead_files, own_header_first, unnamed_twins,
         readmes, links]
