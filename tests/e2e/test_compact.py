"""cairn-img compact: what a qcow2 image stores moves together, and its file is cut."""

import json
import signal
import subprocess
import time

import pytest

import support
from support import TOOLS, img, io, run

pytestmark = pytest.mark.skipif(support.PEER, reason="the peer has no such command")

MIB = 1 << 20


def with_gaps(folder, creator, options="cluster_size=64k", megabytes=64):
    """An image that was full once, and a copy of what is left in it: every eighth MiB, and the last."""
    path, copy = folder / "disk.qcow2", folder / "copy"
    run(creator, "create", "-q", "-f", "qcow2", "-o", options, path, f"{megabytes}M")
    writer = "qemu-io" if creator == "qemu-img" else "cairn-io"
    commands = [["-c", f"write -q -P {1 + index % 200} {index}M 1M"] for index in range(megabytes)]
    commands += [["-c", f"discard -q {index}M 1M"] for index in range(megabytes - 1)
                 if index % 8 != 7]
    run(writer, "-f", "qcow2", "-d", "unmap", *sum(commands, []), path)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, copy)
    return path, copy


def expect_same(path, copy):
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", path, copy)
    run("qemu-img", "check", "-q", path)


@pytest.mark.parametrize("creator", ["qemu-img", "cairn-img"])
@pytest.mark.parametrize("options", ["cluster_size=64k", "cluster_size=4k", "compat=0.10",
                                     "extended_l2=on", "cluster_size=512k", "lazy_refcounts=on",
                                     "refcount_bits=64,cluster_size=4k"])
def test_the_file_is_cut_and_reads_the_same(folder, backend, creator, options):
    path, copy = with_gaps(folder, creator, options)
    before = path.stat().st_size
    assert before > 60 * MIB
    done = img("compact", "-f", "qcow2", path, backend=backend)
    assert done.out == f"The file has {path.stat().st_size} bytes, and had {before}.\n"
    # 8 MiB are left, and tables.
    assert path.stat().st_size < (12 if "512k" in options else 10) * MIB
    expect_same(path, copy)
    # It goes on being an image.
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 9 0 64M", path)
    run("qemu-img", "check", "-q", path)


def test_there_is_nothing_to_do_twice(folder):
    path, copy = with_gaps(folder, "cairn-img")
    img("compact", "-q", path)
    once = path.read_bytes()
    done = img("compact", "-p", path)
    assert "(100.00/100%)" in done.out
    assert path.stat().st_size == len(once)
    expect_same(path, copy)


def test_an_overlay(folder):
    base = folder / "base"
    img("create", "-q", "-f", "raw", base, "64M")
    io("-f", "raw", "-c", "write -q -P 77 0 64M", base)
    path, _ = with_gaps(folder, "qemu-img")
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", base, "-F", "raw", path)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, folder / "copy")
    img("compact", path)
    assert path.stat().st_size < 10 * MIB
    expect_same(path, folder / "copy")


@pytest.mark.parametrize("what", ["snapshots inside", "dirty bitmaps", "compressed clusters",
                                  "an external data file", "encrypted", "images of format"])
def test_what_can_not_be_moved_is_left_alone(folder, what):
    path, options = folder / "disk", []
    format = "raw" if what == "images of format" else "qcow2"
    img("create", "-q", "-f", format, path, "1M")
    if what == "snapshots inside":
        img("snapshot", "-c", "a", path)
    elif what == "dirty bitmaps":
        img("bitmap", "--add", path, "b")
    elif what == "compressed clusters":
        io("-f", "qcow2", "-c", "write -q -c -P 1 0 64k", path)
    elif what == "an external data file":
        img("create", "-q", "-f", "qcow2", "-o", f"data_file={folder}/data", path, "1M")
    elif what == "encrypted":
        options = ["--object", "secret,id=s,data=x"]
        img("create", "-q", "-f", "qcow2", *options, "-o",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", path, "1M")
    before = path.read_bytes()
    if what == "encrypted":
        done = img("compact", *options, "--image-opts",
                   f"driver=qcow2,encrypt.key-secret=s,file.filename={path}", code=1)
    else:
        done = img("compact", "-f", format, path, code=1)
    assert "can not be compacted: " in done.err and what in done.err
    assert path.read_bytes() == before


def test_a_damaged_image_is_left_alone(folder):
    """One cluster in two places, counted once: moving it would take it from the other place."""
    path, _ = with_gaps(folder, "qemu-img")
    image = bytearray(path.read_bytes())
    table = int.from_bytes(image[40:48], "big")
    entry = int.from_bytes(image[table:table + 8], "big") & 0x00fffffffffffe00
    image[entry:entry + 8] = image[entry + 8 * 127:entry + 8 * 128]
    path.write_bytes(image)
    done = img("compact", path, code=1)
    assert f"'{path}' can not be compacted: it is damaged" in done.err
    assert len(image) == path.stat().st_size


def test_what_is_in_use_by_nothing_goes(folder):
    path, copy = with_gaps(folder, "qemu-img")
    image = bytearray(path.read_bytes())
    table = int.from_bytes(image[48:56], "big")
    block = int.from_bytes(image[table:table + 8], "big")
    for cluster in range(100, 900):
        at = block + 2 * cluster
        image[at:at + 2] = b"\0\1"
    path.write_bytes(image)
    assert img("check", path, code=3).code == 3
    img("compact", path)
    assert path.stat().st_size < 10 * MIB
    expect_same(path, copy)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_interrupted_at_any_time_it_reads_the_same(folder, backend, how):
    path, copy = with_gaps(folder, "qemu-img", "cluster_size=4k", 128)
    for delay in (0.02, 0.05, 0.1, 0.2):
        process = subprocess.Popen([TOOLS / "cairn-img", "compact", "-q", "-f", "qcow2", path],
                                   env=support.environment(backend), stderr=subprocess.PIPE,
                                   text=True, preexec_fn=support.hear_signals)
        time.sleep(delay)
        process.send_signal(how)
        err = process.communicate(timeout=support.TIMEOUT)[1]
        assert process.returncode in (0, -how), err
        support.wait_for_locks(path)
        done = img("check", "--output=json", path, code=None)
        assert done.code in (0, 3), done
        assert "corruptions" not in json.loads(done.out)
        run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", path, copy)
    img("check", "-q", "-r", "leaks", path, code=None)
    img("compact", "-q", path)
    assert path.stat().st_size < 20 * MIB
    expect_same(path, copy)


def test_an_image_in_use_is_left_alone(folder, daemons):
    path, _ = with_gaps(folder, "qemu-img")
    daemon = daemons.serving({"driver": "qcow2",
                              "file": {"driver": "file", "filename": str(path)}})
    before = path.stat().st_size
    done = img("compact", path, code=1)
    assert 'Failed to get "write" lock' in done.err
    assert path.stat().st_size == before
    daemon.stop()
