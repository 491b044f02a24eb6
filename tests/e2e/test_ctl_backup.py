"""cairnctl backup: chains of backups of a disk in use; what is left of one that was killed.

CAIRN_BACKUPS in the environment is the number of backups that are killed."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

import support
from disk_history import History
from support import Qmp, img, run, wait_until
from test_ctl import Terminal

pytestmark = pytest.mark.skipif(support.PEER, reason="the peer has no such program")

CTL = support.TOOLS / "cairnctl"
MIB = 1 << 20
SIZE = 8 * MIB
PEER = shutil.which("qemu-storage-daemon")
BACKUPS = int(os.environ.get("CAIRN_BACKUPS", "8"))


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
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

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


@pytest.fixture
def machine(folder, daemons):
    return Machine(folder, daemons)


@pytest.mark.parametrize("driver", ["qcow2", "raw"])
def test_every_point_is_the_disk_of_its_moment(folder, daemons, driver):
    machine = Machine(folder, daemons, driver, size=SIZE - 3 * 4096)
    machine.start()
    history = machine.load()
    history.wait_for_writes(20)
    contents = {}
    for turn in range(6):
        point, contents[turn + 1] = machine.create_and_check(
            history, *(["--compress"] if turn % 2 else []), *(["--full"] if turn == 3 else []))
        assert point["number"] == turn + 1 and "why-full" not in point
        assert point["kind"] == ("full" if turn in (0, 3) else "incremental")
        history.wait_for_writes(15)
    history.stop()
    machine.is_tidy()
    for number, content in contents.items():
        assert machine.restore(number, "qcow2") == content
        img("check", machine.backups / f"{number:04}.qcow2")
    for _ in range(2):
        machine.create()
    assert machine.points()[-1]["length"] < 512 << 10, "nothing has changed"
    assert machine.backup("verify", machine.backups).out.count(": sound\n") == 8
    # Others read the chain as well.
    img("convert", "-O", "raw", machine.backups / "0006.qcow2", folder / "other.raw")
    assert (folder / "other.raw").read_bytes() == contents[6]


def test_incremental_backups_go_on_after_a_restart(machine):
    for turn in range(3):
        machine.start()
        history = machine.load()
        history.wait_for_writes(20)
        point, _ = machine.create_and_check(history)
        assert point["kind"] == ("incremental" if turn else "full")
        history.wait_for_writes(5)
        history.stop()
        machine.daemon.stop()


def test_a_raw_disk_needs_a_full_one_after_a_restart(folder, daemons):
    machine = Machine(folder, daemons, "raw")
    for _ in range(2):
        machine.start()
        machine.create()
        assert [p["kind"] for p in machine.points()][-1] == "full"
        machine.create()
        assert [p["kind"] for p in machine.points()][-1] == "incremental"
        machine.daemon.stop()
    machine.start()
    done = machine.create()
    assert "had to be a full one: 'disk' has no bitmap any more" in done.err


@pytest.mark.skipif(PEER is None, reason="needs the peer's daemon")
def test_the_peers_daemon_can_do_it_too(folder):
    started = []

    def start(*arguments):
        started.append(Peer(folder, *arguments))
        return started[-1]
    machine = Machine(folder, start)
    try:
        for turn in range(3):
            machine.start()
            history = machine.load()
            history.wait_for_writes(20)
            point, _ = machine.create_and_check(history)
            assert point["kind"] == ("incremental" if turn else "full")
            history.wait_for_writes(10)
            point, _ = machine.create_and_check(history)
            assert point["kind"] == "incremental"
            history.stop()
            machine.is_tidy()
            machine.daemon.stop()
        # It does not recover bitmaps after a kill.
        machine.start().kill()
        machine.start()
        history = machine.load()
        history.wait_for_writes(10)
        machine.daemon.kill_writing(machine.image)
        history.stop()
        machine.start()
        assert "is inconsistent" in machine.create().err
    finally:
        for daemon in started:
            if daemon.alive():
                daemon.kill()


def used(directory):
    """What the file system of the directory has given away."""
    status = os.statvfs(directory)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def kill_some_time(process, longest):
    time.sleep(random.random() * longest)
    process.kill()
    process.communicate()


def test_cairnctl_killed_at_any_moment(machine):
    """Whatever it leaves, the next backup is one that goes on, and no point is lost."""
    machine.start()
    history = machine.load()
    history.wait_for_writes(20)
    began = time.monotonic()
    _, content = machine.create_and_check(history)
    longest = time.monotonic() - began
    contents = {1: content}
    for _ in range(BACKUPS):
        kill_some_time(machine.begin(), longest)
        history.wait_for_writes(3)
        before = len(machine.points())
        assert before >= len(contents)
        if before > len(contents):
            # It was killed when its point was there already.
            contents[before] = machine.restore(before)
        point, contents[before + 1] = machine.create_and_check(history)
        assert point["kind"] == "incremental" and point["number"] == before + 1
        machine.is_tidy()
    history.stop()
    for number, content in contents.items():
        assert machine.restore(number) == content


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_the_daemon_ended_between_and_during_backups(machine, how):
    machine.start()
    contents = {}
    longest = 0.2
    for turn in range(BACKUPS):
        history = machine.load()
        history.wait_for_writes(20)
        before = len(machine.points()) if machine.backups.exists() else 0
        if before > len(contents):
            contents[before] = machine.restore(before)
        began = time.monotonic()
        point, contents[before + 1] = machine.create_and_check(history)
        longest = time.monotonic() - began
        assert point["kind"] == ("incremental" if turn else "full"), point
        assert point["number"] == before + 1
        machine.is_tidy()
        history.wait_for_writes(10)
        running = machine.begin() if turn % 3 != 2 else None
        if running:
            time.sleep(random.random() * longest)
        if how == "kill":
            machine.daemon.kill_writing(machine.image)
        else:
            machine.daemon.stop()
        history.stop()
        if running:
            out, err = running.communicate(timeout=support.TIMEOUT)
            assert running.returncode in (0, 1, 3), out + err
        machine.start()
    for number, content in contents.items():
        assert machine.restore(number) == content


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_the_backup_back(machine, number):
    machine.start(slowable=True)
    history = machine.load()
    history.wait_for_writes(100)
    machine.create()
    history.wait_for_writes(100)
    machine.slow_down(MIB)
    running = machine.begin("--full")
    monitor = machine.wait_for_job()
    running.send_signal(number)
    wait_until(lambda: all(j["status"] != "running" for j in monitor("query-jobs")),
               "the cancelling")
    monitor.close()
    machine.slow_down(0)
    out, err = running.communicate(timeout=support.TIMEOUT)
    assert running.returncode == 1 and "Interrupted" in err and out == ""
    machine.is_tidy()
    point, _ = machine.create_and_check(history)
    assert point["kind"] == "incremental" and point["number"] == 2
    history.stop()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("victim", ["cairnctl", "daemon"])
def test_killed_while_the_job_runs(machine, victim, whole):
    """What was written before the kill is in the next backup."""
    machine.start(slowable=True)
    history = machine.load()
    history.wait_for_writes(100)
    machine.create()
    history.wait_for_writes(100)
    machine.slow_down()
    running = machine.begin(*(["--full"] if whole else []))
    machine.wait_for_job().close()
    if victim == "cairnctl":
        running.kill()
        running.communicate()
        machine.slow_down(0)
        history.wait_for_writes(5)
        assert len(machine.bitmaps()) == 2
    else:
        machine.daemon.kill_writing(machine.image)
        history.stop()
        _, err = running.communicate(timeout=support.TIMEOUT)
        assert running.returncode == 3, err
        assert err.endswith("; the next backup brings things in order\n")
        machine.start()
        history = machine.load()
        history.wait_for_writes(5)
        assert len(machine.bitmaps()) == 2
    point, _ = machine.create_and_check(history)
    assert point["kind"] == "incremental" and point["number"] == 2
    history.stop()
    machine.is_tidy()


def test_a_signal_at_any_moment(machine):
    machine.start()
    history = machine.load()
    history.wait_for_writes(20)
    began = time.monotonic()
    machine.create_and_check(history)
    longest = time.monotonic() - began
    for _ in range(BACKUPS):
        before = len(machine.points())
        running = machine.begin()
        time.sleep(random.random() * longest)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=support.TIMEOUT)
        if running.returncode != -signal.SIGINT:  # it came before anything was begun
            assert running.returncode in (0, 1), err
            assert len(machine.points()) == before + (running.returncode == 0)
            machine.is_tidy()
        history.wait_for_writes(5)
        point, _ = machine.create_and_check(history)
        assert point["kind"] == "incremental"
    history.stop()


def test_progress_is_drawn_on_a_terminal(machine):
    machine.start(slowable=True)
    history = machine.load()
    history.wait_for_writes(100)
    history.stop()
    machine.slow_down(4 * MIB)
    terminal = Terminal(machine.command("create", "disk", machine.backups))
    terminal.read_until(r"JOB .*backup.*running.*\[[#-]+\].*\x1b\[2A\x1b\[J.*of 8 MiB")
    terminal.end(0)
    assert re.search(r"\x1b\[2A\x1b\[JPoint 1, full, .*0001.qcow2\r\n$", terminal.text)


def test_one_backup_at_a_time(machine):
    machine.start(slowable=True)
    history = machine.load()
    history.wait_for_writes(100)
    history.stop()
    machine.slow_down()
    running = machine.begin()
    machine.wait_for_job().close()
    second = [str(CTL), "-s", str(machine.folder / "r.sock"), "backup"]
    for words in (["create", "disk", machine.backups],
                  ["restore", machine.backups, machine.folder / "x"]):
        done = run(*second, *words, code=1)
        assert "is in use: a backup or a restore is running there" in done.err
    assert run(*second, "list", machine.backups).out == "There are no backups yet.\n"
    machine.slow_down(0)
    assert running.wait(support.TIMEOUT) == 0
    machine.is_tidy()


def test_a_job_that_somebody_else_cancels_makes_no_point(machine):
    machine.start(slowable=True)
    history = machine.load()
    history.wait_for_writes(100)
    history.stop()
    machine.slow_down()
    running = machine.begin()
    monitor = machine.wait_for_job()
    monitor("job-cancel", id=monitor("query-jobs")[0]["id"])
    monitor.close()
    machine.slow_down(0)
    _, err = running.communicate(timeout=support.TIMEOUT)
    assert running.returncode == 1 and "Could not back up 'disk'" in err
    machine.is_tidy()
    assert machine.points() == []


def test_a_full_disk(machine):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    machine.start()
    history = machine.load()
    history.wait_for_writes(200)
    machine.backups.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=9M", "tmpfs", machine.backups)
    try:
        history.stop()
        machine.create()
        history = machine.load()
        history.wait_for_writes(2)
        history.stop()
        done = machine.create("--full", code=1)
        assert done.err == (f"cairnctl: Could not back up 'disk' to '{machine.backups}/0002.qcow2': "
                            "No space left on device\n")
        machine.is_tidy()
        rest = machine.backups / "rest"
        rest.write_bytes(bytes(9 * MIB - 65536 - used(machine.backups)))
        assert "No space left" in machine.create(code=1).err
        rest.unlink()
        machine.is_tidy()
        point, _ = machine.create_and_check(history)
        assert point["kind"] == "incremental" and point["number"] == 2
    finally:
        run("umount", machine.backups)


def test_another_size_needs_a_full_one(machine):
    machine.start()
    machine.create()
    machine.daemon.stop()
    img("resize", "-q", machine.image, SIZE + MIB)
    machine.size = SIZE + MIB
    machine.start()
    history = machine.load()
    history.wait_for_writes(30)
    point, content = machine.create_and_check(history)
    assert point["kind"] == "full" and point["virtual-size"] == SIZE + MIB
    assert point["why-full"] == f"'disk' has {SIZE + MIB} bytes, and had {SIZE} at point 1"
    history.stop()
    assert len(machine.restore(1)) == SIZE and machine.restore(2) == content


def test_a_bitmap_that_can_not_be_trusted_needs_a_full_one(machine):
    for damage, why in (("remove", "has no bitmap any more"), ("disable", "was switched off")):
        machine.start()
        machine.create("--full")
        monitor = machine.monitor()
        monitor(f"block-dirty-bitmap-{damage}", node="disk", name=machine.points()[-1]["bitmap"])
        monitor.close()
        point = json.loads(machine.create("--json").out)
        assert point["kind"] == "full" and why in point["why-full"]
        machine.is_tidy()
        machine.daemon.stop()


def test_a_copy_of_the_directory_does_not_deceive(machine):
    """Both go on from the same point; the bitmap of one is not taken for that of the other."""
    machine.start()
    history = machine.load()
    history.wait_for_writes(20)
    machine.create()
    copy = machine.folder / "copy"
    run("cp", "-r", machine.backups, copy)
    history.wait_for_writes(20)
    machine.create()
    history.wait_for_writes(20)
    original, machine.backups = machine.backups, copy
    point, _ = machine.create_and_check(history)
    assert point["number"] == 2 and point["kind"] == "full"
    history.wait_for_writes(20)
    machine.backups = original
    point, _ = machine.create_and_check(history)
    assert point["number"] == 3 and point["kind"] == "full"
    history.stop()


def test_verify_and_restore_find_damage(machine):
    machine.start()
    history = machine.load()
    for _ in range(3):
        history.wait_for_writes(20)
        machine.create()
    machine.create("--full")
    history.stop()
    second = machine.backups / "0002.qcow2"
    sound = second.read_bytes()
    for damaged, why in ((sound[:-1000] + bytes([sound[-1000] ^ 4]) + sound[-999:], "its SHA-256 is"),
                         (sound[:-1], f"{len(sound) - 1} bytes in place of {len(sound)}"),
                         (None, "No such file")):
        second.unlink() if damaged is None else second.write_bytes(damaged)
        done = run(CTL, "backup", "verify", machine.backups, code=1)
        lines = done.out.splitlines()
        assert lines[0] == "0001.qcow2: sound" and lines[3] == "0004.qcow2: sound"
        assert lines[1].startswith("0002.qcow2: ") and why in lines[1]
        assert lines[2] == "0003.qcow2: sound, but can not be restored without one before it"
        assert "is damaged" in done.err
        found = json.loads(run(CTL, "backup", "verify", machine.backups, "--json", code=1).out)
        assert [p["restorable"] for p in found] == [True, False, False, True]
        assert [("error" in p) for p in found] == [False, True, False, False]
        done = machine.backup("restore", machine.backups, machine.folder / "r", "--point", 3, code=1)
        assert "0002.qcow2" in done.err and not (machine.folder / "r").exists()
        machine.restore(1)
        machine.restore(4)
    # An incremental one on top of what is missing would be worthless.
    (machine.backups / "0004.qcow2").unlink()
    point = json.loads(machine.create("--json").out)
    assert point["kind"] == "full" and "0004.qcow2" in point["why-full"]
    second.write_bytes(sound)
    assert machine.restore(3)


def test_restoring_replaces_nothing_and_leaves_nothing(machine):
    machine.start()
    machine.create()
    for name in ("disk.img", "disk.img.part"):
        (machine.folder / name).write_text("mine")
        done = machine.backup("restore", machine.backups, machine.folder / "disk.img", code=1)
        assert f"{name}' exists" in done.err
        assert (machine.folder / name).read_text() == "mine"
        (machine.folder / name).unlink()
    done = machine.backup("restore", machine.backups, machine.folder / "none" / "disk.img", code=1)
    assert "Could not find the directory" in done.err
    done = machine.backup("restore", machine.backups, machine.folder / "disk.img", "--point", 7,
                          code=1)
    assert "has no point 7" in done.err
    machine.backup("restore", machine.backups, machine.folder / "disk.img")
    assert json.loads(img("info", "--output=json", machine.folder / "disk.img").out)["format"] \
        == "qcow2"
    machine.is_tidy()


def test_an_interrupted_restore_leaves_nothing(machine):
    machine.start()
    history = machine.load()
    history.wait_for_writes(100)
    machine.create()
    history.stop()
    content = machine.restore(1)
    target = machine.folder / "disk.img"
    began = time.monotonic()
    machine.restore(1)
    longest = time.monotonic() - began
    for _ in range(BACKUPS):
        process = subprocess.Popen(
            machine.command("restore", machine.backups, target, "--format", "raw"),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        time.sleep(random.random() * longest)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=support.TIMEOUT)
        assert not (machine.folder / "disk.img.part").exists()
        if process.returncode == 0:
            assert target.read_bytes() == content
            target.unlink()
        else:
            assert process.returncode == -signal.SIGINT or b"Interrupted" in err
            assert not target.exists()
        machine.is_tidy()


def test_restoring_to_a_full_disk_leaves_nothing(machine):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    machine.start()
    history = machine.load()
    history.wait_for_writes(200)
    history.stop()
    machine.create()
    small = machine.folder / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", small)
    try:
        for form in ("raw", "qcow2"):
            done = machine.backup("restore", machine.backups, small / "d", "--format", form, code=1)
            assert f"'{small}/d" in done.err and "No space left on device" in done.err
            assert list(small.iterdir()) == []
            machine.is_tidy()
        assert used(small) < 65536
    finally:
        run("umount", small)


def test_a_killed_restore_is_cleared_away(machine):
    machine.start()
    history = machine.load()
    history.wait_for_writes(100)
    machine.create()
    history.stop()
    content = machine.restore(1)
    target = machine.folder / "disk.img"
    for _ in range(BACKUPS):
        process = subprocess.Popen(machine.command("restore", machine.backups, target, "--format",
                                                   "raw"), stdout=subprocess.DEVNULL)
        time.sleep(random.random() * 0.1)
        process.kill()
        process.wait()
        if target.exists():
            assert target.read_bytes() == content
            target.unlink()
        (machine.folder / "disk.img.part").unlink(missing_ok=True)
    machine.backup("restore", machine.backups, target, "--format", "raw")
    assert target.read_bytes() == content
    machine.is_tidy()


def test_what_can_not_be_backed_up(machine):
    machine.start()
    done = machine.backup("create", "none", machine.backups, code=1)
    assert "There is no node 'none'" in done.err
    machine.create()
    monitor = machine.monitor()
    monitor("blockdev-add", driver="null-co", node_name="other", size=MIB)
    monitor.close()
    done = machine.backup("create", "other", machine.backups, code=1)
    assert "has backups of 'disk': use another directory for 'other'" in done.err
    foreign = machine.folder / "foreign"
    foreign.mkdir()
    (foreign / "0001.qcow2").write_text("mine")
    done = machine.backup("create", "disk", foreign, code=1)
    assert "0001.qcow2' exists, but no list of backups" in done.err
    assert (foreign / "0001.qcow2").read_text() == "mine"
    (machine.backups / "chain.json").write_text("{}")
    for words in (["create", "disk", machine.backups], ["list", machine.backups],
                  ["verify", machine.backups], ["restore", machine.backups, "x"]):
        done = machine.backup(*words, code=1)
        assert "chain.json' can not be used: it is no list of backups" in done.err
    done = run(CTL, "backup", "list", machine.folder / "none", code=1)
    assert "Could not find the directory" in done.err
    assert "There are no backups in" in run(CTL, "backup", "list", machine.folder, code=1).err


@pytest.mark.parametrize("words, message", [
    (["frob", "x"], "'frob' can not be done with backups"),
    (["create", "disk"], "Usage: cairnctl backup create NODE DIRECTORY"),
    (["list"], "Usage: cairnctl backup list DIRECTORY"),
    (["list", "x", "--full"], "--full is not for 'backup list'"),
    (["create", "disk", "x", "--point", "1"], "--point is not for 'backup create'"),
    (["restore", "x", "y", "--point", "0"], "'0' is no number of a point"),
    (["restore", "x", "y", "--format", "svg"], "'svg' is no format: there are qcow2 and raw"),
    (["create", "disk", "x"], "No daemon is named")])
def test_wrong_command_lines(words, message):
    env = ["env", "-u", "CAIRN_SOCKET", CTL]
    more = [] if "No daemon" in message else ["-s", "none.sock"]
    assert message in run(*env, *more, "backup", *words, code=2).err
