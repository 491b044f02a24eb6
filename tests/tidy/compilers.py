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


def clang_tidy(tree, commands, stamps):
    """clang-tidy has nothing to say"""
    version = run([CLANG_TIDY, "--version"]).stdout
    config = tree.read(".clang-tidy")

    def check(path):
        flags = commands.flags[path]
        # Line markers and comments stay in: a moved line or a NOLINT changes the verdict.
        seen = run([*flags, "-E", "-C", str(tree.root / path)], cwd=commands.build)
        stamp = stamps.path("clang-tidy", version, config, *flags, seen.stdout)
        if stamp.exists():
            return []
        done = run([CLANG_TIDY, "--quiet", "-p", str(commands.build), path], cwd=tree.root)
        found = [Finding(os.path.relpath(os.path.join(commands.build, m[1]), tree.root)
                         if not os.path.isabs(m[1]) else os.path.relpath(m[1], tree.root),
                         int(m[2]), m[3])
                 for m in re.finditer(r"^([^:\n]+):(\d+):\d+: (?:error|warning): (.*)$",
                                      done.stdout, re.MULTILINE)]
        if done.returncode == 0 and not found:
            stamp.touch()
        elif not found:
            found = [Finding(path, 1, "clang-tidy failed: " + done.stdout.strip()[-300:])]
        return found

    # A finding in a header is met from every file that includes it: tell it once.
    seen = set()
    ours = [p for p in commands.flags if p in set(tree.files)]
    for finding in in_parallel(check, sorted(ours)):
        if finding not in seen:
            seen.add(finding)
            yield finding


RULES = [lone_headers, formatting, clang_tidy]
