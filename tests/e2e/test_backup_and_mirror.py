"""Backups and mirrors of disks that clients write to through NBD."""

import contextlib
import struct
import threading

import nbd
import pytest

from support import Qmp, img, run, wait_until

MIB = 1 << 20
SIZE = 16 * MIB


@pytest.fixture
def served(folder, daemons):
    """A daemon with the node 'disk' on an 8 MiB pattern and 8 MiB of nothing, and a monitor."""
    (folder / "disk.raw").write_bytes(bytes(range(1, 251)) * (8 * MIB // 250))
    run("truncate", "-s", SIZE, folder / "disk.raw")
    monitors = []

    def start(*more):
        path = folder / "qmp.sock"
        daemon = daemons.serving(
            {"driver": "file", "filename": str(folder / "disk.raw"), "discard": "unmap"},
            "--chardev", f"socket,id=m,path={path},server=on,wait=off", "--monitor", "m", *more)
        daemon.wait_for(path)
        monitors.append(Qmp(path))
        return daemon, monitors[-1]

    yield start
    for monitor in monitors:
        monitor.close()


def connect(daemon, name="disk"):
    client = nbd.NBD()
    client.connect_uri(daemon.uri(name))
    return client


def add_qcow2(monitor, folder, name, *create):
    img("create", "-q", "-f", "qcow2", *create, folder / f"{name}.qcow2", SIZE)
    monitor("blockdev-add", driver="qcow2", discard="unmap", **{"node-name": name},
            file={"driver": "file", "filename": str(folder / f"{name}.qcow2")})


def status(monitor, job="j"):
    return {j["id"]: j["status"] for j in monitor("query-jobs")}.get(job)


def finish(monitor, job="j"):
    """Waits for a job's end; its error."""
    wait_until(lambda: status(monitor, job) == "concluded", f"the end of job {job}")
    error = next(j.get("error") for j in monitor("query-jobs") if j["id"] == job)
    monitor("job-dismiss", id=job)
    return error


@contextlib.contextmanager
def counting(*clients):
    """Counts up on all disks in turn, again and again: the first is never behind, nor two ahead."""
    stop = threading.Event()
    for client in clients:
        for place in range(4):
            client.pwrite(bytes(8), place * 3 * MIB)

    def work():
        count = 0
        while not stop.is_set():
            count += 1
            for client in clients:
                for place in range(4):
                    client.pwrite(struct.pack("<Q", count), place * 3 * MIB)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def counts(path):
    data = path.read_bytes()
    return [struct.unpack_from("<Q", data, place * 3 * MIB)[0] for place in range(4)]


def test_a_transaction_saves_several_disks_at_one_moment(served, folder):
    daemon, monitor = served()
    run("truncate", "-s", SIZE, folder / "other.raw")
    monitor("blockdev-add", driver="file", filename=str(folder / "other.raw"),
            **{"node-name": "other"})
    monitor("block-export-add", type="nbd", id="o", **{"node-name": "other"}, writable=True,
            name="other")
    for name in ("a", "b"):
        run("truncate", "-s", SIZE, folder / f"{name}.raw")
        monitor("blockdev-add", driver="file", filename=str(folder / f"{name}.raw"),
                **{"node-name": name})
    with counting(connect(daemon), connect(daemon, "other")):
        for _ in range(3):
            monitor("transaction", actions=[
                {"type": "blockdev-backup",
                 "data": {"job-id": target, "device": device, "target": target, "sync": "full",
                          "auto-dismiss": False}}
                for device, target in (("disk", "a"), ("other", "b"))])
            assert finish(monitor, "a") is None and finish(monitor, "b") is None
            seen = counts(folder / "a.raw") + counts(folder / "b.raw")
            assert seen == sorted(seen, reverse=True), "later writes without earlier ones"
            assert seen[0] - seen[-1] <= 1, "of different moments"


def test_a_pull_backup_sees_the_moment_it_began(served, folder):
    daemon, monitor = served()
    add_qcow2(monitor, folder, "saved")
    client = connect(daemon)
    before = bytes(client.pread(SIZE, 0))
    client.shutdown()
    monitor("block-export-del", id="export0", mode="hard")
    wait_until(lambda: not monitor("query-block-exports"), "the export's end")
    monitor("blockdev-add", driver="copy-before-write", file="disk", target="saved",
            discard="unmap", **{"node-name": "cbw"})
    monitor("blockdev-add", driver="snapshot-access", file="cbw", discard="unmap",
            **{"node-name": "then"})
    monitor("block-export-add", type="nbd", id="c", **{"node-name": "cbw"}, writable=True,
            name="now")
    monitor("block-export-add", type="nbd", id="s", **{"node-name": "then"}, writable=True,
            name="then")
    with counting(connect(daemon, "now")):
        run("nbdcopy", daemon.uri("then"), folder / "pulled.raw")
    assert (folder / "pulled.raw").read_bytes() == before
    reader = connect(daemon, "then")
    reader.trim(MIB, 0)
    with pytest.raises(nbd.Error):
        reader.pread(512, 0)
    assert reader.pread(512, 2 * MIB) == before[2 * MIB:2 * MIB + 512]


@pytest.mark.parametrize("mode", ["background", "write-blocking"])
def test_users_of_a_mirror_go_over_without_loss(served, folder, mode):
    daemon, monitor = served()
    add_qcow2(monitor, folder, "t")
    client = connect(daemon)
    with counting(client):
        monitor("blockdev-mirror", device="disk", target="t", sync="full", **{
            "job-id": "j", "copy-mode": mode, "auto-dismiss": False})
        wait_until(lambda: status(monitor) == "ready", "the mirror")
        monitor("job-complete", id="j")
        assert finish(monitor) is None
    content = bytes(client.pread(SIZE, 0))
    client.shutdown()
    monitor("blockdev-del", **{"node-name": "disk"})
    daemon.stop()
    assert img("check", folder / "t.qcow2").code == 0
    img("convert", "-O", "raw", folder / "t.qcow2", folder / "t.raw")
    assert (folder / "t.raw").read_bytes() == content
    old = (folder / "disk.raw").read_bytes()
    differing = {i // 4096 * 4096 for i in range(0, SIZE, 512) if old[i:i + 512] != content[i:i + 512]}
    assert differing <= {place * 3 * MIB for place in range(4)}, "only what was written since"


def test_an_incremental_chain_is_the_disk(served, folder):
    daemon, monitor = served()
    client = connect(daemon)
    monitor("block-dirty-bitmap-add", node="disk", name="b")
    add_qcow2(monitor, folder, "full")
    monitor("blockdev-backup", device="disk", target="full", sync="full", bitmap="b", **{
        "job-id": "j", "bitmap-mode": "on-success", "auto-dismiss": False})
    assert finish(monitor) is None
    client.pwrite(b"n" * 100000, 3 * MIB)
    client.trim(MIB, 5 * MIB)
    monitor("drive-backup", device="disk", target=str(folder / "inc.qcow2"), format="qcow2",
            sync="incremental", bitmap="b", compress=True, **{
                "job-id": "j", "auto-dismiss": False})
    assert finish(monitor) is None
    content = bytes(client.pread(SIZE, 0))
    client.shutdown()
    daemon.stop()
    img("rebase", "-u", "-b", folder / "full.qcow2", "-F", "qcow2", folder / "inc.qcow2")
    assert img("check", folder / "inc.qcow2").code == 0
    img("convert", "-O", "raw", folder / "inc.qcow2", folder / "inc.raw")
    assert (folder / "inc.raw").read_bytes() == content
