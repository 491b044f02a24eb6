"""A daemon whose disk is backed up with cairnctl, ours or the peer's."""

import json
import os
import shutil
import subprocess

import support
from disk_history import History
from support import Qmp, img, run, wait_until

CTL = support.TOOLS / "cairnctl"
MIB = 1 << 20
SIZE = 8 * MIB
PEER = shutil.which("qemu-storage-daemon")


class Machine:
    """A daemon with the node 'disk', an NBD export and a monitor; `backups` is a directory for it."""

    def __init__(self, folder, daemons, driver="qcow2", size=SIZE):
        self.folder, self.daemons, self.driver, self.size = folder, daemons, driver, size
        self.image, self.backups = folder / f"disk.{driver}", folder / "backups"
        self.daemon = None
        self.seed = 0
        self.restored = 0
        img("create", "-q", "-f", driver, self.image, size)

    def start(self, *more, slowable=False):
        """`slowable`: so that slow_down() works."""
        for name in ("q.sock", "nbd.sock"):
            (self.folder / name).unlink(missing_ok=True)
        file = {"driver": "file", "filename": str(self.image), "discard": "unmap"}
        if slowable:
            more += ("--object", "throttle-group,id=g")
            file = {"driver": "throttle", "throttle-group": "g", "file": file}
        node = {"driver": self.driver, "node-name": "disk", "discard": "unmap", "file": file}
        self.daemon = self.daemons(
            *more, "--blockdev", json.dumps(node),
            "--chardev", f"socket,id=c,path={self.folder}/q.sock,server=on,wait=off",
            "--monitor", "chardev=c",
            "--chardev", f"socket,id=d,path={self.folder}/r.sock,server=on,wait=off",
            "--monitor", "chardev=d",
            "--nbd-server", f"addr.type=unix,addr.path={self.folder}/nbd.sock",
            "--export", "type=nbd,id=e,node-name=disk,name=disk,writable=on")
        self.daemon.wait_for(self.folder / "nbd.sock")
        self.daemon.wait_for(self.folder / "r.sock")
        return self.daemon

    def slow_down(self, rate=256 << 10):
        """What reads the disk gets so many bytes a second, or for 0 all that there are: a backup
        that begins now will be running for long."""
        monitor = self.monitor()
        monitor("qom-set", path="/objects/g", property="limits", value={"bps-read": rate})
        monitor.close()

    def load(self):
        self.seed += 1
        return History(self.daemon.uri(), self.size, self.seed)

    def command(self, *words):
        return [str(w) for w in (CTL, "-s", self.folder / "q.sock", "backup", *words)]

    def backup(self, *words, code=0):
        """Tries again when it finds nobody: the peer's monitor refuses connections for a moment
        after one has ended."""
        def found():
            done = run(*self.command(*words), code=None)
            return done if done.code != 3 or not isinstance(self.daemon, Peer) else None
        done = wait_until(found, "a monitor that takes a connection")
        assert done.code == code, done
        return done

    def create(self, *words, code=0):
        return self.backup("create", "disk", self.backups, *words, code=code)

    def begin(self, *words):
        """A backup that runs; signals reach it, whatever this process ignores."""
        return subprocess.Popen(self.command("create", "disk", self.backups, *words), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                preexec_fn=support.hear_signals)

    def create_and_check(self, history, *words):
        """A point, restored and compared with what the disk was; returns it and the content."""
        first = history.done
        point = json.loads(self.create("--json", *words).out)
        last = len(history.requests)
        content = self.restore(point["number"])
        assert history.holds(content, first, last), point
        return point, content

    def restore(self, number, form="raw"):
        self.restored += 1
        target = self.folder / f"restored{self.restored}.{form}"
        self.backup("restore", self.backups, target, "--point", number, "--format", form)
        if form != "raw":
            img("convert", "-O", "raw", target, f"{target}.raw")
            target.unlink()
            target = self.folder / f"{target.name}.raw"
        content = target.read_bytes()
        target.unlink()
        return content

    def points(self):
        return json.loads(self.backup("list", self.backups, "--json").out)["points"]

    def files(self):
        return sorted(p.name for p in self.backups.iterdir())

    def monitor(self):
        return Qmp(self.folder / "r.sock")

    def bitmaps(self):
        monitor = self.monitor()
        nodes = {n["node-name"]: n for n in monitor("query-named-block-nodes")}
        monitor.close()
        return nodes["disk"].get("dirty-bitmaps", [])

    def wait_for_job(self):
        monitor = self.monitor()
        wait_until(lambda: any(j["type"] == "backup" and j["status"] == "running"
                               for j in monitor("query-jobs")), "the backup's job")
        return monitor

    def is_tidy(self):
        """Nothing is there but complete points, and one bitmap: that of the last."""
        points = self.points()
        assert self.files() == [p["file"] for p in points] + ["chain.json"]
        monitor = self.monitor()
        assert monitor("query-jobs") == []
        names = [n["node-name"] for n in monitor("query-named-block-nodes")]
        assert not [n for n in names if n.startswith("cairn-")], names
        monitor.close()
        expected = [(points[-1]["bitmap"], True)] if points else []
        assert [(b["name"], b["recording"]) for b in self.bitmaps()] == expected


class Peer(support.Daemon):
    """The peer's daemon in the place of ours."""

    def __init__(self, folder, *arguments):
        self.folder, self.socket, self.log = folder, folder / "nbd.sock", folder / "daemon.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([PEER, *arguments], cwd=folder, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)


def used(directory):
    """What the file system of the directory has given away."""
    status = os.statvfs(directory)
    return (status.f_blocks - status.f_bfree) * status.f_frsize
