"""Nodes as disks of virtual machines. The driver is vhost.py, which knows the specifications alone and
works with the peer's daemon, too; a real guest is in test_vhost_guest.py."""

import os
import socket
import struct
import subprocess

import pytest

import vhost
from support import PEER, Qmp, program, run, same_bytes, wait_until
from vhost import IOERR, OK, UNSUPP, Connection, Disk, Memory, bits

MIB = 1 << 20
ours = pytest.mark.skipif(PEER, reason="the peer's daemon is different here, or not up to it")


class Served:
    """A daemon with the qcow2 image 'a.qcow2' as node 'q' and the file 'r.raw' as 'r', and exports of
    them."""

    def __init__(self, folder, daemons, size="16M", image="a.qcow2"):
        self.folder, self.daemons, self.image = folder, daemons, image
        if not (folder / image).exists():
            run("qemu-img", "create", "-q", "-f", "qcow2", image, size, cwd=folder)
            run("qemu-img", "create", "-q", "-f", "raw", "r.raw", size, cwd=folder)
        self.start()

    def start(self):
        path = self.folder / "qmp.sock"
        path.unlink(missing_ok=True)
        self.daemon = self.daemons("--chardev", f"socket,id=c,path={path},server=on,wait=off",
                                   "--monitor", "chardev=c")
        self.daemon.wait_for(path)
        self.monitor = Qmp(path)
        self.monitor("blockdev-add", driver="file", node_name="f", filename=self.image,
                     discard="unmap")
        self.monitor("blockdev-add", driver="qcow2", node_name="q", file="f", discard="unmap")
        self.monitor("blockdev-add", driver="file", node_name="r", filename="r.raw")

    def export(self, name="v", node="q", **options):
        socket_path = self.folder / f"{name}.sock"
        self.monitor("block-export-add", type="vhost-user-blk", id=name, node_name=node,
                     addr={"type": "unix", "path": str(socket_path)},
                     **{"writable": True, **options})
        return socket_path

    def throttle(self, requests, node="q"):
        """Puts a limit of requests a second on a new node 't' above another one."""
        self.monitor("object-add", qom_type="throttle-group", id="g", limits={"iops-total": requests})
        self.monitor("blockdev-add", driver="throttle", node_name="t", throttle_group="g", file=node)


@pytest.fixture
def served(folder, daemons):
    return Served(folder, daemons)


