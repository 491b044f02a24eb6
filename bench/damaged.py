"""What damaged images cost: time and memory to open each of those that were damaged by hand."""

import os
import subprocess
import time

MIB = 1 << 20
EVERY = 4  # of the images: all of them are some GiB


def measure(command):
    """Seconds, and resident bytes at most, of a program that may refuse."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


def run(bench):
    folder = bench.folder / "damaged"
    folder.mkdir()
    writer = bench.args.tools.parent / "tests" / "formats" / "qcow2" / "write_qcow2_corpus"
    subprocess.run([str(writer), str(folder), str(EVERY)], check=True)
    images = [line.split()[0] for line in (folder / "names").read_text().splitlines()]
    worst = {}
    for name, program in (("cairn", bench.img), ("qemu-img", "qemu-img")):
        seen = [measure([program, "info", "-f", "qcow2", str(folder / image)]) for image in images]
        worst[name] = [max(column) for column in zip(*seen)]
    what = f"the worst of {len(images)} damaged images to open"
    seconds, resident = worst["cairn"]
    bench.row(f"{what}: time", seconds, "the limit", 1, "s", ("<=", 1.0))
    bench.row(f"{what}: time", seconds, "qemu-img info", worst["qemu-img"][0], "s")
    # The default limits of the caches, and 64 MiB beyond them.
    bench.row(f"{what}: resident", resident / MIB, "the limit", 64 + 32, "MiB", ("<=", 1.0))
    bench.row(f"{what}: resident", resident / MIB, "qemu-img info", worst["qemu-img"][1] / MIB,
              "MiB")
