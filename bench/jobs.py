"""Copying disks in use: backups and mirrors to an image and to an NBD server, what a backup costs the
clients of the disk, and a disk of 8 TiB without data."""

import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

import servers
from monitor import Monitor

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
PEER = "qemu-storage-daemon"
CLIENT = dict(rw="randwrite", bs="4k", iodepth=4)
MEMORY_LIMIT = 64  # MiB that a job may take
END = {"blockdev-backup": "BLOCK_JOB_COMPLETED", "blockdev-mirror": "BLOCK_JOB_READY"}


def watched(make_command, socket_path):
    """The same server with a monitor."""
    def command(*where):
        return [*make_command(*where), "--chardev", f"socket,id=m,path={socket_path},server=on,wait=off",
                "--monitor", "chardev=m"]
    return command


class Disk:
    """A server of one qcow2 disk, its monitor, and what jobs on it take."""

    def __init__(self, bench, make_command, image):
        socket_path = bench.folder / "qmp.sock"
        socket_path.unlink(missing_ok=True)
        self.server = servers.Server(watched(make_command, socket_path), image, "qcow2", bench.folder)
        self.monitor = Monitor(socket_path)

    def start(self, command, **more):
        self.monitor.ask(command, **{"job-id": "j", "device": "disk", "target": "t", "sync": "full",
                                     **more})

    def finish(self, command):
        """Waits for the end, or for the moment when a mirror could take over."""
        data = self.monitor.wait(END[command], "BLOCK_JOB_COMPLETED")
        if "error" in data:
            raise RuntimeError(f"{command}: {data['error']}")

    def wait_for_clients(self):
        """Until they keep the server busy; the peer counts no requests of exports."""
        idle, end = self.server.cpu_seconds(), time.monotonic() + 10
        while self.server.cpu_seconds() < idle + 0.05:
            if time.monotonic() > end:
                raise RuntimeError("no client has come")
            time.sleep(0.01)

    def measure(self, command):
        """(seconds, MiB of memory at the peak, CPU seconds) of a job."""
        self.server.forget_peak()
        memory, cpu = self.server.resident_bytes(), self.server.cpu_seconds()
        begin = time.perf_counter()
        self.start(command)
        self.finish(command)
        seconds = time.perf_counter() - begin
        memory = max(0, self.server.peak_bytes() - memory) / MIB
        return seconds, memory, self.server.cpu_seconds() - cpu

    def stop(self):
        self.monitor.close()
        self.server.stop()


def make_source(path, size):
    """A qcow2 image: a mebibyte of noise, a mebibyte that was never written, and so on."""
    raw = path.with_suffix(".raw")
    with raw.open("wb") as file:
        for place in range(0, size, 2 * MIB):
            file.seek(place)
            file.write(os.urandom(MIB))
        file.truncate(size)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)], check=True)
    raw.unlink()


class ImageTarget:
    """A new qcow2 image beside the source."""

    name = "qcow2"

    def __init__(self, folder, size):
        self.path = folder / "target.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(self.path), str(size)], check=True)
        self.node = {"driver": "qcow2", "node-name": "t",
                     "file": {"driver": "file", "filename": str(self.path)}}

    def remove(self):
        self.path.unlink()


class ServedTarget:
    """An empty disk behind nbdkit."""

    name = "NBD"

    def __init__(self, folder, size):
        self.path, socket_path = folder / "target.raw", folder / "target.sock"
        socket_path.unlink(missing_ok=True)
        with self.path.open("wb") as file:
            file.truncate(size)
        self.process = subprocess.Popen(["nbdkit", "--foreground", "--exit-with-parent", "--unix",
                                         str(socket_path), "file", str(self.path)])
        while not socket_path.exists():
            if self.process.poll() is not None:
                raise RuntimeError("nbdkit does not serve")
            time.sleep(0.01)
        self.node = {"driver": "nbd", "node-name": "t",
                     "server": {"type": "unix", "path": str(socket_path)}}

    def remove(self):
        self.process.terminate()
        self.process.wait()
        self.path.unlink()


