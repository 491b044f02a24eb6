"""The monitor as a management program uses it."""

import json
import socket
import subprocess

import pytest

from support import PEER, TIMEOUT, Qmp, environment, program, run, wait_until

MIB = 1 << 20


@pytest.fixture
def monitored(folder, daemons):
    """A daemon with a monitor, and the path of its socket."""
    path = folder / "qmp.sock"
    daemon = daemons("--chardev", f"socket,id=c,path={path},server=on,wait=off",
                     "--monitor", "chardev=c")
    daemon.wait_for(path)
    return daemon, path


def test_introspection_names_every_command(monitored):
    monitor = Qmp(monitored[1])
    commands = {entry["name"] for entry in monitor("query-commands")}
    schema = {entry["name"]: entry for entry in monitor("query-qmp-schema")}
    assert commands == {n for n, e in schema.items() if e["meta-type"] == "command"}
    for entity in schema.values():
        for member in entity.get("members", []):
            assert "type" not in member or member["type"] in schema
        for variant in entity.get("variants", []):
            assert variant["type"] in schema
    monitor.close()


def test_requests_may_come_all_at_once_or_byte_by_byte(monitored):
    monitor = Qmp(monitored[1])
    requests = b"".join(json.dumps({"execute": "query-jobs", "id": n}).encode()
                        for n in range(500))
    monitor.send(requests)
    assert [monitor.answer()["id"] for _ in range(500)] == list(range(500))
    for byte in b'{"execute": "query-jobs", "id": "slow"}':
        monitor.send(bytes([byte]))
    assert monitor.answer() == {"return": [], "id": "slow"}
    monitor.close()


def test_one_client_after_the_other(monitored):
    first = Qmp(monitored[1])
    second = socket.socket(socket.AF_UNIX)
    second.settimeout(TIMEOUT)
    second.connect(str(monitored[1]))
    # The first one is served as long as it is there; that the second one hears nothing meanwhile
    # shows in its greeting, which comes after the first one's last reply.
    assert first("query-jobs") == []
    second.setblocking(False)
    with pytest.raises(BlockingIOError):
        second.recv(1)
    second.settimeout(TIMEOUT)
    first.close()
    assert second.recv(7) == b'{"QMP":'
    second.close()


def test_a_client_that_does_not_read_is_not_read_from(monitored):
    daemon, path = monitored
    monitor = Qmp(path)
    before = daemon.memory()
    monitor.socket.setblocking(False)
    request = b'{"execute": "query-qmp-schema"}' * 100
    sent = 0
    try:
        while sent < 64 * MIB:
            sent += monitor.socket.send(request)
    except BlockingIOError:
        pass
    assert sent < 64 * MIB, "it took everything"
    assert daemon.memory() - before < 64 * MIB
    # The daemon still ends in good order.
    daemon.stop()
    monitor.socket.close()


def test_events_reach_every_negotiated_client(folder, daemons):
    paths = [folder / "a.sock", folder / "b.sock"]
    arguments = []
    for number, path in enumerate(paths):
        arguments += ["--chardev", f"socket,id=c{number},path={path},server=on,wait=off",
                      "--monitor", f"chardev=c{number}"]
    daemon = daemons("--blockdev", "null-co,node-name=n", "--nbd-server",
                     f"addr.type=unix,addr.path={folder}/nbd.sock",
                     "--export", "nbd,id=e,node-name=n", *arguments)
    for path in paths:
        daemon.wait_for(path)
    first, second = (Qmp(path) for path in paths)
    first("block-export-del", id="e")
    for monitor in (first, second):
        wait_until(lambda m=monitor: m("query-jobs") == [] and m.events, "the event")
        event = monitor.events[0]
        assert (event["event"], event["data"]) == ("BLOCK_EXPORT_DELETED", {"id": "e"})
        assert event["timestamp"]["seconds"] > 0
        monitor.close()


def test_a_daemon_that_waits_for_its_first_client_can_be_ended(folder, daemons):
    if PEER:
        pytest.skip("the peer can only be killed while it waits")
    path = folder / "qmp.sock"
    daemon = daemons("--chardev", f"socket,id=c,path={path},server=on", "--monitor", "chardev=c")
    wait_until(path.exists, "the socket")
    daemon.stop()


