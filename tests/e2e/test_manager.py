"""A management program's day: many nodes and exports that come and go while clients work."""

import os
import resource
import shutil
import subprocess
import time

import pytest

from support import PEER, TIMEOUT, Qmp, environment, qcow2, run, wait_until

MIB = 1 << 20
COUNT = 500
ROUNDS = 3

# A client that never stops: writes, reads back, and says at the end how many requests it has made.
WORKER = """
import os, random
chooser = random.Random({seed})
done, written = 0, {{}}
while not os.path.exists('{stop}'):
    at = {first} + chooser.randrange(256) * 4096
    if at in written and chooser.random() < 0.5:
        assert h.pread(4096, at) == written[at], at
    else:
        written[at] = bytes([chooser.randrange(256)]) * 4096
        h.pwrite(written[at], at)
    done += 1
for at, data in written.items():
    assert h.pread(4096, at) == data, at
print(done)
"""


@pytest.fixture
def managed(folder, daemons):
    """A daemon that serves 'steady', and its monitor."""
    path = folder / "qmp.sock"
    run("qemu-img", "create", "-q", "-f", "qcow2", "steady.qcow2", "64M", cwd=folder)
    daemon = daemons.serving(qcow2("steady.qcow2"), "--chardev",
                             f"socket,id=c,path={path},server=on,wait=off", "--monitor", "chardev=c",
                             name="steady", server=",max-connections=0")
    daemon.wait_for(path)
    monitor = Qmp(path)
    yield daemon, monitor
    monitor.close()


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def settled_descriptors(daemon):
    """How many there are when all that are to come have come: that many for two seconds."""
    count, since = descriptors(daemon), time.monotonic()
    while time.monotonic() < since + 2:
        time.sleep(0.05)
        if descriptors(daemon) != count:
            count, since = descriptors(daemon), time.monotonic()
    return count


def start_worker(daemon, seed, stop):
    script = WORKER.format(seed=seed, stop=stop, first=seed * MIB)
    return subprocess.Popen(["nbdsh", "-u", daemon.uri("steady"), "-c", script],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment(None))


def visit(daemon, name):
    """A short client of one of the many exports."""
    run("nbdsh", "-u", daemon.uri(name), "-c",
        "h.pwrite(b'%s' * 512, 65536); assert h.pread(512, 65536) == b'%s' * 512; h.flush()" % (
            "x", "x"))


def add_all(monitor, folder):
    for number in range(COUNT):
        monitor("blockdev-add", **{"node_name": f"n{number}", **qcow2(folder / f"{number}.qcow2")})
        monitor("block-export-add", type="nbd", id=f"e{number}", node_name=f"n{number}",
                name=f"e{number}", writable=True)
        if number % 50 == 0:
            monitor("block-dirty-bitmap-add", node=f"n{number}", name="b")
            monitor("block-set-write-threshold", node_name=f"n{number}", write_threshold=4096)


def remove_all(monitor):
    monitor.events.clear()
    for number in range(COUNT):
        monitor("block-export-del", id=f"e{number}")
        # The export goes in the background; its node can go when it is gone.
        while not any(event["event"] == "BLOCK_EXPORT_DELETED"
                      and event["data"]["id"] == f"e{number}" for event in monitor.events):
            monitor("query-version")
        monitor.events.clear()
        monitor("blockdev-del", node_name=f"n{number}")


@pytest.mark.slow
def test_five_hundred_nodes_come_and_go_under_load(managed, folder):
    daemon, monitor = managed
    run("qemu-img", "create", "-q", "-f", "qcow2", "0.qcow2", "1G", cwd=folder)
    for number in range(1, COUNT):
        shutil.copyfile(folder / "0.qcow2", folder / f"{number}.qcow2")
    stop = folder / "stop"
    workers = [start_worker(daemon, seed, stop) for seed in (1, 2)]
    wait_until(lambda: any(entry["stats"]["wr_highest_offset"] > 2 * MIB
                           for entry in monitor("query-blockstats", query_nodes=True)),
               "the workers")
    open_files, memory = settled_descriptors(daemon), []
    for _ in range(ROUNDS):
        add_all(monitor, folder)
        assert len(monitor("query-block-exports")) == COUNT + 1
        for number in range(0, COUNT, 50):
            visit(daemon, f"e{number}")
        monitor("query-version")
        assert sum(event["event"] == "BLOCK_WRITE_THRESHOLD"
                   for event in monitor.events) == COUNT // 50
        remove_all(monitor)
        # A client's connection is closed a moment after the client is gone.
        wait_until(lambda: descriptors(daemon) == open_files, "all files closed")
        memory.append(daemon.memory())
    assert [e["id"] for e in monitor("query-block-exports")] == ["export0"]
    assert len(monitor("query-named-block-nodes")) == 2
    # What a round needs is there for the next one; nothing is added.
    assert PEER or memory[-1] - memory[0] < 4 * MIB, memory
    stop.touch()
    for worker in workers:
        out, err = worker.communicate(timeout=TIMEOUT)
        assert worker.returncode == 0 and int(out) > 1000, err
    daemon.stop()
    for number in range(0, COUNT, 50):
        run("qemu-img", "check", "-q", f"{number}.qcow2", cwd=folder)
        run("qemu-io", "-f", "qcow2", "-c", "read -q -P 0x78 65536 512", f"{number}.qcow2",
            cwd=folder)


@pytest.fixture
def few_files():
    """The usual limit of open files, but lower."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, old)


@pytest.mark.skipif(PEER, reason="the peer ends with 'Too many open files'")
def test_more_images_than_the_usual_limit_of_open_files(folder, daemons, few_files):
    arguments = []
    for number in range(200):
        (folder / f"{number}.raw").write_bytes(bytes(512))
        arguments += ["--blockdev", f"file,node-name=n{number},filename={number}.raw"]
    daemon = daemons.serving({"driver": "null-co"}, *arguments)
    assert descriptors(daemon) > 200
    daemon.stop()
