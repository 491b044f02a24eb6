"""Transactions over QMP, and the threshold of writes."""

import threading

import nbd
import pytest

from support import PEER, Qmp, img, wait_until

MIB = 1 << 20


@pytest.fixture
def served(folder, daemons):
    """A daemon that serves the qcow2 node 'disk' over the file node 'file', with a monitor."""
    img("create", "-q", "-f", "qcow2", folder / "a.qcow2", "16M")
    monitors = []

    def start():
        path = folder / "qmp.sock"
        daemon = daemons.serving(
            {"driver": "qcow2", "file": {"driver": "file", "node-name": "file",
                                         "filename": str(folder / "a.qcow2")}},
            "--chardev", f"socket,id=m,path={path},server=on,wait=off", "--monitor", "m")
        daemon.wait_for(path)
        monitors.append(Qmp(path))
        return daemon, monitors[-1]

    yield start
    for monitor in monitors:
        monitor.close()


def connect(daemon):
    client = nbd.NBD()
    client.connect_uri(daemon.uri())
    return client


def bitmaps(monitor):
    for node in monitor("query-named-block-nodes", flat=True):
        if node["node-name"] == "disk":
            return {b["name"]: (b["count"], b["recording"])
                    for b in node.get("dirty-bitmaps", [])}
    raise AssertionError("the node has gone")


def action(kind, **data):
    return {"type": kind if kind == "abort" else f"block-dirty-bitmap-{kind}",
            "data": dict({"node": "disk"}, **data) if kind != "abort" else {}}


def test_everything_is_undone(served):
    daemon, monitor = served()
    for name, persistent in (("old", False), ("kept", True)):
        monitor("block-dirty-bitmap-add", node="disk", name=name, granularity=65536,
                persistent=persistent)
    client = connect(daemon)
    client.pwrite(b"x", 3 * 65536)
    before = bitmaps(monitor)
    assert before == {"old": (65536, True), "kept": (65536, True)}
    changes = [action("add", name="new"), action("add", name="stored", persistent=True),
               action("clear", name="old"), action("clear", name="kept"),
               action("disable", name="kept"),
               action("merge", target="new", bitmaps=["old"]),
               action("remove", name="old")]
    for last, message in [
            (action("abort"), "Transaction aborted using Abort action"),
            (action("clear", name="old"),
             "Bitmap 'old' is currently in use by another operation and cannot be used"),
            (action("clear", name="none"), "Dirty bitmap 'none' not found"),
            (action("clear", name="old", node="none"), "Node 'none' not found"),
            (action("add", name="x", node="none"),
             "Cannot find device='none' nor node-name='none'"),
            (action("merge", target="new", bitmaps=["old", "none"]),
             "Bitmap 'old' is currently in use by another operation and cannot be used"),
            (action("add", name="new"), "Bitmap already exists: new")]:
        reply = monitor.ask("transaction", actions=changes + [last])
        assert reply["error"]["desc"] == message
        assert bitmaps(monitor) == before
    client.shutdown()
    # What the image knows was undone, too.
    daemon.stop()
    daemon, monitor = served()
    assert bitmaps(monitor) == {"kept": (65536, True)}


def test_all_take_effect(served):
    daemon, monitor = served()
    monitor("block-dirty-bitmap-add", node="disk", name="old", granularity=65536, persistent=True)
    client = connect(daemon)
    client.pwrite(b"x", 0)
    monitor("transaction", actions=[
        action("add", name="new", granularity=65536, disabled=True, persistent=True),
        action("merge", target="new", bitmaps=["old"]), action("remove", name="old")])
    assert bitmaps(monitor) == {"new": (65536, False)}
    client.shutdown()
    daemon.stop()
    daemon, monitor = served()
    assert bitmaps(monitor) == {"new": (65536, False)}


def test_no_request_comes_between(served):
    """Each write lands in exactly one of two bitmaps that are exchanged while clients write."""
    daemon, monitor = served()
    for name in ("a", "b"):
        monitor("block-dirty-bitmap-add", node="disk", name=name, granularity=65536,
                disabled=name == "b")
    stop = threading.Event()

    def write():
        client = connect(daemon)
        while not stop.is_set():
            for offset in range(0, 16 * MIB, 65536):
                client.pwrite(b"y" * 512, offset)
        client.shutdown()

    writer = threading.Thread(target=write)
    writer.start()
    on, off = "a", "b"
    try:
        for _ in range(100):
            reply = monitor.ask("transaction", actions=[action("disable", name=on),
                                                        action("enable", name=off)])
            assert reply == {"return": {}}
            assert [bitmaps(monitor)[n][1] for n in (on, off)] == [False, True]
            on, off = off, on
    finally:
        stop.set()
        writer.join()


def test_grouped_completion_is_for_jobs(served):
    if PEER:
        pytest.skip("the peer of Debian 12 words it otherwise")
    _, monitor = served()
    reply = monitor.ask("transaction", actions=[action("add", name="b")],
                        properties={"completion-mode": "grouped"})
    assert reply["error"]["desc"] == ("Action 'block-dirty-bitmap-add' does not support "
                                      "transaction property completion-mode = grouped")
    assert bitmaps(monitor) == {}
    assert monitor("transaction", actions=[]) == {}
