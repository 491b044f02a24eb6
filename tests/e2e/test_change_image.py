"""Rebasing and amending: the image reads as before, and the peer finds it sound."""

import json
import random
import shutil

import pytest

from support import PEER, img, io, run

KIB, MIB = 1 << 10, 1 << 20
QEMU = shutil.which("qemu-img")
pytestmark = pytest.mark.skipif(QEMU is None or PEER, reason="needs the peer beside our own tools")


def content(folder, image, tool="cairn-img"):
    run(tool, "convert", "-f", "qcow2", "-O", "raw", image, "seen.raw", cwd=folder)
    return (folder / "seen.raw").read_bytes()


def sound(folder, image):
    for tool in ("cairn-img", "qemu-img"):
        done = run(tool, "check", "-f", "qcow2", image, cwd=folder)
        assert "No errors were found" in done.out, done


def info(folder, image, *options):
    return json.loads(run("qemu-img", "info", "--output=json", *options, image, cwd=folder).out)


def scribble(folder, chooser, image, size):
    commands = []
    for _ in range(8):
        at = chooser.randrange(size // 512) * 512
        length = min(size - at, 512 * chooser.randint(1, 200))
        what = chooser.choice([f"write -q -P {chooser.randint(1, 255)}", "write -q -z"])
        commands += ["-c", f"{what} {at} {length}"]
    io("-f", "qcow2", *commands, image, cwd=folder)


@pytest.mark.parametrize("mode", ["off", "metadata", "falloc", "full"])
@pytest.mark.parametrize("below", [66 * KIB, 300 * KIB])  # to the overlay's end, and beyond
@pytest.mark.parametrize("options", ["compat=0.10", "compat=1.1", "extended_l2=on"])
def test_growth_with_preallocation_keeps_what_the_backing_file_shows(tmp_path, mode, below,
                                                                     options):
    """The cluster that the disk ends in has no place of its own, and is a part of the disk all the same."""
    old, new = 66 * KIB, 1 * MIB
    (tmp_path / "below.raw").write_bytes(b"\x07" * below)
    img("create", "-q", "-f", "qcow2", "-b", "below.raw", "-F", "raw", "-o", options, "top.qcow2",
        old, cwd=tmp_path)
    img("resize", f"--preallocation={mode}", "top.qcow2", new, cwd=tmp_path)
    for tool in ("cairn-img", "qemu-img"):
        assert content(tmp_path, "top.qcow2", tool) == b"\x07" * old + bytes(new - old)
    sound(tmp_path, "top.qcow2")


@pytest.mark.parametrize("new", ["base.qcow2", "other.qcow2", ""])
@pytest.mark.parametrize("seed", range(4))
def test_rebase_keeps_the_content(tmp_path, seed, new):
    chooser = random.Random(seed)
    compat = chooser.choice(["0.10", "1.1"])
    sizes = {name: 512 * chooser.randint(1000, 4000) for name in ("base", "other", "mid", "top")}
    for name in ("base", "other"):
        img("create", "-q", "-f", "qcow2", f"{name}.qcow2", sizes[name], cwd=tmp_path)
        scribble(tmp_path, chooser, f"{name}.qcow2", sizes[name])
    for name, below in (("mid", "base"), ("top", "mid")):
        img("create", "-q", "-f", "qcow2", "-b", f"{below}.qcow2", "-F", "qcow2",
            "-o", f"compat={compat if name == 'top' else '1.1'}", f"{name}.qcow2", sizes[name],
            cwd=tmp_path)
        scribble(tmp_path, chooser, f"{name}.qcow2", sizes[name])
    before = content(tmp_path, "top.qcow2", "qemu-img")
    compress = ["-c"] if seed % 2 else []
    img("rebase", *compress, "-b", new, *(["-F", "qcow2"] if new else []), "top.qcow2",
        cwd=tmp_path)
    assert info(tmp_path, "top.qcow2").get("backing-filename", "") == new
    for tool in ("cairn-img", "qemu-img"):
        assert content(tmp_path, "top.qcow2", tool) == before
    sound(tmp_path, "top.qcow2")


def test_unsafe_rebase_changes_the_name_alone(tmp_path):
    img("create", "-q", "-f", "qcow2", "-b", "gone.raw", "-F", "raw", "-u", "a.qcow2", MIB,
        cwd=tmp_path)
    for name in ("x" * 1000, "short.raw", "y" * 700):
        img("rebase", "-u", "-b", name, "-F", "raw", "a.qcow2", cwd=tmp_path)
        described = info(tmp_path, "a.qcow2", "-U")
        assert described["backing-filename"] == name
        assert described["backing-filename-format"] == "raw"
    img("rebase", "-u", "-b", "", "a.qcow2", cwd=tmp_path)
    assert "backing-filename" not in info(tmp_path, "a.qcow2")
    sound(tmp_path, "a.qcow2")


@pytest.mark.parametrize("options", ["compat=0.10", "refcount_bits=1", "refcount_bits=64",
                                     "lazy_refcounts=on", "size=3M", "size=7M",
                                     "compat=0.10,size=7M"])
@pytest.mark.parametrize("backing", [False, True])
def test_amend_keeps_the_content(tmp_path, backing, options):
    chooser = random.Random(options)
    behind = []
    if backing:
        img("create", "-q", "-f", "qcow2", "base.qcow2", 4 * MIB, cwd=tmp_path)
        scribble(tmp_path, chooser, "base.qcow2", 4 * MIB)
        behind = ["-b", "base.qcow2", "-F", "qcow2"]
    img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", *behind, "a.qcow2", 5 * MIB,
        cwd=tmp_path)
    scribble(tmp_path, chooser, "a.qcow2", 5 * MIB)
    before = content(tmp_path, "a.qcow2")
    img("amend", "-f", "qcow2", "-o", options, "a.qcow2", cwd=tmp_path)
    sound(tmp_path, "a.qcow2")
    after = content(tmp_path, "a.qcow2", "qemu-img")
    common = min(len(before), len(after))
    assert after[:common] == before[:common]
    assert not any(after[common:])
    # It goes on, and back.
    scribble(tmp_path, chooser, "a.qcow2", 3 * MIB)
    before = content(tmp_path, "a.qcow2")
    img("amend", "-f", "qcow2", "-o", "compat=1.1,refcount_bits=16", "a.qcow2", cwd=tmp_path)
    assert content(tmp_path, "a.qcow2", "qemu-img") == before
    sound(tmp_path, "a.qcow2")


