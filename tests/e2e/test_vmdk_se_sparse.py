"""Space-efficient VMDK extents, which nobody but a host makes: put together here, and read by both."""

import json
import random
import struct

import pytest

from support import PEER, img, io, run

SECTOR, GRAIN, TABLE_ENTRIES = 512, 4096, 4096
DIRECTORY, TABLES = 8, 64  # sectors
ALL_TOOLS = ["qemu"] if PEER else ["cairn", "qemu"]

pytestmark = pytest.mark.skipif(PEER, reason="compares ours with the peer")


def allocated(number):
    return 3 << 60 | (number & 0xfff) << 48 | number >> 12


class Extent:
    """An extent of so many sectors, written to `path`; `changes` replace numbers of its headers."""

    def __init__(self, path, sectors, changes=()):
        self.path = path
        self.tables = -(-sectors * SECTOR // (GRAIN * TABLE_ENTRIES))
        self.grains = TABLES + 64 * self.tables + 64
        areas = [(1, 1), (2, 2), (4, 2), (DIRECTORY, -(-self.tables // 64)), (TABLES, 64 * self.tables),
                 (6, 1), (7, 1), (self.grains, sectors)]
        header = struct.pack("<10Q", 0xcafebabe, 2 << 32 | 1, sectors, 8, 64, 0, 0, 0, 0, 0)
        header += b"".join(struct.pack("<2Q", *area) for area in areas)
        with path.open("wb") as file:
            file.write(header.ljust(SECTOR, b"\0") + struct.pack("<Q", 0xcafecafe))
            file.truncate(self.grains * SECTOR)
        for table in range(self.tables):
            self.put(DIRECTORY * SECTOR + 8 * table, 1 << 60 | table)
        for offset, number in changes:
            self.put(offset, number)

    def write(self, offset, data):
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def put(self, offset, number):
        self.write(offset, struct.pack("<Q", number))

    def entry(self, grain, number):
        self.put(TABLES * SECTOR + 8 * grain, number)

    def fill(self, number, data):
        self.write(self.grains * SECTOR + number * GRAIN, data)


def describe(path, lines, parent="parentCID=ffffffff\n"):
    path.write_text("# Disk DescriptorFile\nversion=1\nCID=12345678\n" + parent + 'createType="seSparse"\n'
                    "\n# Extent description\n" + "".join(line + "\n" for line in lines) + "# The end\n")


def both(*words, folder, code=0):
    """What each answers, with the name of the program taken out."""
    answers = []
    for tool in ("cairn", "qemu"):
        done = run(f"{tool}-{words[0]}", *words[1:], cwd=folder, code=code)
        answers.append((done.code, done.out, done.err.replace("cairn-", "qemu-")))
    return answers


def alike(*words, folder, code=0):
    ours, theirs = both(*words, folder=folder, code=code)
    assert ours == theirs
    return theirs


def random_extent(chooser, folder, sectors):
    """Entries of all kinds, with gaps, and what the disk then holds where it does not ask the parent."""
    extent = Extent(folder / "e.vmdk", sectors)
    grains = -(-sectors * SECTOR // GRAIN)
    numbers = list(range(400))
    chooser.shuffle(numbers)
    disk = {}
    grain = 0
    while grain < grains and numbers:
        kind = chooser.choice(["hole", "zero", "unmapped", "data", "data", "run"])
        for _ in range(chooser.randint(1, 6)):
            if grain >= grains or not numbers:
                break
            if kind in ("data", "run"):
                number = max(numbers) if kind == "run" else numbers[-1]
                numbers.remove(number)
                data = chooser.randbytes(GRAIN)
                extent.entry(grain, allocated(number))
                extent.fill(number, data)
                disk[grain] = data
            elif kind != "hole":
                extent.entry(grain, 2 << 60 if kind == "zero" else 1 << 60 | chooser.getrandbits(60))
                disk[grain] = bytes(GRAIN)
            grain += chooser.choice([1, 1, 1, 40])
    return disk


@pytest.mark.parametrize("seed,sectors", [(1, 8192), (2, 70001), (3, 4096 * 8 * 3)])
@pytest.mark.parametrize("parent", [False, True])
def test_disks_are_read_alike(tmp_path, seed, sectors, parent):
    below = bytes(sectors * SECTOR)
    parent_lines = "parentCID=ffffffff\n"
    if parent:
        img("create", "-q", "-f", "vmdk", tmp_path / "below.vmdk", str(sectors * SECTOR))
        io("-f", "vmdk", "-c", f"write -q -P 7 0 {sectors * SECTOR}", tmp_path / "below.vmdk")
        below = b"\7" * (sectors * SECTOR)
        shown = img("info", "--output=json", tmp_path / "below.vmdk").out
        content = json.loads(shown)["format-specific"]["data"]["cid"]
        parent_lines = f'parentCID={content:08x}\nparentFileNameHint="below.vmdk"\n'
    disk = bytearray(below)
    for grain, data in random_extent(random.Random(seed), tmp_path, sectors).items():
        disk[grain * GRAIN:(grain + 1) * GRAIN] = data[:len(below) - grain * GRAIN]
    describe(tmp_path / "d.vmdk", [f'RW {sectors} SESPARSE "e.vmdk"'], parent_lines)
    for tool in ALL_TOOLS:
        run(f"{tool}-img", "convert", "-f", "vmdk", "-O", "raw", "d.vmdk", f"{tool}.raw", cwd=tmp_path)
        assert (tmp_path / f"{tool}.raw").read_bytes() == disk
    alike("img", "check", "-f", "vmdk", "d.vmdk", folder=tmp_path)
    alike("img", "map", "d.vmdk", folder=tmp_path)
    ours, theirs = (json.loads(out) for _, out, _ in both("img", "map", "--output=json", "d.vmdk", folder=tmp_path))
    assert [{key: value for key, value in extent.items() if key != "compressed"} for extent in ours] == theirs
    ours, theirs = (json.loads(out) for _, out, _ in both("img", "info", "--output=json", "d.vmdk", folder=tmp_path))
    for key in ("virtual-size", "cluster-size", "format-specific"):
        assert ours[key] == theirs[key]


# Where in the file a number is replaced by which.
WRONG = {
    "magic": (0, 1), "version": (8, 5), "grain size": (24, 16), "table size": (32, 2**64 - 1), "flags": (40, 3),
    "reserved": (64, 1 << 63), "padding": (208, 1), "end of padding": (504, 1), "no volatile header": (80, 5),
    "volatile header beyond the end": (80, 1 << 40), "volatile header nowhere": (80, 2**64 - 1),
    "volatile magic": (512, 7), "journal": (512 + 24, 1), "volatile padding": (1016, 1),
    "directory nowhere": (128, 2**64 - 1), "directory too big": (136, 524289), "capacity": (16, 2**64 - 1),
    "capacity and directory": (16, 2**64 - 2), "nothing": (88, 77),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_alike(tmp_path, what):
    Extent(tmp_path / "e.vmdk", 8192, [WRONG[what]])
    describe(tmp_path / "d.vmdk", ['RW 8192 SESPARSE "e.vmdk"'])
    ours, theirs = both("img", "info", "d.vmdk", folder=tmp_path, code=None)
    assert (ours[0], ours[2]) == (theirs[0], theirs[2])
    assert ours[0] == (0 if what == "nothing" else 1)


@pytest.mark.parametrize("words", [
    ["io", "-f", "vmdk", "-c", "read 0 512", "d.vmdk"], ["img", "resize", "d.vmdk", "200M"],
    ["img", "commit", "d.vmdk"], ["img", "create", "-f", "vmdk", "-o", "subformat=seSparse", "n.vmdk", "1M"]])
def test_writing_is_refused_alike(tmp_path, words):
    Extent(tmp_path / "e.vmdk", 8192, [WRONG["magic"]])
    describe(tmp_path / "d.vmdk", ['RW 8192 SESPARSE "e.vmdk"'])
    alike(*words, folder=tmp_path, code=1)


@pytest.mark.parametrize("entry", [1, 4 << 60, 15 << 60, 0x0fff << 48])
def test_damaged_entries_are_complained_of_alike(tmp_path, entry):
    """Where the peer reads from the parent, or zeroes, reading here fails."""
    Extent(tmp_path / "e.vmdk", 8192).entry(3, entry)
    describe(tmp_path / "d.vmdk", ['RW 8192 SESPARSE "e.vmdk"'])
    alike("img", "check", "d.vmdk", folder=tmp_path, code=1)
    ours, _ = both("img", "map", "d.vmdk", folder=tmp_path, code=1)
    assert f"offset 12288 of extent 'e.vmdk' has a damaged entry: {entry:#018x}" in ours[2]
    failed = io("-r", "-f", "vmdk", "-c", "read 12k 512", "d.vmdk", cwd=tmp_path, code=1)
    assert "read failed: Input/output error" in failed.out + failed.err


def test_grains_beyond_the_end_are_complained_of_alike(tmp_path):
    extent = Extent(tmp_path / "e.vmdk", 8192)
    extent.fill(2, b"\1" * GRAIN)
    extent.entry(0, allocated(1))
    extent.entry(1, allocated(2))
    extent.entry(2, allocated(3))
    describe(tmp_path / "d.vmdk", ['RW 8192 SESPARSE "e.vmdk"'])
    assert "sector 16 points after EOF" in alike("img", "check", "d.vmdk", folder=tmp_path, code=1)[2]
