"""NBD through TLS, both ways: our server with libnbd's and the peer's clients and our own, our client
with nbdkit, the peer's server and our own. Who must not get in is turned away, and told why."""

import socket
import ssl
import struct
import subprocess

import pytest

from support import Qmp, accepts, img, io, run, same_bytes, wait_until

MIB = 1 << 20


def x509(folder, end, more=""):
    return f"tls-creds-x509,id=tls,dir={folder},endpoint={end},sanity-check=off{more}"


def psk(folder, end, more=""):
    return f"tls-creds-psk,id=tls,dir={folder},endpoint={end}{more}"


def make_disk(folder):
    with (folder / "disk.raw").open("wb") as disk:
        disk.truncate(8 * MIB)
    run("qemu-io", "-f", "raw", "-c", "write -q -P 1 1M 1M", "-c", "write -q -P 7 5M 100k",
        folder / "disk.raw")


@pytest.fixture
def serve(folder, daemons):
    """Starts our server of disk.raw with the credentials, which it knows as 'tls'."""
    def start(credentials, *more, server=""):
        make_disk(folder)
        node = {"driver": "raw", "file": {"driver": "file", "filename": f"{folder}/disk.raw"}}
        return daemons.serving(node, "--object", credentials, *more,
                               server=",tls-creds=tls" + server)
    return start


def image(folder, credentials, host="localhost"):
    """Arguments of cairn-img and qemu-img that name the export."""
    return ("--object", credentials, "--image-opts",
            f"driver=nbd,server.type=unix,server.path={folder}/nbd.sock,export=disk,tls-creds=tls"
            + (f",tls-hostname={host}" if host else ""))


def uri(folder, rest, user=""):
    return f"nbds+unix://{user}localhost/disk?socket={folder}/nbd.sock&{rest}"


@pytest.mark.parametrize("kind", ["x509", "psk"])
def test_clients_of_all_kinds_copy_through_tls(folder, pki, serve, backend, kind):
    server, client = {"x509": (x509(pki / "good", "server"), x509(pki / "good", "client")),
                      "psk": (psk(pki / "keys", "server"),
                              psk(pki / "keys", "client", ",username=alice"))}[kind]
    daemon = serve(server)
    name = uri(folder, f"tls-certificates={pki}/good") if kind == "x509" else \
        uri(folder, f"tls-psk-file={pki}/keys/keys.psk", "alice@")
    run("nbdcopy", name, folder / "copy.raw")
    same_bytes(folder / "disk.raw", folder / "copy.raw")
    for number, tool in enumerate(("qemu-img", "cairn-img")):
        run(tool, "convert", *image(folder, client), "-O", "raw", folder / f"copy{number}.raw",
            backend=backend if tool == "cairn-img" else None)
        same_bytes(folder / "disk.raw", folder / f"copy{number}.raw")
    img("convert", "-f", "raw", "-O", "raw", name, folder / "copy3.raw", backend=backend)
    same_bytes(folder / "disk.raw", folder / "copy3.raw")
    run("nbdsh", "-c", "h.set_uri_allow_local_file(True)", "-c", f"h.connect_uri('{name}')", "-c",
        "h.pwrite(b'x' * 1000000, 12345)")
    io("-f", "raw", "-c", "read -q -P 120 12345 1000000", "-c", "write -q -P 9 0 3M",
       "-c", "flush", name, backend=backend)
    run("nbdcopy", name, folder / "copy4.raw")
    daemon.stop()
    same_bytes(folder / "disk.raw", folder / "copy4.raw")


def test_anonymous_ends_agree(folder, serve, backend):
    daemon = serve("tls-creds-anon,id=tls,endpoint=server")
    client = "tls-creds-anon,id=tls,endpoint=client"
    for tool in ("qemu-img", "cairn-img"):
        run(tool, "info", *image(folder, client, host=None))
    img("compare", "-f", "raw", "-F", "raw", uri(folder, "tls-type=anon"), folder / "disk.raw",
        "-U", backend=backend)
    daemon.stop()


