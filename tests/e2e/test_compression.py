"""Compressed images: what level they have, and that others read them."""

import shutil

import pytest

from support import img, run

TEXT = b"".join(b"line %d of some text that repeats, but not quite\n" % (n * n) for n in range(60000))


@pytest.fixture
def source(folder):
    (folder / "a.raw").write_bytes(TEXT[:2 << 20] + bytes(1 << 20))
    return folder / "a.raw"


def convert(folder, source, kind, level):
    target = folder / f"{kind}.{level}.qcow2"
    img("create", "-q", "-f", "qcow2", "-o", f"compression_type={kind}", target, "3M")
    more = f",compression-level={level}" if level else ""
    done = img("convert", "-c", "-n", "-f", "raw", "--target-image-opts", source,
               f"driver=qcow2,file.driver=file,file.filename={target}{more}")
    assert not done.err
    return target


@pytest.mark.parametrize("kind, levels", [("zlib", (None, 1, 3, 4, 9)), ("zstd", (None, 1, 3, 19))])
def test_every_level_is_read_by_the_other(folder, source, kind, levels):
    sizes = {}
    for level in levels:
        target = convert(folder, source, kind, level)
        assert img("check", target).code == 0
        if shutil.which("qemu-img"):
            run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, target)
            run("qemu-img", "check", target)
        sizes[level] = target.stat().st_size
    assert max(sizes.values()) < source.stat().st_size / 2
    assert len(set(sizes.values())) >= 3, "levels make a difference"
    assert sizes[None] == sizes[3 if kind == "zstd" else 1], "the default"


def test_the_same_comes_out_again(folder, source):
    """Whatever order the workers come to an end in."""
    def one(parallel):
        target = folder / f"{parallel}.qcow2"
        img("convert", "-c", "-m", parallel, "-f", "raw", "-O", "qcow2", source, target)
        return target.read_bytes()
    assert one(1) == one(16)


@pytest.mark.parametrize("kind, level, most", [("zlib", 0, 9), ("zlib", 10, 9), ("zstd", 20, 19)])
def test_a_level_that_is_not_there(folder, kind, level, most):
    target = folder / "a.qcow2"
    img("create", "-q", "-f", "qcow2", "-o", f"compression_type={kind}", target, "1M")
    done = img("info", "--image-opts",
               f"driver=qcow2,file.driver=file,file.filename={target},compression-level={level}",
               code=1)
    assert f"compression-level must be between 1 and {most} for this image" in done.err


def test_the_level_of_a_new_image(folder, source):
    sizes = []
    for level in (1, 9):
        target = folder / f"new.{level}.qcow2"
        img("convert", "-c", "--compression-level", level, "-f", "raw", "-O", "qcow2", source, target)
        assert img("compare", "-f", "raw", "-F", "qcow2", source, target).code == 0
        sizes.append(target.stat().st_size)
    assert sizes[0] != sizes[1]
    chosen = convert(folder, source, "zlib", 9)
    assert chosen.stat().st_size == sizes[1], "as with the option of the image"


@pytest.mark.parametrize("arguments, message", [
    (("-c", "--compression-level", "0", "-O", "qcow2"), "Invalid compression level '0'"),
    (("-c", "--compression-level", "1x", "-O", "qcow2"), "Invalid compression level '1x'"),
    (("-c", "--compression-level", "10", "-O", "qcow2"), "must be between 1 and 9"),
    (("--compression-level", "1", "-O", "qcow2"), "--compression-level is for -c with qcow2"),
    (("-c", "--compression-level", "1", "-O", "vmdk"), "--compression-level is for -c with qcow2"),
    (("-c", "--compression-level", "1", "-n", "-O", "qcow2"), "--target-image-opts")])
def test_levels_that_make_no_sense(folder, source, arguments, message):
    done = img("convert", *arguments, "-f", "raw", source, folder / "new.img", code=1)
    assert message in done.err
    assert not (folder / "new.img").exists()
