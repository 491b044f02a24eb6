"""cairnctl with real daemons: ours, and the peer's."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
import xml.etree.ElementTree

import pytest

import support
from support import run, wait_until

pytestmark = pytest.mark.skipif(support.PEER, reason="the peer has no such program")

CTL = support.TOOLS / "cairnctl"


@pytest.fixture(params=["ours", "peer"])
def monitor(request, folder, daemons):
    """A daemon with monitors at FOLDER/q.sock and FOLDER/e.sock: ours, and one that we have not
    made."""
    arguments = ["--chardev", f"socket,id=e,path={folder}/e.sock,server=on,wait=off",
                 "--monitor", "chardev=e",
                 "--chardev", f"socket,id=c,path={folder}/q.sock,server=on,wait=off",
                 "--monitor", "chardev=c"]
    if request.param == "ours":
        daemon = daemons(*arguments)
        daemon.wait_for(folder / "q.sock")
        yield daemon
        return
    peer = shutil.which("qemu-storage-daemon")
    process = subprocess.Popen([peer, *arguments], cwd=folder, stdin=subprocess.DEVNULL)
    wait_until(lambda: support.accepts(folder / "q.sock"), "the peer's monitor")
    yield process
    process.kill()
    process.wait()


def ctl(folder, *arguments, code=0, **options):
    """Tries again when it finds nobody: the peer's monitor refuses connections for a moment after
    one has ended."""
    def found():
        done = run(CTL, "-s", folder / "q.sock", *arguments, code=None, cwd=folder, **options)
        return done if done.code != 3 or code == 3 else None
    done = wait_until(found, "a monitor that takes a connection")
    assert code is None or done.code == code, done
    return done


def test_arguments_are_typed_and_answers_come_in_both_forms(folder, monitor):
    run("cairn-img", "create", "-q", "-f", "qcow2", folder / "d.qcow2", "64M")
    done = ctl(folder, "blockdev-add", "driver=qcow2", "node-name=d", "file.driver=file",
               "file.filename=d.qcow2", "read-only=on")
    assert done.out == "{}\n" and done.err == ""
    done = ctl(folder, "query-named-block-nodes", "--json")
    nodes = {node["node-name"]: node for node in json.loads(done.out)}
    assert nodes["d"]["ro"] is True and nodes["d"]["image"]["virtual-size"] == 64 << 20
    done = ctl(folder, "--table", "query-named-block-nodes")
    assert re.search(r"\bd\b.*\bqcow2\b", done.out), done.out
    assert json.loads(ctl(folder, "--pretty", "query-version").out)["qemu"]["major"] >= 7
    done = ctl(folder, "blockdev-add", "-", stdin='{"driver": "null-co", "node-name": "n"}')
    assert done.out == "{}\n"
    ctl(folder, "blockdev-del", "node-name=n", "--table")


def test_exit_codes_tell_who_is_at_fault(folder, monitor):
    done = ctl(folder, "blockdev-del", "node-name=none", code=1)
    assert done.err.startswith("cairnctl: blockdev-del: ") and done.out == ""
    done = ctl(folder, "blockdev-del", "nodename=none", code=2)
    assert "did you mean 'node-name'?" in done.err
    done = ctl(folder, "blockdev-dle", "node-name=none", code=2)
    assert "did you mean 'blockdev-del'?" in done.err
    assert "'driver' is missing" in ctl(folder, "blockdev-add", "node-name=x", code=2).err
    assert "did you mean 'query-jobs'?" in ctl(folder, "query-job", code=2).err
    assert "for 'watch' alone" in ctl(folder, "--once", "query-jobs", code=2).err
    done = run(CTL, "-s", folder / "none.sock", "query-jobs", code=3)
    assert done.err == (f"cairnctl: Cannot connect to '{folder}/none.sock': "
                        "No such file or directory\n")


def test_help_is_made_from_what_the_daemon_tells(folder, monitor):
    names = json.loads(ctl(folder, "commands", "--json").out)
    assert "blockdev-add" in names and names == sorted(names)
    assert "block-export-del id=… [mode=…]\n" in ctl(folder, "commands").out
    done = ctl(folder, "help", "block-export-del")
    assert "mode  one of safe, hard" in done.out
    assert "qcow2" in ctl(folder, "help", "blockdev-add").out
    ctl(folder, "help", "blockdev-ad", code=2)


def test_waits_for_an_event_of_a_command(folder, monitor):
    (folder / "new.raw").touch()
    ctl(folder, "blockdev-add", "driver=file", "node-name=f", "filename=new.raw")
    done = ctl(folder, "wait-event", "JOB_STATUS_CHANGE", "id=j", "status=concluded", "--timeout",
               "60", "--json", "--", "blockdev-create", "job-id=j", "options.driver=qcow2",
               "options.file=f", "options.size=1M")
    assert json.loads(done.out)["data"] == {"id": "j", "status": "concluded"}
    done = ctl(folder, "--table", "query-jobs")
    assert "concluded" in done.out
    done = ctl(folder, "wait-event", "JOB_STATUS_CHANGE", "--timeout", "0.1", code=4)
    assert done.err == "cairnctl: JOB_STATUS_CHANGE has not come in time\n"
    assert "did you mean" in ctl(folder, "wait-event", "JOB_STATUS_CHANGED", code=2).err
    done = ctl(folder, "wait-event", "JOB_STATUS_CHANGE", "stat=concluded", code=2)
    assert done.err == "cairnctl: JOB_STATUS_CHANGE has no 'stat'; it has: id, status\n"


def test_prints_events_until_the_daemon_ends(folder, daemons):
    daemon = daemons("--chardev", f"socket,id=c,path={folder}/q.sock,server=on,wait=off",
                     "--monitor", "chardev=c",
                     "--chardev", f"socket,id=e,path={folder}/e.sock,server=on,wait=off",
                     "--monitor", "chardev=e", "--blockdev", "null-co,node-name=n",
                     "--nbd-server", f"addr.type=unix,addr.path={folder}/nbd.sock",
                     "--export", "nbd,id=x,node-name=n")
    daemon.wait_for(folder / "e.sock")
    printing = subprocess.Popen([CTL, "-s", folder / "e.sock", "events"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
    # Nobody tells when it has negotiated, so there are events until it prints one.
    while not select.select([printing.stdout], [], [], 0.05)[0]:
        ctl(folder, "block-export-del", "id=x")
        ctl(folder, "block-export-add", "type=nbd", "id=x", "node-name=n")
    line = printing.stdout.readline()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  BLOCK_EXPORT_DELETED  id=x\n", line)
    ctl(folder, "quit")
    assert printing.wait(support.TIMEOUT) == 3
    assert "has closed the connection" in printing.stderr.read()


def test_the_graph_in_all_its_forms(folder, monitor):
    run("cairn-img", "create", "-q", "-f", "qcow2", folder / "base.qcow2", "1M")
    run("cairn-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2",
        folder / "top.qcow2")
    assert ctl(folder, "graph").out == "(none)\n"
    ctl(folder, "blockdev-add", "driver=qcow2", "node-name=top", "file.driver=file",
        "file.node-name=file", "file.filename=top.qcow2", "backing.driver=qcow2",
        "backing.node-name=base", "backing.file.driver=file", "backing.file.node-name=basefile",
        "backing.file.filename=base.qcow2")
    ctl(folder, "nbd-server-start", "addr.type=unix", f"addr.data.path={folder}/nbd.sock")
    ctl(folder, "block-export-add", "type=nbd", "id=e", "node-name=top")
    lines = ctl(folder, "graph").out.splitlines()
    assert lines[0] == "e  (nbd export)"
    assert lines[1] == "└─ top  (qcow2, 1 MiB)"
    assert lines[2].startswith("   ├─ file: file  (file, ") and lines[2].endswith("top.qcow2")
    assert lines[3].startswith("   └─ backing: base  (qcow2, 1 MiB, read-only)")
    assert lines[4].startswith("      └─ file: basefile  (file, ")
    dot = ctl(folder, "graph", "--format", "dot").out
    assert dot.startswith("digraph") and dot.count("->") == 4
    svg = xml.etree.ElementTree.fromstring(ctl(folder, "graph", "--format", "svg").out)
    assert len(svg.findall("{http://www.w3.org/2000/svg}rect")) == 6, "five boxes and the ground"
    assert len(svg.findall("{http://www.w3.org/2000/svg}path")) == 4
    assert "'png' is no format" in ctl(folder, "graph", "--format", "png", code=2).err


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, rows=24, columns=100):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen([str(c) for c in command], stdin=slave, stdout=slave,
                                        stderr=slave, start_new_session=True,
                                        env=dict(os.environ, TERM="xterm"))
        os.close(slave)
        self.text = ""

    def read_until(self, pattern):
        deadline = time.monotonic() + support.TIMEOUT
        while not re.search(pattern, self.text, re.DOTALL):
            assert time.monotonic() < deadline, f"waited too long for {pattern}: {self.text!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:  # the other end is closed
                    data = b""
                assert data, f"it ended before {pattern}: {self.text!r}"
                self.text += data.decode()

    def end(self, code):
        while self.process.poll() is None or select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                break
            self.text += data.decode()
        assert self.process.wait(support.TIMEOUT) == code, self.text
        os.close(self.master)


def test_watch_refreshes_in_place_on_a_terminal(folder, monitor):
    ctl(folder, "blockdev-add", "driver=null-co", "node-name=n", "size=1M")
    terminal = Terminal([CTL, "-s", folder / "q.sock", "watch", "--interval", "0.05"])
    terminal.read_until(r"\x1b\[\?1049h.*NODE.*null-co.*\x1b\[H.*null-co.*0 B/s")
    assert "\x1b[2J" not in terminal.text, "clearing flickers"
    terminal.process.send_signal(signal.SIGINT)
    terminal.end(0)
    assert terminal.text.endswith("\x1b[?25h\x1b[?1049l"), "the screen is as it was"


def test_watch_says_when_the_daemon_is_gone(folder, daemons):
    daemon = daemons("--chardev", f"socket,id=c,path={folder}/q.sock,server=on,wait=off",
                     "--monitor", "chardev=c")
    daemon.wait_for(folder / "q.sock")
    terminal = Terminal([CTL, "-s", folder / "q.sock", "watch", "--interval", "60"])
    terminal.read_until("no jobs, exports and nodes")
    daemon.stop()
    terminal.end(3)
    assert re.search(r"\x1b\[\?1049lcairnctl: .*closed the connection", terminal.text)


def test_watch_elsewhere_is_lines_and_json(folder, monitor):
    ctl(folder, "blockdev-add", "driver=null-co", "node-name=n", "size=1M")
    assert re.search(r"^n +null-co +1 MiB", ctl(folder, "watch", "--once").out, re.MULTILINE)
    sample = json.loads(ctl(folder, "watch", "--once", "--json").out)
    assert sample["nodes"][0]["node-name"] == "n" and sample["jobs"] == []
    watching = subprocess.Popen([CTL, "-s", folder / "e.sock", "watch", "--interval", "0.05"],
                                stdout=subprocess.PIPE, text=True)
    assert re.match(r"\d\d:\d\d:\d\d node n null-co: read ", watching.stdout.readline())
    ctl(folder, "blockdev-add", "driver=null-co", "node-name=m", "size=1M")
    assert re.match(r"\d\d:\d\d:\d\d node m null-co: read ", watching.stdout.readline())
    watching.send_signal(signal.SIGTERM)
    assert watching.wait(support.TIMEOUT) == 0


def test_rates_are_those_of_a_client(folder, daemons):
    (folder / "d.raw").write_bytes(bytes(8 << 20))
    daemon = daemons.serving(support.raw(folder / "d.raw"), "--chardev",
                             f"socket,id=c,path={folder}/q.sock,server=on,wait=off",
                             "--monitor", "chardev=c")
    watching = subprocess.Popen([CTL, "-s", folder / "q.sock", "watch", "--interval", "0.2",
                                 "--json"], stdout=subprocess.PIPE, text=True)
    json.loads(watching.stdout.readline())
    run("nbdcopy", daemon.uri(), "null:")
    rates, total = [], 0
    while total < 8 << 20:
        node = [n for n in json.loads(watching.stdout.readline())["nodes"]
                if n["node-name"] == "disk"][0]
        rates.append(node["read-rate"])
        total = node["read-bytes"]
    assert max(rates) > 0
    watching.kill()
    watching.wait()


def test_tcp_and_the_environment(folder, daemons):
    daemons("--chardev", "socket,id=t,host=127.0.0.1,port=0,server=on,wait=off",
            "--monitor", "chardev=t", "--chardev",
            f"socket,id=c,path={folder}/q.sock,server=on,wait=off",
            "--monitor", "chardev=c").wait_for(folder / "q.sock")
    devices = json.loads(ctl(folder, "query-chardev").out)
    address = re.search(r"tcp:(127\.0\.0\.1:\d+)",
                        [d for d in devices if d["label"] == "t"][0]["filename"])[1]
    assert json.loads(run(CTL, "-s", address, "query-jobs").out) == []
    done = subprocess.run([CTL, "query-jobs"], stdout=subprocess.PIPE, check=True,
                          env=dict(os.environ, CAIRN_SOCKET=address))
    assert done.stdout == b"[]\n"
    done = run(CTL, "query-jobs", code=2)
    assert "give -s ADDRESS, or set CAIRN_SOCKET" in done.err


def test_a_terminal_gets_tables_and_no_control_characters(folder, daemons):
    daemon = daemons("--chardev", f"socket,id=c,path={folder}/q.sock,server=on,wait=off",
                     "--monitor", "chardev=c", "--blockdev", "null-co,node-name=n",
                     "--nbd-server", f"addr.type=unix,addr.path={folder}/nbd.sock")
    daemon.wait_for(folder / "q.sock")
    ctl(folder, "block-export-add", "type=nbd", "id=e", "node-name=n",
        "description=\x1b[2J")
    terminal = Terminal([CTL, "-s", folder / "q.sock", "query-block-exports"])
    terminal.end(0)
    assert terminal.text == ("\x1b[1mID  TYPE  NODE-NAME  SHUTTING-DOWN\x1b[0m\r\n"
                             "e   nbd   n          no\r\n")
    done = ctl(folder, "blockdev-del", "node-name=\x1b[2J", code=1)
    assert "\x1b" not in done.err


@pytest.mark.parametrize("text, message", [
    (b"", "closed the connection"), (b"hello\r\n", "is not a monitor that speaks QMP"),
    (b"[]\n", "is not a monitor"), (b'{"QMP": {}}\n{"error": 5}\n', "another protocol")])
def test_what_is_no_monitor_is_refused(folder, text, message):
    import socket
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "q.sock"))
        server.listen()
        process = subprocess.Popen([CTL, "-s", folder / "q.sock", "query-jobs"],
                                   stderr=subprocess.PIPE, text=True)
        client, _ = server.accept()
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        assert message in process.communicate(timeout=support.TIMEOUT)[1]
        assert process.returncode == 3
        client.close()
