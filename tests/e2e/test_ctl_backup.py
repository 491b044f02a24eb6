"""cairnctl backup: chains of backups of a disk in use, what they are worth, and what is refused."""

import json
import os
import re

import pytest

import support
from backup_machine import CTL, MIB, PEER, SIZE, Machine, Peer, used
from support import img, run
from test_ctl import Terminal

pytestmark = pytest.mark.skipif(support.PEER, reason="the peer has no such program")


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


def test_prune_keeps_the_newest_and_what_they_need(machine):
    machine.start()
    history = machine.load()
    contents = {}
    for turn in range(1, 7):
        history.wait_for_writes(10)
        _, contents[turn] = machine.create_and_check(history, *(["--full"] if turn == 4 else []))
    history.stop()

    def prune(keep, *more):
        return run(CTL, "backup", "prune", machine.backups, "--keep", str(keep), *more).out

    assert prune(6) == prune(4) == "6 points are left\n", "the third needs the first"
    # A run that was killed when the list was written: its files go with the next.
    stale = machine.backups / "0002.qcow2"
    content = stale.read_bytes()
    assert prune(3).splitlines() == ["0001.qcow2: removed", "0002.qcow2: removed", "0003.qcow2: removed",
                                     "3 points are left"]
    machine.is_tidy()
    stale.write_bytes(content)
    (machine.backups / "2.qcow2").touch()
    assert json.loads(prune(1, "--json")) == {"removed": ["0002.qcow2"], "points": 3}
    (machine.backups / "2.qcow2").unlink()
    for number in (4, 5, 6):
        assert machine.restore(number) == contents[number]
    assert machine.backup("verify", machine.backups).out.count(": sound\n") == 3
    point = json.loads(machine.create("--json").out)
    assert (point["number"], point["kind"]) == (7, "incremental")
    machine.is_tidy()


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
    (["prune", "x"], "'backup prune' needs --keep N"),
    (["prune", "x", "--keep", "0"], "'0' is no number of points"),
    (["list", "x", "--keep", "1"], "--keep is not for 'backup list'"),
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
