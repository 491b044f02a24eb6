"""Encrypted images: copying into a LUKS volume and out of it, and qcow2 with LUKS over NBD."""

import subprocess

import converting
import servers

ASKED = 2  # times the peer's throughput


def create(bench, target, form, options, size):
    """Made by ours, with a key that is quick to derive; both use the same image."""
    subprocess.run([bench.img, "create", "-q", "--object", servers.SECRET, "-f", form, "-o", options,
                    str(target), str(size)], check=True)


def copying(bench):
    raw, volume, out = (bench.folder / name for name in ("disk.raw", "disk.luks", "out.raw"))
    create(bench, volume, "luks", "key-secret=s,iter-time=10", bench.disk_size)
    inside = f"driver=luks,key-secret=s,file.filename={volume}"
    into = ["convert", "-n", "--object", servers.SECRET, "--image-opts", "--target-image-opts",
            f"driver=raw,file.filename={raw}", inside]
    back = ["convert", "--object", servers.SECRET, "--image-opts", "-O", "raw", inside, out]
    for what, words, target in (("raw to luks", into, None), ("luks to raw", back, out)):
        converting.both(bench, f"convert {what}", *words, asked=1 / ASKED, target=target)
    subprocess.run(["cmp", str(raw), str(out)], check=True)
    volume.unlink()
    out.unlink()


def serving(bench):
    image = bench.folder / "disk.qcow2-luks"
    subprocess.run([bench.img, "convert", "--object", servers.SECRET, "-f", "raw", "-O", "qcow2", "-o",
                    "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
                    str(bench.folder / "disk.raw"), str(image)], check=True)
    contenders = {"cairnd": bench.ours, "qemu-storage-daemon": servers.storage_daemon}
    for name, workload, metric, unit, scale in (
            ("4 KiB random {}, depth 32", {"rw": "rand{}", "bs": "4k", "iodepth": 32},
             "iops", "IOPS", 1),
            ("128 KiB sequential {}, depth 8", {"rw": "{}", "bs": "128k", "iodepth": 8},
             "bandwidth", "MB/s", 1e6)):
        for direction in ("read", "write"):
            got = bench.compare(contenders, "qcow2-luks",
                                dict(workload, rw=workload["rw"].format(direction)))
            ours, peer = got["cairnd"], got["qemu-storage-daemon"]
            what = f"qcow2 with LUKS, {name.format(direction)}"
            bench.row(what, ours[metric] / scale, "qemu-storage-daemon", peer[metric] / scale, unit,
                      (">=", ASKED))
            bench.row(f"{what}: server CPU", ours["cpu"], "qemu-storage-daemon", peer["cpu"],
                      "µs a request")
    image.unlink()


def run(bench):
    copying(bench)
    serving(bench)
