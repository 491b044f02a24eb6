"""cairnctl and a monitor that talks through TLS: who gets in, and who is left."""

import json
import socket
import threading

import pytest

import support
from support import TIMEOUT, Qmp, run

pytestmark = pytest.mark.skipif(support.PEER, reason="the peer has no such program")

CTL = support.TOOLS / "cairnctl"


@pytest.fixture
def behind_tls(folder, daemons):
    """behind_tls(CREDENTIALS) starts a daemon with a monitor behind them; (daemon, address)."""
    started = []

    def start(credentials, *objects):
        path = folder / f"plain{len(started)}.sock"
        started.append(path)
        daemon = daemons(*objects, "--object", credentials,
                         "--chardev", f"socket,id=m,path={path},server=on,wait=off",
                         "--monitor", "chardev=m", "--chardev",
                         "socket,id=s,host=127.0.0.1,port=0,server=on,wait=off,tls-creds=t",
                         "--monitor", "chardev=s", "--blockdev", "null-co,node-name=n")
        daemon.wait_for(path)
        monitor = Qmp(path)
        listed = {device["label"]: device["filename"] for device in monitor("query-chardev")}
        monitor.close()
        return daemon, "localhost:" + listed["s"].split(":")[-1].split(",")[0]
    return start


def x509(folder, end="server"):
    return f"tls-creds-x509,id=t,dir={folder},endpoint={end}"


def ctl(address, credentials, *arguments, code=0, **options):
    return run(CTL, "-s", address, "--object", credentials, "--tls-creds", "t", *arguments,
               code=code, **options)


def test_it_talks_through_tls_as_it_does_without(folder, behind_tls, pki):
    _, address = behind_tls(x509(pki / "good"))
    client = x509(pki / "good", "client")
    done = ctl(address, client, "query-named-block-nodes")
    assert [node["node-name"] for node in json.loads(done.out)] == ["n"]
    assert "blockdev-add" in ctl(address, client, "commands").out  # the schema: many records
    (folder / "new.raw").touch()
    ctl(address, client, "blockdev-add", "driver=file", "node-name=f",
        f"filename={folder}/new.raw")
    done = ctl(address, client, "wait-event", "JOB_STATUS_CHANGE", "id=j", "status=concluded",
               "--json", "--timeout", "60", "--", "blockdev-create", "job-id=j",
               "options.driver=qcow2", "options.file=f", "options.size=1M")
    assert json.loads(done.out)["data"] == {"id": "j", "status": "concluded"}
    done = ctl(address, client, "wait-event", "JOB_STATUS_CHANGE", "--timeout", "0.1", code=4)
    assert "has not come in time" in done.err
    # More than a record each way.
    done = ctl(address, client, "blockdev-add", "driver=null-co", "node-name=" + "x" * 40000, code=1)
    assert "Node name too long" in done.err


@pytest.mark.parametrize("fault, words", [
    ("expired", "The certificate has expired"),
    ("unknown", "The certificate hasn't got a known issuer"),
    ("elsewhere", "Certificate does not match the hostname localhost"),
])
def test_a_daemon_with_a_bad_certificate_is_left(behind_tls, pki, fault, words):
    _, address = behind_tls(x509(pki / fault) + ",sanity-check=off")
    done = ctl(address, x509(pki / "good", "client"), "query-version", code=3)
    assert done.err == f"cairnctl: '{address}': TLS handshake failed: {words}\n"
    assert done.out == ""


@pytest.mark.parametrize("fault, words", [
    ("expired", "The peer says that our certificate has expired"),
    ("unknown", "The peer does not know the issuer of our certificate"),
    ("none", "The peer wants a certificate, and we have none"),
])
def test_who_has_no_good_certificate_is_told_so(behind_tls, pki, fault, words):
    _, address = behind_tls(x509(pki / "good"))
    done = ctl(address, x509(pki / fault, "client") + ",sanity-check=off", "query-version", code=3)
    assert done.err == f"cairnctl: Lost the connection to '{address}': {words}\n"


