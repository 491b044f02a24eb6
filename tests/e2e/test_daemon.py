"""The daemon as an administrator starts and stops it."""

import os
import pathlib
import signal
import subprocess

import pytest

from support import PEER, TIMEOUT, Qmp, environment, program, qcow2, raw, run, wait_until

MIB = 1 << 20


@pytest.fixture
def disk(folder):
    (folder / "disk.raw").write_bytes(b"\x42" * MIB)
    return folder / "disk.raw"


def test_help_and_version():
    assert "--blockdev" in run("cairnd", "--help").out
    assert run("cairnd", "--version").out.strip()


@pytest.mark.parametrize("arguments, words", [
    (["--nosuch"], "nosuch"),
    (["--blockdev", "driver=nosuch,node-name=d"], "nosuch"),
    (["--blockdev", "driver=file,node-name=d,filename=/nonexistent/x"], "/nonexistent/x"),
    (["--blockdev", "driver=null-co,node-name=d,nosuch=1"], "nosuch"),
    (["--blockdev", "driver=null-co,node-name=d", "--export",
      "type=nbd,id=e,node-name=d"], "NBD"),
    (["--chardev", "socket,id=c,path=/nonexistent/x,server=on,wait=off"], "/nonexistent/x"),
])
def test_a_wrong_command_line_says_what_is_wrong(arguments, words):
    done = run("cairnd", *arguments, code=1)
    assert words in done.err, done


def test_sigterm_ends_it_and_its_socket(folder, daemons, disk):
    daemon = daemons.serving(raw(disk))
    daemon.stop()
    assert PEER or not daemon.socket.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_it_too(daemons, disk, number):
    daemon = daemons.serving(raw(disk))
    daemon.process.send_signal(number)
    assert daemon.process.wait(TIMEOUT) == 0, daemon.output()
    assert PEER or not daemon.socket.exists()


def test_daemonize_returns_when_it_serves(folder, backend, disk):
    pidfile = folder / "cairnd.pid"
    command = [program("cairnd"), "--daemonize", "--pidfile", str(pidfile),
               "--blockdev", f"driver=file,node-name=d,filename={disk}",
               "--nbd-server", f"addr.type=unix,addr.path={folder}/nbd.sock",
               "--export", "type=nbd,id=e,node-name=d"]
    # Nothing of ours stays open in the daemon: the pipe ends when the starter does.
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
                          timeout=TIMEOUT, check=False, env=environment(backend))
    assert done.returncode == 0, done.stdout
    pid = int(pidfile.read_text())
    try:
        run("nbdinfo", f"nbd+unix:///d?socket={folder}/nbd.sock")
        assert os.getsid(pid) != os.getsid(0)
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the end of the daemon")
    assert not pidfile.exists()


def test_daemonize_reports_a_failed_start(folder, backend):
    done = run("cairnd", "--daemonize", "--blockdev",
               "driver=file,node-name=d,filename=/nonexistent", code=1, backend=backend)
    assert "/nonexistent" in done.err


def test_a_pidfile_is_held(folder, daemons, disk):
    pidfile = folder / "d.pid"
    daemon = daemons.serving(raw(disk), "--pidfile", pidfile)
    wait_until(lambda: pidfile.exists() and pidfile.read_text(), "the pidfile")  # it comes last
    assert int(pidfile.read_text()) == daemon.process.pid
    done = run("cairnd", "--pidfile", pidfile, code=1)
    assert "lock pid file" in done.err
    daemon.stop()
    assert not pidfile.exists()


