"""FUSE exports under fio, past the page cache, beside the peer's."""

import json
import shutil
import statistics

import servers

PEER = "qemu-storage-daemon"


class MountPoint:
    """A file that an export covers."""

    def __init__(self, folder):
        self.path = folder / "mounted"
        self.path.touch()
        self.device = self.path.stat().st_dev


class Exporter(servers.Server):
    """A daemon with a disk that is a file."""

    def __init__(self, program, image, form, folder):
        def command(image, form, address):
            node = {"driver": form, "node-name": "disk",
                    "file": {"driver": "file", "filename": str(image)}}
            return [*program, "--blockdev", json.dumps(node), "--export",
                    f"type=fuse,id=e,node-name=disk,writable=on,mountpoint={address.path}"]
        super().__init__(command, image, form, folder, MountPoint(folder))

    def _greets(self):
        return self.address.path.stat().st_dev != self.address.device

    def job(self, workload):
        return dict(ioengine="libaio", direct=1, filename=str(self.address.path), **workload)


WORKLOADS = [  # what it is called, what fio is told, what is asked for
    ("4 KiB random read, depth 16", dict(rw="randread", bs="4k", iodepth=16), 1.8),
    ("4 KiB random write, depth 16", dict(rw="randwrite", bs="4k", iodepth=16), None),
    ("4 KiB random read, depth 1", dict(rw="randread", bs="4k", iodepth=1), None),
    ("1 MiB sequential read, depth 4", dict(rw="read", bs="1M", iodepth=4), 1.5),
    ("1 MiB sequential write, depth 4", dict(rw="write", bs="1M", iodepth=4), 1.5),
]


def run(bench):
    io = [f"--io={bench.args.io}"] if bench.args.io else []
    programs = {"cairnd": [str(bench.args.tools / "cairnd"), *io], PEER: [shutil.which(PEER)]}
    for form in ("raw", "qcow2"):
        for what, workload, factor in WORKLOADS:
            seen = {name: [] for name in programs}
            for _ in range(bench.rounds):
                for name, program in programs.items():
                    server = Exporter(program, bench.folder / f"disk.{form}", form, bench.folder)
                    try:
                        seen[name].append(server.load(dict(workload, size=bench.disk_size),
                                                      bench.seconds))
                    finally:
                        server.stop()
            report(bench, f"{form}, FUSE, {what}", workload, seen, factor)


def report(bench, what, workload, seen, factor):
    ours, peer = ({metric: statistics.median(run[metric] for run in seen[name])
                   for metric in ("iops", "bandwidth", "cpu")} for name in ("cairnd", PEER))
    target = (">=", factor) if factor else None
    if workload["bs"] == "4k":
        bench.row(what, ours["iops"], PEER, peer["iops"], "IOPS", target)
        bench.row(f"{what}: server CPU", ours["cpu"], PEER, peer["cpu"], "µs a request")
    else:
        bench.row(what, ours["bandwidth"] / 1e6, PEER, peer["bandwidth"] / 1e6, "MB/s", target)
