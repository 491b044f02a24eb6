"""Streams of compressed grains, as virtual appliances (OVF) carry them: ours are read by a reader that goes
through them from the front, as importers do, and those that exporters write are read by ours."""

import random
import struct
import zlib

import pytest

from support import PEER, img, run

SECTOR, GRAIN = 512, 65536
HEADER = "<4sIIQQQQIQQQB4sH"
AT_END = 2**64 - 1
MARKER_END, MARKER_TABLE, MARKER_DIRECTORY, MARKER_FOOTER = range(4)
TOOLS = ["qemu"] if PEER else ["cairn", "qemu"]


class Stream:
    """A stream of which every byte has to be in its place."""

    def __init__(self, data):
        self.data = data
        names = ("magic version flags capacity grain descriptor_at descriptor_size table_entries redundant_at "
                 "directory_at overhead dirty newlines compression").split()
        self.header = dict(zip(names, struct.unpack_from(HEADER, data)))

    def check_header(self, size):
        header = self.header
        assert header["magic"] == b"KDMV" and header["version"] == 3
        assert header["flags"] & 0x30001 == 0x30001 and header["compression"] == 1
        assert header["newlines"] == b"\n \r\n" and header["dirty"] == 0
        assert header["grain"] * SECTOR == GRAIN and header["table_entries"] == 512
        assert header["capacity"] == -(-size // SECTOR)
        text = self.data[header["descriptor_at"] * SECTOR:][:header["descriptor_size"] * SECTOR].rstrip(b"\0").decode()
        assert 'createType="streamOptimized"' in text and text.startswith("# Disk DescriptorFile")

    def grain_at(self, sector):
        """The disk's sector, the grain, and where the next marker is."""
        place, length = struct.unpack_from("<QI", self.data, sector * SECTOR)
        assert length > 0
        begin = sector * SECTOR + 12
        unpacked = zlib.decompress(self.data[begin:begin + length])
        end = -(-(begin + length) // SECTOR) * SECTOR
        assert not self.data[begin + length:end].strip(b"\0")
        return place, unpacked, end // SECTOR

    def walk(self):
        """{sector of the disk: (grain, place)}, from the first marker to the end."""
        found, at = {}, self.header["overhead"]
        while at * SECTOR < len(self.data):
            length, = struct.unpack_from("<I", self.data, at * SECTOR + 8)
            if length == 0:  # a marker of something else, which says how many sectors follow
                count, kind = struct.unpack_from("<Q4xI", self.data, at * SECTOR)
                at += 1 + count
                if kind == MARKER_END:
                    assert at * SECTOR == len(self.data)
                continue
            place, unpacked, following = self.grain_at(at)
            assert place not in found and place % self.header["grain"] == 0
            found[place] = (unpacked, at)
            at = following
        return found

    def tables(self):
        """{sector of the disk: place}, by directory and tables."""
        found = {}
        grain, entries = self.header["grain"], self.header["table_entries"]
        count = -(-self.header["capacity"] // (grain * entries))
        directory = struct.unpack_from(f"<{count}I", self.data, self.header["directory_at"] * SECTOR)
        for index, table_at in enumerate(directory):
            if table_at:
                table = struct.unpack_from(f"<{entries}I", self.data, table_at * SECTOR)
                found.update({(index * entries + entry) * grain: place
                              for entry, place in enumerate(table) if place})
        return found


def content(seed, size):
    chooser = random.Random(seed)
    kinds = [lambda: bytes(GRAIN), lambda: chooser.randbytes(GRAIN), lambda: b"text " * 13107 + b"!"]
    return b"".join(chooser.choice(kinds)() for _ in range(-(-size // GRAIN)))[:size]


@pytest.mark.skipif(PEER, reason="the peer leaves gaps")
@pytest.mark.parametrize("size", [GRAIN, 40 * GRAIN, 600 * GRAIN + 512])
def test_streams_are_read_from_the_front(tmp_path, size):
    disk = content(size, size)
    (tmp_path / "disk.raw").write_bytes(disk)
    img("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", "disk.raw", "d.vmdk", cwd=tmp_path)
    stream = Stream((tmp_path / "d.vmdk").read_bytes())
    stream.check_header(size)
    walked = stream.walk()
    assert {place: at for place, (_, at) in walked.items()} == stream.tables()
    rebuilt = bytearray(-(-size // GRAIN) * GRAIN)
    for place, (unpacked, _) in walked.items():
        rebuilt[place * SECTOR:place * SECTOR + len(unpacked)] = unpacked
    assert rebuilt[:size] == disk
    assert len(walked) < size // GRAIN or bytes(GRAIN) not in disk


def padded(data):
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")


def export(disk):
    """A stream as exporters write it: nothing is known in front, directory and footer come last."""
    capacity = len(disk) // SECTOR
    text = (f'# Disk DescriptorFile\nversion=1\nCID=7e57ab1e\nparentCID=ffffffff\ncreateType="streamOptimized"\n\n'
            f'# Extent description\nRW {capacity} SPARSE "disk.vmdk"\n\nddb.adapterType = "lsilogic"\n').encode()

    def header(directory_at):
        return padded(struct.pack(HEADER, b"KDMV", 3, 0x30001, capacity, GRAIN // SECTOR, 1, 20, 512, 0, directory_at, 128,
                                  0, b"\n \r\n", 1))

    def marker(sectors, kind):
        return padded(struct.pack("<QII", sectors, 0, kind))

    out = bytearray((header(AT_END) + text).ljust(128 * SECTOR, b"\0"))
    directory = []
    for first in range(0, len(disk), 512 * GRAIN):
        table = []
        for offset in range(first, first + 512 * GRAIN, GRAIN):
            grain = disk[offset:offset + GRAIN]
            if not grain.strip(b"\0"):
                table.append(0)
                continue
            table.append(len(out) // SECTOR)
            packed = zlib.compress(grain)
            out += padded(struct.pack("<QI", offset // SECTOR, len(packed)) + packed)
        out += marker(4, MARKER_TABLE)
        directory.append(len(out) // SECTOR)
        out += struct.pack("<512I", *table)
    packed = padded(struct.pack(f"<{len(directory)}I", *directory))
    out += marker(len(packed) // SECTOR, MARKER_DIRECTORY)
    directory_at = len(out) // SECTOR
    out += packed + marker(1, MARKER_FOOTER) + header(directory_at) + marker(0, MARKER_END)
    return bytes(out)


@pytest.mark.parametrize("size", [GRAIN, 700 * GRAIN])
def test_what_exporters_write_is_read(tmp_path, size):
    disk = content(size + 1, size)
    (tmp_path / "d.vmdk").write_bytes(export(disk))
    for tool in TOOLS:
        run(f"{tool}-img", "convert", "-f", "vmdk", "-O", "raw", "d.vmdk", f"{tool}.raw", cwd=tmp_path)
        assert (tmp_path / f"{tool}.raw").read_bytes() == disk


@pytest.mark.skipif(PEER, reason="about ours")
def test_what_exporters_write_is_copied_as_a_stream(tmp_path):
    disk = content(5, 20 * GRAIN)
    (tmp_path / "d.vmdk").write_bytes(export(disk))
    img("convert", "-f", "vmdk", "-O", "vmdk", "-o", "subformat=streamOptimized", "d.vmdk", "c.vmdk", cwd=tmp_path)
    stream = Stream((tmp_path / "c.vmdk").read_bytes())
    stream.check_header(len(disk))
    assert {place for place in stream.walk()} == {place for place in Stream(export(disk)).walk()}