def test_a_node_is_made_served_resized_and_removed_by_qmp(folder, daemons):
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "disk.qcow2", "1M")
    daemon = daemons("--chardev", f"socket,id=c,path={folder}/qmp.sock,server=on,wait=off",
                     "--monitor", "chardev=c")
    daemon.wait_for(folder / "qmp.sock")
    monitor = Qmp(folder / "qmp.sock")
    monitor("blockdev-add", node_name="d", **qcow2(folder / "disk.qcow2"))
    monitor("nbd-server-start", addr={"type": "unix", "data": {"path": str(daemon.socket)}})
    monitor("block-export-add", type="nbd", id="e", node_name="d", name="disk", writable=True)
    run("nbdsh", "-u", daemon.uri(), "-c", "h.pwrite(b'x' * 512, 0); h.flush()")
    assert "error" in monitor.ask("blockdev-del", node_name="d")
    monitor("block-export-del", id="e")
    wait_until(lambda: any(e["event"] == "BLOCK_EXPORT_DELETED" for e in monitor.events)
               or monitor("query-block-exports") == [] and monitor.events, "the event")
    monitor("block_resize", node_name="d", size=2 * MIB)
    monitor("block-export-add", type="nbd", id="e", node_name="d", name="disk")
    assert run("nbdinfo", "--size", daemon.uri()).out.strip() == str(2 * MIB)
    monitor("nbd-server-stop")
    wait_until(lambda: monitor("query-block-exports") == [], "the end of the export")
    monitor("blockdev-del", node_name="d")
    monitor("quit")
    assert daemon.process.wait(TIMEOUT) == 0, daemon.output()
    assert "No errors were found" in run("qemu-img", "check", folder / "disk.qcow2").out


def test_quit_under_load_loses_nothing_flushed(folder, daemons):
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "disk.qcow2", "64M")
    daemon = daemons.serving(qcow2(folder / "disk.qcow2"), "--chardev",
                             f"socket,id=c,path={folder}/qmp.sock,server=on,wait=off",
                             "--monitor", "chardev=c")
    load = subprocess.Popen(
        ["fio", "--name=l", "--ioengine=nbd", f"--uri={daemon.uri()}", "--rw=randwrite",
         "--size=64M", "--bs=64k", "--iodepth=16", "--time_based", "--runtime=20"], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (folder / "disk.qcow2").stat().st_size > 4 * MIB, "some load")
        monitor = Qmp(folder / "qmp.sock")
        monitor("quit")
        assert daemon.process.wait(TIMEOUT) == 0, daemon.output()
    finally:
        load.kill()
        load.wait()
    assert "No errors were found" in run("qemu-img", "check", folder / "disk.qcow2").out


def test_a_fuller_disk_than_there_is_room_is_an_error_not_an_end(folder, daemons):
    """ENOSPC reaches the client, the image stays sound, and the daemon goes on."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    small = folder / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", small)
    try:
        run("qemu-img", "create", "-q", "-f", "qcow2", small / "disk.qcow2", "64M")
        daemon = daemons.serving(qcow2(small / "disk.qcow2"))
        script = ("import errno\n"
                  "failed = 0\n"
                  "for i in range(16):\n"
                  "    try:\n"
                  "        h.pwrite(bytes([i + 1]) * (1 << 20), i << 20)\n"
                  "    except nbd.Error as error:\n"
                  "        assert error.errnum == errno.ENOSPC, error\n"
                  "        failed += 1\n"
                  "assert failed >= 10, failed\n"
                  "assert h.pread(512, 1 << 20) == bytes([2]) * 512\n")
        run("nbdsh", "-u", daemon.uri(), "-c", script)
        daemon.stop()
        done = run("qemu-img", "check", small / "disk.qcow2", code=None)
        assert done.code in (0, 3), done
    finally:
        run("umount", small)


def test_io_option_names_its_choices():
    if PEER:
        pytest.skip("the peer has no such option")
    assert "nosuch" in run("cairnd", "--io=nosuch", code=1).err


def test_poll_option_wants_a_number():
    if PEER:
        pytest.skip("the peer has no such option")
    for value in ("", "soon", "-1", "5us"):
        assert "--poll-max-ns=" in run("cairnd", f"--poll-max-ns={value}", code=1).err
    assert "requires an argument" in run("cairnd", "--poll-max-ns", code=1).err
    assert run("cairnd", "--poll-max-ns", "0", "--version").out.startswith("cairnd version")
