"""What is told about nodes: statistics after real requests, and the limits of their storage."""

import pytest

from support import PEER, run

MIB = 1 << 20


def statistics(monitor):
    return {entry["node-name"]: entry for entry in monitor("query-blockstats", query_nodes=True)}


@pytest.mark.skipif(PEER, reason="the peer counts requests of devices alone, which it has none of")
def test_requests_are_counted_and_timed_at_every_node(served):
    monitor, client = served
    assert "idle_time_ns" not in statistics(monitor)["q"]["stats"]
    client("h.pwrite(b'x' * 65536, 0); h.pwrite(b'x' * 512, 512); h.pread(4096, 0); h.flush()")
    client("h.trim(65536, 0)")
    told = statistics(monitor)
    stats = told["q"]["stats"]
    assert (stats["wr_operations"], stats["wr_bytes"]) == (2, 66048)
    assert (stats["rd_operations"], stats["rd_bytes"]) == (1, 4096)
    assert (stats["unmap_operations"], stats["unmap_bytes"]) == (1, 65536)
    assert stats["flush_operations"] >= 1
    for kind in ("rd", "wr", "unmap", "flush"):
        assert stats[f"{kind}_total_time_ns"] > 0
        assert stats[f"failed_{kind}_operations"] == stats[f"invalid_{kind}_operations"] == 0
    assert stats["idle_time_ns"] > 0
    below = told["f"]["stats"]
    assert below["wr_bytes"] > 66048 and below["rd_bytes"] >= 4096
    assert told["q"]["parent"]["node-name"] == "f"


def test_a_file_tells_what_it_gave_back(served, folder):
    monitor, _ = served
    (folder / "a.raw").write_bytes(b"x" * MIB)
    monitor("blockdev-add", driver="file", node_name="r", filename="a.raw", discard="unmap")
    monitor("block-export-add", type="nbd", id="r", node_name="r", name="r", writable=True)
    assert statistics(monitor)["r"]["driver-specific"] == {
        "driver": "file", "discard-nb-ok": 0, "discard-nb-failed": 0, "discard-bytes-ok": 0}
    run("nbdsh", "-u", f"nbd+unix:///r?socket={folder}/nbd.sock", "-c", "h.trim(65536, 4096)")
    told = statistics(monitor)["r"]["driver-specific"]
    assert (told["discard-nb-ok"], told["discard-bytes-ok"]) == (1, 65536)
    assert "driver-specific" not in statistics(monitor)["q"]


@pytest.mark.skipif(PEER, reason="the installed peer is older than limits")
def test_limits_of_storage_are_told(served):
    monitor, _ = served
    limits = {node["node-name"]: node["image"]["limits"]
              for node in monitor("query-named-block-nodes")}
    assert limits["f"]["request-alignment"] == 1 and limits["f"]["max-iov"] == 1024
    assert limits["q"]["discard-alignment"] == limits["q"]["write-zeroes-alignment"] == 65536
    for node in limits.values():
        assert node["opt-mem-alignment"] >= node["min-mem-alignment"] >= 1
    monitor("blockdev-add", driver="file", node_name="d", filename="a.qcow2",
            **{"read_only": True, "force_share": True, "cache": {"direct": True}})
    direct = next(node for node in monitor("query-named-block-nodes") if node["node-name"] == "d")
    assert direct["image"]["limits"]["min-mem-alignment"] >= 512 or \
        direct["image"]["limits"]["request-alignment"] >= 512
    assert direct["write_threshold"] == 0
