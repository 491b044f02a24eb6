"""Jobs: which of several mistakes is told first, what is told of a job that does not come about, and what
there is to be asked about one in each of its states. All of it is the peer's way."""

import pytest

from support import qcow2, run, wait_until

MIB = 1 << 20
NO_SPEED = "Parameter 'speed' expects a non-negative value"


@pytest.fixture
def monitor(folder, bare_monitor):
    """A daemon with the nodes s, t (1 MiB), small, ro, and the chain base, mid, top."""
    client = bare_monitor
    for name, size, read_only in (("s", MIB, False), ("t", MIB, False), ("small", MIB // 2, False),
                                  ("ro", MIB, True)):
        client("blockdev-add", driver="null-co", node_name=name, size=size, read_only=read_only, read_zeroes=True)
    below = None
    for name in ("base", "mid", "top"):
        run("qemu-img", "create", "-q", "-f", "qcow2", folder / name, "1M")
        options = qcow2(folder / name, **{"node-name": name, "backing": below})
        options["file"]["node-name"] = name + "-file"
        client("blockdev-add", **options)
        below = name
    client.events.clear()
    return client


def refusal(monitor, command, **arguments):
    """The words of a refusal, and the states that the job j was in meanwhile."""
    monitor.events.clear()
    error = monitor.ask(command, **dict({"job_id": "j"}, **arguments))["error"]["desc"]
    return error, states(monitor)


def states(monitor):
    monitor("query-jobs")  # what it answers comes behind all events so far
    return [event["data"]["status"] for event in monitor.events
            if event["event"] == "JOB_STATUS_CHANGE" and event["data"]["id"] == "j"]


def wait_for(monitor, status, job="j"):
    wait_until(lambda: status in [j["status"] for j in monitor("query-jobs") if j["id"] == job],
               f"{job} to be {status}")


TO_T = {"target": "t", "sync": "full"}
JOBS = [("blockdev-mirror", dict(TO_T, device="s"), ""),
        ("blockdev-backup", dict(TO_T, device="s"), "Could not create node: "),
        ("block-stream", {"device": "top"}, "Could not create node: "),
        ("block-commit", {"device": "top"}, "")]


@pytest.mark.parametrize("command, arguments, context", JOBS)
def test_names_of_filters_come_before_ids_and_ids_before_speeds(monitor, command, arguments, context):
    wrong = dict(arguments, speed=-1, job_id="a b", filter_node_name="1f")
    assert refusal(monitor, command, **wrong) == (context + "Invalid node-name: '1f'", [])
    del wrong["filter_node_name"]
    assert refusal(monitor, command, **wrong) == ("Invalid job ID 'a b'", [])
    del wrong["job_id"]
    assert refusal(monitor, command, **wrong) == (NO_SPEED, ["created", "null"])
    assert monitor("query-jobs") == []
    assert not [node for node in monitor("query-named-block-nodes") if node["drv"] in ("mirror_top", "copy-before-write")]
    del wrong["speed"]
    monitor(command, job_id="j", auto_dismiss=False, **wrong)  # the name is free


def test_a_commit_of_what_is_below_is_there_before_its_filter(monitor):
    wrong = {"device": "top", "top_node": "mid", "speed": -1, "filter_node_name": "1f"}
    assert refusal(monitor, "block-commit", job_id="1", **wrong) == ("Invalid job ID '1'", [])
    assert refusal(monitor, "block-commit", **wrong) == (NO_SPEED, ["created", "null"])
    del wrong["speed"]
    assert refusal(monitor, "block-commit", **wrong) == ("Invalid node-name: '1f'", ["created", "null"])


def test_a_mirror_has_to_leave_backing_files_alone(monitor):
    busy = "Node 'mid' is busy: node is used as backing hd of 'top'"
    to_mid = {"device": "s", "target": "mid", "sync": "full"}
    assert refusal(monitor, "blockdev-mirror", **to_mid) == (busy, [])
    assert refusal(monitor, "blockdev-mirror", replaces="nosuch", **to_mid) == (busy, [])
    assert refusal(monitor, "blockdev-mirror", granularity=1, **to_mid)[0].startswith("Parameter 'granularity'")
    assert refusal(monitor, "blockdev-mirror", replaces="mid", buf_size=-1, device="s", **TO_T) == (busy, [])


def test_who_uses_the_target_of_a_mirror_is_told_first(monitor):
    conflict = ("Permission conflict on node 'top-file': permissions 'consistent read, write, resize' are both "
                "required by node 'top' (uses node 'top-file' as 'file' child) and unshared by an unnamed block "
                "device (uses node 'top-file' as 'root' child).")
    assert refusal(monitor, "blockdev-mirror", device="s", target="top-file", sync="full") == (
        conflict, ["created", "null"])


def test_a_backup_looks_at_bitmaps_and_nodes_before_numbers(monitor):
    chunk = {"x_perf": {"max-chunk": -1}}
    assert refusal(monitor, "blockdev-backup", bitmap="b", sync="incremental", device="s", target="t", **chunk)[0] == (
        "Bitmap 'b' could not be found")
    assert refusal(monitor, "blockdev-backup", sync="full", device="s", target="s", **chunk)[0] == (
        "Source and target cannot be the same")
    assert refusal(monitor, "blockdev-backup", sync="full", device="s", target="t", compress=True, **chunk)[0] == (
        "Compression is not supported for this drive ")
    assert refusal(monitor, "blockdev-backup", sync="full", device="s", target="small", **chunk)[0].startswith(
        "max-chunk must be zero")
    chunk["x_perf"]["max-chunk"] = 1
    assert refusal(monitor, "blockdev-backup", sync="full", device="s", target="ro", **chunk)[0] == (
        "Could not create node: Block node is read-only")
    assert refusal(monitor, "blockdev-backup", sync="full", device="s", target="t", job_id="", **chunk)[0].startswith(
        "Required max-chunk (1)")


def test_new_images_of_jobs_have_plain_names(monitor, folder):
    for command in ("drive-mirror", "drive-backup"):
        assert refusal(monitor, command, device="top", target='json:{"driver":"file"}', sync="full") == (
            "Unknown protocol 'json'", [])
    assert refusal(monitor, "drive-mirror", device="top", target=str(folder / "new"), sync="full", node_name="") == (
        "Invalid node-name: ''", [])
    (folder / "raw").write_bytes(bytes(MIB))
    error, _ = refusal(monitor, "drive-backup", device="top", target=str(folder / "raw"), format="raw",
                       mode="existing", sync="none")
    assert error.startswith("Driver 'raw' of node '#block") and error.endswith("' does not support backing files")


def test_an_image_and_a_filter_above_it_are_no_chain(monitor):
    monitor("blockdev-add", driver="copy-on-read", node_name="filter", file="s")
    assert refusal(monitor, "block-commit", device="filter")[0] == "Can't mirror node into itself"
    assert refusal(monitor, "block-commit", device="filter", base_node="filter")[0] == (
        "cannot commit an image into itself")


def test_jobs_are_told_newest_first(monitor):
    for name in ("a", "b", "c"):
        monitor("blockdev-add", driver="null-co", node_name="t" + name, size=MIB)
        monitor("blockdev-backup", job_id=name, device="s", target="t" + name, sync="none")
    assert [job["id"] for job in monitor("query-jobs")] == ["c", "b", "a"]
    assert [job["device"] for job in monitor("query-block-jobs")] == ["c", "b", "a"]


def test_a_mirror_that_is_over_can_still_be_asked_about(monitor):
    monitor("blockdev-mirror", job_id="j", device="s", auto_dismiss=False, auto_finalize=False, **TO_T)
    wait_for(monitor, "ready")
    monitor("job-complete", id="j")
    wait_for(monitor, "pending")
    assert [job["busy"] for job in monitor("query-block-jobs")] == [False]
    monitor("job-finalize", id="j")
    wait_for(monitor, "concluded")
    for _ in range(2):
        told, = monitor("query-block-jobs")
        assert (told["busy"], told["ready"], told["status"]) == (False, False, "concluded")
        assert monitor.ask("job-resume", id="j")["error"]["desc"] == "Can't resume a job that was not paused"
        assert monitor.ask("block-job-set-speed", device="j", speed=-1)["error"]["desc"] == (
            "Job 'j' in state 'concluded' cannot accept command verb 'set-speed'")
    monitor("job-dismiss", id="j")