def test_convert_takes_a_snapshot(tmp_path):
    img("create", "-q", "-f", "qcow2", "a.qcow2", MIB, cwd=tmp_path)
    for number, name in enumerate(("two", "1", "three"), 1):
        io("-f", "qcow2", "-c", f"write -q -P {number} 0 {MIB}", "a.qcow2", cwd=tmp_path)
        img("snapshot", "-c", name, "a.qcow2", cwd=tmp_path)
    io("-f", "qcow2", "-c", f"write -q -P 9 0 {MIB}", "a.qcow2", cwd=tmp_path)
    for choice, value in (("two", 1), ("1", 1), ("3", 3), ("snapshot.name=1", 2),
                          ("snapshot.id=2", 2), ("snapshot.id=3,snapshot.name=three", 3)):
        seen = []
        for tool in ("cairn-img", "qemu-img"):
            run(tool, "convert", "-f", "qcow2", "-O", "raw", "-l", choice, "a.qcow2", "b.raw",
                cwd=tmp_path)
            seen.append((tmp_path / "b.raw").read_bytes())
        assert seen[0] == seen[1] == bytes([value]) * MIB, choice
    for choice in ("four", "snapshot.id=1,snapshot.name=three", "snapshot.name=3", "snapshot.x=1"):
        ours, peers = (run(tool, "convert", "-O", "raw", "-l", choice, "a.qcow2", "b.raw", code=1,
                           cwd=tmp_path).err for tool in ("cairn-img", "qemu-img"))
        assert ours.replace("cairn-img", "qemu-img") == peers


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
@pytest.mark.parametrize("how", ["resize", "truncate", "amend"])
def test_what_growing_adds_hides_a_longer_backing_file(tmp_path, how, compat):
    (tmp_path / "base.raw").write_bytes(b"\x42" * 4 * MIB)
    img("create", "-q", "-f", "qcow2", "-o", f"compat={compat}", "-b", "base.raw", "-F", "raw", "a.qcow2",
        MIB + 512, cwd=tmp_path)
    if how == "resize":
        img("resize", "-q", "a.qcow2", "3M", cwd=tmp_path)
    elif how == "amend":
        img("amend", "-f", "qcow2", "-o", "size=3M", "a.qcow2", cwd=tmp_path)
    else:
        io("-f", "qcow2", "-c", "truncate 3M", "a.qcow2", cwd=tmp_path)
    sound(tmp_path, "a.qcow2")
    assert content(tmp_path, "a.qcow2", "qemu-img") == \
        b"\x42" * (MIB + 512) + bytes(2 * MIB - 512)
