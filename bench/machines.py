"""Disks of virtual machines: vhost-user-blk exports under bench/vhost/vhost_load, beside the peer's."""

import json
import shutil
import statistics
import struct
import subprocess

import servers

PEER = "qemu-storage-daemon"


class Socket:
    """Where an export listens."""

    def __init__(self, folder):
        self.path = folder / "vhost.sock"
        self.path.unlink(missing_ok=True)


class Exporter(servers.Server):
    """A daemon with a disk for a machine."""

    def __init__(self, program, image, form, folder, queues):
        self.queues = queues

        def command(image, form, address):
            node = {"driver": form, "node-name": "disk",
                    "file": {"driver": "file", "filename": str(image)}}
            return [*program, "--blockdev", json.dumps(node), "--export",
                    f"type=vhost-user-blk,id=e,node-name=disk,writable=on,num-queues={queues},"
                    f"addr.type=unix,addr.path={address.path}"]
        super().__init__(command, image, form, folder, Socket(folder))

    def _greets(self):
        with servers.socket.socket(servers.socket.AF_UNIX) as client:
            client.settimeout(10)
            try:
                client.connect(str(self.address.path))
                client.sendall(struct.pack("<III", 1, 1, 0))
                return len(client.recv(20)) == 20
            except OSError:
                return False

    def drive(self, generator, kind, size, depth, seconds):
        before = self.cpu_seconds()
        done = subprocess.run([str(generator), str(self.address.path), kind, str(size), str(depth),
                               str(self.queues), str(seconds)], stdout=subprocess.PIPE, check=True)
        got = json.loads(done.stdout)
        got["cpu"] = (self.cpu_seconds() - before) / got["requests"] * 1e6
        return got


WORKLOADS = [  # what it is called, kind, bytes, depth, queues
    ("4 KiB random read, depth 32", "randread", 4096, 32, 1),
    ("4 KiB random write, depth 32", "randwrite", 4096, 32, 1),
    ("4 KiB random read, depth 16, 4 queues", "randread", 4096, 16, 4),
    ("4 KiB random read, depth 1", "randread", 4096, 1, 1),
    ("128 KiB sequential read, depth 8", "read", 131072, 8, 1),
    ("128 KiB sequential write, depth 8", "write", 131072, 8, 1),
]


def run(bench):
    generator = bench.args.tools.parent / "bench" / "vhost" / "vhost_load"
    if not generator.exists():
        print("  left out: ninja bench/vhost/vhost_load builds what makes the load")
        return
    io = [f"--io={bench.args.io}"] if bench.args.io else []
    programs = {"cairnd": [str(bench.args.tools / "cairnd"), *io], PEER: [shutil.which(PEER)]}
    for form in ("raw", "qcow2"):
        for what, kind, size, depth, queues in WORKLOADS:
            seen = {name: [] for name in programs}
            for _ in range(bench.rounds):
                for name, program in programs.items():
                    server = Exporter(program, bench.folder / f"disk.{form}", form, bench.folder,
                                      queues)
                    try:
                        seen[name].append(server.drive(generator, kind, size, depth,
                                                       bench.seconds))
                    finally:
                        server.stop()
            report(bench, f"{form}, vhost-user, {what}", seen, size, depth)


def report(bench, what, seen, size, depth):
    ours, peer = ({metric: statistics.median(run[metric] for run in seen[name])
                   for metric in ("iops", "bandwidth", "latency", "cpu")}
                  for name in ("cairnd", PEER))
    if depth == 1:
        bench.row(f"{what}: latency", ours["latency"], PEER, peer["latency"], "µs", ("<=", 1.0))
    elif size > 4096:
        # Both go at the speed of the memory: shown, not asked for.
        bench.row(what, ours["bandwidth"] / 1e6, PEER, peer["bandwidth"] / 1e6, "MB/s")
    else:
        bench.row(what, ours["iops"], PEER, peer["iops"], "IOPS", (">=", 1.5))
    if size <= 4096:
        bench.row(f"{what}: server CPU", ours["cpu"], PEER, peer["cpu"], "µs a request",
                  ("<=", 0.6))
