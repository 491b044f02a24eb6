"""The units in the hands of systemd: readiness, the watchdog, sockets, the sandbox, an orderly end;
and sockets of the vsock family, which need a kernel that has them."""

import json

import pytest

import support
import systemd_guest
from support import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(support.PEER or bool(systemd_guest.missing()),
                       reason=f"a guest with systemd needs {systemd_guest.missing()}")]


def configuration(address, *more):
    """A daemon's configuration file: a disk in the folder of its state, at an address."""
    return json.dumps([
        {"execute": "blockdev-add", "arguments": {
            "node-name": "d", "driver": "qcow2",
            "file": {"driver": "file", "filename": "disk.qcow2"}}},
        {"execute": "nbd-server-start", "arguments": {"addr": address}},
        {"execute": "block-export-add", "arguments": {
            "type": "nbd", "id": "e", "node-name": "d", "name": "d", "writable": True}}, *more])


def chardev(name, server, **more):
    """A character device at a socket of the machine itself."""
    return {"execute": "chardev-add", "arguments": {"id": name, "backend": {
        "type": "socket", "data": {
            "addr": {"type": "vsock", "data": {"cid": "1", "port": "5000"}},
            "server": server, **more}}}}


FILES = {
    "etc/cairn/plain.json": configuration(
        {"type": "unix", "data": {"path": "/run/cairn/plain/nbd.sock"}}),
    "etc/cairn/passed.json": configuration({"type": "fd", "data": {"str": "nbd"}}),
    "etc/cairn/vsock.json": configuration(
        {"type": "vsock", "data": {"cid": "4294967295", "port": "10809"}},
        chardev("called", True, wait=False), chardev("caller", False)),
    "etc/cairn/wrong.json": '[{"execute": "blockdev-add", "arguments": {}}]',
}
PLAIN = "'nbd+unix:///d?socket=/run/cairn/plain/nbd.sock'"
PASSED = "'nbd+unix:///d?socket=/run/cairn/passed/nbd.sock'"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    started = systemd_guest.SystemdGuest(tmp_path_factory.mktemp("guest"), FILES)
    started("mkdir -p /var/lib/cairn")
    started("cairn-img create -q -f qcow2 /var/lib/cairn/disk.qcow2 16M")
    started("chown -R cairn:cairn /var/lib/cairn")
    yield started
    started.kill()


@pytest.fixture
def guest(machine):
    """The machine, with none of our units active before and after."""
    yield machine
    machine("systemctl --no-ask-password stop 'cairnd*'")
    machine("systemctl reset-failed")


def test_it_has_started_when_it_serves(guest):
    guest.start("cairnd@plain")
    assert guest.shows("cairnd@plain", "ActiveState") == "active"
    process = guest.shows("cairnd@plain", "MainPID")
    assert guest(f"stat -c %U /proc/{process}") == "cairn"
    guest(f"cairn-io -f raw -c 'write -q -P 5 1M 64k' -c 'read -q -P 5 1M 64k' {PLAIN}")
    guest("systemctl --no-ask-password stop cairnd@plain")
    assert guest.shows("cairnd@plain", "Result") == "success"
    assert guest.shows("cairnd@plain", "ExecMainStatus") == "0"
    guest("cairn-img check /var/lib/cairn/disk.qcow2")
    guest("cairn-io -r -f qcow2 -c 'read -q -P 5 1M 64k' /var/lib/cairn/disk.qcow2")


def test_a_wrong_configuration_fails_the_start(guest):
    guest("systemctl --no-ask-password start cairnd@wrong", code=1)
    # It is tried a few times more, and then no longer.
    wait_until(lambda: guest.shows("cairnd@wrong", "ActiveState") == "failed", "the failure")


def test_one_that_hangs_is_started_anew(guest):
    guest("mkdir -p /run/systemd/system/cairnd@plain.service.d")
    guest("printf '[Service]\\nWatchdogSec=3\\n' > /run/systemd/system/cairnd@plain.service.d/w.conf")
    guest("systemctl daemon-reload")
    guest.start("cairnd@plain")
    first = guest.shows("cairnd@plain", "MainPID")
    guest("sleep 8")
    assert guest.shows("cairnd@plain", "MainPID") == first  # who is well is left alone
    guest(f"kill -STOP {first}")
    wait_until(lambda: guest.shows("cairnd@plain", "NRestarts") == "1", "another start")
    wait_until(lambda: guest.shows("cairnd@plain", "ActiveState") == "active", "its readiness")
    assert guest.shows("cairnd@plain", "MainPID") not in (first, "0")
    guest(f"cairn-img info {PLAIN}")


def test_the_first_client_starts_it(guest):
    guest.start("cairnd-nbd@passed.socket cairnd-qmp@passed.socket")
    assert guest.shows("cairnd-activated@passed", "ActiveState") == "inactive"
    assert "file format: raw" in guest(f"cairn-img info {PASSED}")
    assert guest.shows("cairnd-activated@passed", "ActiveState") == "active"
    guest("systemctl --no-ask-password stop cairnd-activated@passed")
    # The sockets stay, and the next client starts it again.
    guest(f"cairn-io -f raw -c 'write -q -P 6 2M 64k' {PASSED}")
    assert guest.shows("cairnd-activated@passed", "ActiveState") == "active"


def test_machines_reach_it_by_vsock(guest):
    guest.start("cairnd@vsock")
    name = json.dumps({"driver": "raw", "file": {
        "driver": "nbd", "export": "d",
        "server": {"type": "vsock", "cid": "1", "port": "10809"}}})
    devices = json.loads(guest("cairnctl -s /run/cairn/vsock/qmp.sock query-chardev --json"))
    # Neither says that it is not connected.
    assert {"called": "vsock:1:5000,server=on", "caller": "vsock:1:5000"}.items() <= \
        {d["label"]: d["filename"] for d in devices}.items()
    guest(f"cairn-io -c 'write -q -P 7 3M 64k' -c 'read -q -P 7 3M 64k' 'json:{name}'")
