"""Reopening nodes that are in use, snapshots in other files, and nodes that are given up."""

import json
import random
import shutil
import threading

import nbd
import pytest

from support import PEER, Qmp, img, io, run

MIB = 1 << 20
pytestmark = pytest.mark.skipif(PEER, reason="the peer of Debian lacks some of it")


@pytest.fixture
def served(folder, daemons):
    """A daemon that serves the qcow2 node 'disk', 16 MiB, with two monitors, and a client."""
    img("create", "-q", "-f", "qcow2", folder / "a.qcow2", "16M")
    opened = []

    def start():
        path = folder / "qmp.sock"
        more = []
        for name, socket in (("m", path), ("m2", folder / "second.sock")):
            more += ["--chardev", f"socket,id={name},path={socket},server=on,wait=off",
                     "--monitor", name]
        daemon = daemons.serving(options(), *more)
        daemon.wait_for(path)
        monitor, client = Qmp(path), nbd.NBD()
        client.connect_uri(daemon.uri())
        opened.append(monitor)
        return daemon, monitor, client

    yield start
    for monitor in opened:
        monitor.close()


def options(**more):
    return dict({"driver": "qcow2", "node-name": "disk",
                 "file": {"driver": "file", "filename": "a.qcow2"}}, **more)


def node(monitor, name):
    found = [n for n in monitor("query-named-block-nodes", flat=True) if n["node-name"] == name]
    assert found, f"no node '{name}'"
    return found[0]


def stop_export(monitor, client):
    client.shutdown()
    monitor("block-export-del", id="export0", mode="hard")
    while not any(e["event"] == "BLOCK_EXPORT_DELETED" for e in monitor.events):
        monitor("query-version")


def reference(image, expected):
    """Both tools read what was written, and find the image sound."""
    for offset, byte in expected.items():
        io("-f", "qcow2", "-r", "-c", f"read -P {byte} {offset} 64k", image)
    if shutil.which("qemu-img"):
        run("qemu-img", "check", image)


def test_read_only_and_back_with_bitmaps(folder, served):
    """A read-only image is whole on disk, bitmaps included; other programs may read it."""
    daemon, monitor, client = served()
    monitor("block-dirty-bitmap-add", node="disk", name="b", persistent=True)
    client.pwrite(b"\x01" * 65536, 0)
    refused = monitor.ask("blockdev-reopen", options=[options(**{"read-only": True})])
    assert refused["error"]["desc"] == "Read-only block node 'disk' cannot support read-write users"
    client.pwrite(b"\x02" * 65536, 65536)
    stop_export(monitor, client)
    monitor("blockdev-reopen", options=[options(**{"read-only": True})])
    found = node(monitor, "disk")
    assert found["ro"] and found["dirty-bitmaps"][0]["count"] == 131072
    listed = json.loads(img("info", "--output=json", "-U", folder / "a.qcow2").out)
    assert listed["format-specific"]["data"]["bitmaps"][0]["flags"] == ["auto"], "it is stored"
    reference(folder / "a.qcow2", {0: 1, 65536: 2})
    assert "error" in monitor.ask("block-dirty-bitmap-clear", node="disk", name="b")
    monitor("blockdev-reopen", options=[options()])
    monitor("block-dirty-bitmap-clear", node="disk", name="b")
    assert node(monitor, "disk")["dirty-bitmaps"][0]["count"] == 0
    daemon.stop()
    reference(folder / "a.qcow2", {0: 1, 65536: 2})


def test_options_change_under_load(folder, served):
    """A client goes on writing while caches, refcounts and discards change under it."""
    daemon, monitor, client = served()
    rng = random.Random(1)
    expected = {}
    for turn in range(20):
        # Which one of two writes to one place wins, when they are under way together, is open.
        for offset in (cluster * 65536 for cluster in rng.sample(range(256), 8)):
            byte = rng.randrange(1, 255)
            client.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([byte]) * 65536), offset)
            expected[offset] = byte
        monitor("blockdev-reopen", options=[options(**rng.choice([
            {"lazy-refcounts": True}, {"l2-cache-entry-size": 512}, {"discard": "unmap"},
            {"cache": {"no-flush": True}}, {"overlap-check": "all"}, {}]))])
        while client.aio_in_flight():
            client.poll(-1)
    client.flush()
    client.shutdown()
    daemon.stop()
    reference(folder / "a.qcow2", expected)


