"""Write thresholds: how storage below an image is made larger before it is full."""

import pytest

MIB = 1 << 20
MANY, PIECE = 25, 256 << 10


def thresholds(monitor):
    return {node["node-name"]: node["write_threshold"]
            for node in monitor("query-named-block-nodes")}


def events(monitor):
    monitor("query-version")  # what it answers comes behind all events so far
    told = [event["data"] for event in monitor.events if event["event"] == "BLOCK_WRITE_THRESHOLD"]
    monitor.events.clear()
    return told


def test_a_threshold_of_an_image_is_told_once(served):
    monitor, client = served
    monitor("block-set-write-threshold", node_name="q", write_threshold=MIB)
    assert thresholds(monitor) == {"f": 0, "q": MIB}
    client("h.pwrite(bytes(4096), 0)")
    client(f"h.pread(4096, {MIB})")
    assert events(monitor) == []
    client(f"h.pwrite(b'x' * 4096, {MIB - 1024})")
    assert events(monitor) == [
        {"node-name": "q", "amount-exceeded": 3072, "write-threshold": MIB}]
    assert thresholds(monitor) == {"f": 0, "q": 0}
    client(f"h.pwrite(b'x' * 4096, {2 * MIB})")
    assert events(monitor) == []


@pytest.mark.parametrize("request_", ["h.zero(4096, 1 << 20)", "h.trim(65536, 1 << 20)"])
def test_zeroing_and_discarding_count(served, request_):
    monitor, client = served
    monitor("block-set-write-threshold", node_name="q", write_threshold=4096)
    client(request_)
    assert [event["node-name"] for event in events(monitor)] == ["q"]


def test_a_file_that_grows_under_an_image_tells_when_it_needs_room(served):
    """What a manager of thin storage does: each event moves the threshold on."""
    monitor, client = served
    step, threshold, told = MIB, MIB, []
    monitor("block-set-write-threshold", node_name="f", write_threshold=threshold)
    for number in range(MANY):
        client(f"h.pwrite(b'x' * {PIECE}, {number * PIECE})")
        for event in events(monitor):
            assert event["write-threshold"] == threshold and event["node-name"] == "f"
            assert 0 < event["amount-exceeded"] <= PIECE
            told.append(event)
            threshold += step
            monitor("block-set-write-threshold", node_name="f", write_threshold=threshold)
    # 6.25 MiB of data and the tables lie in the file.
    assert len(told) == 6
    monitor("block-export-del", id="e")


def test_wrong_requests_are_refused(served):
    monitor, _ = served
    for arguments, words in (
            ({"node_name": "nope", "write_threshold": 1}, "Device 'nope' not found"),
            ({"node_name": "", "write_threshold": 1}, "Device '' not found"),
            ({"node_name": "f"}, "Parameter 'write-threshold' is missing")):
        assert monitor.ask("block-set-write-threshold", **arguments)["error"]["desc"] == words
    # Negative offsets are those above 2^63, which no write reaches.
    monitor("block-set-write-threshold", node_name="f", write_threshold=-1)
    assert thresholds(monitor)["f"] == -1
    monitor("block-set-write-threshold", node_name="f", write_threshold=0)
    assert thresholds(monitor) == {"f": 0, "q": 0}
