"""Image locks: two programs refuse to write to one image, whichever of them came first, and
whichever of them is the peer's."""

import json
import subprocess

import pytest

from support import Qmp, img, io, is_locked, program, qcow2, run, wait_until

LOCKED = 'Failed to get "write" lock'


# A raw node shares writing with everybody, as the peer's does: what is written to it is its users'
# business. A format's metadata is not, so that is where the locks bite.
@pytest.fixture
def image(folder):
    path = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "4M")
    return path, qcow2(path), "qcow2"


@pytest.mark.parametrize("tool", ["qemu-io", "cairn-io"])
def test_a_served_image_is_not_opened_for_writing(daemons, image, tool):
    path, node, form = image
    daemon = daemons.serving(node)
    done = run(tool, "-f", form, "-c", "write 0 512", path, code=1)
    assert LOCKED in done.err and str(path) in done.err, done
    assert "Is another process using the image" in done.err
    done = run(tool, "-f", form, "-r", "-c", "read 0 512", path, code=1)
    assert 'Failed to get shared "write" lock' in done.err, done
    run(tool, "-f", form, "-r", "-U", "-c", "read 0 512", path)
    daemon.stop()
    run(tool, "-f", form, "-c", "write 0 512", path)


@pytest.mark.parametrize("tool", ["qemu-img", "cairn-img"])
def test_a_served_image_is_not_checked_or_converted(daemons, image, folder, tool):
    path, node, form = image
    daemon = daemons.serving(node)
    assert "lock" in run(tool, "convert", "-f", form, "-O", "raw", path, folder / "out", code=1).err
    assert "lock" in run(tool, "info", "-f", form, path, code=1).err
    run(tool, "info", "-U", "-f", form, path)
    assert "lock" in run(tool, "resize", "-f", form, path, "8M", code=1).err
    daemon.stop()


def test_the_daemon_does_not_open_what_another_writes(folder, daemons, image):
    path, node, form = image
    first = daemons.serving(node)
    (folder / "nbd.sock").rename(folder / "first.sock")
    with pytest.raises(AssertionError, match=LOCKED):
        daemons.serving(node)
    first.stop()


def test_readers_share(folder, daemons, image):
    path, node, form = image
    daemon = daemons.serving(dict(node, **{"read-only": True}), writable=False)
    io("-f", form, "-r", "-c", "read 0 512", path)
    run("qemu-io", "-f", form, "-r", "-c", "read 0 512", path)
    assert "lock" in run("qemu-io", "-f", form, "-c", "write 0 512", path, code=1).err
    daemon.stop()


def test_the_lock_follows_the_users_of_a_node(folder, daemons):
    """A file node that nobody uses lets others write; a qcow2 node on it takes the lock, and its
    deletion gives it back."""
    path = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    daemon = daemons("--chardev", f"socket,id=c,path={folder}/qmp.sock,server=on,wait=off",
                     "--monitor", "chardev=c")
    daemon.wait_for(folder / "qmp.sock")
    monitor = Qmp(folder / "qmp.sock")
    monitor("blockdev-add", driver="file", node_name="f", filename=str(path))
    io("-f", "qcow2", "-c", "write 0 512", path)
    run("qemu-io", "-f", "qcow2", "-c", "write 0 512", path)
    monitor("blockdev-add", driver="qcow2", node_name="q", file="f")
    assert LOCKED in run("qemu-io", "-f", "qcow2", "-c", "write 0 512", path, code=1).err
    monitor("blockdev-del", node_name="q")
    run("qemu-io", "-f", "qcow2", "-c", "write 0 512", path)
    monitor.close()
    daemon.stop()


@pytest.fixture
def raw_writer(folder):
    """A raw image that a shell of ours has open for writing."""
    path = folder / "disk.raw"
    run("qemu-img", "create", "-q", "-f", "raw", path, "1M")
    shell = subprocess.Popen([program("cairn-io"), "-f", "raw", path], stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL)
    wait_until(lambda: is_locked(path), "the lock")
    yield path
    shell.communicate(b"quit\n")


@pytest.mark.parametrize("line", [
    "info -f raw FILE", "map -f raw FILE", "measure -f raw -O qcow2 FILE", "bench -f raw -c 1 FILE",
    "compare -f raw -F raw FILE FILE", "dd -f raw -O raw if=FILE of=out", "snapshot -l FILE",
    "create -q -f qcow2 -b FILE -F raw over.qcow2"])
@pytest.mark.parametrize("tool", ["qemu-img", "cairn-img"])
def test_a_raw_image_that_is_written_is_read_by_others(folder, raw_writer, tool, line):
    run(tool, *line.replace("FILE", str(raw_writer)).split(), cwd=folder)
    run(tool.replace("img", "io"), "-r", "-f", "raw", "-c", "read 0 512", raw_writer)


@pytest.mark.parametrize("tool", ["qemu-img", "cairn-img"])
def test_a_raw_image_that_is_written_is_not_converted(folder, raw_writer, tool):
    done = run(tool, "convert", "-f", "raw", "-O", "raw", raw_writer, folder / "out", code=1)
    assert 'Failed to get shared "write" lock' in done.err
    assert not (folder / "out").exists()


def test_a_raw_image_has_one_writer_of_ours(folder, raw_writer):
    """The peer's tools let each other write."""
    (folder / "in").write_bytes(bytes(4096))
    for done in (io("-f", "raw", "-c", "write 0 512", raw_writer, code=1),
                 img("convert", "-n", "-f", "raw", "-O", "raw", folder / "in", raw_writer, code=1),
                 img("resize", "-f", "raw", raw_writer, "2M", code=1)):
        assert LOCKED in done.err and str(raw_writer) in done.err


@pytest.mark.parametrize("tool", ["qemu-img", "cairn-img"])
def test_an_overlay_is_made_of_an_image_in_use(folder, daemons, image, tool):
    path, node, form = image
    daemon = daemons.serving(node)
    run(tool, "create", "-q", "-f", "qcow2", "-b", path, "-F", form, folder / "over.qcow2")
    daemon.stop()
    assert json.loads(img("info", "--output=json", folder / "over.qcow2").out)["virtual-size"] == 4 << 20


def test_a_killed_daemon_leaves_no_lock(daemons, image):
    path, node, form = image
    daemon = daemons.serving(node)
    daemon.kill()
    io("-f", form, "-c", "write 0 512", path)
    run("qemu-io", "-f", form, "-c", "write 0 512", path)


def test_backing_files_may_be_shared(folder, daemons):
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "base.qcow2", "1M")
    for name in ("a", "b"):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2",
            folder / f"{name}.qcow2", cwd=folder)
    daemon = daemons.serving(qcow2(folder / "a.qcow2"))
    io("-f", "qcow2", "-c", "write 0 64k", folder / "b.qcow2")
    assert "lock" in io("-f", "qcow2", "-c", "write 0 64k", folder / "base.qcow2", code=1).err
    assert "lock" in run("qemu-img", "resize", "-f", "qcow2", folder / "base.qcow2", "2M",
                         code=1).err
    daemon.stop()
    img("compare", "-f", "qcow2", "-F", "qcow2", folder / "a.qcow2", folder / "base.qcow2")
