"""Persistent bitmaps survive a killed daemon: incremental backups go on from where they were. And the
peer, which sees what the format allows, is noticed when it had the image in between.

CAIRN_BACKUPS in the environment is the number of backups of the long test."""

import contextlib
import json
import os
import random
import shutil
import threading

import nbd
import pytest

from support import PEER, Qmp, img, qcow2, run, same_bytes, wait_until

KIB, MIB = 1 << 10, 1 << 20
SIZE = 16 * MIB
BACKUPS = int(os.environ.get("CAIRN_BACKUPS", "4"))
QEMU, QEMU_IO = shutil.which("qemu-img"), shutil.which("qemu-io")
needs_peer = pytest.mark.skipif(QEMU is None or PEER, reason="needs the peer beside our own tools")


class Disk:
    """An image with the bitmap 'b', what it must hold, and a daemon that serves it."""

    def __init__(self, folder, daemons, seed):
        self.folder, self.daemons, self.image = folder, daemons, folder / "disk.qcow2"
        self.random = random.Random(seed)
        self.model = bytearray(SIZE)
        self.lock = threading.Lock()
        self.daemon = self.monitor = self.client = self.thread = None
        self.stopped = threading.Event()
        self.writes = 0
        img("create", "-q", "-f", "qcow2", self.image, SIZE)
        img("bitmap", "--add", self.image, "b")

    def start(self):
        path = self.folder / "qmp.sock"
        for socket in (path, self.folder / "nbd.sock"):
            socket.unlink(missing_ok=True)
        self.daemon = self.daemons.serving(
            qcow2(self.image, discard="unmap"), "--chardev",
            f"socket,id=m,path={path},server=on,wait=off", "--monitor", "m")
        self.daemon.wait_for(path)
        self.monitor = Qmp(path)
        self.client = nbd.NBD()
        self.client.connect_uri(self.daemon.uri())
        # What was not flushed may have gone with the daemon: that is a change, too.
        for at in range(0, SIZE, MIB):
            self.model[at:at + MIB] = self.client.pread(MIB, at)

    def write_once(self):
        at, length = self.random.randrange(SIZE // 4096) * 4096, 4096
        data = self.random.randbytes(length)
        with self.lock:
            if self.random.random() < 0.1:
                data = bytes(length)
                self.client.zero(length, at)
            else:
                self.client.pwrite(data, at)
            self.model[at:at + length] = data
            self.writes += 1

    def load(self):
        with contextlib.suppress(nbd.Error):
            while not self.stopped.is_set():
                self.write_once()

    def start_load(self):
        self.stopped.clear()
        self.thread = threading.Thread(target=self.load)
        self.thread.start()

    def wait_for_writes(self, number):
        goal = self.writes + number
        wait_until(lambda: self.writes >= goal or not self.thread.is_alive(), "writes")

    def kill(self):
        self.daemon.kill_writing(self.image)
        self.stopped.set()
        self.thread.join()
        self.monitor.close()

    def bitmap(self):
        nodes = {n["node-name"]: n for n in self.monitor("query-named-block-nodes")}
        return nodes["disk"]["dirty-bitmaps"][0]

    def begin_backup(self, target, full_of):
        """Starts an incremental backup while writes go on; what the disk holds at that moment."""
        img("create", "-q", "-f", "qcow2", "-b", full_of, "-F", "qcow2", target)
        self.monitor("blockdev-add", driver="qcow2", node_name="target",
                     file={"driver": "file", "filename": str(target)})
        with self.lock:
            self.monitor("blockdev-backup", job_id="j", device="disk", target="target",
                         sync="incremental", bitmap="b", auto_dismiss=False)
            return bytes(self.model)

    def finish_backup(self):
        def ended():
            return self.monitor("query-jobs")[0]["status"] == "concluded"
        wait_until(ended, "the end of the backup")
        assert "error" not in self.monitor("query-jobs")[0]
        self.monitor("job-dismiss", id="j")
        self.monitor("blockdev-del", node_name="target")


def test_incremental_backups_with_a_kill_between_them(folder, daemons):
    """Each is put on top of those before it, and is what the disk was when it began. The daemon is
    killed after each of them, and in the midst of every third."""
    disk = Disk(folder, daemons, seed=11)
    full, increment, expected = folder / "full.qcow2", folder / "inc.qcow2", folder / "expected.raw"
    img("create", "-q", "-f", "qcow2", full, SIZE)
    for turn in range(BACKUPS):
        disk.start()
        found = disk.bitmap()
        assert not found.get("inconsistent", False) and found["recording"], found
        disk.start_load()
        disk.wait_for_writes(20)
        if turn % 3 == 2:
            disk.begin_backup(increment, full)
            disk.kill()
            disk.start()
            disk.start_load()
            disk.wait_for_writes(5)
        expected.write_bytes(disk.begin_backup(increment, full))
        disk.finish_backup()
        if turn % 2 == 1:
            # A command has what is stored of the bitmap refreshed, soon.
            disk.monitor("block-dirty-bitmap-enable", node="disk", name="b")
        disk.wait_for_writes(20)
        disk.kill()
        img("commit", "-q", increment)
        img("convert", "-f", "qcow2", "-O", "raw", full, folder / "restored.raw")
        same_bytes(folder / "restored.raw", expected)
        img("check", full)
    assert "was recovered" in disk.daemon.output()
    assert disk.writes > 30 * BACKUPS


@needs_peer
def test_what_the_peer_sees_and_does(folder, daemons):
    """A bitmap in use, with nothing leaked, which it refuses to use; and when it had the image for
    writing, the bitmap is not recovered any more."""
    disk = Disk(folder, daemons, seed=12)
    disk.start()
    disk.start_load()
    disk.wait_for_writes(20)
    disk.kill()
    info = json.loads(run(QEMU, "info", "--output=json", disk.image).out)
    assert info["format-specific"]["data"]["bitmaps"] == [
        {"flags": ["in-use", "auto"], "name": "b", "granularity": 65536}]
    checked = json.loads(run(QEMU, "check", "--output=json", disk.image, code=None).out)
    assert checked.get("corruptions", 0) == 0 and checked["check-errors"] == 0
    ours = json.loads(img("check", "--output=json", disk.image, code=None).out)
    assert ours.get("leaks", 0) == checked.get("leaks", 0)
    copy = folder / "copy.qcow2"
    for kind in ("read", "write", "bitmap"):
        shutil.copyfile(disk.image, copy)
        img("bitmap", "--disable", copy, "b")  # recovered
        shutil.copyfile(disk.image, copy)
        if kind == "bitmap":
            refused = run(QEMU, "bitmap", "--disable", copy, "b", code=1)
            assert "inconsistent" in refused.err
        else:
            run(QEMU_IO, "-f", "qcow2", "-c", f"{kind} 0 64k", copy)
        assert "inconsistent" in img("bitmap", "--disable", copy, "b", code=1).err
    # Reading does no harm.
    run(QEMU_IO, "-r", "-f", "qcow2", "-c", "read 0 64k", disk.image)
    img("bitmap", "--disable", disk.image, "b")
    run(QEMU, "bitmap", "--enable", disk.image, "b")