def test_without_tls_nothing_is_served(folder, pki, serve):
    daemon = serve(x509(pki / "good", "server"))
    run("nbdinfo", "--size", daemon.uri(), code=1)
    for tool in ("qemu-img", "cairn-img"):
        failed = run(tool, "info", daemon.uri(), code=1)
        assert "TLS negotiation required before option" in failed.err
        assert "Did you forget a valid tls-creds?" in failed.err
    run("nbdinfo", "--list", daemon.uri(), code=1)
    daemon.stop()


# What the server says on standard error, and what our client gets to hear.
CLIENTS = {
    "none": ("No certificate was found.", "The peer wants a certificate, and we have none"),
    "expired": ("The certificate has expired", "The peer says that our certificate has expired"),
    "unknown": ("The certificate hasn't got a known issuer",
                "The peer does not know the issuer of our certificate"),
}


@pytest.mark.parametrize("fault", CLIENTS)
def test_clients_with_bad_certificates_are_turned_away(folder, pki, serve, backend, fault):
    daemon = serve(x509(pki / "good", "server"))
    told, heard = CLIENTS[fault]
    for tool in ("qemu-img", "cairn-img"):
        failed = run(tool, "info", *image(folder, x509(pki / fault, "client")), code=1)
    assert heard in failed.err
    wait_until(lambda: daemon.output().count(told) == 2, "two complaints")
    run("nbdinfo", "--size", uri(folder, f"tls-certificates={pki}/{fault}"), code=1)
    run("nbdinfo", "--size", uri(folder, f"tls-certificates={pki}/good"))
    daemon.stop()


SERVERS = {
    "expired": "The certificate has expired",
    "unknown": "The certificate hasn't got a known issuer",
    "elsewhere": "Certificate does not match the hostname localhost",
}


@pytest.mark.parametrize("fault", SERVERS)
def test_servers_with_bad_certificates_are_left(folder, pki, serve, backend, fault):
    daemon = serve(x509(pki / fault, "server"))
    run("qemu-img", "info", *image(folder, x509(pki / "good", "client")), code=1)
    failed = img("info", *image(folder, x509(pki / "good", "client")), code=1, backend=backend)
    assert failed.err.strip().endswith(": " + SERVERS[fault])
    daemon.stop()


def test_names_can_be_told_and_have_to_be(folder, pki, serve):
    daemon = serve(x509(pki / "elsewhere", "server", ",verify-peer=off"))
    client = x509(pki / "good", "client")
    for tool in ("qemu-img", "cairn-img"):
        failed = run(tool, "info", *image(folder, client, host=None), code=1)
        assert "No hostname for certificate validation" in failed.err
        run(tool, "info", *image(folder, client, host="elsewhere"))
        run(tool, "info", *image(folder, client + ",verify-peer=off", host=None))
    img("info", uri(folder, f"tls-certificates={pki}/good&tls-hostname=elsewhere"))
    img("info", uri(folder, f"tls-certificates={pki}/good&tls-verify-peer=0"))
    daemon.stop()


def test_an_authorization_decides_by_name(folder, pki, serve):
    daemon = serve(x509(pki / "good", "server"),
                   "--chardev", f"socket,id=m,path={folder}/qmp,server=on,wait=off",
                   "--monitor", "chardev=m", server=",tls-authz=az")
    client = image(folder, x509(pki / "good", "client"))
    failed = img("info", *client, code=1)
    assert "The server may not let this client in." in failed.err
    wait_until(lambda: "Cannot find QAuthZ object ID az" in daemon.output(), "a complaint")
    qmp = Qmp(folder / "qmp")
    qmp("object-add", qom_type="authz-simple", id="az", identity="CN=bob")
    run("qemu-img", "info", *client, code=1)
    wait_until(lambda: "TLS x509 authz check for C=GB,O=Org,CN=alice is denied" in
               daemon.output(), "a complaint")
    qmp("object-del", id="az")
    qmp("object-add", qom_type="authz-simple", id="az", identity="C=GB,O=Org,CN=alice")
    for tool in ("qemu-img", "cairn-img"):
        run(tool, "info", *client)
    qmp.close()
    daemon.stop()


