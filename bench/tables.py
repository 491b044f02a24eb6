"""What qcow2's tables cost: writes that allocate, reads whose L2 tables are not cached, snapshots and
checks of an image with a million clusters."""

import shutil
import statistics
import subprocess
import time

import servers

GIB = 1 << 30
CLUSTERS = 1 << 20  # of 64 KiB, in the image for snapshots and checks


def create(path, size, *options):
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2",
                    *(["-o", ",".join(options)] if options else []), str(path), str(size)], check=True)


def allocating_writes(bench):
    """Each server gets a new image in each round: almost every write is the first of its cluster."""
    contenders = {"cairnd": bench.ours, "qemu-storage-daemon": servers.storage_daemon}
    image = bench.folder / "new.qcow2"
    workload = dict(rw="randwrite", bs="4k", iodepth=32, size=64 * GIB)
    seen = {name: [] for name in contenders}
    for _ in range(bench.rounds):
        for name, command in contenders.items():
            create(image, 64 * GIB)
            server = servers.Server(command, image, "qcow2", bench.folder)
            try:
                seen[name].append(server.load(workload, min(bench.seconds, 2)))
            finally:
                server.stop()
                image.unlink()
    compare(bench, "qcow2, 4 KiB random write that allocates, depth 32", seen, 2.0)


CACHE_MIB = 32  # of L2 tables, by default


def uncached_tables(bench):
    """1 TiB has 128 MiB of L2 tables; both cache 32 MiB at most."""
    image = bench.folder / "large.qcow2"
    create(image, 1024 * GIB, "preallocation=metadata")
    contenders = {"cairnd": bench.ours, "qemu-storage-daemon": servers.storage_daemon}
    workload = dict(rw="randread", bs="4k", iodepth=32, size=1024 * GIB)
    seen = {name: [] for name in contenders}
    for _ in range(bench.rounds):
        for name, command in contenders.items():
            server = servers.Server(command, image, "qcow2", bench.folder)
            try:
                server.load({**workload, "size": GIB}, 1)  # what any client makes it take
                before = server.resident_bytes()
                seen[name].append(server.load(workload, bench.seconds))
                seen[name][-1]["cache"] = (server.resident_bytes() - before) / (1 << 20)
            finally:
                server.stop()
    image.unlink()
    what = "qcow2 of 1 TiB, 4 KiB random read, depth 32"
    compare(bench, what, seen, 1.5)
    bench.row(f"{what}: memory it takes", statistics.median(r["cache"] for r in seen["cairnd"]),
              "the cache's limit", CACHE_MIB, "MiB", ("<=", 1.1))


def compare(bench, what, seen, target):
    medians = {name: {metric: statistics.median(run[metric] for run in runs) for metric in runs[0]}
               for name, runs in seen.items()}
    ours, peer = medians["cairnd"], medians["qemu-storage-daemon"]
    bench.row(what, ours["iops"], "qemu-storage-daemon", peer["iops"], "IOPS", (">=", target))
    bench.row(f"{what}: server CPU", ours["cpu"], "qemu-storage-daemon", peer["cpu"], "µs a request")


def offline(bench):
    """The image is copied for each contender and round, so that none finds what another left."""
    image, copy = bench.folder / "million.qcow2", bench.folder / "copy.qcow2"
    create(image, CLUSTERS * 65536, "preallocation=metadata")
    subprocess.run(["qemu-img", "resize", "-q", "-f", "qcow2", str(image), str(100 * GIB)], check=True)
    tools = {"cairn-img": bench.img, "qemu-img": "qemu-img"}
    steps = {"check": ["check", "-q"], "snapshot create": ["snapshot", "-c", "s"],
             "snapshot delete": ["snapshot", "-d", "s"]}
    seen = {(name, step): [] for name in tools for step in steps}
    for _ in range(bench.rounds):
        for name, tool in tools.items():
            subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
            for step, arguments in steps.items():
                begin = time.perf_counter()
                subprocess.run([tool, *arguments, str(copy)], check=True)
                seen[name, step].append(time.perf_counter() - begin)
    for path in (image, copy):
        path.unlink()
    for step in steps:
        ours, peer = (statistics.median(seen[name, step]) for name in tools)
        bench.row(f"qcow2 of 100 GiB with a million clusters: {step}", ours, "qemu-img", peer, "s",
                  ("<=", 0.5))


def run(bench):
    if shutil.which("qemu-storage-daemon") is None:
        raise RuntimeError("qemu-storage-daemon is not installed")
    allocating_writes(bench)
    uncached_tables(bench)
    offline(bench)
