"""Images with extended L2 entries, written in turns by the peer's tools and by ours: both read the same
bytes, the peer finds nothing to complain about, and both tell the same map. Damage is told in the same
words.

What is random comes from the seed in the test's name, so a failure replays.
"""

import json
import random
import struct

import pytest

from support import run

SECTOR = 512
OFFSET = ((1 << 56) - 1) & ~511


class Disk:
    """An image and the bytes it should hold."""

    def __init__(self, folder, chooser):
        self.chooser = chooser
        self.path = folder / "image.qcow2"
        self.raw = folder / "image.raw"
        self.cluster = chooser.choice([16 << 10, 32 << 10, 64 << 10, 256 << 10])
        self.size = self.cluster * chooser.choice([7, 33, 70]) + chooser.choice([0, 512, 4096])
        self.content = bytearray(self.size)
        self.options = [f"cluster_size={self.cluster}", "extended_l2=on",
                        f"compression_type={chooser.choice(['zlib', 'zstd'])}"]

    def put_over_backing_file(self, folder):
        below = folder / "below.raw"
        length = self.chooser.choice([self.size, self.size // 2 // SECTOR * SECTOR, self.size * 2])
        below.write_bytes(b"\7" * length)
        self.content[:min(length, self.size)] = b"\7" * min(length, self.size)
        self.options += [f"backing_file={below}", "backing_fmt=raw"]
        if self.chooser.random() < 0.3:
            self.options.append("preallocation=metadata")

    def commands(self):
        """Random operations for the shell of either tool; the content follows."""
        arguments = []
        for _ in range(self.chooser.randrange(1, 25)):
            offset = self.chooser.randrange(self.size // SECTOR) * SECTOR
            length = self.chooser.choice([SECTOR, 2 * SECTOR, 4096, self.cluster // 32,
                                          self.cluster // 32 * 5, self.cluster, self.cluster * 3])
            length = min(length, self.size - offset)
            kind = self.chooser.random()
            if kind < 0.5:
                pattern = self.chooser.randrange(1, 255)
                command = f"write -P {pattern} {offset} {length}"
                self.content[offset:offset + length] = bytes([pattern]) * length
            elif kind < 0.85:
                unmap = self.chooser.choice(["", "-u "])
                command = f"write -z {unmap}{offset} {length}"
                self.content[offset:offset + length] = bytes(length)
            else:
                offset = offset // self.cluster * self.cluster
                length = min(self.cluster, (self.size - offset) // self.cluster * self.cluster)
                command = f"discard {offset} {length}" if length else "flush"
                self.content[offset:offset + length] = bytes(length)
            arguments += ["-c", command]
        return arguments


def told_map(tool, path):
    """The map as a list, entries that continue each other joined. The peer looks whether data that it
    suspects to be preallocated is a hole of the file; that it is data is what counts here."""
    joined = []
    for entry in json.loads(run(tool, "map", "--output=json", path).out):
        zero = entry["zero"] and not entry["data"]
        kind = (zero, entry["data"], entry["depth"])
        place = entry.get("offset")
        last = joined[-1] if joined else None
        if last and last["kind"] == kind and (
                place is None and last["place"] is None
                or None not in (place, last["place"]) and last["place"] + last["length"] == place):
            last["length"] += entry["length"]
        else:
            joined.append({"start": entry["start"], "length": entry["length"], "kind": kind,
                           "place": place})
    return joined


@pytest.mark.parametrize("seed", range(10))
def test_turns_on_one_image(folder, seed):
    chooser = random.Random(seed)
    disk = Disk(folder, chooser)
    if seed % 2 == 0:
        disk.put_over_backing_file(folder)
    maker = chooser.choice(["qemu-img", "cairn-img"])
    run(maker, "create", "-q", "-f", "qcow2", "-o", ",".join(disk.options), disk.path,
        disk.size)
    for _ in range(5):
        shell = chooser.choice(["cairn-io", "cairn-io", "qemu-io"])
        run(shell, "-f", "qcow2", *disk.commands(), disk.path)
        run("qemu-img", "check", "-q", disk.path)
        for tool in ("qemu-img", "cairn-img"):
            run(tool, "convert", "-O", "raw", disk.path, disk.raw)
            assert disk.raw.read_bytes() == disk.content, f"read by {tool}, written by {shell}"
        assert told_map("cairn-img", disk.path) == told_map("qemu-img", disk.path)


def damage_both(entry):
    return entry[0], entry[1] | 1 << 32


def damage_no_place(_):
    return 0, 1


def damage_place(entry):
    return entry[0] | 512, entry[1]


def damage_place_of_zeroes(entry):
    return entry[0] | 512, 0xFFFFFFFF << 32


def damage_reserved(entry):
    return entry[0] | 4, entry[1]


def damage_copied(entry):
    return entry[0] & ~(1 << 63), entry[1]


def damage_dropped(_):
    return 0, 0


@pytest.mark.parametrize("repair", [[], ["-r", "all"]], ids=["check", "repair"])
@pytest.mark.parametrize("damage", [damage_both, damage_no_place, damage_place, damage_place_of_zeroes,
                                    damage_reserved, damage_copied, damage_dropped])
def test_damage_is_told_alike(folder, damage, repair):
    image = folder / "image.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=16k", image, "1M")
    run("qemu-io", "-c", "write -P 1 0 512", "-c", "write -z 1k 512", "-c", "write -P 2 16k 16k", image)
    data = bytearray(image.read_bytes())
    l1, = struct.unpack_from(">Q", data, 40)
    l2 = struct.unpack_from(">Q", data, l1)[0] & OFFSET
    struct.pack_into(">QQ", data, l2, *damage(struct.unpack_from(">QQ", data, l2)))
    told = []
    for tool in ("qemu-img", "cairn-img"):
        image.write_bytes(data)
        done = run(tool, "check", *repair, image, code=None)
        after = run("qemu-img", "check", image, code=None)
        told.append((done.code, done.out, done.err, after.code, after.out))
    assert told[1] == told[0]
