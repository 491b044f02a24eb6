"""Nodes as block devices of this host, through the kernel's ublk driver, where there is one."""

import os
import pathlib
import subprocess

import pytest

from support import Qmp, qcow2, run, wait_until

CONTROL = pathlib.Path("/dev/ublk-control")
NUMBER = 4219  # nobody else's
DEVICE = pathlib.Path(f"/dev/ublkb{NUMBER}")
needs_driver = pytest.mark.skipif(os.geteuid() != 0 or not CONTROL.exists(),
                                  reason="the kernel has no ublk driver")


@pytest.fixture
def start(folder, daemons):
    """Starts a daemon with the qcow2 image 'disk.qcow2' as node 'd'; returns it with a monitor."""
    def start_daemon():
        image, path = folder / "disk.qcow2", folder / "qmp.sock"
        if not image.exists():
            run("qemu-img", "create", "-q", "-f", "qcow2", image, "64M")
        path.unlink(missing_ok=True)
        daemon = daemons("--chardev", f"socket,id=c,path={path},server=on,wait=off",
                         "--monitor", "chardev=c")
        daemon.wait_for(path)
        monitor = Qmp(path)
        monitor("blockdev-add", **qcow2(image), node_name="d")
        return daemon, monitor

    yield start_daemon


def export(monitor, **options):
    return monitor.ask("block-export-add", type="ublk", id="u", node_name="d", writable=True,
                       **{"device-id": NUMBER, **options})


@pytest.mark.skipif(CONTROL.exists(), reason="the kernel has a ublk driver")
def test_without_a_driver_it_says_so_and_leaves_the_node_alone(start):
    _, monitor = start()
    told = export(monitor)
    assert told["error"]["desc"] == (
        "Could not open '/dev/ublk-control': ublk needs Linux 6.0 or later with the module ublk_drv "
        "loaded: No such file or directory")
    assert monitor("query-block-exports") == []
    monitor("blockdev-del", node_name="d")


def test_options_are_checked_before_the_driver_is_asked(start):
    _, monitor = start()
    assert export(monitor, **{"logical-block-size": 1000})["error"]["desc"] == \
        "Parameter 'logical-block-size' must be a power of 2 between 512 and 4096"
    assert "device-id" in monitor.ask("block-export-add", type="ublk", id="u",
                                      node_name="d")["error"]["desc"]


@needs_driver
def test_a_file_system_is_made_checked_and_read(folder, start):
    daemon, monitor = start()
    assert "error" not in export(monitor)
    wait_until(DEVICE.exists, "the block device")
    run("mkfs.ext4", "-q", "-F", DEVICE)
    run("e2fsck", "-f", "-n", DEVICE)
    data = os.urandom(1 << 20)
    DEVICE.write_bytes(data)
    daemon.stop()
    assert not DEVICE.exists()
    run("qemu-img", "convert", "-O", "raw", folder / "disk.qcow2", folder / "out")
    assert (folder / "out").read_bytes()[:len(data)] == data


@needs_driver
def test_another_daemon_takes_over_what_one_left_that_was_killed(start):
    daemon, monitor = start()
    assert "error" not in export(monitor, recoverable=True)
    wait_until(DEVICE.exists, "the block device")
    daemon.kill()
    with subprocess.Popen(["dd", f"if={DEVICE}", "of=/dev/null", "bs=4k", "count=1",
                           "iflag=direct", "status=none"]) as reader:
        daemon, monitor = start()
        assert "error" not in export(monitor, recoverable=True)
        assert reader.wait(60) == 0
    daemon.stop()
    assert not DEVICE.exists()
