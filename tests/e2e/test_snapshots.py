"""Internal snapshots: what one tool makes, the other lists, applies, deletes and finds sound."""

import random
import shutil
import struct

import pytest

from support import PEER, img, io, run

KIB, MIB = 1 << 10, 1 << 20
QEMU = shutil.which("qemu-img")
pytestmark = pytest.mark.skipif(QEMU is None or PEER, reason="needs the peer beside our own tools")


def qemu_img(*arguments, code=0):
    return run(QEMU, *arguments, code=code)


# By the tool that acts: ours, the peer's, and both in turns.
def both(number):
    return img if number % 2 == 0 else qemu_img


ACTORS = {"ours": lambda number: img, "peer": lambda number: qemu_img, "turns": both}


def listing(tool, path):
    """Number, name and size of the machine's state: what both tools write alike."""
    return [line.split()[:3] for line in tool("snapshot", "-l", path).out.splitlines()[2:]]


class Disk:
    """An image and what it, and each of its snapshots, must read as."""

    def __init__(self, folder, seed, options):
        self.random = random.Random(seed)
        self.path, self.raw = folder / "disk.qcow2", folder / "content.raw"
        self.cluster = self.random.choice([512, 4 * KIB, 64 * KIB])
        self.size = self.cluster * self.random.randint(20, 60)
        self.content = bytearray(self.size)
        self.snapshots = {}
        img("create", "-q", "-f", "qcow2", "-o", f"cluster_size={self.cluster}{options}", self.path,
            self.size)

    def write(self):
        commands = []
        for _ in range(self.random.randint(1, 6)):
            at = self.random.randrange(self.size // 512) * 512
            length = min(self.size - at, 512 * self.random.randint(1, 3 * self.cluster // 512))
            value = self.random.randint(0, 255)
            self.content[at:at + length] = bytes([value]) * length
            commands += ["-c", f"write -q -P {value} {at} {length}"]
        io("-f", "qcow2", *commands, self.path)

    def step(self, tool, number):
        kind = self.random.choice(["create", "create", "apply", "delete"])
        if kind == "create" or not self.snapshots:
            name = f"s{number}"
            tool("snapshot", "-c", name, self.path)
            self.snapshots[name] = bytes(self.content)
            return
        name = self.random.choice(sorted(self.snapshots))
        if kind == "apply":
            tool("snapshot", "-a", name, self.path)
            self.content = bytearray(self.snapshots[name])
        else:
            tool("snapshot", "-d", name, self.path)
            del self.snapshots[name]

    def check(self):
        for tool in (img, qemu_img):
            done = tool("check", "-f", "qcow2", self.path)
            assert "No errors were found" in done.out, done
            assert [line[1] for line in listing(tool, self.path)] == list(self.snapshots)
            tool("convert", "-f", "qcow2", "-O", "raw", self.path, self.raw)
            assert self.raw.read_bytes() == self.content
        assert listing(img, self.path) == listing(qemu_img, self.path)
        for name, content in self.snapshots.items():
            qemu_img("convert", "-f", "qcow2", "-O", "raw", "-l", f"snapshot.name={name}",
                     self.path, self.raw)
            assert self.raw.read_bytes() == content, name


@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("seed, options", enumerate(
    ["", ",compat=0.10", ",refcount_bits=8", ",refcount_bits=64", ",preallocation=metadata"]))
def test_random_states(tmp_path, actor, seed, options):
    disk = Disk(tmp_path, seed, options)
    for number in range(12):
        disk.write()
        disk.step(ACTORS[actor](number), number)
    disk.check()
    # Nothing is left of those that are deleted.
    for name in sorted(disk.snapshots):
        img("snapshot", "-d", name, disk.path)
    disk.snapshots = {}
    disk.check()


def test_compressed_clusters_in_snapshots(tmp_path):
    disk = Disk(tmp_path, 7, "")
    disk.write()
    packed = tmp_path / "packed.qcow2"
    img("convert", "-c", "-O", "qcow2", "-o", f"cluster_size={disk.cluster}", disk.path, packed)
    disk.path = packed
    for number in range(8):
        disk.step(both(number), number)
        # Compressed data joins clusters that a snapshot refers to.
        size = disk.cluster
        at = disk.random.randrange(disk.size // size) * size
        io("-c", f"discard -q {at} {size}", "-c", f"write -q -c -P {number} {at} {size}", packed)
        disk.content[at:at + size] = bytes([number]) * size
    disk.check()


def test_size_comes_back(tmp_path):
    path = tmp_path / "a.qcow2"
    img("create", "-q", "-f", "qcow2", path, MIB)
    img("snapshot", "-c", "small", path)
    img("resize", "-q", path, 4 * MIB)
    img("snapshot", "-c", "large", path)
    for name, size in (("small", MIB), ("large", 4 * MIB), ("small", MIB)):
        img("snapshot", "-a", name, path)
        assert f"({size} bytes)" in qemu_img("info", path).out
    qemu_img("check", path)


def test_unknown_extra_data_is_kept(tmp_path):
    path = tmp_path / "a.qcow2"
    img("create", "-q", "-f", "qcow2", path, MIB)
    img("snapshot", "-c", "first", path)
    unknown = b"from the future!"
    with open(path, "r+b") as file:
        file.seek(64)
        table = struct.unpack(">Q", file.read(8))[0]
        file.seek(table)
        entry = file.read(128)
        assert struct.unpack(">I", entry[36:40]) == (24,)
        file.seek(table)
        file.write(entry[:36] + struct.pack(">I", 24 + len(unknown)) + entry[40:64] + unknown +
                   entry[64:72])
    img("snapshot", "-c", "second", path)
    img("snapshot", "-d", "second", path)
    qemu_img("check", path)
    assert unknown in path.read_bytes()
    assert listing(qemu_img, path) == [["1", "first", "0"]]
