"""cairn-nbd and the devices of a kernel that has them: that of a guest, where all of it runs."""

import pytest

import guest as guests
from support import PEER, TOOLS

MODULES = ["nbd"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(PEER or bool(guests.missing()),
                                                   reason=f"a guest needs {guests.missing()}")]

DISK = "/disk.qcow2"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    root = guests.make_root(tmp_path_factory.mktemp("guest"), MODULES, guests.INIT)
    (root / "lib64").symlink_to("usr/lib64")
    for name in ("cairn-nbd", "cairn-img"):
        guests.add_program(root, TOOLS / name, f"bin/{name}")
    started = guests.Machine(guests.pack(root), memory="512M")
    started("mkdir -p /var/lock")  # where the sockets between the two lie
    yield started
    started.kill()


@pytest.fixture
def guest(machine):
    machine(f"cairn-img create -q -f qcow2 {DISK} 64M")
    yield machine
    machine("umount /mnt; true")
    disconnect(machine)


def disconnect(guest, device="nbd0"):
    """Takes the device away, and waits until whoever served it has closed the image."""
    guest(f"cairn-nbd -d /dev/{device}")
    guest("while pidof cairn-nbd > /dev/null; do sleep 0.1; done")


def size(guest, device="nbd0"):
    return int(guest(f"cat /sys/block/{device}/size")) * 512


def test_a_file_system_on_an_image(guest):
    guest(f"cairn-nbd -f qcow2 -c /dev/nbd0 {DISK}")
    assert size(guest) == 64 << 20
    assert guest("cat /sys/block/nbd0/ro") == "0"
    assert guest("cat /sys/block/nbd0/queue/write_cache") == "write back"
    guest("mke2fs -q /dev/nbd0")
    guest("mount -t ext4 /dev/nbd0 /mnt")
    guest("head -c 9000000 /dev/urandom > /mnt/file; sync")
    first = guest("sha256sum < /mnt/file")
    guest("umount /mnt")
    disconnect(guest)
    assert size(guest) == 0
    guest(f"cairn-img check -q {DISK}")

    guest(f"cairn-nbd -r -f qcow2 -c /dev/nbd0 {DISK}")
    assert guest("cat /sys/block/nbd0/ro") == "1"
    guest("mount -t ext4 -o ro /dev/nbd0 /mnt")
    assert guest("sha256sum < /mnt/file") == first


def test_space_that_is_discarded_is_given_back(guest):
    guest(f"cairn-nbd -f qcow2 --discard=unmap -c /dev/nbd0 {DISK}")
    guest("dd if=/dev/urandom of=/dev/nbd0 bs=1M count=32 conv=fsync")
    full = int(guest(f"stat -c %b {DISK}"))
    guest("blkdiscard /dev/nbd0")
    disconnect(guest)
    assert int(guest(f"stat -c %b {DISK}")) < full // 8
    guest(f"cairn-img check -q {DISK}")


def test_several_connections_serve_one_device(guest):
    guest(f"cairn-nbd -f qcow2 -e 4 -c /dev/nbd1 {DISK}")
    assert size(guest, "nbd1") == 64 << 20
    guest("dd if=/dev/zero of=/dev/nbd1 bs=64k count=64 conv=fsync")
    disconnect(guest, "nbd1")


def test_a_device_in_use_is_refused(guest):
    guest(f"cairn-nbd -f qcow2 -c /dev/nbd0 {DISK}")
    guest("cairn-img create -q -f raw /other 1M")
    said = guest("cairn-nbd -f raw -c /dev/nbd0 /other", code=1)
    assert "/dev/nbd0" in said and "busy" in said.lower()
    assert size(guest) == 64 << 20