def pattern(seed, length):
    return bytes((seed + i // 512) % 251 for i in range(length))


BOTH = bits(vhost.F_INDIRECT, vhost.F_EVENT_IDX)
VARIANTS = {"plain": dict(refused=BOTH), "tables": dict(refused=bits(vhost.F_EVENT_IDX)),
            "indices": dict(refused=bits(vhost.F_INDIRECT)), "all": {},
            "packed": dict(packed=True, refused=BOTH), "packed-all": dict(packed=True)}


def variants(*names):
    """Kinds of rings; the peer's daemon has no packed ones."""
    return pytest.mark.parametrize("variant", [
        pytest.param(name, marks=ours if "packed" in name else ()) for name in names])


@variants(*VARIANTS)
def test_what_is_written_is_in_the_image(served, folder, variant):
    disk = Disk(served.export(), **VARIANTS[variant])
    assert disk.capacity() == 16 * MIB
    content = bytearray(16 * MIB)
    for number in range(80):
        at, length = number * 37 * 4096 % (16 * MIB - 65536), 512 + number * 512 % 65536
        content[at:at + length] = pattern(number, length)
        assert disk.write(at, pattern(number, length)) == OK
    assert disk.read(0, 65536) == content[:65536]
    assert disk.flush() == OK
    disk.close()
    served.daemon.stop()
    run("qemu-img", "convert", "-O", "raw", "a.qcow2", "a.raw", cwd=folder)
    (folder / "want.raw").write_bytes(content)
    same_bytes(folder / "a.raw", folder / "want.raw")


@variants("plain", "all", "packed", "packed-all")
def test_many_requests_at_a_time_in_several_queues(served, variant):
    disk = Disk(served.export(num_queues=4), queues=4, memory=Memory(32 * MIB), **VARIANTS[variant])
    assert disk.connection.number(vhost.GET_QUEUE_NUM) == 4
    for round_number in range(10):
        begun = [disk.begin(vhost.T_OUT, (queue * 64 + number) * 8, pattern(round_number + number, 4096),
                            queue=queue) for queue in range(4) for number in range(16)]
        assert all(disk.finish(one)[0] == OK for one in begun)
        begun = [disk.begin(vhost.T_IN, (queue * 64 + number) * 8, room=4096, queue=3 - queue,
                            kick=number == 15) for queue in range(4) for number in range(16)]
        for place, one in enumerate(begun):
            assert disk.finish(one)[:2] == (OK, pattern(round_number + place % 16, 4096))
        disk.memory.free = begun[0][-1]


def test_kinds_of_requests(served):
    disk = Disk(served.export())
    assert disk.identity().rstrip(b"\0").startswith(b"vhost_user_blk")
    assert disk.write(0, b"x" * 65536 * 4) == OK
    assert disk.zero(65536, 65536) == OK
    assert disk.discard(131072, 65536) == OK
    assert disk.zero(196608, 65536, flags=1) == OK
    assert disk.read(0, 262144) == b"x" * 65536 + bytes(196608)
    assert disk.discard(0, 512, flags=1) == UNSUPP
    assert disk.request(99)[0] == UNSUPP
    assert disk.request(vhost.T_IN, 16 * MIB // 512, room=512)[0] == IOERR
    assert disk.flush() == OK


def test_a_disk_that_is_read_only(served):
    disk = Disk(served.export(writable=False))
    assert disk.features >> vhost.F_RO & 1
    assert disk.write(0, b"x" * 512) == IOERR
    assert disk.zero(0, 512) == IOERR
    assert disk.read(0, 512) == bytes(512)
    assert disk.flush() == OK


def test_larger_blocks(served):
    disk = Disk(served.export(logical_block_size=4096))
    assert struct.unpack("<I", disk.config()[20:24])[0] == 4096
    assert disk.request(vhost.T_IN, 1, room=4096)[0] == IOERR
    assert disk.request(vhost.T_IN, 8, room=4096)[0] == OK


@ours
def test_the_guest_hears_of_another_size(served):
    disk = Disk(served.export())
    served.monitor("block_resize", node_name="q", size=32 * MIB)
    assert struct.unpack("<III", disk.backend.recv(12)) == (2, 1, 0)
    assert disk.capacity() == 32 * MIB
    assert disk.write(31 * MIB, b"new" * 512) == OK
    assert disk.read(31 * MIB, 512)[:3] == b"new"
    served.monitor("block_resize", node_name="q", size=32 * MIB)
    disk.backend.settimeout(0.1)
    with pytest.raises(TimeoutError):
        disk.backend.recv(12)


def test_one_machine_at_a_time(served):
    path = served.export()
    first = Disk(path)
    second = Connection(path)
    second.send(vhost.GET_FEATURES)
    second.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        second.receive()
    assert first.write(0, b"1" * 512) == OK
    first.close()
    second.socket.settimeout(vhost.TIMEOUT)
    second.receive()
    second.close()
    third = Disk(path)
    assert third.read(0, 512) == b"1" * 512


def test_an_export_goes_while_its_disk_is_in_use(served):
    served.throttle(50)
    path = served.export(node="t")
    disk = Disk(path)
    begun = [disk.begin(vhost.T_OUT, number * 8, bytes(4096)) for number in range(12)]
    served.monitor("block-export-del", id="v", mode="hard")
    assert disk.connection.is_gone()
    wait_until(lambda: served.monitor("query-block-exports") == [], "the end of the export")
    assert not path.exists()
    # What was taken is answered.
    ring = disk.queues[0]
    done = ring.take_used()
    assert set(done) <= {one[1] for one in begun}
    again = Disk(served.export(node="t"))
    assert again.read(0, 512) == bytes(512)


@ours
@variants("all", "packed")
def test_a_queue_ends_when_what_is_in_flight_is_done(served, variant):
    served.throttle(20)
    disk = Disk(served.export(node="t"), **VARIANTS[variant])
    begun = [disk.begin(vhost.T_OUT, number * 8, bytes(4096)) for number in range(8)]
    wait_until(lambda: disk.queues[0].used_count() > 0, "the first request")
    base = disk.stop(0)
    assert 0 < len(disk.queues[0].take_used()) <= 8
    assert "packed" in variant or base == disk.queues[0].used_count()
    disk.start(0, disk.queues[0], base)
    disk.queues[0].notify()
    for _, head, data, room, _ in begun:
        if head in disk.queues[0].pending:
            disk.queues[0].wait(head)
        assert disk.memory.map[data + room] == OK


@ours
@variants("plain", "all", "packed", "packed-all")
def test_requests_in_flight_survive_the_daemon(served, folder, variant):
    # What is completed is in the kernel's hands: a file, whose writes a killed program does not lose.
    served.throttle(5, "r")
    path = served.export(node="t")
    asking = Connection(path)
    asking.send(vhost.SET_PROTOCOL_FEATURES, struct.pack("<Q", bits(vhost.P_INFLIGHT)))
    asking.send(vhost.SET_FEATURES, struct.pack("<Q", bits(
        vhost.F_PROTOCOL, *([vhost.F_PACKED] if "packed" in variant else []))))
    area, fds = asking.ask(vhost.GET_INFLIGHT_FD, struct.pack("<QQHH", 0, 0, 1, 64))
    asking.close()
    disk = Disk(path, inflight=(area, fds[0]), **VARIANTS[variant])
    for number in range(3):
        assert disk.write(number * 4096, bytes([number]) * 4096) == OK
    begun = [disk.begin(vhost.T_OUT, number * 8, bytes([number + 100]) * 4096) for number in range(20)]
    wait_until(lambda: disk.queues[0].used_count() > 4, "some requests")
    served.daemon.kill_writing(folder / "r.raw")
    served.start()
    # Where a queue of either kind goes on is known by the memory that tracks it.
    bases = [disk.queues[0].used_count() if "packed" not in variant else 0]
    again = Disk(served.export(node="r"), memory=disk.memory, rings=disk.queues, bases=bases,
                 inflight=(area, fds[0]), **VARIANTS[variant])
    again.queues[0].notify()
    for one in begun:
        if one[1] in disk.queues[0].pending:
            disk.queues[0].wait(one[1])
        assert disk.memory.map[one[2]] == OK
    for number in range(20):
        assert again.read(number * 4096, 4096) == bytes([number + 100]) * 4096
    assert not disk.queues[0].pending


@ours
def test_memory_comes_and_goes(served):
    disk = Disk(served.export())
    more = Memory(MIB)
    region = struct.pack("<QQQQQ", 0, 1 << 40, more.size, 1 << 45, 0)
    assert disk.connection.acknowledged(vhost.ADD_MEM_REG, region, [more.fd])
    at = disk.memory.take(17)
    struct.pack_into("<IIQ", disk.memory.map, at, vhost.T_OUT, 0, 0)
    more.map[:4096] = b"m" * 4096
    ring = disk.queues[0]
    ring.indirect = False
    heads = [ring.free.pop() for _ in range(3)]
    ring.describe(ring.descriptors, heads[0], vhost.GUEST_BASE + at, 16, vhost.NEXT, heads[1])
    ring.describe(ring.descriptors, heads[1], 1 << 40, 4096, vhost.NEXT, heads[2])
    ring.describe(ring.descriptors, heads[2], vhost.GUEST_BASE + at + 16, 1, vhost.WRITE, 0)
    ring.pending[heads[0]] = heads
    ring.publish(heads[0])
    ring.wait(heads[0])
    assert disk.memory.map[at + 16] == OK
    assert disk.read(0, 4096) == b"m" * 4096
    assert disk.connection.acknowledged(vhost.REM_MEM_REG, region)
    assert disk.read(0, 4096) == b"m" * 4096


@ours
def test_pages_that_are_written_are_logged(served):
    disk = Disk(served.export())
    log = Memory(65536)
    first = (vhost.GUEST_BASE + disk.memory.size) // 4096 // 8
    offset_of = vhost.GUEST_BASE // 4096 // 8
    os.ftruncate(log.fd, first + 4096)
    disk.connection.send(vhost.SET_LOG_BASE, struct.pack("<QQ", first + 4096, 0), [log.fd])
    assert disk.connection.receive()[0] == vhost.SET_LOG_BASE
    disk.connection.send(vhost.SET_FEATURES,
                         struct.pack("<Q", disk.features | bits(vhost.F_LOG_ALL)))
    disk.set_addresses(0, disk.queues[0], log=vhost.GUEST_BASE + disk.queues[0].used)
    disk.connection.number(vhost.GET_QUEUE_NUM)  # by now it has read what comes before
    begun = disk.begin(vhost.T_IN, 0, room=8192)
    assert disk.finish(begun)[0] == OK
    marks = os.pread(log.fd, disk.memory.size // 4096 // 8, offset_of)
    dirty = {page for page in range(len(marks) * 8) if marks[page // 8] >> page % 8 & 1}
    data = begun[2]
    assert dirty == {disk.queues[0].used // 4096, *range(data // 4096, (data + 8192) // 4096 + 1)}


@ours
@pytest.mark.parametrize("deed", ["head", "address", "loop", "index", "cut", "message", "garbage"])
def test_who_breaks_the_rules_is_sent_away_and_nobody_else(served, deed):
    bad, good = Disk(served.export("bad")), Disk(served.export("good"))
    ring, memory = bad.queues[0], bad.memory
    assert bad.write(0, b"b" * 512) == OK
    if deed == "head":
        ring.publish(999)
    elif deed == "address":
        ring.describe(ring.descriptors, 1, 1 << 50, 16, 0, 0)
        ring.publish(1)
    elif deed == "loop":
        ring.describe(ring.descriptors, 1, vhost.GUEST_BASE, 16, vhost.NEXT, 1)
        ring.publish(1)
    elif deed == "index":
        ring.set_u16(ring.available + 2, ring.made + 1000)
        ring.notify()
    elif deed == "cut":
        os.ftruncate(memory.fd, 0)
        ring.notify()
    elif deed == "message":
        bad.connection.send(12345, b"what", [memory.fd, memory.fd])
    else:
        bad.connection.socket.send(os.urandom(64))
    assert bad.connection.is_gone()
    assert good.write(4096, b"g" * 512) == OK
    wait_until(lambda: "Export 'bad': the client was disconnected: " in served.daemon.output(),
               "the reason in the log")
    if deed != "cut":
        again = Disk(served.folder / "bad.sock")
        assert again.read(4096, 512) == b"g" * 512
    served.daemon.stop()


@ours
def test_a_machine_that_says_nothing_holds_up_nobody(served):
    path = served.export()
    silent = Connection(path)
    silent.socket.send(b"\1\0")
    other = Disk(served.export("other"))
    assert other.write(0, b"o" * 512) == OK
    served.monitor("block-export-del", id="v")
    assert silent.is_gone()
    served.daemon.stop()


@ours
def test_a_socket_that_was_passed(folder, backend):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "passed.sock"))
    listener.listen()
    (folder / "disk.raw").write_bytes(bytes(MIB))
    process = subprocess.Popen(
        [program("cairnd"), f"--io={backend}", "--blockdev",
         f"file,node-name=f,filename={folder}/disk.raw", "--export",
         f"vhost-user-blk,id=v,node-name=f,writable=on,addr.type=fd,addr.str={listener.fileno()}"],
        pass_fds=[listener.fileno()])
    listener.close()
    disk = Disk(folder / "passed.sock")
    assert disk.write(0, b"p" * 512) == OK
    process.terminate()
    assert process.wait(vhost.TIMEOUT) == 0
    assert (folder / "disk.raw").read_bytes()[:512] == b"p" * 512
