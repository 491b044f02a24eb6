"""VMDK images, made and used by both: the same output, the same layout, and each reads and checks what
the other wrote."""

import random
import re
import struct

import pytest

from support import PEER, img, io, run, same_bytes

SUBFORMATS = ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
              "streamOptimized"]
WRITABLE = [name for name in SUBFORMATS if name != "streamOptimized"]
OPTIONS = ["subformat=" + name for name in SUBFORMATS] + [
    "zeroed_grain=on", "adapter_type=lsilogic", "adapter_type=legacyESX,hwversion=9", "compat6=on",
    "toolsversion=12", "subformat=streamOptimized,zeroed_grain=on"]
SIZES = ["0", "512", "1000", "1M", "5242881", "504M", "3G"]
MIB = 1 << 20

pytestmark = pytest.mark.skipif(PEER, reason="compares ours with the peer")


def peer(tool, *arguments, **options):
    return run("qemu-" + tool, *arguments, **options)


def without_ids(content):
    """The same without content ids, which are random; they have up to eight digits."""
    def strip(match):
        return b"CID=" + match[2] + bytes(len(match[1]) if match[3] else 0) + match[3]

    return re.sub(rb"(?s)\bCID=([0-9a-f]+)(\n[^\0]*)(\0?)", strip, content, count=1)


