"""Configuration files of the daemon, and what a service manager sees of it."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import time

import pytest

import support
from support import Qmp, run, wait_until

pytestmark = pytest.mark.skipif(support.PEER, reason="the peer has no such options")


def entry(command, **arguments):
    return {"execute": command,
            "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}


def disk(folder, name="disk.qcow2", **options):
    return entry("blockdev-add", node_name="disk", **support.qcow2(folder / name, **options))


def write(folder, *entries, name="cairn.json"):
    (folder / name).write_text("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n")
    return folder / name


def nbd(folder):
    return entry("nbd-server-start", addr={"type": "unix", "data": {"path": f"{folder}/nbd.sock"}})


EXPORT = entry("block-export-add", type="nbd", id="e", node_name="disk", name="disk",
               writable=True)
MONITOR = ("--monitor", "chardev=c")


def chardev(folder):
    return entry("chardev-add", id="c", backend={
        "type": "socket", "data": {"addr": {"type": "unix", "data": {"path": f"{folder}/q.sock"}},
                                   "server": True, "wait": False}})


@pytest.fixture
def image(folder):
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "disk.qcow2", "64M")
    return folder / "disk.qcow2"


def test_a_configuration_comes_before_all_options(folder, image, daemons):
    first = write(folder, disk(folder), chardev(folder))
    second = write(folder, nbd(folder), EXPORT, name="second.json")
    daemon = daemons("--export", "nbd,id=f,node-name=disk,name=two", *MONITOR,
                     "--config", first, f"--config={second}")
    daemon.wait_for(folder / "q.sock")
    exports = Qmp(folder / "q.sock")("query-block-exports")
    assert sorted(e["id"] for e in exports) == ["e", "f"]
    assert run("nbdinfo", "--size", daemon.uri()).out == f"{64 << 20}\n"
    daemon.stop()


def test_clients_find_the_exports_of_a_configuration(folder, image, daemons):
    """The socket is there before the exports: whoever connects in between waits."""
    more = [dict(EXPORT, arguments=dict(EXPORT["arguments"], id=f"e{n}", name=f"n{n}"))
            for n in range(50)]
    daemon = daemons("--config", write(folder, disk(folder), nbd(folder), *more))
    daemon.wait_for(folder / "nbd.sock")
    run("nbdinfo", "--size", daemon.uri("n49"))


def test_nothing_is_done_when_any_entry_is_wrong(folder, image):
    before = image.read_bytes()
    path = write(folder, disk(folder), nbd(folder),
                 entry("block-dirty-bitmap-add", node="disk", name="b", persistent=True),
                 entry("block_resize", node_name="disk", size="1G"), entry("blockdev-dele"))
    expected = (f"cairnd: {path}:5: entry 4, 'block_resize': "
                "Invalid parameter type for 'size', expected: integer\n"
                f"cairnd: {path}:6: entry 5, 'blockdev-dele': there is no such command\n")
    for option in ("--config", "--check-config"):
        assert run("cairnd", option, path, code=1).err == expected
        assert not (folder / "nbd.sock").exists() and image.read_bytes() == before


def test_checking_says_nothing_about_what_is_right_and_does_nothing(folder):
    path = write(folder, disk(folder, "not-there.qcow2"), nbd(folder), EXPORT)
    done = run("cairnd", "--check-config", path)
    assert done.out == "" and done.err == "" and not (folder / "nbd.sock").exists()
    done = run("cairnd", "--check-config", folder / "none.json", code=1)
    assert done.err == f"cairnd: Could not open '{folder}/none.json': No such file or directory\n"
    done = run("cairnd", "--check-config", folder, code=1)
    assert done.err == f"cairnd: Could not read '{folder}': Is a directory\n"


@pytest.mark.parametrize("last, message", [
    (entry("blockdev-del", node_name="none"), "Failed to find node with node-name='none'"),
    (entry("block-export-add", type="nbd", id="e", node_name="disk"),
     "Block export id 'e' is already in use"),
    (entry("blockdev-add", driver="file", node_name="f", filename="/nonexistent/file"),
     "Could not open '/nonexistent/file': No such file or directory")])
def test_a_command_that_fails_ends_the_daemon_and_nothing_stays(folder, image, last, message):
    path = write(folder, chardev(folder), disk(folder), nbd(folder), EXPORT, last, entry("quit"))
    done = run("cairnd", "--config", path, "--pidfile", folder / "pid", code=1)
    assert done.err == f"cairnd: {path}:6: entry 5, '{last['execute']}': {message}\n"
    assert sorted(p.name for p in folder.iterdir()) == ["cairn.json", "disk.qcow2"]
    # Its locks are gone, too.
    assert "No errors" in run("qemu-img", "check", image).out


def test_a_configuration_may_end_the_daemon(folder, image):
    path = write(folder, disk(folder), entry("block_resize", node_name="disk", size=128 << 20),
                 entry("quit"), entry("blockdev-del", node_name="none"))
    assert run("cairnd", "--config", path).err == ""
    assert json.loads(run("qemu-img", "info", "--output=json", image).out)["virtual-size"] \
        == 128 << 20


def test_the_daemon_goes_to_the_background_only_when_it_is_configured(folder, image):
    path = write(folder, disk(folder), nbd(folder), EXPORT)
    run("cairnd", "--config", path, "--daemonize", "--pidfile", folder / "pid")
    pid = int((folder / "pid").read_text())
    assert support.accepts(folder / "nbd.sock")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (folder / "pid").exists(), "the end of the daemon")
    bad = write(folder, disk(folder, "none.qcow2"), name="bad.json")
    done = run("cairnd", "--config", bad, "--daemonize", code=1)
    assert done.err.startswith(f"cairnd: {bad}:2: entry 1, 'blockdev-add': Could not open")


def test_options_may_be_cut_short_as_before():
    """Options that the field does not have are no reason for others to be ambiguous."""
    assert "option '--chardev' requires an argument" in run("cairnd", "--ch", code=1).err
    assert "option '--chardev' requires an argument" in run("cairnd", "--c", code=1).err
    assert "option '--config' requires an argument" in run("cairnd", "--config", code=1).err
    assert "unrecognized option '--configure'" in run("cairnd", "--configure", code=1).err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_with_bitmaps_stored(folder, image, daemons, number):
    path = write(folder, disk(folder), nbd(folder), EXPORT,
                 entry("block-dirty-bitmap-add", node="disk", name="b", persistent=True))
    daemon = daemons("--config", path)
    daemon.wait_for(folder / "nbd.sock")
    run("qemu-io", "-f", "raw", "-c", "write 1M 64k", daemon.uri())
    daemon.process.send_signal(number)
    assert daemon.process.wait(support.TIMEOUT) == 0, daemon.output()
    info = json.loads(run("qemu-img", "info", "--output=json", image).out)
    bitmaps = info["format-specific"]["data"]["bitmaps"]
    assert [(b["name"], b["flags"]) for b in bitmaps] == [("b", ["auto"])], "and not in use"
    assert "No errors" in run("qemu-img", "check", image).out
    assert not (folder / "nbd.sock").exists()


class Manager:
    """The end of NOTIFY_SOCKET that a service manager holds."""

    def __init__(self, folder, abstract):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(support.TIMEOUT)
        path = f"{folder}/notify"
        self.name = f"@{path}" if abstract else path
        self.socket.bind(f"\0{path}" if abstract else path)

    def next(self):
        return self.socket.recv(4096).decode()


STARTED = []


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


def start(folder, arguments, sockets=(), **environment):
    """A daemon as a service manager starts it: `sockets` from descriptor 3 on."""
    env = dict(support.environment(None), **environment)
    if sockets:
        env["LISTEN_FDS"] = str(len(sockets))
    high = [out_of_the_way(s.fileno()) for s in sockets]

    def pass_sockets():
        for place, fd in enumerate(high):
            os.dup2(fd, 3 + place)

    # exec keeps the process id.
    command = ["/bin/sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh",
               support.program("cairnd"), *(str(a) for a in arguments)]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, preexec_fn=pass_sockets,
                                   close_fds=not sockets)
    STARTED.append(process)
    for fd in high:
        os.close(fd)
    return process


def out_of_the_way(fd):
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200)


def listening(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server


@pytest.mark.parametrize("abstract", [False, True])
def test_tells_a_service_manager_that_it_is_ready_alive_and_ending(folder, image, abstract):
    manager = Manager(folder, abstract)
    process = start(folder, ["--config", write(folder, disk(folder), nbd(folder), EXPORT)],
                    NOTIFY_SOCKET=manager.name, WATCHDOG_USEC="100000")
    assert manager.next() == "READY=1"
    assert support.accepts(folder / "nbd.sock"), "ready means that it listens"
    begin = time.monotonic()
    assert [manager.next() for _ in range(3)] == ["WATCHDOG=1"] * 3
    assert time.monotonic() - begin > 0.1, "half of the time each"
    process.terminate()
    while True:
        message = manager.next()
        if message != "WATCHDOG=1":
            break
    assert message == "STOPPING=1"
    assert process.wait(support.TIMEOUT) == 0


def test_is_not_ready_when_it_fails(folder):
    manager = Manager(folder, False)
    process = start(folder, ["--config", write(folder, disk(folder, "none.qcow2"))],
                    NOTIFY_SOCKET=manager.name)
    assert manager.next() == "STOPPING=1"
    assert process.wait(support.TIMEOUT) == 1


def test_a_watchdog_of_another_process_is_not_ours(folder, image):
    manager = Manager(folder, False)
    process = start(folder, ["--config", write(folder, disk(folder))],
                    NOTIFY_SOCKET=manager.name, WATCHDOG_USEC="1000", WATCHDOG_PID="1")
    assert manager.next() == "READY=1"
    time.sleep(0.05)
    process.terminate()
    assert manager.next() == "STOPPING=1"
    assert process.wait(support.TIMEOUT) == 0


def test_takes_sockets_by_the_names_that_a_service_manager_gave_them(folder, image):
    servers = [listening(folder / "nbd.sock"), listening(folder / "q.sock")]
    path = write(folder, disk(folder),
                 entry("nbd-server-start", addr={"type": "fd", "data": {"str": "nbd"}}), EXPORT)
    process = start(folder, ["--config", path, "--chardev", "socket,id=c,fd=qmp,server=on,wait=off",
                             *MONITOR], servers, LISTEN_FDNAMES="nbd:qmp")
    exports = Qmp(folder / "q.sock")("query-block-exports")
    assert [e["id"] for e in exports] == ["e"]
    run("nbdinfo", "--size", f"nbd+unix:///disk?socket={folder}/nbd.sock")
    process.terminate()
    assert process.wait(support.TIMEOUT) == 0
    assert (folder / "nbd.sock").exists(), "the socket is the service manager's"


@pytest.mark.parametrize("names, option, message", [
    ("nbd:nbd", "addr.type=fd,addr.str=nbd",
     "Several sockets with the name 'nbd' were passed: name one by its number"),
    ("a:b", "addr.type=fd,addr.str=nbd", "Unable to parse FD number nbd"),
    ("nbd", "addr.type=fd,addr.str=5", "descriptor")])
def test_names_that_lead_nowhere(folder, names, option, message):
    servers = [listening(folder / "a.sock"), listening(folder / "b.sock")]
    process = start(folder, ["--nbd-server", option], servers, LISTEN_FDNAMES=names)
    assert process.wait(support.TIMEOUT) == 1
    assert message in (folder / "log").read_text()


def test_commands_of_clients_still_may_not_name_descriptors(folder, image, daemons):
    daemon = daemons("--config", write(folder, chardev(folder)), *MONITOR)
    daemon.wait_for(folder / "q.sock")
    reply = Qmp(folder / "q.sock").ask("nbd-server-start",
                                       addr={"type": "fd", "data": {"str": "0"}})
    assert reply["error"]["desc"] == "only QEMU supports file descriptor passing"


@pytest.mark.parametrize("name, message", [
    ("relative", "cairnd: warning: NOTIFY_SOCKET names no socket: 'relative'\n"),
    ("/nonexistent/socket", "cairnd: warning: Could not connect to NOTIFY_SOCKET "
     "'/nonexistent/socket': No such file or directory\n")])
def test_a_service_manager_that_is_not_there_is_no_reason_not_to_serve(folder, name, message):
    process = start(folder, ["--config", write(folder, entry("quit"))], NOTIFY_SOCKET=name)
    assert process.wait(support.TIMEOUT) == 0
    assert (folder / "log").read_text() == message


@pytest.mark.parametrize("environment, message", [
    ({"LISTEN_FDS": "many"}, "LISTEN_FDS that is no number: 'many'"),
    ({"LISTEN_FDS": "900"}, "LISTEN_FDS is 900, but descriptor ")])
def test_an_environment_that_makes_no_sense_is_an_error(folder, environment, message):
    process = start(folder, [], **environment)
    assert process.wait(support.TIMEOUT) == 1
    assert message in (folder / "log").read_text()
