"""Character devices as the daemon's clients meet them."""

import json
import os
import socket
import ssl
import stat
import subprocess

import pytest

from support import PEER, TIMEOUT, Qmp, program, run, wait_until


@pytest.fixture
def monitored(folder, daemons):
    """A daemon with a monitor, and its connection."""
    path = folder / "qmp.sock"
    daemon = daemons("--chardev", f"socket,id=m,path={path},server=on,wait=off",
                     "--monitor", "chardev=m")
    daemon.wait_for(path)
    monitor = Qmp(path)
    yield daemon, monitor
    monitor.close()


def unix_socket(path, **options):
    return {"type": "socket",
            "data": dict({"addr": {"type": "unix", "data": {"path": str(path)}}}, **options)}


def filename(monitor, label):
    return {c["label"]: c["filename"] for c in monitor("query-chardev")}[label]


def test_a_socket_without_a_user_keeps_one_client(monitored, folder):
    _, monitor = monitored
    path = folder / "s.sock"
    monitor("chardev-add", id="s", backend=unix_socket(path))
    assert filename(monitor, "s") == f"disconnected:unix:{path},server=on"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"nobody reads this")
        wait_until(lambda: filename(monitor, "s") == f"unix:{path},server=on", "the client")
    wait_until(lambda: filename(monitor, "s").startswith("disconnected:"), "its end")
    monitor("chardev-remove", id="s")
    assert not path.exists()


def test_a_tcp_socket_tells_its_port(monitored):
    _, monitor = monitored
    address = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}
    monitor("chardev-add", id="t", backend={"type": "socket", "data": {"addr": address}})
    host, port = filename(monitor, "t").removeprefix("disconnected:tcp:").split(",")[0].split(":")
    with socket.create_connection((host, int(port))) as client:
        here = "{}:{}".format(*client.getsockname())
        wait_until(lambda: filename(monitor, "t") ==
                   f"tcp:{host}:{port},server=on <-> {here}", "the client")
        # The next free port is taken when that is asked for.
        address["data"].update(port=port, to=int(port) + 20)
        monitor("chardev-add", id="u", backend={"type": "socket", "data": {"addr": address}})
        assert filename(monitor, "u") != filename(monitor, "t")


def test_descriptors_come_with_the_command_line_alone(monitored):
    _, monitor = monitored
    address = {"type": "fd", "data": {"str": "0"}}
    for command, arguments in [
            ("chardev-add", {"id": "f", "backend": {"type": "socket", "data": {"addr": address}}}),
            ("nbd-server-start", {"addr": address})]:
        reply = monitor.ask(command, **arguments)
        assert reply["error"]["desc"].endswith("only QEMU supports file descriptor passing")


def test_a_monitor_on_a_descriptor_that_listens_already(folder, backend):
    # As service managers pass it.
    path = folder / "m.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        os.set_inheritable(listener.fileno(), True)
        request = b'{"execute": "qmp_capabilities"}{"execute": "quit"}'
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(str(path))
            client.sendall(request)
            io = [] if PEER else [f"--io={backend}"]
            subprocess.run([program("cairnd"), *io, "--chardev",
                            f"socket,id=m,fd={listener.fileno()},server=on,wait=off",
                            "--monitor", "m"], check=True, timeout=TIMEOUT,
                           pass_fds=[listener.fileno()])
            assert client.makefile().readline().startswith('{"QMP"')


def test_a_monitor_that_connects_to_its_client(folder, daemons):
    path = folder / "client.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(TIMEOUT)
        # Nobody listens yet, and the daemon tries again.
        daemons("--chardev", f"socket,id=m,path={path},reconnect-ms=20" if not PEER
                else f"socket,id=m,path={path},reconnect=1", "--monitor", "m")
        listener.bind(str(path))
        listener.listen()
        for _ in range(2):
            with listener.accept()[0] as connection:
                connection.settimeout(TIMEOUT)
                assert json.loads(connection.makefile().readline())["QMP"]


def test_a_monitor_on_a_pseudo_terminal(folder, daemons):
    if PEER:
        pytest.skip("the peer of Debian 12 makes no link")
    link = folder / "terminal"
    daemon = daemons("--chardev", f"pty,id=m,path={link}", "--monitor", "m")
    wait_until(link.exists, "the terminal")
    assert stat.S_ISCHR(link.stat().st_mode)
    with link.open("r+b", buffering=0) as terminal:
        received = b""
        terminal.write(b'{"execute": "qmp_capabilities"}\n{"execute": "query-jobs"}\n')
        while received.count(b"\n") < 3:
            received += terminal.read(4096)
        assert received.splitlines()[1:] == [b'{"return": {}}', b'{"return": []}']
    daemon.stop()
    assert not link.is_symlink()
    assert "char device redirected to /dev/pts/" in daemon.output()


def test_a_monitor_on_a_pipe_and_its_log(folder, daemons):
    for name in ("p.in", "p.out"):
        os.mkfifo(folder / name)
    daemons("--chardev", f"pipe,id=m,path={folder}/p,logfile={folder}/log", "--monitor", "m")
    with (folder / "p.in").open("wb", buffering=0) as to, (folder / "p.out").open("rb") as out:
        greeting = out.readline()
        to.write(b'{"execute": "qmp_capabilities"}')
        assert out.readline() == b'{"return": {}}\r\n'
        wait_until(lambda: (folder / "log").read_bytes() == greeting + b'{"return": {}}\r\n',
                   "the log")


