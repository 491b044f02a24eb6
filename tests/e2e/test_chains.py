"""Streaming and committing disks that clients write to through NBD, with kills in between."""

import contextlib
import json
import random
import threading

import nbd
import pytest

from support import Qmp, img, run, wait_until

MIB = 1 << 20
SIZE = 16 * MIB
BLOCK = 65536


@pytest.fixture
def chain(folder, daemons):
    """A daemon that serves 'top' over 'mid' over 'base', each with blocks of its own."""
    monitors = []
    img("create", "-q", "-f", "qcow2", folder / "base.qcow2", SIZE)
    run("qemu-io", "-c", "write -q -P 1 0 12M", folder / "base.qcow2")
    for name, below, writes in (("mid", "base", "write -q -P 2 4M 4M"),
                                ("top", "mid", "write -q -P 3 6M 3M")):
        img("create", "-q", "-f", "qcow2", "-b", folder / f"{below}.qcow2", "-F", "qcow2",
            folder / f"{name}.qcow2")
        run("qemu-io", "-c", writes, folder / f"{name}.qcow2")

    def options(name, below=None):
        node = {"driver": "qcow2", "node-name": name, "discard": "unmap",
                "file": {"driver": "file", "filename": str(folder / f"{name}.qcow2")}}
        return node | ({"backing": below} if below else {})

    path = folder / "qmp.sock"
    daemon = daemons.serving(options("top", options("mid", options("base"))) | {"node-name": "disk"},
                             "--chardev", f"socket,id=m,path={path},server=on,wait=off",
                             "--monitor", "m")
    daemon.wait_for(path)
    monitors.append(Qmp(path))
    yield daemon, monitors[-1]
    for monitor in monitors:
        monitor.close()


class Disk:
    """What a client has written: one value for each block."""

    def __init__(self, daemon):
        self.client = nbd.NBD()
        self.client.connect_uri(daemon.uri("disk"))
        self.blocks = [1] * (12 * MIB // BLOCK) + [0] * (4 * MIB // BLOCK)
        self.blocks[4 * MIB // BLOCK:8 * MIB // BLOCK] = [2] * (4 * MIB // BLOCK)
        self.blocks[6 * MIB // BLOCK:9 * MIB // BLOCK] = [3] * (3 * MIB // BLOCK)

    @contextlib.contextmanager
    def being_written(self, seed):
        stop = threading.Event()

        def work():
            chance = random.Random(seed)
            while not stop.is_set():
                block = chance.randrange(len(self.blocks))
                value = chance.randrange(4, 256)
                self.client.pwrite(bytes([value]) * BLOCK, block * BLOCK)
                self.blocks[block] = value
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def content(self):
        return b"".join(bytes([value]) * BLOCK for value in self.blocks)

    def is_served(self):
        return self.client.pread(SIZE, 0) == self.content()


def status(monitor):
    return {j["id"]: j["status"] for j in monitor("query-jobs")}.get("j")


def finish(monitor):
    wait_until(lambda: status(monitor) == "concluded", "the end of the job")
    error = monitor("query-jobs")[0].get("error")
    monitor("job-dismiss", id="j")
    return error


def holds(folder, name, content):
    img("convert", "-O", "raw", folder / f"{name}.qcow2", folder / "disk.raw")
    checked = run("qemu-img", "check", folder / f"{name}.qcow2", code=None)
    assert checked.code in (0, 3), checked  # leaks are no harm
    return (folder / "disk.raw").read_bytes() == content


def backing_of(folder, name):
    found = json.loads(img("info", "--output=json", folder / f"{name}.qcow2").out)
    return found.get("full-backing-filename")


def test_a_disk_is_streamed_while_it_is_written_to(chain, folder):
    daemon, monitor = chain
    disk = Disk(daemon)
    with disk.being_written(1):
        monitor("block-stream", device="disk", speed=8 * MIB,
                **{"job-id": "j", "auto-dismiss": False})
        assert finish(monitor) is None
    assert disk.is_served()
    disk.client.shutdown()
    daemon.stop()
    assert backing_of(folder, "top") is None
    for name in ("mid", "base"):
        (folder / f"{name}.qcow2").unlink()
    assert holds(folder, "top", disk.content())


def test_an_image_between_is_committed_while_the_disk_is_written_to(chain, folder):
    daemon, monitor = chain
    disk = Disk(daemon)
    with disk.being_written(2):
        monitor("block-commit", device="disk", speed=8 * MIB,
                **{"job-id": "j", "top-node": "mid", "auto-dismiss": False})
        assert finish(monitor) is None
    assert disk.is_served()
    disk.client.shutdown()
    daemon.stop()
    assert backing_of(folder, "top") == str(folder / "base.qcow2")
    (folder / "mid.qcow2").unlink()
    assert holds(folder, "top", disk.content())


def test_the_image_in_use_is_committed_and_its_users_go_on_with_the_base(chain, folder):
    daemon, monitor = chain
    disk = Disk(daemon)
    with disk.being_written(3):
        monitor("block-commit", device="disk", **{"job-id": "j", "auto-dismiss": False})
        wait_until(lambda: status(monitor) == "ready", "the job to be ready")
        monitor("job-complete", id="j")
        assert finish(monitor) is None
    assert disk.is_served()
    disk.client.shutdown()
    daemon.stop()
    assert holds(folder, "base", disk.content())


@pytest.mark.parametrize("command", [
    {"execute": "block-stream", "arguments": {}},
    {"execute": "block-commit", "arguments": {"top-node": "mid"}},
    {"execute": "block-commit", "arguments": {}},
], ids=["stream", "commit", "commit-active"])
def test_a_killed_daemon_leaves_the_disk_as_it_was(chain, folder, command):
    daemon, monitor = chain
    disk = Disk(daemon)
    monitor(command["execute"], device="disk", speed=16 * MIB,
            **command["arguments"] | {"job-id": "j"})
    wait_until(lambda: monitor("query-jobs")[0]["current-progress"] > 0, "some progress")
    disk.client.flush()
    daemon.kill()
    assert holds(folder, "top", disk.content())
