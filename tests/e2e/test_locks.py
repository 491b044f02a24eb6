"""Image locks: two programs refuse to write to one image, whichever of them came first, and
whichever of them is the peer's."""

import pytest

from support import Qmp, img, io, qcow2, run

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
