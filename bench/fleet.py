"""What many images in one daemon cost: a thousand of them, opened, served, and read from."""

import json
import shutil
import statistics
import subprocess

import servers

IMAGES = 1000
SIZE = 64 << 30
MIB = 1 << 20


def command(program, *options, numbers=range(IMAGES)):
    """A server of these images; `image` is the folder that holds them."""
    def make(image, _form, address):
        arguments = [str(program), *options, "--nbd-server",
                     f"{address.daemon_option},max-connections=0"]
        for number in numbers:
            node = {"driver": "qcow2", "node-name": f"n{number}",
                    "file": {"driver": "file", "filename": str(image / f"{number}.qcow2")}}
            arguments += ["--blockdev", json.dumps(node), "--export",
                          f"type=nbd,id=e{number},node-name=n{number},name=e{number},writable=on"]
        return arguments
    return make


def read_from_each(path):
    """One read of one byte through every export, each by a client of its own."""
    script = (f"import nbd\nh = nbd.NBD()\nfor number in range({IMAGES}):\n"
              f"  h.connect_uri('nbd+unix:///e%d?socket={path}' % number)\n"
              "  h.pread(1, 1 << 30)\n  h.shutdown()\n  h = nbd.NBD()\n")
    # Debian's Python, which has libnbd.
    subprocess.run(["/usr/bin/python3", "-c", script], check=True)


def copy_sparse(content, path):
    """Holes take no room, of which /dev/shm has little."""
    with path.open("wb") as file:
        for at in range(0, len(content), 4096):
            block = content[at:at + 4096]
            if block.count(0) != len(block):
                file.seek(at)
                file.write(block)
        file.truncate(len(content))


def one_of_many(bench, folder, ours):
    """Whether an image is served more slowly because there are others."""
    number = IMAGES // 2
    seen = {"many": [], "one": []}
    for _ in range(bench.rounds):
        for name, numbers in (("many", range(IMAGES)), ("one", [number])):
            server = servers.Server(command(*ours, numbers=numbers), folder, "qcow2", bench.folder)
            server.address.uri = f"nbd+unix:///e{number}?socket={server.address.path}"
            try:
                seen[name].append(server.load(
                    dict(rw="randread", bs="4k", iodepth=32, offset=1 << 30, size=65536), bench.seconds))
            finally:
                server.stop()
    many, one = ({metric: statistics.median(run[metric] for run in seen[name]) for metric in ("iops", "cpu")}
                 for name in seen)
    what = "one of a thousand qcow2 images, 4 KiB random read, depth 32"
    bench.row(what, many["iops"], "the same image alone", one["iops"], "IOPS", (">=", 0.95))
    bench.row(f"{what}: server CPU", many["cpu"], "the same image alone", one["cpu"], "µs a request",
              ("<=", 1.05))


def run(bench):
    folder = bench.folder / "fleet"
    folder.mkdir()
    first = folder / "0.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(first), str(SIZE)], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -q {1 << 30} 64k", str(first)], check=True)
    content = first.read_bytes()
    for number in range(1, IMAGES):
        copy_sparse(content, folder / f"{number}.qcow2")
    ours = (bench.args.tools / "cairnd", *([f"--io={bench.args.io}"] if bench.args.io else []))
    contenders = {"cairnd": command(*ours),
                  "qemu-storage-daemon": command(shutil.which("qemu-storage-daemon"))}
    seen = {name: [] for name in contenders}
    for _ in range(bench.rounds):
        for name, make in contenders.items():
            server = servers.Server(make, folder, "qcow2", bench.folder)
            try:
                idle = server.resident_bytes()
                read_from_each(server.address.path)
                seen[name].append((server.start_seconds, idle / MIB, server.resident_bytes() / MIB))
            finally:
                server.stop()
    one_of_many(bench, folder, ours)
    shutil.rmtree(folder)
    ours, peer = ([statistics.median(column) for column in zip(*seen[name])] for name in contenders)
    what = ("from exec to greeting a client", "resident", "resident after a read from each")
    limits = (3, 300, 300)
    targets = (("<=", 1.0), None, ("<=", 1.0))  # what an idle image takes is only shown
    for number, unit in enumerate(("s", "MiB", "MiB")):
        named = f"a thousand qcow2 images served: {what[number]}"
        bench.row(named, ours[number], "the limit", limits[number], unit, ("<=", 1.0))
        bench.row(named, ours[number], "qemu-storage-daemon", peer[number], unit, targets[number])
