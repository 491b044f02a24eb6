"""The rules that need a compiler or one of its relatives: lone headers, clang-format, clang-tidy.

They are slow on a cold machine, so each keeps a stamp of what it found good, named by a hash of
everything its verdict depends on, and a second run takes only what changed.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile

from rules import Finding

CLANG_FORMAT = "clang-format-19"
CLANG_TIDY = "clang-tidy-19"


class Stamps:
    """Remembers good verdicts in `folder`."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, *parts):
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part if isinstance(part, bytes) else str(part).encode())
            digest.update(b"\0")
        return self.folder / digest.hexdigest()


class Commands:
    """How the build in `build` compiles each file."""

    def __init__(self, root, build):
        self.root, self.build = pathlib.Path(root), pathlib.Path(build)
        self.flags = {}
        for entry in json.loads((self.build / "compile_commands.json").read_text()):
            path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), root)
            self.flags[path] = self._strip(shlex.split(entry["command"]))

    @staticmethod
    def _strip(words):
        """The compiler and its flags, without the cache, the input, and what to write where."""
        words = [w for w in words if os.path.basename(w) not in ("ccache", "nice")]
        kept, skip = [], False
        for word in words:
            if skip:
                skip = False
            elif word in ("-o", "-MF", "-MQ", "-MT", "-c"):
                skip = True
            elif word not in ("-MD", "-MMD"):
                kept.append(word)
        kept.append("-fdiagnostics-color=never")
        return kept

    def near(self, path):
        """The flags of a file in the same folder, or else of any file."""
        folder = os.path.dirname(path)
        for name, flags in self.flags.items():
            if os.path.dirname(name) == folder:
                return flags
        return next(iter(self.flags.values()))


def in_parallel(work, items):
    """The findings of work(item) for all items."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for findings in pool.map(work, items):
            yield from findings


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)


def lone_headers(tree, commands, stamps):
    """a header that has no .cc to prove it compiles alone"""
    proven = {s.path[:-3] + ".h" for s in tree.sources if not s.is_header}

    def check(source):
        text = f'#include "{source.path}"\n'
        flags = commands.near(source.path)
        # The preprocessor's output holds everything the compiler would see.
        seen = run([*flags, "-E", "-P", "-x", "c++", "-"], input=text, cwd=commands.build)
        stamp = stamps.path("header", *flags, seen.stdout)
        if stamp.exists():
            return []
        done = run([*flags, "-fsyntax-only", "-x", "c++", "-"], input=text, cwd=commands.build)
        if done.returncode == 0:
            stamp.touch()
            return []
        first = next((x for x in done.stdout.splitlines() if "error" in x), done.stdout[:200])
        return [Finding(source.path, 1, f"does not compile alone: {first}")]

    return in_parallel(check, [s for s in tree.sources
                               if s.is_header and s.path not in proven])


def formatting(tree, _commands, _stamps):
    """clang-format has nothing to change"""
    names = [s.path for s in tree.sources]
    if not names:
        return
    done = run([CLANG_FORMAT, "--dry-run", "-Werror", *names], cwd=tree.root)
    bad = sorted(set(re.findall(r"^([^:\n]+):(\d+):\d+: error", done.stdout, re.MULTILINE)))
    first = {}
    for path, line in bad:
        first[path] = min(first.get(path, 1 << 30), int(line))
    for path, line in first.items():
        yield Finding(path, line, f"not formatted; run {CLANG_FORMAT} -i on it")
    if done.returncode != 0 and not bad:
        yield Finding(".clang-format", 1, done.stdout.strip()[:200])


# So many files of a target are looked at together. Nearly all the time goes into what they include:
# eight together take little longer than one, and the tree takes minutes rather than half an hour.
FILES_TOGETHER = 8


def groups_of(paths, commands):
    """Files that compile with the same flags, a few at a time."""
    alike = {}
    for path in paths:
        alike.setdefault(tuple(commands.flags[path]), []).append(path)
    for files in alike.values():
        for first in range(0, len(files), FILES_TOGETHER):
            yield files[first:first + FILES_TOGETHER]


def tidy_together(tree, commands, paths):
    """What clang-tidy says of some files, as the includes of one that is made up for it.

    Where they do not compile together, as when two of them name a local thing alike, each half is
    looked at for itself."""
    flags = commands.flags[paths[0]]
    together = len(paths) > 1
    with tempfile.TemporaryDirectory(dir=commands.build) as folder:
        main = tree.root / paths[0]
        if together:
            main = pathlib.Path(folder) / "together.cc"
            main.write_text("".join(f'#include "{tree.root / p}"\n' for p in paths))
        folders = "|".join(sorted({re.escape(p.split("/")[0]) for p in tree.files if "/" in p}))
        # Our headers and .cc files; not what the schema's generator writes into the build folder.
        roots = f"{re.escape(str(tree.root))}|{re.escape(os.path.relpath(tree.root, commands.build))}"
        wanted = rf"(^|/)({roots})/({folders})/[^<>]*\.(h|cc)$"
        done = run([CLANG_TIDY, "--quiet", f"--header-filter={wanted}",
                    "--checks=-bugprone-suspicious-include" if together else "--checks=",
                    str(main), "--", *flags[1:], *(["-Wno-shadow"] if together else [])],
                   cwd=commands.build)
    found = []
    for path, line, text in re.findall(r"^([^:\n]+):(\d+):\d+: (?:error|warning): (.*)$",
                                       done.stdout, re.MULTILINE):
        path = os.path.relpath(os.path.join(commands.build, path), tree.root)
        found.append(Finding(path, int(line), text))
    if together and any("[clang-diagnostic-error" in f.text for f in found):
        half = len(paths) // 2
        return (tidy_together(tree, commands, paths[:half])
                + tidy_together(tree, commands, paths[half:]))
    if done.returncode != 0 and not found:
        found = [Finding(paths[0], 1, "clang-tidy failed: " + done.stdout.strip()[-300:])]
    return found


def clang_tidy(tree, commands, stamps):
    """clang-tidy has nothing to say"""
    version = run([CLANG_TIDY, "--version"]).stdout
    config = tree.read(".clang-tidy")

    def stamp_of(path):
        flags = commands.flags[path]
        # Line markers and comments stay in: a moved line or a NOLINT changes the verdict.
        seen = run([*flags, "-E", "-C", str(tree.root / path)], cwd=commands.build)
        return stamps.path("clang-tidy", version, config, *flags, seen.stdout)

    def check(paths):
        unknown = [(p, s) for p, s in ((p, stamp_of(p)) for p in paths) if not s.exists()]
        if not unknown:
            return []
        found = tidy_together(tree, commands, [p for p, _ in unknown])
        if not found:
            for _, stamp in unknown:
                stamp.touch()
        return found

    # A finding in a header is met from every file that includes it: tell it once.
    told = set()
    ours = sorted(set(commands.flags) & set(tree.files))
    for finding in in_parallel(check, groups_of(ours, commands)):
        if finding not in told:
            told.add(finding)
            yield finding


RULES = [lone_headers, formatting, clang_tidy]