def test_a_wrong_key_and_a_wrong_user_are_turned_away(folder, pki, serve, backend):
    daemon = serve(psk(pki / "keys", "server"))
    wrong = psk(pki / "other-keys", "client", ",username=alice")
    for tool in ("qemu-img", "cairn-img"):
        failed = run(tool, "info", *image(folder, wrong), code=1)
    assert "The peer has another key than we have" in failed.err
    wait_until(lambda: daemon.output().count("The peer has another key than we have") == 2,
               "two complaints")
    failed = img("info", *image(folder, psk(pki / "keys", "client", ",username=bob")), code=1,
                 backend=backend)
    assert "Username bob not found in PSK file" in failed.err
    daemon.stop()


OTHERS = {
    "nbdkit-x509": ["nbdkit", "-f", "-U", "nbd.sock", "--tls=require", "--tls-certificates={good}",
                    "--tls-verify-peer", "file", "disk.raw"],
    "nbdkit-psk": ["nbdkit", "-f", "-U", "nbd.sock", "--tls=require", "--tls-psk={keys}/keys.psk",
                   "file", "disk.raw"],
    "qemu-nbd-x509": ["qemu-nbd", "-f", "raw", "-t", "-e", "0", "-x", "disk", "-k", "{sock}",
                      "--object", "tls-creds-x509,id=t,dir={good},endpoint=server", "--tls-creds",
                      "t", "disk.raw"],
    "qemu-nbd-psk": ["qemu-nbd", "-f", "raw", "-t", "-e", "0", "-x", "disk", "-k", "{sock}",
                     "--object", "tls-creds-psk,id=t,dir={keys},endpoint=server", "--tls-creds",
                     "t", "disk.raw"],
}


@pytest.fixture
def other(folder, pki):
    """Starts somebody else's server."""
    started = []

    def start(command):
        make_disk(folder)
        command = [word.format(good=pki / "good", keys=pki / "keys", sock=folder / "nbd.sock")
                   for word in command]
        started.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL))
        wait_until(lambda: accepts(folder / "nbd.sock"), "the server's socket")

    yield start
    for server in started:
        server.kill()
        server.wait()


@pytest.mark.parametrize("server", OTHERS)
def test_servers_of_others_are_used_through_tls(folder, pki, other, backend, server):
    other(OTHERS[server])
    good = x509(pki / "good", "client") if "x509" in server else \
        psk(pki / "keys", "client", ",username=alice")
    img("convert", *image(folder, good), "-O", "raw", folder / "copy.raw", backend=backend)
    same_bytes(folder / "disk.raw", folder / "copy.raw")
    name = uri(folder, f"tls-certificates={pki}/good") if "x509" in server else \
        uri(folder, f"tls-psk-file={pki}/keys/keys.psk", "alice@")
    io("-f", "raw", "-c", "write -q -P 3 2M 3M", "-c", "aio_write -q -P 4 6M 1M", "-c",
       "aio_write -q -P 5 7M 64k", "-c", "aio_flush", "-c", "flush", "-c", "read -q -P 3 2M 3M",
       "-c", "read -q -P 5 7M 64k", name, backend=backend)
    run("qemu-io", "-r", "-U", "-f", "raw", "-c", "read -q -P 4 6M 1M", folder / "disk.raw")
    img("info", f"nbd+unix:///disk?socket={folder}/nbd.sock", code=1)
    bad = x509(pki / "unknown", "client") if "x509" in server else \
        psk(pki / "other-keys", "client", ",username=alice")
    img("info", *image(folder, bad), code=1, backend=backend)


def test_a_server_without_tls_is_not_used_without_it(folder, pki, daemons, backend):
    make_disk(folder)
    daemon = daemons.serving({"driver": "raw",
                              "file": {"driver": "file", "filename": f"{folder}/disk.raw"}})
    failed = img("info", *image(folder, x509(pki / "good", "client")), code=1, backend=backend)
    assert "Denied by server for option 5 (starttls)" in failed.err
    daemon.stop()