def test_another_name_can_be_told(behind_tls, pki):
    _, address = behind_tls(x509(pki / "elsewhere"))
    ctl(address, x509(pki / "good", "client"), "--tls-hostname", "elsewhere", "query-version")


def test_keys_and_no_credentials_at_all(folder, behind_tls, pki):
    _, address = behind_tls(f"tls-creds-psk,id=t,dir={pki}/keys,endpoint=server")
    ctl(address, f"tls-creds-psk,id=t,dir={pki}/keys,endpoint=client,username=alice",
        "query-version")
    done = ctl(address, f"tls-creds-psk,id=t,dir={pki}/other-keys,endpoint=client,username=alice",
               "query-version", code=3)
    assert "has another key than we have" in done.err
    _, address = behind_tls("tls-creds-anon,id=t,endpoint=server")
    ctl(address, "tls-creds-anon,id=t,endpoint=client", "query-version")


def test_a_monitor_without_tls_is_not_talked_to(folder, daemons, pki):
    path = folder / "q.sock"
    daemons("--chardev", f"socket,id=m,path={path},server=on,wait=off",
            "--monitor", "chardev=m").wait_for(path)
    done = ctl(path, x509(pki / "good", "client"), "--tls-hostname", "localhost", "query-version",
               code=3)
    assert done.err.startswith(f"cairnctl: '{path}': TLS handshake failed: ")
    done = ctl(path, x509(pki / "good", "client"), "query-version", code=3)
    assert done.err == (f"cairnctl: '{path}': TLS handshake failed: "
                        "No hostname for certificate validation\n")


def test_a_daemon_with_tls_is_not_talked_to_without(behind_tls, pki):
    _, address = behind_tls(x509(pki / "good"))
    with socket.create_connection(("localhost", int(address.split(":")[1]))) as client:
        client.sendall(b'{"execute": "qmp_capabilities"}\n')
        client.settimeout(TIMEOUT)
        assert b"QMP" not in client.recv(65536)


def test_options_that_make_no_sense(folder, pki):
    for options, words in [
            (["--tls-hostname", "x"], "--tls-hostname is not permitted without --tls-creds"),
            (["--tls-creds", "t"], "--tls-creds: No TLS credentials with id 't'"),
            (["--object", x509(pki / "good"), "--tls-creds", "t"],
             "--tls-creds: Expected TLS credentials for a client endpoint"),
            (["--object", "secret,id=t,data=x", "--tls-creds", "t"],
             "--tls-creds: Object with id 't' is not TLS credentials"),
            (["--object", x509(folder / "absent", "client"), "--tls-creds", "t"],
             f"--object: Unable to access credentials {folder}/absent/ca-cert.pem: "
             "No such file or directory"),
            (["--object", "tls-creds-none,id=t"],
             "--object: Parameter 'qom-type' does not accept value 'tls-creds-none'")]:
        done = run(CTL, "-s", folder / "s", *options, "query-version", code=2)
        assert done.err == f"cairnctl: {words}\n"
    assert "tls-creds-x509" in run(CTL, "--object", "help").out


def relay(listener, to, cut):
    """Passes bytes on to a monitor, and hangs up on both when `cut` bytes have come back."""
    client, _ = listener.accept()
    with client, socket.create_connection(to) as server:
        def forth():
            try:
                while data := client.recv(65536):
                    server.sendall(data)
            except OSError:
                pass
        threading.Thread(target=forth, daemon=True).start()
        left = cut
        try:
            while left and (data := server.recv(min(left, 4096))):
                client.sendall(data)
                left -= len(data)
            client.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@pytest.mark.parametrize("cut", [0, 1, 5, 100, 700, 1200, 2000, 4000])
def test_a_connection_that_is_cut_is_no_answer(behind_tls, pki, cut):
    _, address = behind_tls(x509(pki / "good"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=relay, daemon=True, args=(
            listener, ("127.0.0.1", int(address.split(":")[1])), cut))
        thread.start()
        done = ctl(f"localhost:{listener.getsockname()[1]}", x509(pki / "good", "client"),
                   "commands", code=3)
        assert "The TLS connection was" in done.err or "Connection reset" in done.err, done
        thread.join(TIMEOUT)
