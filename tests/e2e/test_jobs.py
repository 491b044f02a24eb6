"""Jobs over QMP: making images in the background, and what becomes of their jobs."""

import pytest

from support import Qmp, run

MIB = 1 << 20


@pytest.fixture
def monitor(folder, daemons):
    path = folder / "qmp.sock"
    daemon = daemons("--chardev", f"socket,id=c,path={path},server=on,wait=off",
                     "--monitor", "chardev=c")
    daemon.wait_for(path)
    client = Qmp(path)
    yield client
    client.close()


def conclude(monitor, job):
    """Dismisses a job that has ended; what there was to be told of it."""
    told = {entry["id"]: entry for entry in monitor("query-jobs")}[job]
    while told["status"] != "concluded":
        told = {entry["id"]: entry for entry in monitor("query-jobs")}[job]
    monitor("job-dismiss", id=job)
    return told


def states(monitor, job):
    monitor("query-jobs")  # what it answers comes behind all events so far
    return [event["data"]["status"] for event in monitor.events
            if event["event"] == "JOB_STATUS_CHANGE" and event["data"]["id"] == job]


def test_a_file_and_an_image_in_it_are_made(monitor, folder):
    file = folder / "a.qcow2"
    monitor("blockdev-create", job_id="f", options={
        "driver": "file", "filename": str(file), "size": 0})
    assert "error" not in conclude(monitor, "f")
    monitor("blockdev-create", job_id="q", options={
        "driver": "qcow2", "file": {"driver": "file", "filename": str(file)}, "size": 64 * MIB,
        "preallocation": "metadata", "compression-type": "zstd"})
    assert "error" not in conclude(monitor, "q")
    assert states(monitor, "q") == ["created", "running", "waiting", "pending", "concluded", "null"]
    run("qemu-img", "check", "-q", file)
    told = run("qemu-img", "info", file).out
    assert "virtual size: 64 MiB" in told and "compression type: zstd" in told


def test_a_raw_data_file_keeps_what_it_holds(monitor, folder):
    image, data = folder / "a.qcow2", folder / "a.data"
    image.touch()
    data.write_bytes(b"\x42" * MIB)
    for name, path in (("i", image), ("d", data)):
        monitor("blockdev-add", **{"driver": "file", "node_name": name, "filename": str(path)})
    monitor("blockdev-create", job_id="q", options={
        "driver": "qcow2", "file": "i", "data-file": "d", "data-file-raw": True, "size": MIB})
    assert "error" not in conclude(monitor, "q")
    for node in ("i", "d"):
        monitor("blockdev-del", node_name=node)
    run("qemu-img", "check", "-q", image)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", data, image)


def test_a_failure_is_told_and_leaves_the_nodes_alone(monitor, folder):
    image = folder / "a.qcow2"
    image.touch()
    monitor("blockdev-add", driver="file", node_name="i", filename=str(image))
    monitor("blockdev-create", job_id="q", options={
        "driver": "qcow2", "file": "i", "size": MIB, "cluster-size": 1000})
    told = conclude(monitor, "q")
    assert told["error"] == "Cluster size must be a power of two between 512 and 2048k"
    assert states(monitor, "q") == ["created", "running", "aborting", "concluded", "null"]
    assert image.stat().st_size == 0
    monitor("blockdev-del", node_name="i")


@pytest.mark.parametrize("options", [
    {"driver": "qcow2", "size": MIB, "cluster-size": 1000}, {"driver": "qcow2", "size": 1},
    {"driver": "vmdk", "size": MIB, "hwversion": "x", "subformat": "monolithicFlat"},
    {"driver": "luks", "size": MIB, "key-secret": "nosuch"},
    {"driver": "qcow2", "size": MIB, "data-file": "nosuch"}])
def test_a_failure_closes_the_nodes_that_were_opened_for_it(monitor, folder, options):
    (folder / "a.img").touch()
    monitor("blockdev-create", job_id="q", options={
        **options, "file": {"driver": "file", "filename": str(folder / "a.img")}})
    assert "error" in conclude(monitor, "q")
    assert monitor("query-named-block-nodes") == []


@pytest.mark.parametrize("options", [{"driver": "qcow2"}, {"driver": "vmdk"}])
def test_an_image_replaces_a_file_that_is_shorter_than_its_tables(monitor, folder, options):
    image = folder / "a.img"
    image.write_bytes(b"\x42" * 5000)
    monitor("blockdev-create", job_id="q", options={
        **options, "size": MIB, "file": {"driver": "file", "filename": str(image)}})
    assert "error" not in conclude(monitor, "q")
    if options["driver"] == "qcow2":
        run("qemu-img", "check", "-q", "-f", "qcow2", image)
    run("qemu-img", "create", "-q", "-f", "raw", folder / "zero", MIB)
    run("qemu-img", "compare", "-f", options["driver"], "-F", "raw", image, folder / "zero")


def test_the_size_of_a_file_is_meant_to_the_byte(monitor, folder):
    monitor("blockdev-create", job_id="f", options={
        "driver": "file", "filename": str(folder / "f"), "size": 1000})
    assert "error" not in conclude(monitor, "f")
    assert (folder / "f").stat().st_size == 1000


def test_the_newest_job_is_told_first(monitor, folder):
    for name in ("b", "a"):
        monitor("blockdev-create", job_id=name, options={
            "driver": "file", "filename": str(folder / name), "size": 0})
    assert [job["id"] for job in monitor("query-jobs")] == ["a", "b"]


def test_drivers_that_can_not_are_refused_at_once(monitor):
    reply = monitor.ask("blockdev-create", job_id="q", options={"driver": "raw"})
    assert reply["error"]["desc"] == "Driver does not support blockdev-create"
    assert monitor("query-jobs") == []