def test_an_authorization_lets_nobody_in_without_a_name(folder, pki, serve):
    daemon = serve(x509(pki / "good", "server", ",verify-peer=off"), "--object",
                   "authz-list,id=az,policy=allow", server=",tls-authz=az")
    img("info", *image(folder, x509(pki / "good", "client")), code=1)
    wait_until(lambda: "a client without a certificate" in daemon.output(), "a complaint")
    daemon.stop()


class HungUp(Exception):
    """The client has sent all that it was to send."""


class CutClient:
    """A client of NBD through TLS that hangs up after `limit` bytes of what it sends."""

    def __init__(self, path, credentials, limit):
        self.limit, self.sent = limit, 0
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        context = ssl.create_default_context(cafile=credentials / "ca-cert.pem")
        context.load_cert_chain(credentials / "client-cert.pem", credentials / "client-key.pem")
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def send(self, data):
        piece = data[:self.limit - self.sent]
        self.socket.sendall(piece)
        self.sent += len(piece)
        if len(piece) < len(data):
            raise HungUp

    def receive(self, length):
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            assert piece, "the server has hung up first"
            data += piece
        return data

    def through(self, action):
        """What `action`, of TLS, comes to, while both ends say what it takes."""
        while True:
            try:
                result = action()
            except ssl.SSLWantReadError:
                self.send(self.outgoing.read())
                piece = self.socket.recv(65536)
                assert piece, "the server has hung up first"
                self.incoming.write(piece)
                continue
            self.send(self.outgoing.read())
            return result

    def read(self, length):
        data = b""
        while len(data) < length:
            data += self.through(lambda: self.tls.read(length - len(data)))
        return data

    def play(self, payload):
        """Negotiates, writes the payload to 1 MiB and reads it back."""
        option = struct.Struct(">QII")
        self.receive(18)
        self.send(struct.pack(">I", 3) + option.pack(0x49484156454F5054, 5, 0))
        assert self.receive(20)[12:16] == struct.pack(">I", 1)
        self.through(self.tls.do_handshake)
        go = struct.pack(">I4sH", 4, b"disk", 0)
        self.through(lambda: self.tls.write(option.pack(0x49484156454F5054, 7, len(go)) + go))
        while (head := struct.unpack(">QIII", self.read(20)))[2] != 1:
            self.read(head[3])
        request = struct.Struct(">IHHQQI")
        self.through(lambda: self.tls.write(
            request.pack(0x25609513, 0, 1, 1, MIB, len(payload)) + payload))
        assert self.read(16) == struct.pack(">IIQ", 0x67446698, 0, 1)
        self.through(lambda: self.tls.write(request.pack(0x25609513, 0, 0, 2, MIB, len(payload))))
        assert self.read(16) == struct.pack(">IIQ", 0x67446698, 0, 2)
        assert self.read(len(payload)) == payload
        self.through(lambda: self.tls.write(request.pack(0x25609513, 0, 2, 3, 0, 0)))


# Instrumented programs keep for a while what was given back.
@pytest.mark.parametrize("looks_at", ["content", pytest.param("memory", marks=pytest.mark.slow)])
def test_a_client_that_hangs_up_anywhere_leaves_nothing_behind(folder, pki, serve, looks_at):
    daemon = serve(x509(pki / "good", "server"))
    path, before, payload = folder / "nbd.sock", b"\x01" * 512, b"\x2a" * 512

    def written():
        with (folder / "disk.raw").open("rb") as disk:
            disk.seek(MIB)
            return disk.read(512)

    full = CutClient(path, pki / "good", 1 << 30)
    full.play(before)
    full.socket.close()
    total, memory = full.sent, None
    for limit in range(total):
        client = CutClient(path, pki / "good", limit)
        try:
            client.play(payload)
        except HungUp:
            pass
        client.socket.close()
        assert written() in (before, payload), limit
        if limit == total // 4:
            memory = daemon.memory()
    if looks_at == "memory":
        wait_until(lambda: daemon.memory() < memory + 4 * MIB,
                   "what the clients took is given back")
    last = CutClient(path, pki / "good", 1 << 30)
    last.play(payload)
    last.socket.close()
    assert daemon.alive(), daemon.output()
    daemon.stop()
    assert written() == payload
