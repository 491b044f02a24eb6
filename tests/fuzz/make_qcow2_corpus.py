#!/usr/bin/python3
"""Makes a corpus of small qcow2 images for the fuzz targets, by real tools.

usage: make_qcow2_corpus.py TOOLS DIRECTORY

TOOLS holds cairn-img and cairn-io. Images made by qemu-img, where it is installed, are added: they
have what ours do not write yet (snapshots, bitmaps).
"""

import pathlib
import shutil
import subprocess
import sys

SHAPES = [
    "cluster_size=512",
    "cluster_size=512,compat=0.10",
    "cluster_size=512,refcount_bits=1",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=1k,lazy_refcounts=on",
    "cluster_size=4k,compression_type=zstd",
]
# A request of each kind for the target that writes; see qcow2_writes_fuzz.cc.
REQUESTS = b"".join(bytes([kind, kind & 1, 17 * kind, kind, 0, 0, 0, 4 + kind]) for kind in range(12))


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make(img, io, directory, prefix):
    for number, shape in enumerate(SHAPES):
        path = directory / f"{prefix}-{number}"
        run(img, "create", "-q", "-f", "qcow2", "-o", shape, path, "64k")
        yield path, io


def main():
    tools, directory = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    images = list(make(tools / "cairn-img", tools / "cairn-io", directory, "ours"))
    if shutil.which("qemu-img") and shutil.which("qemu-io"):
        images += make("qemu-img", "qemu-io", directory, "peer")
    for path, io in images:
        run(io, "-f", "qcow2", "-c", "write 0 5000", "-c", "write -z 8k 4k", "-c", "write 60k 4k",
            "-c", "discard 512 1024", path)
        if io == "qemu-io":
            run(io, "-f", "qcow2", "-c", "write -c 16k 4k", path)
            # One-bit refcounts have no room for a snapshot.
            subprocess.run(["qemu-img", "snapshot", "-c", "first", path], stderr=subprocess.DEVNULL)
            run(io, "-f", "qcow2", "-c", "write 1k 1k", path)
        image = path.read_bytes()
        path.with_name(path.name + "-requests").write_bytes(image + REQUESTS)


if __name__ == "__main__":
    main()
