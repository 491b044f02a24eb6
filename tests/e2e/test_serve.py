"""The product's main job: a qcow2 image with a file system, served, written to, and sound."""

import re
import shutil

import pytest

from support import fio, qcow2, run, same_bytes

CLUSTER_SIZES = ["512", "4k", "64k", "2M"]


def range_of(image, name):
    """Where the one extent of a file lies in a file system's image, as (offset, length)."""
    out = run("debugfs", "-R", f"stat /{name}", image).out
    extents = re.findall(r"\((\d+)-(\d+)\):(\d+)-(\d+)", out.partition("EXTENTS:")[2])
    assert extents, out
    first, last = max(((int(e[2]), int(e[3])) for e in extents), key=lambda e: e[1] - e[0])
    return first * 4096, (last - first + 1) * 4096


@pytest.fixture
def chain(folder, ext4):
    """Makes base <- middle <- top with a cluster size, each with changes of its own."""
    def make(cluster_size):
        contents = folder / "contents.raw"
        shutil.copy(ext4, contents)
        options = f"cluster_size={cluster_size}"
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, contents,
            folder / "base.qcow2")
        below = "base"
        for name in ("middle", "top"):
            (folder / "note").write_text(f"Written when {name} was on top.\n" * 5000)
            run("debugfs", "-w", "-R", f"write {folder}/note note-{name}", contents)
            run("debugfs", "-w", "-R", f"rm dir7/file{7 if name == 'middle' else 57}", contents)
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options,
                "-B", f"{below}.qcow2", "-F", "qcow2", contents, folder / f"{name}.qcow2",
                cwd=folder)
            below = name
        return folder / "top.qcow2", contents
    return make


@pytest.mark.parametrize("cluster_size", CLUSTER_SIZES)
def test_a_chain_of_three_is_served_written_and_stays_sound(folder, daemons, chain, cluster_size):
    top, contents = chain(cluster_size)
    run("e2fsck", "-fn", contents)
    daemon = daemons.serving(qcow2(top))

    run("nbdcopy", daemon.uri(), folder / "copy.raw")
    same_bytes(contents, folder / "copy.raw")

    # A random load inside one large file of the file system, so that this stays sound; its blocks
    # are in the base, so every first write to a cluster copies the rest of it.
    offset, length = range_of(contents, "scratch")
    fio(daemon, rw="randwrite", bs="4k", size=length, offset=offset, verify="crc32c",
        verify_fatal=1, randseed=1, io_size=16 << 20)
    fio(daemon, rw="randrw", bssplit="512/20:4k/30:20k/30:128k/20", size=length, offset=offset,
        serialize_overlap=1, randseed=2, io_size=8 << 20)

    run("nbdcopy", daemon.uri(), folder / "after.raw")
    daemon.stop()
    assert "No errors were found" in run("qemu-img", "check", top).out
    run("qemu-img", "convert", "-O", "raw", top, folder / "converted.raw")
    same_bytes(folder / "after.raw", folder / "converted.raw")
    run("e2fsck", "-fn", folder / "converted.raw")
    for below in ("middle", "base"):
        assert "No errors were found" in run("qemu-img", "check", folder / f"{below}.qcow2").out


def test_the_files_read_back(folder, daemons, ext4, file_tree):
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", ext4, folder / "disk.qcow2")
    daemon = daemons.serving(qcow2(folder / "disk.qcow2"), writable=False)
    run("nbdcopy", daemon.uri(), folder / "copy.raw")
    (folder / "files").mkdir()
    run("debugfs", "-R", f"rdump / {folder}/files", folder / "copy.raw")
    run("diff", "-r", "-x", "lost+found", file_tree, folder / "files")
    daemon.stop()


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_clusters_are_read_and_overwritten(folder, daemons, ext4, compression):
    image = folder / "disk.qcow2"
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o",
        f"compression_type={compression}", ext4, image)
    daemon = daemons.serving(qcow2(image))
    run("nbdcopy", daemon.uri(), folder / "copy.raw")
    same_bytes(ext4, folder / "copy.raw")
    offset, length = range_of(ext4, "scratch")
    fio(daemon, rw="randwrite", bs="4k", size=length, offset=offset, verify="crc32c",
        verify_fatal=1, randseed=3, io_size=8 << 20)
    daemon.stop()
    assert "No errors were found" in run("qemu-img", "check", image).out
    run("qemu-img", "convert", "-O", "raw", image, folder / "converted.raw")
    run("e2fsck", "-fn", folder / "converted.raw")


@pytest.mark.parametrize("options", ["compat=0.10", "refcount_bits=1", "refcount_bits=64",
                                     "lazy_refcounts=on"])
def test_other_layouts_are_written_soundly(folder, daemons, options):
    image = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, "64M")
    daemon = daemons.serving(qcow2(image))
    fio(daemon, rw="randwrite", bs="12k", size="60M", verify="crc32c", verify_fatal=1, randseed=4,
        io_size=12 << 20)
    daemon.stop()
    assert "No errors were found" in run("qemu-img", "check", image).out