def test_requests_out_of_band_overtake(monitored, folder):
    if PEER:
        pytest.skip("the peer's monitors all wait while a device waits")
    _, monitor = monitored
    monitor.close()
    path = folder / "w.sock"
    monitor = Qmp(folder / "qmp.sock", negotiate=False)
    monitor("qmp_capabilities", enable=["oob"])
    backend = unix_socket(path, wait=True)
    for request in [{"execute": "chardev-add", "arguments": {"id": "w", "backend": backend},
                     "id": 1},
                    {"execute": "query-jobs", "id": 2},
                    {"exec-oob": "query-jobs", "id": 3}]:
        monitor.send(json.dumps(request).encode())
    # The first one waits for a client, and the second one for the first.
    assert monitor.answer() == {"id": 3, "error": {
        "class": "GenericError", "desc": "The command query-jobs does not support OOB"}}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert monitor.answer() == {"return": {}, "id": 1}
        assert monitor.answer() == {"return": [], "id": 2}
    monitor.close()


def test_a_device_that_waits_holds_up_its_own_monitor_alone(monitored, folder):
    if PEER:
        pytest.skip("the peer's monitors all wait while a device waits")
    daemon, monitor = monitored
    backend = unix_socket(folder / "w.sock", wait=True)
    monitor.send(json.dumps({"execute": "chardev-add",
                             "arguments": {"id": "w", "backend": backend}}).encode())
    wait_until((folder / "w.sock").exists, "the socket")
    # The end of the program does not wait.
    daemon.stop()


def test_command_lines_that_are_refused(folder):
    where = folder / "no" / "where"
    for text, message in [
            ("file,id=m", "chardev: file: no filename given"),
            (f"file,id=m,path={where}", f"Could not open '{where}': No such file or directory"),
            (f"pipe,id=m,path={where}", f"Could not open '{where}': No such file or directory"),
            ("ringbuf,id=m,size=3", "size of ringbuf chardev must be power of two"),
            ("socket,id=m,fd=99,server=on,wait=off", "File descriptor '99' is not a socket"),
            ("socket,id=m,fd=xx,server=on,wait=off", "Unable to parse FD number xx"),
            (f"null,id=m,logfile={where}",
             f"Could not create '{where}': No such file or directory")]:
        done = run("cairnd", "--chardev", text, code=1)
        assert f"--chardev {text}: {message}\n" in done.err


def tls_client(port, context):
    """A connection through TLS to the port, with what the daemon says first; '' if it says nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as plain, \
                context.wrap_socket(plain, server_hostname="localhost") as client:
            return client.recv(65536).decode()
    except OSError:  # an alert, or the end
        return ""


@pytest.mark.skipif(PEER, reason="tells the reason in other words")
def test_a_monitor_can_be_behind_tls(folder, daemons, pki):
    path = folder / "qmp.sock"
    daemon = daemons("--object", f"tls-creds-x509,id=t,dir={pki}/good,endpoint=server",
                     "--object", "authz-simple,id=az,identity=C=GB,,O=Org,,CN=alice",
                     "--chardev", f"socket,id=m,path={path},server=on,wait=off",
                     "--monitor", "chardev=m", "--chardev",
                     "socket,id=s,host=127.0.0.1,port=0,server=on,wait=off,tls-creds=t,tls-authz=az",
                     "--monitor", "chardev=s")
    daemon.wait_for(path)
    monitor = Qmp(path)
    port = int(filename(monitor, "s").split(":")[-1].split(",")[0])
    context = ssl.create_default_context(cafile=pki / "ca.pem")
    assert tls_client(port, context) == ""
    wait_until(lambda: "No certificate was found." in daemon.output(), "a complaint")
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(b'{"execute": "qmp_capabilities"}\n')
        plain.settimeout(TIMEOUT)
        assert b"QMP" not in plain.recv(65536)
    context.load_cert_chain(pki / "client.pem", pki / "client.key")
    assert '"QMP"' in tls_client(port, context)
    monitor("object-del", id="az")
    assert tls_client(port, context) == ""
    wait_until(lambda: "Cannot find QAuthZ object ID az" in daemon.output(), "a complaint")
    monitor.close()
    daemon.stop()


@pytest.mark.parametrize("host, welcome", [("localhost", True), ("127.0.0.2", False)])
def test_a_monitor_can_go_to_its_server_through_tls(folder, daemons, pki, host, welcome):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem", pki / "server.key")
    with socket.create_server((host, 0)) as listener:
        listener.settimeout(TIMEOUT)
        daemon = daemons("--object", f"tls-creds-x509,id=t,dir={pki}/good,endpoint=client",
                         "--chardev", f"socket,id=s,host={host},ipv6=off,server=off,tls-creds=t,"
                         f"port={listener.getsockname()[1]}", "--monitor", "chardev=s")
        heard = ""
        plain, _ = listener.accept()
        with plain:
            plain.settimeout(TIMEOUT)
            try:
                with context.wrap_socket(plain, server_side=True) as server:
                    heard = server.recv(65536).decode()
            except OSError:  # an alert: it is not who the daemon has been looking for
                pass
    assert ('"QMP"' in heard) == welcome
    if not welcome and not PEER:
        wait_until(lambda: f"Certificate does not match the hostname {host}" in daemon.output(),
                   "a complaint")
    daemon.stop()
