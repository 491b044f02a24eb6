"""Images with an external data file, written in turns by the peer's tools and by ours: both read the
same bytes and find nothing to complain about, and a raw data file holds what both read.

What is random comes from the seed in the test's name, so a failure replays.
"""

import json
import random

import pytest

from support import run

SECTOR = 512


class Disk:
    """An image, its data file, and the bytes they should show."""

    def __init__(self, folder, chooser, raw):
        self.chooser = chooser
        self.raw = raw
        self.path = folder / "image.qcow2"
        self.data = folder / "image.data"
        self.cluster = chooser.choice([4096, 16 << 10, 64 << 10])
        self.size = self.cluster * chooser.choice([7, 33, 70]) + chooser.choice([0, 512, 4096])
        self.content = bytearray(self.size)
        options = [f"cluster_size={self.cluster}", f"data_file={self.data}",
                   f"data_file_raw={'on' if raw else 'off'}"]
        if self.cluster >= 16384 and not raw:
            # The peer maps a raw file's subclusters as holes, which read as zeroes, not as the file.
            options.append(f"extended_l2={chooser.choice(['on', 'off'])}")
        if chooser.random() < 0.3:
            options.append(f"preallocation={chooser.choice(['metadata', 'falloc', 'full'])}")
        self.options = ",".join(options)

    def commands(self):
        """Random operations for the shell of either tool; the content follows."""
        arguments = []
        for _ in range(self.chooser.randrange(1, 25)):
            offset = self.chooser.randrange(self.size // SECTOR) * SECTOR
            length = self.chooser.choice([SECTOR, 4096, self.cluster, self.cluster * 3])
            length = min(length, self.size - offset)
            kind = self.chooser.random()
            if kind < 0.5:
                pattern = self.chooser.randrange(1, 255)
                command = f"write -P {pattern} {offset} {length}"
                self.content[offset:offset + length] = bytes([pattern]) * length
            elif kind < 0.8:
                unmap = self.chooser.choice(["", "-u "])
                command = f"write -z {unmap}{offset} {length}"
                self.content[offset:offset + length] = bytes(length)
            else:
                offset = offset // self.cluster * self.cluster
                length = min(self.cluster * 2, self.size - offset)
                command = f"discard {offset} {length}"
                if length % self.cluster == 0 or offset + length == self.size:
                    self.content[offset:offset + length] = bytes(length)
                else:
                    continue
            arguments += ["-c", command]
        return arguments


@pytest.mark.parametrize("raw", [False, True], ids=["private", "raw"])
@pytest.mark.parametrize("seed", range(12))
def test_images_written_in_turns_hold_the_same(folder, seed, raw):
    disk = Disk(folder, random.Random(seed * 2 + raw), raw)
    creators = ["cairn-img", "qemu-img"]
    shells = ["cairn-io", "qemu-io"]
    run(creators[seed % 2], "create", "-q", "-f", "qcow2", "-o", disk.options, disk.path, disk.size)
    out = folder / "out.raw"
    for turn in range(4):
        shell = shells[(seed + turn) % 2]
        run(shell, "-f", "qcow2", "-d", "unmap", *disk.commands(), disk.path)
        for image_tool in creators:
            run(image_tool, "convert", "-f", "qcow2", "-O", "raw", disk.path, out)
            assert out.read_bytes() == disk.content, f"read by {image_tool}, written by {shell}"
            run(image_tool, "check", "-q", disk.path)
        if raw:
            # The peer writes whole clusters, beyond the end of the disk, too.
            held = disk.data.read_bytes()[:disk.size]
            assert held == disk.content, f"written by {shell}"


def test_info_does_not_open_the_data_file(folder):
    run("cairn-img", "create", "-q", "-f", "qcow2", "-o", "data_file=d.raw", "i.qcow2", "1M",
        cwd=folder)
    (folder / "d.raw").unlink()
    told = json.loads(run("cairn-img", "info", "--output=json", "i.qcow2", cwd=folder).out)
    assert told["format-specific"]["data"]["data-file"] == "d.raw"
    for command in (["check", "i.qcow2"], ["map", "i.qcow2"], ["resize", "i.qcow2", "2M"]):
        done = run("cairn-img", *command, cwd=folder, code=1)
        assert "Could not open 'd.raw': No such file or directory" in done.err


@pytest.mark.parametrize("tool", ["cairn-img", "qemu-img"])
def test_an_overlay_is_made_without_the_data_file_below_it(folder, tool):
    run("cairn-img", "create", "-q", "-f", "qcow2", "-o", "data_file=d.raw", "i.qcow2", "1M",
        cwd=folder)
    (folder / "d.raw").unlink()
    run(tool, "create", "-q", "-f", "qcow2", "-b", "i.qcow2", "-F", "qcow2", "over.qcow2", cwd=folder)
    assert not (folder / "d.raw").exists()


@pytest.mark.parametrize("tool", ["cairn-img", "qemu-img"])
def test_options_for_a_data_file_have_to_name_it(folder, tool):
    run("cairn-img", "create", "-q", "-f", "qcow2", "-o", "data_file=d.raw", "i.qcow2", "1M", cwd=folder)
    name = "driver=qcow2,file.filename=i.qcow2,data-file.locking=off"
    done = run(tool, "map", "--image-opts", name, cwd=folder, code=1)
    assert done.err.endswith(f"Could not open '{name}': Must specify either driver or file\n")
    run(tool, "map", "--image-opts", f"{name},data-file.filename=d.raw", cwd=folder)


def test_a_failed_creation_leaves_no_files(folder):
    done = run("cairn-img", "create", "-f", "qcow2", "-o", "data_file=i.qcow2", "i.qcow2", "1M",
               cwd=folder, code=1)
    assert "The image 'i.qcow2' can not be its own data file" in done.err
    assert not list(folder.iterdir())


def test_a_copy_can_have_a_data_file(folder):
    source = folder / "source.raw"
    source.write_bytes(bytes(65536) + b"\5" * 65536 + bytes(1 << 20))
    run("cairn-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "data_file=copy.data", source,
        "copy.qcow2", cwd=folder)
    assert (folder / "copy.data").read_bytes() == source.read_bytes()
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, "copy.qcow2", cwd=folder)


def test_compressed_copies_are_refused_and_leave_nothing(folder):
    source = folder / "source.raw"
    source.write_bytes(bytes(1 << 20))
    done = run("cairn-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "data_file=d.raw",
               source, "copy.qcow2", cwd=folder, code=1)
    assert "Compression not supported for images with an external data file" in done.err
    assert list(folder.iterdir()) == [source]


def test_the_map_names_the_data_file(folder):
    run("cairn-img", "create", "-q", "-f", "qcow2", "-o", "data_file=d.raw", "i.qcow2", "1M",
        cwd=folder)
    run("cairn-io", "-f", "qcow2", "-c", "write -q -P 5 128k 64k", "i.qcow2", cwd=folder)
    ours, peers = (run(tool, "map", "i.qcow2", cwd=folder).out for tool in ("cairn-img", "qemu-img"))
    assert ours == peers
    assert "d.raw" in ours