def test_snapshots_make_a_chain(folder, served):
    """Writes go to the newest image; every one below keeps what it held, and takes no more."""
    daemon, monitor, client = served()
    images, expected = ["a.qcow2"], [{}]
    top = "disk"
    for turn in range(1, 5):
        client.pwrite(bytes([turn]) * 65536, turn * 65536)
        expected[-1][turn * 65536] = turn
        monitor("blockdev-snapshot-sync", node_name=top, snapshot_file=f"o{turn}.qcow2",
                snapshot_node_name=f"o{turn}")
        assert node(monitor, top)["ro"]
        top = f"o{turn}"
        images.append(f"{top}.qcow2")
        expected.append(dict(expected[-1]))
    client.pwrite(b"\x63" * 65536, 65536)
    expected[-1][65536] = 0x63
    client.flush()
    assert monitor("query-block-exports")[0]["node-name"] == top
    client.shutdown()
    daemon.stop()
    for image, content in zip(images, expected):
        reference(folder / image, content)


def test_a_flush_after_a_snapshot_covers_what_came_before(folder, served):
    """The daemon is killed after a flush of the overlay: what was written below it is there."""
    daemon, monitor, client = served()
    client.pwrite(b"\x07" * 65536, 0)
    monitor("blockdev-snapshot-sync", node_name="disk", snapshot_file="o.qcow2",
            snapshot_node_name="o")
    client.pwrite(b"\x08" * 65536, 65536)
    client.flush()
    daemon.kill()
    reference(folder / "o.qcow2", {0: 7, 65536: 8})


def test_a_failed_transaction_takes_snapshots_back(folder, served):
    daemon, monitor, client = served()
    client.pwrite(b"\x01" * 65536, 0)
    before = monitor("x-debug-query-block-graph")
    for last, error in (({"type": "abort", "data": {}}, "Transaction aborted using Abort action"),
                        ({"type": "blockdev-snapshot", "data": {"node": "o", "overlay": "none"}},
                         "Cannot find device='none' nor node-name='none'")):
        reply = monitor.ask("transaction", actions=[
            {"type": "blockdev-snapshot-internal-sync", "data": {"device": "disk", "name": "s"}},
            {"type": "block-dirty-bitmap-add", "data": {"node": "disk", "name": "b"}},
            {"type": "blockdev-snapshot-sync",
             "data": {"node-name": "disk", "snapshot-file": "o.qcow2", "snapshot-node-name": "o"}},
            last])
        assert reply["error"]["desc"] == error
        found = node(monitor, "disk")
        assert not found["ro"] and "dirty-bitmaps" not in found
        assert "snapshots" not in found["image"]
        after = monitor("x-debug-query-block-graph")
        assert len(after["edges"]) == len(before["edges"])
    client.pwrite(b"\x02" * 65536, 65536)
    client.shutdown()
    daemon.stop()
    reference(folder / "a.qcow2", {0: 1, 65536: 2})


def test_an_exported_bitmap_stays_with_its_node(served):
    """A snapshot takes the export to the overlay; the bitmap that it shows is still there, and is
    nobody else's."""
    daemon, monitor, client = served()
    monitor("block-dirty-bitmap-add", node="disk", name="b", persistent=True)
    client.pwrite(b"\x01" * 65536, 65536)
    monitor("block-export-add", type="nbd", id="x", node_name="disk", name="x", writable=True,
            bitmaps=["b"])
    reader = nbd.NBD()
    reader.add_meta_context("qemu:dirty-bitmap:b")
    reader.connect_uri(daemon.uri("x"))
    for turn in range(2):
        found = []
        reader.block_status(262144, 0, lambda context, offset, entries, error:
                            found.extend(entries))
        assert found[:4] == [65536, 0, 65536, 1]
        if turn == 0:
            monitor("blockdev-snapshot-sync", node_name="disk", snapshot_file="o.qcow2",
                    snapshot_node_name="o")
            monitor("blockdev-reopen", options=[{
                "driver": "qcow2", "node-name": "o", "backing": None,
                "file": {"driver": "file", "filename": "o.qcow2"}}])
            assert "in use" in monitor.ask("blockdev-del", node_name="disk")["error"]["desc"]
    reader.shutdown()
    client.shutdown()


