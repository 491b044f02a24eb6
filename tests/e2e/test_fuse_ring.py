"""Nodes as files of this host whose requests come through io_uring, where the kernel can be told to
offer that: what holds for the others holds for them."""

import os
import pathlib

import pytest

import support
import test_fuse
from support import PEER, run, wait_until
from test_fuse import disk, loop_device, mounted  # pylint: disable=unused-import

SWITCH = pathlib.Path("/sys/module/fuse/parameters/enable_uring")
pytestmark = pytest.mark.skipif(PEER or os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK)
                                or not SWITCH.exists(), reason="the kernel has no such thing")


@pytest.fixture
def backend():
    return "io_uring"


@pytest.fixture(autouse=True)
def offered():
    before = SWITCH.read_text()
    SWITCH.write_text("Y")
    yield
    SWITCH.write_text(before)


def rings(daemon):
    """How many the daemon has: one for itself, and one a mount that uses it."""
    links = pathlib.Path(f"/proc/{daemon.process.pid}/fd").iterdir()
    return sum(os.readlink(link) == "anon_inode:[io_uring]" for link in links)


def test_a_mount_has_a_ring_as_long_as_it_is_there(folder, disk):
    daemon, monitor = disk()
    point = folder / "mnt"
    with point.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"\x21" * 8192, 4096)
        assert os.pread(file.fileno(), 8192, 4096) == b"\x21" * 8192
    assert rings(daemon) == 2
    monitor("block-export-del", id="f")
    wait_until(lambda: monitor("query-block-exports") == [], "the export gone")
    assert rings(daemon) == 1 and not mounted(point)
    daemon.stop()


def test_who_is_not_to_use_io_uring_does_not(folder):
    (folder / "a.raw").write_bytes(b"\x21" * 8192)
    (folder / "mnt").touch()
    daemon = support.Daemon(folder, "epoll", "--blockdev",
                            f"driver=file,node-name=f,filename={folder}/a.raw", "--export",
                            f"type=fuse,id=x,node-name=f,mountpoint={folder}/mnt")
    wait_until(lambda: mounted(folder / "mnt"), "the mount")
    assert (folder / "mnt").read_bytes() == b"\x21" * 8192
    assert rings(daemon) == 0
    daemon.stop()


def test_on_an_io_thread(folder, disk):
    daemon, monitor = disk()
    (folder / "second").touch()
    monitor("object-add", qom_type="iothread", id="io0")
    before = rings(daemon)
    monitor("block-export-add", type="fuse", id="g", node_name="d", writable=True, iothread="io0",
            mountpoint=f"{folder}/second")
    run("fio", "--name=v", f"--filename={folder}/second", "--rw=randrw", "--bsrange=4k-1m",
        "--size=64M", "--io_size=32M", "--ioengine=libaio", "--iodepth=16", "--direct=1",
        "--verify=crc32c", "--verify_fatal=1", cwd=folder)
    assert rings(daemon) == before + 1
    monitor("block-export-del", id="g")
    wait_until(lambda: len(monitor("query-block-exports")) == 1, "the export gone")
    assert rings(daemon) == before
    daemon.stop()


for name in ("a_file_system_is_made_checked_and_read", "a_loop_device_on_an_export_holds_a_file_system",
             "random_writes_are_read_back", "holes_are_those_of_the_image",
             "two_exports_serve_many_readers", "a_busy_export_goes_when_it_is_told_to",
             "what_a_killed_daemon_leaves_is_explained",
             "a_resize_of_the_node_is_a_resize_of_the_file",
             "who_has_the_file_open_sees_another_size_at_once",
             "what_a_mapping_holds_is_written_before_the_export_goes"):
    globals()[f"test_{name}"] = getattr(test_fuse, f"test_{name}")
