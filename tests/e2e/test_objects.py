"""Objects as a management program and the command line make them."""

import base64
import os
import subprocess

import pytest

from support import PEER, Qmp, run


@pytest.fixture
def monitored(folder, daemons):
    """Starts a daemon with a monitor and more arguments; returns it and its connection."""
    monitors = []

    def start(*arguments):
        path = folder / "qmp.sock"
        daemon = daemons("--chardev", f"socket,id=m,path={path},server=on,wait=off",
                         "--monitor", "chardev=m", *arguments)
        daemon.wait_for(path)
        monitors.append(Qmp(path))
        return daemon, monitors[-1]

    yield start
    for monitor in monitors:
        monitor.close()


def threads(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/task"))


def test_the_command_line_and_the_monitor_make_the_same_objects(monitored):
    _, monitor = monitored("--object", "secret,id=a,data=x",
                           "--object", '{"qom-type": "authz-list", "id": "b", "rules": '
                           '[{"match": "m", "policy": "allow"}]}',
                           "--object", "authz-list,id=c,rules.0.match=m,rules.0.policy=allow")
    monitor("object-add", qom_type="secret", id="d", data="x")
    children = {p["name"]: p["type"] for p in monitor("qom-list", path="/objects")}
    assert children == {"type": "string", "a": "child<secret>", "b": "child<authz-list>",
                        "c": "child<authz-list>", "d": "child<secret>"}
    for name in "bc":
        rules = monitor("qom-get", path=name, property="rules")
        assert [(r["match"], r["policy"]) for r in rules] == [("m", "allow")]


def test_paths_from_the_root_and_from_the_end(monitored):
    _, monitor = monitored("--object", "secret,id=m,data=x", "--object", "secret,id=s,data=x")
    for path in ("/objects/s", "//objects//s", "objects/s", "s"):
        assert monitor("qom-get", path=path, property="type") == "secret"
    # There is a character device of that name, too.
    assert monitor.ask("qom-list", path="m")["error"]["desc"] == "Path 'm' is ambiguous"
    assert monitor("qom-get", path="chardevs/m", property="type") == "chardev-socket"
    assert monitor("qom-get", path="chardevs/m", property="connected") is True
    assert monitor("qom-get", path="/objects", property="s") == "/objects/s"
    for path in ("/objects/s/x", "/nowhere", "nowhere"):
        error = monitor.ask("qom-list", path=path)["error"]
        assert error == {"class": "DeviceNotFound", "desc": f"Device '{path}' not found"}
    for name, wrong in [("type", "is not writable"), ("none", "not found")]:
        error = monitor.ask("qom-set", path="/objects", property=name, value=1)["error"]
        assert error["desc"] == f"Property 'container.{name}' {wrong}"


def test_every_type_tells_its_properties(monitored):
    if PEER:
        pytest.skip("the peer has types of objects that nobody can make")
    _, monitor = monitored()
    types = monitor("qom-list-types", abstract=True)
    names = {t["name"] for t in types}
    assert {"secret", "authz", "iothread", "chardev-socket", "user-creatable"} <= names
    for entry in types:
        assert entry.get("parent", "object") in names
        reply = monitor.ask("qom-list-properties", typename=entry["name"])
        if "interface" in (entry["name"], entry.get("parent")):
            assert reply["error"]["desc"] == "Parameter 'typename' expects a QOM type"
        else:
            assert reply["return"][0] == {"name": "type", "type": "string"}


def test_io_threads_are_threads(monitored):
    daemon, monitor = monitored("--object", "iothread,id=io0")
    before = threads(daemon)
    monitor("object-add", qom_type="iothread", id="io1")
    assert threads(daemon) == before + 1
    monitor("object-del", id="io1")
    assert threads(daemon) == before
    daemon.stop()


def test_command_lines_that_are_refused():
    for text, message in [
            ("nope", "Parameter 'qom-type' does not accept value 'nope'"),
            ("secret", "Parameter 'id' is missing"),
            ("secret,id=a", "Either 'file' or 'data' must be provided"),
            ("secret,id=a,data=x,bogus=1", "Parameter 'bogus' is unexpected"),
            ("iothread,id=a,poll-max-ns=-1",
             "poll-max-ns value must be in range [0, 9223372036854775807]"),
            ('{"qom-type":"iothread","id":"a","poll-max-ns":"5"}',
             "Invalid parameter type for 'poll-max-ns', expected: integer")]:
        done = run("cairnd", "--object", text, code=1)
        assert f"--object {text}: {message}\n" in done.err


def test_an_encrypted_secret_with_openssl(monitored):
    _, monitor = monitored()
    key, iv = "11" * 32, "22" * 16
    text = subprocess.run(["openssl", "enc", "-aes-256-cbc", "-a", "-K", key, "-iv", iv],
                          input="hunter2", stdout=subprocess.PIPE, text=True, check=True).stdout
    monitor("object-add", qom_type="secret", id="master", format="base64",
            data=base64.b64encode(bytes.fromhex(key)).decode())
    monitor("object-add", qom_type="secret", id="s", keyid="master", format="base64",
            iv=base64.b64encode(bytes.fromhex(iv)).decode(), data=text.strip())
    reply = monitor.ask("object-add", qom_type="secret", id="t", keyid="s", data="x")
    assert reply["error"]["desc"] == "Key should be 32 bytes in length"


def test_help_names_what_there_is():
    types = run("cairnd", "--object", "help").out.splitlines()
    assert types[0] == "List of user creatable objects:"
    assert types[1:] == sorted(types[1:]) and "  throttle-group" in types
    options = run("cairnd", "--object", "secret,help").out
    assert options.startswith("secret options:\n") and "\n  data=<string>\n" in options
    if not PEER:
        assert "  ringbuf\n" in run("cairnd", "--chardev", "help").out