def test_a_node_that_is_given_up_is_anothers(folder, served):
    """What was written is there for the other program, and what that writes is seen afterwards."""
    daemon, monitor, client = served()
    monitor("block-dirty-bitmap-add", node="disk", name="b", persistent=True)
    client.pwrite(b"\x01" * 65536, 0)
    refused = monitor.ask("blockdev-set-active", node_name="disk", active=False)
    assert "Operation not permitted" in refused["error"]["desc"]
    stop_export(monitor, client)
    monitor("blockdev-set-active", node_name="disk", active=False)
    assert not node(monitor, "disk")["active"]
    io("-f", "qcow2", "-c", "read -P 1 0 64k", "-c", "write -P 2 64k 64k", folder / "a.qcow2")
    monitor("blockdev-set-active", node_name="disk", active=True)
    found = node(monitor, "disk")
    assert found["active"] and found["dirty-bitmaps"][0]["count"] == 131072
    monitor("block-export-add", type="nbd", id="e", node_name="disk", name="again", writable=True)
    again = nbd.NBD()
    again.connect_uri(daemon.uri("again"))
    assert again.pread(1, 0) == b"\x01" and again.pread(1, 65536) == b"\x02"
    again.shutdown()
    daemon.stop()
    reference(folder / "a.qcow2", {0: 1, 65536: 2})


def test_an_export_may_outlast_its_node(served):
    """With allow-inactive the export stays, and its requests fail as long as the node is away."""
    daemon, monitor, client = served()
    stop_export(monitor, client)
    monitor("blockdev-set-active", node_name="disk", active=False)
    monitor("block-export-add", type="nbd", id="e", node_name="disk", name="e", writable=True,
            allow_inactive=True)
    assert not node(monitor, "disk")["active"]
    client = nbd.NBD()
    client.connect_uri(daemon.uri("e"))
    for request in (lambda: client.pread(512, 0), lambda: client.pwrite(b"x" * 512, 0)):
        with pytest.raises(nbd.Error):
            request()
    monitor("blockdev-set-active", node_name="disk", active=True)
    client.pwrite(b"x" * 512, 0)
    assert client.pread(512, 0) == b"x" * 512
    monitor("blockdev-set-active", active=False)
    with pytest.raises(nbd.Error):
        client.pread(512, 0)
    client.shutdown()


def test_two_monitors_at_once(folder, served):
    """One client makes snapshots that are taken back and reopens; the other adds and removes users
    of the same node. Nobody is in anybody's way, and the image holds what was written."""
    daemon, monitor, client = served()
    second = Qmp(folder / "second.sock")
    expected, failures = {}, []

    def users():
        try:
            for turn in range(60):
                second("blockdev-add", driver="raw", node_name="r", file="disk", read_only=True)
                second("block-export-add", type="nbd", id="x", node_name="r", name="x")
                if turn % 2:
                    second("block-export-del", id="x", mode="hard")
                    while not any(e["event"] == "BLOCK_EXPORT_DELETED" for e in second.events):
                        second("query-version")
                    second.events.clear()
                else:
                    second("block-export-del", id="x")
                    while second("query-block-exports")[-1]["id"] == "x":
                        pass
                second.ask("blockdev-del", node_name="r")
        except Exception as problem:  # the main thread tells
            failures.append(problem)

    thread = threading.Thread(target=users)
    thread.start()
    turn = 0
    while thread.is_alive():
        turn += 1
        offset, byte = turn % 200 * 65536, turn % 250 + 1
        client.pwrite(bytes([byte]) * 65536, offset)
        expected[offset] = byte
        monitor.ask("transaction", actions=[
            {"type": "blockdev-snapshot-sync",
             "data": {"node-name": "disk", "snapshot-file": "o.qcow2", "snapshot-node-name": "o"}},
            {"type": "abort", "data": {}}])
        monitor.ask("blockdev-reopen", options=[options(**{"lazy-refcounts": bool(turn % 2)})])
    thread.join()
    second.close()
    assert not failures, failures[0]
    client.shutdown()
    daemon.stop()
    reference(folder / "a.qcow2", expected)