@contextlib.contextmanager
def serving(bench, make_command, source, target):
    """A disk with a target to copy it to, which go away afterwards."""
    disk = Disk(bench, make_command, source)
    try:
        disk.monitor.ask("blockdev-add", **target.node)
        yield disk
    finally:
        disk.stop()
        target.remove()


def contenders(bench):
    return {"cairnd": bench.ours, PEER: servers.storage_daemon}


def copies(bench, source, size, where):
    """`where` says what the folder of the source and of the target lies on."""
    for make_target in (ImageTarget, ServedTarget):
        for command in END:
            seen = {name: [] for name in contenders(bench)}
            for _ in range(bench.rounds):
                for name, make_command in contenders(bench).items():
                    with serving(bench, make_command, source, make_target(source.parent, size)) as disk:
                        seen[name].append(disk.measure(command))
            report(bench, f"{command[9:]} to {make_target.name}, {where}", seen, size / 2)


def report(bench, what, seen, data):
    ours, peer = ([statistics.median(column) for column in zip(*seen[name])] for name in ("cairnd", PEER))
    bench.row(what, data / ours[0] / 1e6, PEER, data / peer[0] / 1e6, "MB/s", (">=", 1.5))
    bench.row(f"{what}: CPU", ours[2], PEER, peer[2], "s")
    bench.row(f"{what}: memory of the job", ours[1], "the limit", MEMORY_LIMIT, "MiB", ("<=", 1.0))
    bench.row(f"{what}: memory of the job", ours[1], PEER, peer[1], "MiB")


def clients_beside_a_backup(bench, source, size):
    """Writes of 4 KiB by one client, four at a time, for a second of a backup whose speed has it take two."""
    used = source.with_name("used.qcow2")
    seen = {name: [] for name in contenders(bench)}
    for _ in range(bench.rounds):
        for name, make_command in contenders(bench).items():
            subprocess.run(["cp", "--sparse=always", str(source), str(used)], check=True)
            with (serving(bench, make_command, used, ImageTarget(source.parent, size)) as disk,
                  concurrent.futures.ThreadPoolExecutor() as pool):
                client = pool.submit(disk.server.load, CLIENT | {"size": size}, 1)
                disk.wait_for_clients()
                disk.start("blockdev-backup", speed=size // 4)
                seen[name].append(client.result())
            used.unlink()
    ours, peer = ({metric: statistics.median(run[metric] for run in seen[name]) for metric in ("p99", "iops")}
                  for name in ("cairnd", PEER))
    what = "4 KiB writes of a client beside a backup"
    bench.row(f"{what}: 99th percentile", ours["p99"], PEER, peer["p99"], "µs", ("<=", 0.5))
    bench.row(what, ours["iops"], PEER, peer["iops"], "IOPS")


def empty_disk(bench):
    """The peer takes minutes, and is left out."""
    source = bench.folder / "empty.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(source), str(8 * TIB)], check=True)
    seen = []
    for _ in range(bench.rounds):
        with serving(bench, bench.ours, source, ImageTarget(bench.folder, 8 * TIB)) as disk:
            seen.append(disk.measure("blockdev-mirror"))
    source.unlink()
    seconds, memory, _ = (statistics.median(column) for column in zip(*seen))
    bench.row("mirror of 8 TiB without data", seconds, "the limit", 2, "s", ("<=", 1.0))
    bench.row("mirror of 8 TiB without data: memory of the job", memory, "the limit", MEMORY_LIMIT, "MiB",
              ("<=", 1.0))


def run(bench):
    size = (2 if bench.args.quick else 4) * GIB
    source = bench.folder / "source.qcow2"
    make_source(source, size)
    copies(bench, source, size, "tmpfs")
    clients_beside_a_backup(bench, source, size)
    with tempfile.TemporaryDirectory(prefix="cairn-bench-", dir="/var/tmp") as name:
        on_disk = pathlib.Path(name) / source.name
        shutil.move(source, on_disk)
        copies(bench, on_disk, size, "disk")
    empty_disk(bench)
