"""Exports on I/O threads: that they are served there, with everything else going on beside them."""

import os
import pathlib
import socket
import struct
import subprocess
import threading
import time

import pytest

import vhost
from support import Qmp, fio, qcow2, raw, run, same_bytes, wait_until
from test_crash import check_image
from writer import SLOT, Writer

IN_USE = ("Node n is associated with a BlockBackend and could be in use "
          "(use force=true to override this check)")
STAYS = "Cannot change iothread of active block backend"


def work_of_threads(daemon):
    """How long the daemon's I/O threads have run, in microseconds."""
    return sum(int((task / "schedstat").read_text().split()[0]) // 1000
               for task in pathlib.Path(f"/proc/{daemon.process.pid}/task").iterdir()
               if (task / "comm").read_text() == "cairn-iothread\n")


@pytest.fixture
def monitored(folder, daemons):
    """Starts a daemon with a monitor, the node 'n' that reads as zeroes, the I/O threads 'io0' and
    'io1' and an NBD server; returns it with its connection."""
    monitors = []

    def start(*arguments, server=""):
        path = folder / "qmp.sock"
        daemon = daemons("--chardev", f"socket,id=m,path={path},server=on,wait=off",
                         "--monitor", "chardev=m", "--object", "iothread,id=io0",
                         "--object", "iothread,id=io1", "--blockdev",
                         "driver=null-co,node-name=n,read-zeroes=on,size=67108864", *arguments,
                         "--nbd-server", f"addr.type=unix,addr.path={folder}/nbd.sock{server}")
        daemon.wait_for(folder / "nbd.sock")
        monitors.append(Qmp(path))
        return daemon, monitors[-1]

    yield start
    for monitor in monitors:
        monitor.close()


def add(monitor, name, node="n", **options):
    """The error of block-export-add of an NBD export; nothing when there is none."""
    done = monitor.ask("block-export-add", type="nbd", id=name, name=name, node_name=node, **options)
    return done.get("error", {}).get("desc")


def move(monitor, thread, node="n", **options):
    done = monitor.ask("x-blockdev-set-iothread", node_name=node, iothread=thread, **options)
    return done.get("error", {}).get("desc")


def remove(monitor, name, mode="hard"):
    monitor("block-export-del", id=name, mode=mode)
    wait_until(lambda: name not in [e["id"] for e in monitor("query-block-exports")], "its removal")


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_written_and_verified_on_a_thread(folder, daemons, form):
    image = folder / f"disk.{form}"
    run("qemu-img", "create", "-q", "-f", form, image, "64M")
    daemon = daemons.serving({"raw": raw, "qcow2": qcow2}[form](image), "--object", "iothread,id=io0",
                             export=",iothread=io0")
    before = work_of_threads(daemon)
    fio(daemon, rw="randwrite", bsrange="512-256k", size="64M", verify="crc32c", verify_fatal=1,
        randseed=7, numjobs=1)
    assert work_of_threads(daemon) > before + 1000
    daemon.stop()
    if form == "qcow2":
        check_image(image)


WRITER = """
h.set_uri_allow_local_file(True)
h.connect_uri({uri!r})
import random
r = random.Random({seed})
for i in range(200):
    at, n = ({seed} << 23) + r.randrange(1 << 22), r.randrange(1, 100000)
    h.pwrite(bytes([{seed} + 1]) * n, at)
    assert h.pread(n, at) == bytes([{seed} + 1]) * n
h.flush()
"""


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_clients_of_one_node_on_several_threads(folder, monitored, pki, kind):
    """Exports on threads of their own and at home, whose clients write to parts of one image."""
    image = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", image, "64M")
    secure = kind == "tls"
    daemon, monitor = monitored(
        *(["--object", f"tls-creds-psk,id=tls,dir={pki / 'keys'},endpoint=server"] if secure else []),
        server=",tls-creds=tls" if secure else "")
    monitor("blockdev-add", **qcow2(image), node_name="d")
    for name, options in (("a", {"iothread": "io0"}), ("b", {"iothread": "io1"}), ("c", {})):
        assert add(monitor, name, node="d", writable=True, **options) is None
    where = f"socket={folder}/nbd.sock" + (f"&tls-psk-file={pki}/keys/keys.psk" if secure else "")
    start = "nbds+unix://alice@localhost" if secure else "nbd+unix://"
    clients = [subprocess.Popen(["/usr/bin/nbdsh", "-c",
                                 WRITER.format(uri=f"{start}/{name}?{where}", seed=seed)],
                                env=dict(os.environ, PATH="/usr/bin:/bin"))
               for seed, name in enumerate("abca")]
    assert [client.wait(100) for client in clients] == [0] * 4
    run("nbdcopy", f"{start}/b?{where}", folder / "copy.raw")
    daemon.stop()
    check_image(image)
    run("qemu-img", "convert", "-O", "raw", image, folder / "after.raw")
    same_bytes(folder / "copy.raw", folder / "after.raw")


