"""Persistent dirty bitmaps: what one tool records, stores and merges, the other finds and believes."""

import json
import random
import shutil

import pytest

from support import PEER, img, run

KIB, MIB = 1 << 10, 1 << 20
QEMU, QEMU_IO = shutil.which("qemu-img"), shutil.which("qemu-io")
pytestmark = pytest.mark.skipif(QEMU is None or PEER, reason="needs the peer beside our own tools")


def qemu_img(*arguments, code=0):
    return run(QEMU, *arguments, code=code)


def write(tool, path, at, length):
    run("cairn-io" if tool is img else QEMU_IO, "-f", "qcow2", "-c", f"write -q {at} {length}", path)


def bitmaps(tool, path):
    found = json.loads(tool("info", "--output=json", path).out)
    return found["format-specific"]["data"].get("bitmaps", [])


def sound(path):
    for tool in (img, qemu_img):
        tool("check", path)


@pytest.mark.parametrize("seed", range(8))
def test_bitmaps_in_turns(folder, seed):
    """Two images with the same history of writes and bitmap commands, one by each tool and then by
    the other: both tools list the same bitmaps, find both images sound, and can go on with either."""
    rng = random.Random(seed)
    cluster = rng.choice([512, 4 * KIB, 64 * KIB, 2 * MIB])
    paths = [folder / "one.qcow2", folder / "two.qcow2"]
    for path in paths:
        img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", path, "24M")
    names = []
    for step in range(10):
        tools = (img, qemu_img) if step % 2 == 0 else (qemu_img, img)
        kind = rng.choice(["add", "add", "write", "write", "write", "merge", "toggle", "remove", "size"])
        name, at = f"b{step}", rng.randrange(20 * MIB // 512) * 512
        granularity, length = rng.choice([512, 4096, 65536, MIB]), rng.randint(1, 300) * 512
        chosen, other = (rng.choice(names), rng.choice(names)) if names else (None, None)
        for tool, path in zip(tools, paths):
            if kind == "add" or not names:
                tool("bitmap", "--add", "-g", granularity, path, name)
            elif kind == "merge":
                tool("bitmap", "--merge", other, path, chosen)
            elif kind == "toggle":
                tool("bitmap", "--disable" if step % 3 else "--enable", path, chosen)
            elif kind == "remove":
                tool("bitmap", "--remove", path, chosen)
            elif kind == "size":
                tool("resize", "-q", path, f"{24 + step}M")
            else:
                write(tool, path, at, length)
            sound(path)
        if kind == "add" or not names:
            names.append(name)
        elif kind == "remove":
            names.remove(chosen)
        for tool in (img, qemu_img):
            assert bitmaps(tool, paths[0]) == bitmaps(tool, paths[1])


def test_a_killed_daemon_leaves_a_bitmap_in_use(folder, daemons):
    path = folder / "disk.qcow2"
    img("create", "-q", "-f", "qcow2", path, "64M")
    img("bitmap", "--add", path, "on")
    img("bitmap", "--add", "--disable", path, "off")
    daemon = daemons.serving({"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}})
    run("nbdsh", "-u", daemon.uri(), "-c", "h.pwrite(b'x' * 512, 0)")
    daemon.kill()
    flags = {found["name"]: found["flags"] for found in bitmaps(qemu_img, path)}
    assert flags == {"on": ["in-use", "auto"], "off": []}
    sound(path)
    assert "inconsistent" in qemu_img("bitmap", "--clear", path, "on", code=1).err
    assert "inconsistent" in img("bitmap", "--clear", path, "on", code=1).err
    qemu_img("bitmap", "--remove", path, "on")
    sound(path)
