#!/usr/bin/python3
"""Builds and runs the test suites; the work behind scripts/test.

A suite is a function that returns an Outcome. What it prints goes to build/test-logs/SUITE.log;
the screen gets one line a suite, and the names of what failed.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test-logs"
PYTHON = "/usr/bin/python3"  # Debian's, which has pytest and libnbd
JOBS = str(os.cpu_count() or 2)

# The builds. Between them they use both compilers that the project promises to support.
GCC = {"CC": "ccache gcc", "CXX": "ccache g++"}
CLANG = {"CC": "ccache clang-19", "CXX": "ccache clang++-19", "CXX_LD": "lld-19"}
# -O1: readable stack traces, and half the time that -O2 takes to compile. Unity: the files of a target
# are compiled eight at a time, since most of the time goes into the headers they share. The other
# build takes each file for itself, so that a missing include is still found, and what is shadowed in
# it: the local things of another file are no matter. A report names lines, not variables.
INSTRUMENTED = ["-Doptimization=1", "-Ddebug=true", "-Db_lundef=false", "-Dunity=on",
                "-Dunity_size=8"]
INSTRUMENTED_ARGS = "-Dcpp_args=-Wno-shadow -gline-tables-only"
# A null pointer that is used crashes without these, and they make the compiler work twice as long.
SLOW_CHECKS = "".join(f" -fno-sanitize={check}" for check in ("null", "vptr", "object-size"))
BUILDS = {
    "build": (GCC, ["--buildtype=release"]),
    "build-asan": (CLANG, [*INSTRUMENTED, INSTRUMENTED_ARGS + SLOW_CHECKS, "-Dfuzz=true",
                           "-Db_sanitize=address,undefined"]),
    "build-tsan": (CLANG, [*INSTRUMENTED, INSTRUMENTED_ARGS, "-Db_sanitize=thread"]),
}
# The language of messages, and where a tree lies, change nothing of what is compiled.
CACHE_OPTIONS = {"CCACHE_SLOPPINESS": "locale", "CCACHE_NOHASHDIR": "1"}
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


@dataclasses.dataclass
class Outcome:
    passed: int = 0
    skipped: int = 0
    failures: list = dataclasses.field(default_factory=list)

    def add(self, other):
        self.passed += other.passed
        self.skipped += other.skipped
        self.failures += other.failures


class Log:
    """Runs the commands of one suite and keeps what they print."""

    def __init__(self, suite):
        LOGS.mkdir(parents=True, exist_ok=True)
        self.path = LOGS / f"{suite}.log"
        self.file = self.path.open("w", encoding="utf-8")

    def run(self, command, **environment):
        self.file.write(f"$ {' '.join(command)}\n")
        self.file.flush()
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self.file,
                              stderr=subprocess.STDOUT, check=False,
                              env={**CACHE_OPTIONS, **os.environ, **SANITIZER_OPTIONS,
                                   **environment})
        self.file.flush()
        return done.returncode

    def text(self):
        return self.path.read_text(encoding="utf-8", errors="replace")


class BuildFailed(Exception):
    """The suite can not run; the log says why."""


def build(name, log, targets=()):
    """Configures once, then builds what changed; `targets` alone where they are named."""
    environment, options = BUILDS[name]
    folder = ROOT / name
    if not (folder / "build.ninja").exists():
        if log.run(["meson", "setup", str(folder), *options], **environment) != 0:
            raise BuildFailed(f"meson setup {name}")
    if log.run(["ninja", "-C", str(folder), "-j", JOBS, *targets]) != 0:
        raise BuildFailed(f"ninja -C {name}")


def count_junit(path):
    """The test cases of a JUnit file, as pytest and meson write them."""
    outcome = Outcome()
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                name = f"{suite.get('name')}.{case.get('name')}"
                if suite.get("name") == "pytest":
                    name = f"{case.get('classname')}::{case.get('name')}"
                outcome.failures.append(name)
            elif case.find("skipped") is not None or case.get("status") == "notrun":
                outcome.skipped += 1
            else:
                outcome.passed += 1
    return outcome


def meson_suite(build_name, suite, log, tests=(), **environment):
    """Runs a meson suite, or some of its tests. Test cases count where the program tells them,
    else the program."""
    base = f"{suite}-log"
    logs = ROOT / build_name / "meson-logs"
    for ending in ("json", "junit.xml"):
        (logs / f"{base}.{ending}").unlink(missing_ok=True)
    log.run(["meson", "test", "-C", build_name, "--no-rebuild", "--suite", suite, "--logbase",
             base, "--print-errorlogs", "--num-processes", JOBS,
             *tests], **environment)
    results, junit = logs / f"{base}.json", logs / f"{base}.junit.xml"
    if not results.exists():
        return Outcome(failures=[f"meson test --suite {suite} in {build_name} ran nothing"])
    outcome = count_junit(junit) if junit.exists() else Outcome()
    told = " ".join(outcome.failures)
    for line in results.read_text(encoding="utf-8").splitlines():
        program = json.loads(line)
        name = program["name"].split(" / ")[-1]
        # A program that crashed or hung has told nothing, or only of the cases before.
        if program["result"] not in ("OK", "SKIP", "EXPECTEDFAIL") and f".{name}." not in told:
            outcome.failures.append(f"{name}: {program['result']}")
    return outcome


def pytest_suite(name, log, arguments, **environment):
    report = LOGS / f"{name}.xml"
    report.unlink(missing_ok=True)
    log.run([PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml", str(report),
             *arguments], **environment)
    if not report.exists():
        return Outcome(failures=[f"pytest {' '.join(arguments)} ran nothing"])
    return count_junit(report)


def counted_run(log, command):
    """A program of ours that closes with 'N passed, N failed[, N skipped]'."""
    before = len(log.text())
    code = log.run(command)
    text = log.text()[before:]
    counts = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", text, re.MULTILINE)
    if not counts:
        return Outcome(failures=[f"{command[0]} ended with {code} and told no count"])
    passed, failed, skipped = (int(n or 0) for n in counts[-1])
    names = re.findall(r"^(\S+): (?:FAIL|\d+ found)", text, re.MULTILINE)
    names += ["(see the log)"] * (failed - len(names))
    return Outcome(passed, skipped, names[:failed])


def tidy(log):
    build("build", log)
    outcome = pytest_suite("tidy", log, ["tests/tidy", "tests/schema"])
    outcome.add(counted_run(log, ["tests/tidy/tidy", "--fast"]))
    return outcome


def lint(log):
    """The rules that need a compiler: headers that compile alone, and clang-tidy."""
    build("build", log)
    return counted_run(log, ["tests/tidy/tidy"])


def unit(log):
    build("build", log)
    return meson_suite("build", "unit", log)


def sim(log):
    build("build", log)
    return meson_suite("build", "sim", log)


def golden(log):
    build("build", log)
    outcome = Outcome()
    for backend in ("io_uring", "epoll"):
        os.environ["CAIRN_IO"] = backend
        outcome.add(counted_run(log, ["tests/golden/run", "--tools", "build/tools"]))
    del os.environ["CAIRN_IO"]
    return outcome


def e2e(log):
    build("build", log)
    outcome = pytest_suite("e2e", log, ["tests/e2e"], CAIRN_TOOLS="build/tools")
    # What serves, once more with every export on an I/O thread.
    served = [f"tests/e2e/test_{name}.py" for name in ("nbd", "nbd_tls", "fuse", "vhost_user")]
    outcome.add(pytest_suite("e2e-on-thread", log, [*served, "-m", "not slow"],
                             CAIRN_TOOLS="build/tools", CAIRN_EXPORT_THREAD="1"))
    return outcome


def packages(log):
    """Debian packages of this tree, built with the flags of the other build, so that the compiler's
    cache answers; and tests of them."""
    build("build", log)
    flags = {f"DEB_{kind}FLAGS_SET": "" for kind in ("C", "CPP", "CXX", "LD")}
    folder = "build/packages"
    if log.run(["scripts/build-packages", folder], **flags) != 0:
        return Outcome(failures=["scripts/build-packages failed"])
    return pytest_suite("packages", log, ["tests/packages"], CAIRN_PACKAGES=folder)


def instrumented_e2e(build_name, log):
    """Some of these tests measure the memory of a program, so that the sanitizer is to keep little of
    what was freed; in the unit tests it keeps much, to find who still uses it."""
    small = SANITIZER_OPTIONS["ASAN_OPTIONS"] + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
    return pytest_suite(build_name, log, ["tests/e2e", "-m", "not slow"],
                        CAIRN_TOOLS=f"{build_name}/tools", ASAN_OPTIONS=small)


def asan(log):
    """Unit tests, a short simulation and the short end-to-end tests."""
    build("build-asan", log)
    outcome = meson_suite("build-asan", "unit", log)
    outcome.add(meson_suite("build-asan", "sim", log, CAIRN_SIM_SCALE="0.02"))
    outcome.add(instrumented_e2e("build-asan", log))
    return outcome


def tsan(log):
    """What has threads: the unit tests of these folders, and the programs end to end. The engine and
    the formats run on one thread, and the simulator on one a history."""
    programs = {"io": "io_test", "io-stack-o0": "io_stack_test_o0", "io-stack-o2": "io_stack_test_o2",
                "exports_nbd": "exports_nbd_test", "exports_fuse": "exports_fuse_test",
                "exports_ublk": "exports_ublk_test", "exports_vhost_user": "exports_vhost_user_test",
                "file": "file_test", "jobs": "jobs_test", "monitor": "monitor_test",
                "tls_stream": "tls_stream_test"}
    build("build-tsan", log, [f"tests/io/{p}" if "stack" in p else f"tests/{p}"
                              for p in programs.values()]
          + [f"tools/{p}" for p in ("cairnd", "cairn-img", "cairn-io", "cairn-nbd", "cairnctl",
                                    "cairnctl.bash")])
    on_thread = [f"{t}-on-thread" for t in programs if t.startswith("exports_")]
    tests = [f"{t}-{backend}" for t in [*programs, *on_thread] for backend in ("io_uring", "epoll")]
    outcome = meson_suite("build-tsan", "unit", log, tests)
    outcome.add(instrumented_e2e("build-tsan", log))
    return outcome


def fuzz(log):
    build("build-asan", log)
    return meson_suite("build-asan", "fuzz", log)


# In the order of a full run: what fails soonest and cheapest comes first.
SUITES = [unit, tidy, golden, packages, e2e, sim]
# Run when they are named: they take longer than a change should wait for.
NAMED_SUITES = [lint, tsan, asan, fuzz]


def main():
    parser = argparse.ArgumentParser(prog="scripts/test", description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="name the suites and stop")
    parser.add_argument("suites", nargs="*", metavar="suite", help="these alone")
    args = parser.parse_args()
    by_name = {s.__name__: s for s in SUITES + NAMED_SUITES}
    if args.list:
        print("\n".join(by_name))
        return 0
    for name in args.suites:
        if name not in by_name:
            parser.error(f"there is no suite {name}; there are {', '.join(by_name)}")

    total = Outcome()
    for name in args.suites or [s.__name__ for s in SUITES]:
        begin = time.monotonic()
        print(f"{name}: running", end="\r" if sys.stdout.isatty() else "\n", flush=True)
        log = Log(name)
        try:
            outcome = by_name[name](log)
        except BuildFailed as error:
            outcome = Outcome(failures=[f"{error} failed"])
            print("\n".join(log.text().splitlines()[-25:]))
        if outcome.passed == 0 and not outcome.failures:
            outcome.failures.append("no test was run")
        skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
        print(f"{name}: {outcome.passed} passed, {len(outcome.failures)} failed{skipped} "
              f"({time.monotonic() - begin:.0f} s)")
        for failure in outcome.failures:
            print(f"  FAILED {failure}")
        if outcome.failures:
            print(f"  the log is {log.path.relative_to(ROOT)}")
        total.add(outcome)
    print(f"{total.passed} passed, {len(total.failures)} failed")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