def test_block_status_and_holes_from_a_thread(folder, daemons):
    image = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "64M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q 1M 64k", image)
    daemon = daemons.serving(qcow2(image), "--object", "iothread,id=io0",
                             export=",iothread=io0,allocation-depth=on")
    map_of = run("nbdinfo", "--map", daemon.uri()).out
    assert [line.split()[:3] for line in map_of.splitlines()] == [
        ["0", "1048576", "3"], ["1048576", "65536", "0"], ["1114112", "65994752", "3"]]
    depth = run("nbdinfo", "--map=qemu:allocation-depth", daemon.uri()).out
    assert depth.split()[2] == "0"
    run("nbdcopy", daemon.uri(), folder / "copy.raw")
    run("qemu-img", "convert", "-O", "raw", image, folder / "want.raw", "-U")
    same_bytes(folder / "copy.raw", folder / "want.raw")


def receive(client, length):
    """So many bytes; with a time limit a socket's recv() may return fewer."""
    data = bytearray()
    while len(data) < length:
        piece = client.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece


class Load:
    """Clients that read as fast as they can until they are cut off."""

    def __init__(self, path, name, clients=4):
        self.threads, self.ends, self.replies, self.served = [], [], 0, 0
        for _ in range(clients):
            self.threads.append(threading.Thread(target=self._run, args=(path, name)))
            self.threads[-1].start()

    def _run(self, path, name):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(60)
        client.connect(str(path))
        receive(client, 18)
        client.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, len(name)) + name.encode())
        receive(client, 10)
        self.served += 1
        try:
            while True:
                client.sendall(b"".join(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, i * 4096, 4096)
                                        for i in range(16)))
                for _ in range(16):
                    receive(client, 16 + 4096)
                    self.replies += 1
        except (EOFError, OSError) as end:
            self.ends.append(end)
        client.close()

    def wait(self, replies):
        """Until all clients are served, and so many replies have come."""
        wait_until(lambda: self.served == len(self.threads) and self.replies > replies, "some load")

    def join(self):
        for thread in self.threads:
            thread.join(60)
        assert len(self.ends) == len(self.threads), "a client was not cut off"


def test_an_export_is_removed_under_load(folder, monitored):
    daemon, monitor = monitored()
    assert add(monitor, "stays", iothread="io0") is None
    other = Load(folder / "nbd.sock", "stays", clients=1)
    for turn in range(5):
        assert add(monitor, "goes", iothread=f"io{turn % 2}") is None
        load = Load(folder / "nbd.sock", "goes")
        load.wait(200)
        refused = monitor.ask("block-export-del", id="goes")
        assert refused["error"]["desc"] == "export 'goes' still in use"
        remove(monitor, "goes")
        load.join()
    seen = other.replies
    wait_until(lambda: other.replies > seen, "more for the other export's client")
    monitor("nbd-server-stop")
    other.join()
    assert monitor("query-block-exports") == []
    daemon.stop()


def test_the_daemon_ends_in_good_order_under_load(folder, monitored):
    daemon, monitor = monitored()
    assert add(monitor, "a", iothread="io0") is None
    assert add(monitor, "b", iothread="io1") is None
    loads = [Load(folder / "nbd.sock", name, clients=2) for name in "ab"]
    for load in loads:
        load.wait(100)
    daemon.stop()
    for load in loads:
        load.join()


def test_a_thread_in_use_is_not_deleted(folder, monitored):
    _, monitor = monitored()
    assert add(monitor, "e", iothread="io0") is None
    assert monitor.ask("object-del", id="io0")["error"]["desc"] == \
        "object 'io0' is in use, can not be deleted"
    remove(monitor, "e", "safe")
    monitor("object-del", id="io0")
    assert add(monitor, "e", iothread="io0") == 'iothread "io0" not found'
    assert add(monitor, "e") is None


def test_what_is_asked_for_is_checked_in_the_order_of_the_peer(monitored):
    _, monitor = monitored("--blockdev", "driver=null-co,node-name=ro,read-only=on",
                           "--object", "secret,id=s,data=x")
    for name in ("nope", "s", ""):
        assert add(monitor, "f", iothread=name) == f'iothread "{name}" not found'
    assert add(monitor, "f", node="x", iothread="nope") == "Cannot find device='' nor node-name='x'"
    assert add(monitor, "f", node="ro", writable=True, iothread="nope") == \
        "Cannot export read-only node as writable"
    assert add(monitor, "e") is None
    assert add(monitor, "e", iothread="nope") == "Block export id 'e' is already in use"
    assert add(monitor, "1", iothread="nope") == "Invalid block export id"