def files_of(folder):
    return {path.name: without_ids(path.read_bytes()) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_new_images_have_the_same_files(tmp_path, options, size):
    if size == "3G" and "Flat" in options:
        pytest.skip("files of zeroes take long to compare")
    made = {}
    for name, tool in (("ours", img), ("theirs", lambda *words, **o: peer("img", *words, **o))):
        (tmp_path / name).mkdir()
        made[name] = tool("create", "-f", "vmdk", "-o", options, "a.b.vmdk", size,
                          cwd=tmp_path / name)
    assert made["ours"].out == made["theirs"].out
    ours, theirs = files_of(tmp_path / "ours"), files_of(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name] == theirs[name], name


def play(chooser, size, tool, image, whole_grains):
    """Random writes, told to `tool`; what the disk holds then."""
    disk = bytearray(size)
    commands, seen = [], set()
    for _ in range(24):
        unit = 65536 if whole_grains else chooser.choice([512, 4096, 65536])
        offset = chooser.randrange(size // unit) * unit
        length = min(unit * chooser.randint(1, 3), size - offset)
        if whole_grains:
            grains = set(range(offset // unit, (offset + length) // unit))
            if grains & seen:
                continue
            seen |= grains
        value = chooser.randrange(256)
        zero = chooser.random() < 0.2
        commands += ["-c", f"write {'-z' if zero else f'-P {value}'} {offset} {length}"]
        disk[offset:offset + length] = bytes([0 if zero else value]) * length
    run(tool, "-f", "vmdk", *commands, image)
    return bytes(disk)


@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize("writer,reader", [("cairn", "qemu"), ("qemu", "cairn")])
@pytest.mark.parametrize("options", ["", ",zeroed_grain=on"])
def test_each_reads_what_the_other_wrote(tmp_path, subformat, writer, reader, options):
    if options and "Flat" in subformat:
        pytest.skip("flat images have no grains")
    chooser = random.Random(f"{subformat} {writer} {options}")
    image, raw = tmp_path / "t.vmdk", tmp_path / "t.raw"
    size = 4 * MIB
    run(f"{writer}-img", "create", "-q", "-f", "vmdk", "-o", f"subformat={subformat}{options}", image,
        size)
    raw.write_bytes(play(chooser, size, f"{writer}-io", image, subformat == "streamOptimized"))
    for tool in (reader, writer):
        run(f"{tool}-img", "check", image)
        assert run(f"{tool}-img", "compare", "-f", "raw", "-F", "vmdk", raw, image).out \
            == "Images are identical.\n"
    if subformat != "streamOptimized":
        more = play(chooser, size, f"{reader}-io", image, False)
        assert len(more) == size
        run(f"{writer}-img", "check", image)
        run(f"{writer}-img", "convert", "-f", "vmdk", "-O", "raw", image, tmp_path / "w.raw")
        run(f"{reader}-img", "convert", "-f", "vmdk", "-O", "raw", image, tmp_path / "r.raw")
        same_bytes(tmp_path / "w.raw", tmp_path / "r.raw")


@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_conversions_make_the_same_bytes(tmp_path, subformat):
    chooser = random.Random(subformat)
    raw = tmp_path / "s.raw"
    raw.write_bytes(b"".join(
        chooser.randbytes(65536) if chooser.random() < 0.3 else bytes([chooser.choice([0, 7])]) * 65536
        for _ in range(48)) + b"end" * 512)
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    words = ["convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", raw, "a.vmdk"]
    img(*words, cwd=tmp_path / "ours")
    peer("img", *words, cwd=tmp_path / "theirs")
    for name in ("ours", "theirs"):
        for tool in (img, lambda *w, **o: peer("img", *w, **o)):
            tool("compare", "-f", "raw", "-F", "vmdk", raw, tmp_path / name / "a.vmdk")
    maps = [tool("map", "--output=json", tmp_path / "theirs" / "a.vmdk").out
            for tool in (img, lambda *w, **o: peer("img", *w, **o))]
    assert maps[0].replace(', "compressed": true', "").replace(', "compressed": false', "") == maps[1]


def test_parents_are_held_to_their_content_ids(tmp_path):
    below, top = tmp_path / "below.vmdk", tmp_path / "top.vmdk"
    img("create", "-q", "-f", "vmdk", below, "2M")
    io("-f", "vmdk", "-c", "write -q -P 1 0 1M", below)
    img("create", "-q", "-f", "vmdk", "-b", below, "-F", "vmdk", top)
    peer("io", "-f", "vmdk", "-c", "write -q -P 2 512k 4k", "-c", "read -P 1 0 512k", top)
    assert "Pattern" not in io("-f", "vmdk", "-c", "read -P 2 512k 4k", "-c", "read -P 1 516k 508k",
                               top).out
    io("-f", "vmdk", "-c", "write -q -P 3 0 512", below)
    for tool in ("cairn-io", "qemu-io"):
        failed = run(tool, "-f", "vmdk", "-r", "-c", "read 0 512", top, code=1)
        assert "read failed: Invalid argument" in failed.out + failed.err


@pytest.mark.parametrize("line,ok", [
    ('RW 1024 FLAT "a.raw" 0', True), ('RW 1024 VMFS "a.raw"', True), ('RW 1024 FLAT "a.raw" 0 x', True),
    ('RW 1024 FLAT "a.raw"', False), ('RW 1024 FLAT "a.raw" -5', False), ('RW 1 SPARSE "a.raw"', False),
    ('RW 1 VMFSSPARSE "a.raw"', False), ('RW 1024 FLAT "gone" 0', False), ('RW 9999999999999999 FLAT "a.raw" 0', True)])
def test_descriptors_are_read_alike(tmp_path, line, ok):
    (tmp_path / "a.raw").write_bytes(b"\1" * MIB)
    (tmp_path / "d.vmdk").write_text(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\n\n# Extent description\n{line}\n\nddb.adapterType = "ide"\n')
    ours = img("info", "d.vmdk", cwd=tmp_path, code=None)
    theirs = peer("img", "info", "d.vmdk", cwd=tmp_path, code=None)
    assert ours.code == theirs.code == (0 if ok else 1)
    assert ours.err.replace("cairn-img", "qemu-img") == theirs.err
    if ok:
        assert theirs.out.splitlines()[:3] == ours.out.splitlines()[:3]


def test_extents_of_old_esx_servers_are_read(tmp_path):
    """COWD: a header, a directory, a table of 4096 entries, then grains."""
    grain, table_at, data_at, sectors = 8, 8, 40, 4096 * 8 + 100
    header = struct.pack("<4sIIIIIII", b"COWD", 1, 3, sectors, grain, 4, 2, data_at + 2 * grain)
    file = bytearray((data_at + 2 * grain) * 512)
    file[:len(header)] = header
    struct.pack_into("<I", file, 4 * 512, table_at)
    struct.pack_into("<I", file, table_at * 512 + 4 * 3, data_at + grain)
    struct.pack_into("<I", file, table_at * 512 + 4 * 4095, data_at)
    file[data_at * 512:] = b"\5" * grain * 512 + b"\6" * grain * 512
    (tmp_path / "a-delta.vmdk").write_bytes(file)
    (tmp_path / "d.vmdk").write_text(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"vmfsSparse\"\n"
        f"# Extent description\nRW {sectors} VMFSSPARSE \"a-delta.vmdk\"\n# The end\n")
    disk = bytearray(sectors * 512)
    disk[3 * grain * 512:4 * grain * 512] = b"\6" * grain * 512
    disk[4095 * grain * 512:4096 * grain * 512] = b"\5" * grain * 512
    for name in ("cairn", "qemu"):
        run(f"{name}-img", "convert", "-f", "vmdk", "-O", "raw", "d.vmdk", f"{name}.raw", cwd=tmp_path)
        assert (tmp_path / f"{name}.raw").read_bytes() == disk
    refused = io("-f", "vmdk", "-c", "write 0 512", "d.vmdk", cwd=tmp_path, code=1)
    assert "can only be read" in refused.err
