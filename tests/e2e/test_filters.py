"""Filters in a running daemon: put in and taken out, with limits that change, and on its way out."""

import json
import subprocess
import time

import pytest

from support import img, io, run

MIB = 1 << 20


@pytest.fixture
def throttled(served):
    """The served image with a throttle node between it and its file."""
    monitor, client = served
    monitor("object-add", qom_type="throttle-group", id="g")
    monitor("blockdev-add", driver="throttle", node_name="t", throttle_group="g", file="f")
    monitor("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "q", "file": "t"}])
    return monitor, client


def limit(monitor, **limits):
    monitor("qom-set", path="/objects/g", property="limits",
            value={name.replace("_", "-"): value for name, value in limits.items()})


def test_a_filter_comes_and_goes_under_a_client(throttled):
    monitor, client = throttled
    client("h.pwrite(b'x' * 65536, 0)")
    with pytest.raises(AssertionError, match="in use"):
        monitor("blockdev-del", node_name="t")
    monitor("blockdev-reopen", options=[{"driver": "qcow2", "node-name": "q", "file": "f"}])
    monitor("blockdev-del", node_name="t")
    client("assert h.pread(65536, 0) == b'x' * 65536")


def test_limits_hold_and_change(throttled):
    monitor, client = throttled
    client("h.pwrite(b'x' * 65536, 0)")
    limit(monitor, bps_total=MIB)
    start = time.monotonic()
    client("[h.pread(65536, 0) for _ in range(16)]")
    assert time.monotonic() - start > 0.5
    limit(monitor, bps_total=1)
    client("h.pread(65536, 0)")  # paid for afterwards
    limit(monitor, bps_total=0)
    client("[h.pread(65536, 0) for _ in range(16)]")


def test_a_daemon_ends_although_requests_wait(folder, daemons):
    image = folder / "a.img"
    img("create", "-q", "-f", "raw", image, "1M")
    path = folder / "nbd.sock"
    daemon = daemons("--object", "throttle-group,id=g,x-bps-total=1",
                     "--blockdev", "driver=throttle,node-name=disk,throttle-group=g,"
                     f"file.driver=file,file.filename={image}",
                     "--nbd-server", f"addr.type=unix,addr.path={path}",
                     "--export", "type=nbd,id=e,node-name=disk,name=disk")
    daemon.wait_for(path)
    script = (f"import nbd; h = nbd.NBD(); h.connect_uri('nbd+unix:///disk?socket={path}');"
              "b = nbd.Buffer(512);"
              "[h.aio_pread(b, 0) for _ in range(8)];"
              "[h.poll(200) for _ in range(3)]; print('sent', flush=True); h.poll(-1)")
    client = subprocess.Popen(["/usr/bin/python3", "-c", script], stdout=subprocess.PIPE)
    assert client.stdout.readline() == b"sent\n"
    start = time.monotonic()
    daemon.stop()
    assert time.monotonic() - start < 10
    client.kill()
    client.wait()


def test_tools_see_through_filters(folder):
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    img("create", "-q", "-f", "qcow2", base, "1M")
    io("-c", "write -q -P 5 0 128k", base)
    img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    options = f"driver=compress,file.driver=qcow2,file.file.filename={top}"
    io("--image-opts", "-c", "write -q -P 6 64k 4k", options)
    areas = json.loads(img("map", "--output=json", "--image-opts", options).out)
    assert areas == json.loads(img("map", "--output=json", top).out)
    assert [area["depth"] for area in areas][:2] == [1, 0]
    info = json.loads(img("info", "--output=json", "--image-opts", options).out)
    assert info["format"] == "compress"
    assert info["filename"].startswith('json:{"driver": "compress"')
    assert info["cluster-size"] == 65536
    with_group = ["--object", "throttle-group,id=g", "--image-opts",
                  f"driver=throttle,throttle-group=g,file.driver=qcow2,file.file.filename={top}"]
    assert run("cairn-img", "info", *with_group).out.count("throttle-group") == 1
    assert "does not exist" in img("info", *with_group[2:], code=1).err


def test_copy_on_read_keeps_what_was_read(folder):
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    img("create", "-q", "-f", "qcow2", base, "1M")
    io("-c", "write -q -P 5 0 1M", base)
    img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    io("-C", "-c", "read -q -P 5 100k 1k", "-c", "write -q -P 7 700k 1k", top)
    areas = json.loads(img("map", "--output=json", top).out)
    assert [(a["start"], a["length"]) for a in areas if a["depth"] == 0] == [
        (65536, 65536), (655360, 65536)]
    assert "read-only" in io("-C", "-r", "-c", "read 0 1k", top, code=1).err


def test_tools_work_on_images_below_filters(folder):
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    img("create", "-q", "-f", "qcow2", base, "1M")
    img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    io("-c", "write -q -P 5 64k 64k", top)
    options = f"driver=compress,file.driver=qcow2,file.file.filename={top}"
    img("commit", "-q", "--image-opts", options)
    io("-c", "read -q -P 5 64k 64k", base)
    img("rebase", "-u", "-b", "", "--image-opts", options)
    assert "backing file" not in img("info", top).out


def test_an_image_may_name_a_filter_as_the_format_of_its_backing_file(folder):
    base, top = folder / "base.raw", folder / "top.qcow2"
    img("create", "-q", "-f", "raw", base, "1M")
    io("-f", "raw", "-c", "write -q -P 5 0 1M", base)
    for driver, says in {"throttle": "'throttle-group' is missing",
                         "compress": "Compression is not supported",
                         "quorum": "'children' is missing"}.items():
        img("create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", driver, top, "1M")
        failed = io("-c", "read 0 512", top, code=1)
        assert "Could not open backing file" in failed.err and says in failed.err
        assert says in img("info", "-f", driver, base, code=1).err
    img("create", "-q", "-f", "qcow2", "-u", "-b", base, "-F", "preallocate", top, "1M")
    io("-c", "read -q -P 5 0 1M", top)


def test_a_replication_node_waits_to_be_started(served, folder):
    monitor, client = served
    with pytest.raises(AssertionError, match="Missing the option top-id"):
        monitor("blockdev-add", driver="replication", node_name="r", mode="secondary", file="q")
    monitor("blockdev-add", driver="replication", node_name="r", mode="primary", file="q")
    client("h.pwrite(b'x' * 65536, 0)")
    monitor("block-export-add", type="nbd", id="r", node_name="r", writable=True, name="r")
    for request in "h.pread(512, 0)", "h.pwrite(b'y' * 512, 0)":
        failed = run("nbdsh", "-u", f"nbd+unix:///r?socket={folder}/nbd.sock", "-c", request,
                     code=1)
        assert "Input/output error" in failed.err
    client("assert h.pread(65536, 0) == b'x' * 65536")


def test_what_can_not_be_written_to_is_not_resized(served):
    monitor, _ = served
    monitor("blockdev-add", driver="null-co", node_name="n", size=MIB, read_only=True)
    with pytest.raises(AssertionError, match="Image is read-only"):
        monitor("block_resize", node_name="n", size=8 * MIB)


def test_a_chain_is_as_deep_below_every_filter_of_one_disk(served, folder):
    monitor, _ = served
    (folder / "log").touch()
    monitor("blockdev-add", driver="file", node_name="log", filename="log")
    for options in ({"driver": "blkdebug", "image": "q"}, {"driver": "copy-on-read", "file": "q"},
                    {"driver": "blkverify", "raw": "q", "test": "q"},
                    {"driver": "blklogwrites", "file": "q", "log": "log"}):
        monitor("blockdev-add", node_name="x", **options)
        told = next(node for node in monitor("query-named-block-nodes")
                    if node["node-name"] == "x")
        assert told["backing_file_depth"] == 1
        assert told["image"]["backing-image"]["filename"] == "a.qcow2"
        monitor("blockdev-del", node_name="x")