def test_a_fixed_export_keeps_its_node_where_it_is(monitored):
    """As the peer's daemon, 7.2, answers."""
    _, monitor = monitored("--blockdev", "driver=raw,node-name=r,file=n")
    assert add(monitor, "e", node="r", iothread="io0", fixed_iothread=True) is None
    assert add(monitor, "f", iothread="io1") is None
    assert add(monitor, "g", iothread="io1", fixed_iothread=True) == STAYS
    assert add(monitor, "h", iothread="io0", fixed_iothread=True) is None
    assert add(monitor, "i", fixed_iothread=True) is None
    assert move(monitor, "io1") == IN_USE
    assert move(monitor, "io1", force=True) == STAYS
    assert move(monitor, "io0", force=True) is None
    for name in "efhi":
        remove(monitor, name)
    # Nobody keeps it there: it is at home again.
    assert add(monitor, "j", fixed_iothread=True) is None
    assert add(monitor, "k", iothread="io0", fixed_iothread=True) == STAYS


def test_exports_are_served_on_the_thread_of_their_node(folder, monitored):
    daemon, monitor = monitored("--blockdev", "driver=raw,node-name=r,file=n")
    assert move(monitor, "io0") is None
    assert add(monitor, "e", node="r") is None
    before = work_of_threads(daemon)
    script = "for i in range(200): h.pread(512, 512 * i)"
    uri = f"nbd+unix:///e?socket={folder}/nbd.sock"
    run("nbdsh", "-u", uri, "-c", script)
    assert work_of_threads(daemon) > before + 300
    assert move(monitor, "io1", node="r").startswith("Node r is associated")
    assert move(monitor, "io1") is None  # nobody uses this one itself
    assert move(monitor, "nope") == "Cannot find iothread nope"
    assert move(monitor, None, node="nope") == "Failed to find node with node-name='nope'"
    assert monitor.ask("x-blockdev-set-iothread", node_name="n")["error"]["desc"] == \
        "Parameter 'iothread' is missing"
    assert move(monitor, 5) == "Invalid parameter type for 'iothread', expected: StrOrNull"
    remove(monitor, "e")
    before = work_of_threads(daemon)
    assert add(monitor, "e", node="r") is None
    run("nbdsh", "-u", uri, "-c", script)
    assert work_of_threads(daemon) < before + 300


@pytest.mark.parametrize("turns", [4])
def test_kill_under_load(folder, daemons, turns):
    image = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", image, 4096 * SLOT)
    writer = Writer(4096, seed=5)
    for turn in range(turns):
        (folder / "nbd.sock").unlink(missing_ok=True)
        daemon = daemons.serving(qcow2(image), "--object", "iothread,id=io0", export=",iothread=io0")
        writer.run(daemon.uri(), 40 + 70 * turn, lambda daemon=daemon: daemon.kill_writing(image))
        check_image(image)
        run("qemu-img", "convert", "-O", "raw", image, folder / "after.raw")
        bad = writer.check(folder / "after.raw")
        assert not bad, f"round {turn}: {len(bad)} slots are wrong, the first: {bad[:3]}"


def test_a_machine_whose_memory_is_cut_short_ends_nobody(folder, monitored):
    """The signal arrives on the thread."""
    daemon, monitor = monitored()
    disks = []
    for name in ("bad", "good"):
        monitor("block-export-add", type="vhost-user-blk", id=name, node_name="n", writable=True,
                iothread="io0", addr={"type": "unix", "path": f"{folder}/{name}.sock"})
        disks.append(vhost.Disk(folder / f"{name}.sock"))
    bad, good = disks
    assert bad.write(0, b"b" * 512) == vhost.OK
    os.ftruncate(bad.memory.fd, 0)
    bad.queues[0].notify()
    assert bad.connection.is_gone()
    assert good.write(4096, b"g" * 512) == vhost.OK
    daemon.stop()


def test_clients_that_were_idle_on_a_thread_are_served_again(folder, monitored):
    """For so long that the server has taken back what they were served with."""
    daemon, monitor = monitored()
    assert add(monitor, "e", iothread="io0") is None
    clients = []
    for _ in range(10):
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"{folder}/nbd.sock")
        client.recv(18, socket.MSG_WAITALL)
        client.sendall(struct.pack(">I8sII1s", 3, b"IHAVEOPT", 1, 1, b"e"))
        client.recv(10, socket.MSG_WAITALL)
        clients.append(client)
    for pause in (0, 12):
        time.sleep(pause)
        for client in clients:
            client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 4096))
            assert len(client.recv(16 + 4096, socket.MSG_WAITALL)) == 16 + 4096
    daemon.stop()