def test_a_daemon_that_waits_goes_on_with_its_first_client(folder, daemons):
    path = folder / "qmp.sock"
    daemons("--chardev", f"socket,id=c,path={path},server=on", "--monitor", "chardev=c")
    wait_until(path.exists, "the socket")

    def client():
        try:
            return Qmp(path)
        except ConnectionRefusedError:
            return None
    monitors = []
    wait_until(lambda: monitors.append(client()) or monitors[-1], "the greeting")
    assert monitors[-1]("query-jobs") == []
    monitors[-1].close()


def stdio_monitor(backend):
    """The command line of a daemon whose monitor is standard input and output."""
    io = [] if backend == "peer" else [f"--io={backend}"]
    return [program("cairnd"), *io, "--chardev", "stdio,id=c", "--monitor", "c"]


def test_standard_input_as_a_monitor(backend):
    script = (b'{"execute": "qmp_capabilities"}{"execute": "query-version", "id": 1}'
              b'{"execute": "quit"}')
    done = subprocess.run(stdio_monitor(backend), input=script, stdout=subprocess.PIPE,
                          timeout=TIMEOUT, check=True, env=environment(backend))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(line) for line in lines] == [{"QMP"}, {"return"}, {"return", "id"}, {"return"}]


def test_files_as_standard_input_and_output(folder, backend):
    (folder / "script").write_bytes(b'{"execute": "qmp_capabilities"}{"execute": "quit"}')
    with (folder / "script").open("rb") as script, (folder / "answers").open("wb") as answers:
        subprocess.run(stdio_monitor(backend), stdin=script, stdout=answers, timeout=TIMEOUT,
                       check=True, env=environment(backend))
    assert len((folder / "answers").read_bytes().splitlines()) == 3


def test_a_damaged_image_is_told_once(monitored, folder):
    run("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M", cwd=folder)
    run("qemu-io", "-f", "qcow2", "-c", "write -q 0 128k", "a.qcow2", cwd=folder)
    with (folder / "a.qcow2").open("r+b") as image:
        image.seek(0x40000)  # the L2 table: the first cluster is said to be the L1 table
        image.write((1 << 63 | 0x30000).to_bytes(8, "big"))
    monitor = Qmp(monitored[1])
    monitor("blockdev-add", driver="qcow2", node_name="q",
            file={"driver": "file", "filename": f"{folder}/a.qcow2"})
    monitor("nbd-server-start", addr={"type": "unix", "data": {"path": f"{folder}/nbd.sock"}})
    monitor("block-export-add", type="nbd", id="e", node_name="q", name="e", writable=True)
    for _ in range(2):
        failed = run("qemu-io", "-f", "raw", "-c", "write 512 1024",
                     f"nbd+unix:///e?socket={folder}/nbd.sock", cwd=folder, code=1)
        assert "Input/output error" in failed.out, failed
    monitor("query-version")
    assert [(event["event"], event["data"]) for event in monitor.events] == [
        ("BLOCK_IMAGE_CORRUPTED",
         {"device": "", "node-name": "q", "offset": 0x30200, "size": 1024, "fatal": True,
          "msg": "Preventing invalid write on metadata (overlaps with active L1 table)"})]
    monitor.close()


@pytest.mark.parametrize("backing, member", [
    ({"driver": "qcow2", "file": {"driver": "file", "filename": "base.qcow2"}}, None),
    ({"driver": "qcow2", "file": {"driver": "file", "filename": "other.qcow2"}},
     {"driver": "qcow2", "file": {"driver": "file", "filename": "other.qcow2"}}),
    (None, None),
])
def test_a_node_is_named_by_the_backing_image_it_was_given(monitored, folder, backing, member):
    for name in ("base.qcow2", "other.qcow2"):
        run("qemu-img", "create", "-q", "-f", "qcow2", name, "1M", cwd=folder)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2",
        cwd=folder)
    monitor = Qmp(monitored[1])
    top = {"driver": "file", "filename": "top.qcow2"}
    monitor("blockdev-add", driver="qcow2", node_name="q", file=top, backing=backing)
    node = next(n for n in monitor("query-named-block-nodes", flat=True) if n["node-name"] == "q")
    if backing is not None and member is None:
        assert node["file"] == "top.qcow2"
    else:
        assert node["file"].startswith("json:")
        assert json.loads(node["file"][5:]) == {"driver": "qcow2", "file": top, "backing": member}
    assert node["image"]["filename"] == node["file"]
    assert node["image"]["full-backing-filename"] == "base.qcow2"
    assert node.get("backing_file") == (backing and backing["file"]["filename"])
    monitor.close()
