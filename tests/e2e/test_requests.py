"""Requests about bitmaps, exports, character devices and objects, and the daemon's command line: the words in which
mistakes are refused, and which of several is told first. All of it is the peer's way."""

import hashlib

import pytest

from support import program, run

MIB = 1 << 20


@pytest.fixture
def monitor(bare_monitor):
    return bare_monitor


def refusal(monitor, command, **arguments):
    return monitor.ask(command, **arguments)["error"]["desc"]


def unix_server(path, **more):
    return {"addr": {"type": "unix", "data": {"path": str(path)}}, "server": True, "wait": False, **more}


def add_chardev(monitor, **data):
    return monitor.ask("chardev-add", id="d", backend={"type": "socket", "data": data})


def test_the_target_of_a_merge_is_looked_for_first(monitor):
    monitor("blockdev-add", driver="null-co", node_name="n", size=MIB)
    assert refusal(monitor, "block-dirty-bitmap-merge", node="n", target="b",
                   bitmaps=[{"node": "nosuch", "name": "b"}]) == "Dirty bitmap 'b' not found"
    monitor("block-dirty-bitmap-add", node="n", name="b")
    assert refusal(monitor, "block-dirty-bitmap-merge", node="n", target="b",
                   bitmaps=[{"node": "nosuch", "name": "b"}]) == "Node 'nosuch' not found"


def test_a_bitmap_of_nothing_has_a_word_to_hash(monitor):
    monitor("blockdev-add", driver="null-co", node_name="n", size=0)
    monitor("block-dirty-bitmap-add", node="n", name="b")
    told = monitor("x-debug-block-dirty-bitmap-sha256", node="n", name="b")
    assert told == {"sha256": hashlib.sha256(bytes(8)).hexdigest()}


def test_without_a_server_nobody_looks_at_permissions(monitor, folder):
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "q", "1M")
    monitor("blockdev-add", driver="qcow2", node_name="q",
            file={"driver": "file", "node-name": "f", "filename": str(folder / "q")})
    assert refusal(monitor, "block-export-add", type="nbd", id="e", node_name="f") == "NBD server not running"
    assert refusal(monitor, "nbd-server-add", device="f") == "NBD server not running"
    assert refusal(monitor, "nbd-server-add", device="f", writable=True).startswith("Permission conflict on node 'f'")
    address = {"type": "unix", "data": {"path": str(folder / "nbd")}}
    monitor("nbd-server-start", addr=address)
    assert refusal(monitor, "nbd-server-add", device="f").startswith("Permission conflict on node 'f'")
    assert refusal(monitor, "nbd-server-start", addr=address, tls_creds="nosuch") == "NBD server already running"
    assert refusal(monitor, "nbd-server-start", addr={"type": "fd", "data": {"str": "x"}}) == "NBD server already running"


def test_a_device_is_looked_for_before_what_it_is_to_become(monitor):
    assert refusal(monitor, "chardev-change", id="nosuch", backend={"type": "socket", "data": {
        "addr": {"type": "fd", "data": {"str": "99"}}, "server": True, "wait": False}}) == (
            "Chardev 'nosuch' does not exist")


def test_a_member_without_a_name_is_called_so(monitor):
    assert refusal(monitor, "query-jobs", **{"": 1}) == "Parameter '' is unexpected"
    assert refusal(monitor, "object-add", qom_type="throttle-group", id="x", limits={"": 1}) == (
        "Parameter 'limits.' is unexpected")


def test_paths_of_sockets_may_fill_their_room(monitor, folder):
    longest = str(folder / "x")
    longest += "y" * (108 - len(longest))
    monitor("nbd-server-start", addr={"type": "unix", "data": {"path": longest}})
    assert run("nbdinfo", "--list", f"nbd+unix://?socket={longest[:107]}", code=None).code != 0
    monitor("nbd-server-stop")
    assert refusal(monitor, "nbd-server-start", addr={"type": "unix", "data": {"path": longest + "y"}}) == (
        f"UNIX socket path '{longest}y' is too long")


def test_hosts_are_told_as_they_were_given(monitor):
    assert refusal(monitor, "nbd-server-start", addr={
        "type": "inet", "data": {"host": "::1", "port": "0", "ipv6": False}}).startswith(
            "address resolution failed for ::1:0: ")


def test_credentials_are_looked_for_before_what_they_are_for(monitor, folder):
    def refused(credentials):
        return add_chardev(monitor, **unix_server(folder / "s", **{"tls-creds": credentials}))["error"]["desc"]
    monitor("object-add", qom_type="secret", id="secret", data="x")
    assert refused("nosuch") == "Failed to add chardev 'd': No TLS credentials with id 'nosuch'"
    assert refused("secret") == "Failed to add chardev 'd': Object with id 'secret' is not TLS credentials"


def test_a_client_of_a_unix_socket_has_no_name(monitor, folder):
    assert "return" in add_chardev(monitor, **unix_server(folder / "s"))
    monitor("chardev-add", id="client", backend={"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": str(folder / "s")}}, "server": False}})
    names = {device["label"]: device["filename"] for device in monitor("query-chardev")}
    assert names["client"] == "unix:"


def test_properties_of_a_place_that_is_not_clear_are_not_found(monitor):
    monitor("object-add", qom_type="throttle-group", id="x")
    monitor("chardev-add", id="x", backend={"type": "null", "data": {}})
    assert refusal(monitor, "qom-list", path="x") == "Path 'x' is ambiguous"
    for command, more in (("qom-get", {}), ("qom-set", {"value": 1})):
        error = monitor.ask(command, path="x", property="type", **more)["error"]
        assert error == {"class": "DeviceNotFound", "desc": "Device 'x' not found"}


def test_no_key_has_the_serial_number_nought(monitor):
    assert refusal(monitor, "object-add", qom_type="secret_keyring", id="k", serial=0) == (
        "'serial' should not be equal to 0")


@pytest.mark.parametrize("arguments, message", [
    (["--chardev", ""], "--chardev : chardev: no id specified"),
    (["--chardev", "nosuch"], "--chardev nosuch: chardev: no id specified"),
    (["--pidfile", ""], "cannot create PID file: Could not create '': No such file or directory"),
    (["--nbd-server", "addr.type=unix,addr.path=" + "x" * 109],
     "--nbd-server addr.type=unix,addr.path={0}: UNIX socket path '{0}' is too long\nPath must be less than 108 bytes"
     .format("x" * 109))])
def test_wrong_command_lines(folder, arguments, message):
    done = run("cairnd", *arguments, code=1, cwd=folder)
    assert done.err == f"{program('cairnd').rpartition('/')[2]}: {message}\n"


def test_a_question_mark_asks_for_help(folder):
    assert "ringbuf" in run("cairnd", "--chardev", "?", cwd=folder).out
