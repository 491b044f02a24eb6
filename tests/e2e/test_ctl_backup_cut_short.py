"""cairnctl backup, cut short: signals, and kills of cairnctl and of the daemon.

CAIRN_BACKUPS in the environment is the number of backups that are killed."""

import os
import random
import signal
import subprocess
import time

import pytest

import support
from backup_machine import CTL, MIB, Machine
from support import run, wait_until

pytestmark = pytest.mark.skipif(support.PEER, reason="the peer has no such program")

BACKUPS = int(os.environ.get("CAIRN_BACKUPS", "8"))


@pytest.fixture
def machine(folder, daemons):
    return Machine(folder, daemons)


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
            preexec_fn=support.hear_signals)
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
