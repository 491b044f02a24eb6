"""Command lines of cairn-img and cairn-io: the same words, exit code and images as the peer's.

command_lines.txt has lines that are refused, one a line, where the newest peer says what the installed
one says. They are given to a shell in a folder with a few small images. Then comes a sample of the random
lines of tests/differential/command_lines.
"""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from support import PEER, ROOT, TOOLS, environment, run

RUNNER = ROOT / "tests" / "differential" / "command_lines"
LINES = pathlib.Path(__file__).with_name("command_lines.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for command in ("qemu-img create -q -f raw t.raw 1M",
                    "qemu-io -f raw -c 'write -q -P 1 0 64k' t.raw",
                    "qemu-img create -q -f qcow2 base.qcow2 1M",
                    "qemu-io -f qcow2 -c 'write -q -P 2 0 128k' base.qcow2",
                    "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2",
                    "qemu-img create -q -f qcow2 s.qcow2 1M", "qemu-img snapshot -c one s.qcow2",
                    "qemu-img bitmap --add s.qcow2 b0", "truncate -s 1000 odd.raw",
                    "truncate -s 0 empty.raw", "printf hello > tiny.raw"):
        run("sh", "-c", command, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A folder with our programs under the peer's names."""
    folder = tmp_path_factory.mktemp("programs")
    for name in ("img", "io"):
        (folder / f"qemu-{name}").symlink_to(TOOLS / f"cairn-{name}")
    return folder


def refusal(line, images, folder, path):
    """What a command line says on a copy of the images, and how it ends."""
    shutil.copytree(images, folder)
    env = environment(None)
    env["PATH"] = f"{path}:{env['PATH']}"
    done = subprocess.run(line, shell=True, cwd=folder, env=env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          timeout=120)
    out = re.sub(r"\d+ ops; [^\n]*", "$OPS", done.stdout)
    return out, done.stderr, done.returncode


@pytest.mark.skipif(PEER, reason="compares with the peer")
@pytest.mark.parametrize("line", LINES)
def test_it_is_refused_as_the_peer_refuses_it(images, ours, folder, line):
    said = refusal(line, images, folder / "ours", ours)
    assert said == refusal(line, images, folder / "theirs", "/usr/bin")
    assert said[2] != 0


@pytest.mark.skipif(PEER, reason="compares with the peer")
@pytest.mark.parametrize("seed", ["first", "third"])
def test_random_lines(seed):
    done = run(RUNNER, "--count", 100, "--seed", seed, "--tools", TOOLS, code=None, timeout=1200)
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == "100 lines, 0 findings"


@pytest.mark.skipif(PEER, reason="it is ours that has to be told apart")
def test_the_runner_sees_a_difference(folder):
    """A program that stands in for ours and does nothing is found out."""
    for name in ("cairn-img", "cairn-io"):
        program = folder / name
        program.write_text(f"#!/bin/sh\ncase \"$*\" in *key-secret*) exec {TOOLS}/{name} \"$@\";; esac\n")
        program.chmod(0o755)
    done = run(RUNNER, "--count", 10, "--seed", "first", "--tools", folder, code=None, timeout=1200)
    assert done.code == 1, done
    assert done.out.splitlines()[-1].startswith("10 lines, "), done
    assert not done.out.splitlines()[-1].endswith(" 0 findings"), done
