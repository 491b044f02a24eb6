"""A disk of a virtual machine with Linux in it: a file system on it lives through another size, freed
space and a daemon that is started anew, and is clean in the end."""

import pytest

import guest as guests
from support import run, wait_until
from test_vhost_user import MIB, PEER, Served

pytestmark = pytest.mark.skipif(PEER or bool(guests.missing()),
                                reason=f"a guest needs {guests.missing()}")


@pytest.fixture
def machines(folder):
    """Starts guests; kills at the end what the test has not stopped."""
    started = []

    def start(disk, **device):
        started.append(guests.Guest(folder, disk, **device))
        return started[-1]

    yield start
    for guest in started:
        guest.kill()


def written(served):
    """How many bytes the file 'r' was written."""
    nodes = served.monitor("query-blockstats", query_nodes=True)
    return next(n for n in nodes if n["node-name"] == "r")["stats"]["wr_bytes"]


def check_disk(folder):
    """The image and the file system inside are sound."""
    run("qemu-img", "check", "-q", "a.qcow2", cwd=folder)
    run("qemu-img", "convert", "-O", "raw", "a.qcow2", "a.raw", cwd=folder)
    run("/usr/sbin/e2fsck", "-fn", "a.raw", cwd=folder)


def test_a_file_system_of_a_guest(folder, daemons, backend, machines):
    served = Served(folder, daemons, size="64M")
    # Another kind of ring with each of the back ends: a boot takes its time.
    packed = backend == "epoll"
    guest = machines(served.export(num_queues=2), packed="on" if packed else "off", num_queues=2)
    assert guest("cat /sys/block/vda/size") == str(64 * MIB // 512)
    assert guest("cat /sys/block/vda/serial") == "vhost_user_blk"
    assert guest("ls /sys/block/vda/mq").split() == ["0", "1"]
    assert guest("cut -c35 /sys/bus/virtio/devices/virtio0/features") == ("1" if packed else "0")
    assert guest("cat /sys/block/vda/queue/write_cache") == "write back"
    guest("mke2fs -q /dev/vda")
    guest("mount -t ext4 /dev/vda /mnt")
    guest("head -c 8000000 /dev/urandom > /mnt/first; sync")
    sums = guest("cd /mnt; sha256sum first; cd /")

    served.monitor("block_resize", node_name="q", size=128 * MIB)
    wait_until(lambda: guest("cat /sys/block/vda/size") == str(128 * MIB // 512), "the new size")

    guest("cp /mnt/first /mnt/second; sync; echo 3 > /proc/sys/vm/drop_caches")
    before = (folder / "a.qcow2").stat().st_blocks
    guest("rm /mnt/first; sync; fstrim /mnt")
    # Space is given back to the host when what frees it is durable.
    guest("echo mark > /mnt/mark; sync")
    wait_until(lambda: (folder / "a.qcow2").stat().st_blocks < before - 8000, "the freed space")

    begun = guest.begin("for n in 1 2 3 4 5 6; do cp /mnt/second /mnt/copy$n && sync; done")
    served.daemon.stop()
    served.start()
    served.export(num_queues=2)
    guest.finish(begun)
    guest("echo 3 > /proc/sys/vm/drop_caches")
    for name in ("second", "copy1", "copy6"):
        assert guest(f"sha256sum /mnt/{name}").split()[0] == sums.split()[0]
    guest("umount /mnt")
    guest.power_off()
    served.daemon.stop()

    check_disk(folder)


def test_a_guest_goes_on_after_its_daemon_was_killed(folder, daemons, backend, machines):
    served = Served(folder, daemons, size="64M")
    packed = backend == "io_uring"
    guest = machines(served.export(node="r", num_queues=2), packed="on" if packed else "off",
                     num_queues=2)
    guest("mke2fs -q /dev/vda; mount -t ext4 /dev/vda /mnt")
    guest("head -c 2000000 /dev/urandom > /mnt/first; sync")
    sums = guest("sha256sum /mnt/first").split()[0]
    for _ in range(3):
        begun = guest.begin("for n in 1 2 3 4 5 6 7 8; do cp /mnt/first /mnt/copy$n && sync; done")
        wait_until(lambda: written(served) > MIB, "some writes")
        served.daemon.kill_writing(folder / "r.raw")
        served.start()
        served.export(node="r", num_queues=2)
        guest.finish(begun)
        guest("echo 3 > /proc/sys/vm/drop_caches")
        for number in (1, 8):
            assert guest(f"sha256sum /mnt/copy{number}").split()[0] == sums
    assert "error" not in guest("dmesg | grep -i 'i/o error' || true")
    guest("umount /mnt")
    guest.power_off()
    served.daemon.stop()
    run("/usr/sbin/e2fsck", "-fn", "r.raw", cwd=folder)


def test_both_processors_of_a_guest_write_at_once(folder, daemons, machines):
    """Each has a queue of its own, an I/O thread serves both, and the guest wants no write to be
    remembered only."""
    served = Served(folder, daemons, size="64M")
    served.monitor("object-add", qom_type="iothread", id="io0")
    guest = machines(served.export(num_queues=2, iothread="io0"), num_queues=2)
    guest("mke2fs -q /dev/vda; mount -t ext4 /dev/vda /mnt")
    guest("echo 'write through' > /sys/block/vda/cache_type")
    assert guest("cat /sys/block/vda/queue/write_cache") == "write through"
    guest("head -c 4194304 /dev/urandom > /mnt/source; sync")
    sums = guest("sha256sum /mnt/source").split()[0]
    # Past the cache, which any processor might write back: these are 256 requests of each.
    guest("for cpu in 0 1; do taskset -c $cpu sh -c \"for i in 1 2 3 4; do "
          "dd if=/mnt/source of=/mnt/$cpu-\\$i bs=64k oflag=direct 2>&1; sync; done\" & done; wait")
    assert guest("awk '/virtio0-req/ && $2 + $3 > 200' /proc/interrupts | wc -l") == "2"
    guest("echo 3 > /proc/sys/vm/drop_caches")
    copies = guest("sha256sum /mnt/*-*").splitlines()
    assert len(copies) == 8 and {line.split()[0] for line in copies} == {sums}
    guest("umount /mnt")
    guest.power_off()
    served.daemon.stop()
    check_disk(folder)
