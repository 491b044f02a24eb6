"""Copying images: plain and compressed, there and back; what reads them whole."""

import os
import statistics
import subprocess
import time

MIB = 1 << 20
TIB = 1 << 40


def write_mixed(path, size):
    """A third text, a third random, a third holes, in pieces of a few MiB."""
    text = b"".join(b"line %d of some text that repeats, but not quite\n" % n for n in range(25000))
    with path.open("wb") as file:
        for piece in range(size // MIB):
            kind = piece // 4 % 3
            if kind == 0:
                file.write(text[:MIB].ljust(MIB, b"."))
            elif kind == 1:
                file.write(os.urandom(MIB))
            else:
                file.seek(MIB, os.SEEK_CUR)
        file.truncate(size)


def clock(bench, ways, target=None, rounds=None):
    """The median time of each way in seconds; they take turns, and `target` is gone before each."""
    seen = {name: [] for name in ways}
    for _ in range(rounds or bench.rounds):
        for name, command in ways.items():
            if target:
                target.unlink(missing_ok=True)
            begin = time.perf_counter()
            subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
            seen[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in seen.items()}


def plain(bench, source, form, out):
    target = bench.folder / f"out.{out}"
    ways = {"cairn-img convert": [bench.img, "convert", "-f", form, "-O", out, source, target]}
    for name, more in (("qemu-img convert", []), ("qemu-img convert -W -m 16", ["-W", "-m", "16"])):
        ways[name] = ["qemu-img", "convert", "-f", form, "-O", out, *more, source, target]
    ways["cp"] = ["cp", "--sparse=never", source, target]
    medians = clock(bench, ways, target)
    target.unlink()
    ours = medians.pop("cairn-img convert")
    best = min((n for n in medians if n != "cp"), key=medians.get)
    for peer, seconds in medians.items():
        asked = ("<=", 1.3) if peer == "cp" else ("<=", 1 / 1.3) if peer == best else None
        bench.row(f"convert {form} to {out}", ours, peer, seconds, "s", asked)


def compressed(bench, source, kind, factor):
    """Returns the image that the peer made."""
    targets = {"cairn-img": bench.folder / "ours.qcow2", "qemu-img": bench.folder / "peer.qcow2"}
    ways = {name: [bench.img if name == "cairn-img" else name, "convert", "-c", "-O", "qcow2", "-o",
                   f"compression_type={kind}", "-f", "raw", source, target]
            for name, target in targets.items()}
    ways["-W -m 16"] = [*ways["qemu-img"][:2], "-W", "-m", "16", *ways["qemu-img"][2:]]
    medians = clock(bench, ways)
    bench.row(f"convert -c, {kind}", medians["cairn-img"], "qemu-img convert -c",
              medians["qemu-img"], "s", ("<=", 1 / factor))
    bench.row(f"convert -c, {kind}", medians["cairn-img"], "qemu-img convert -c -W -m 16",
              medians["-W -m 16"], "s")
    sizes = {name: target.stat().st_blocks * 512 / MIB for name, target in targets.items()}
    bench.row(f"convert -c, {kind}: size", sizes["cairn-img"], "qemu-img convert -c",
              sizes["qemu-img"], "MiB", ("<=", 1.08))
    targets["cairn-img"].unlink()
    return targets["qemu-img"]


def both(bench, what, *arguments, asked, target=None):
    medians = clock(bench, {"cairn-img": [bench.img, *arguments], "qemu-img": ["qemu-img", *arguments]},
                    target)
    bench.row(what, medians["cairn-img"], "qemu-img", medians["qemu-img"], "s", ("<=", asked))


def run(bench):
    mixed, packed = bench.folder / "mixed.raw", bench.folder / "mixed.qcow2"
    write_mixed(mixed, (256 if bench.args.quick else 2048) * MIB)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(mixed), str(packed)],
                   check=True)
    plain(bench, mixed, "raw", "qcow2")
    plain(bench, packed, "qcow2", "raw")
    both(bench, "compare raw and qcow2", "compare", "-f", "raw", "-F", "qcow2", mixed, packed,
         asked=0.5)
    packed.unlink()
    out = bench.folder / "out.raw"
    for kind, faster, faster_back in (("zlib", 8, 2.5), ("zstd", 2, 1)):
        image = compressed(bench, mixed, kind, faster)
        both(bench, f"convert {kind} qcow2 to raw", "convert", "-f", "qcow2", "-O", "raw", image, out,
             asked=1 / faster_back, target=out)
        out.unlink()
        image.unlink()
    mixed.unlink()
    empty_disk(bench)


def empty_disk(bench):
    """Each onto a target of its own: what the peer leaves there is a gigabyte of tables to read."""
    empty = bench.folder / "empty.qcow2"
    theirs, ours = bench.folder / "theirs.qcow2", bench.folder / "ours.qcow2"
    for image in (empty, theirs, ours):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), str(8 * TIB)],
                       check=True)
    onto = ["convert", "-n", "-f", "qcow2", "-O", "qcow2", empty]
    what = "convert an empty 8 TiB qcow2 onto another"
    seconds = clock(bench, {what: [bench.img, *onto, ours]})[what]
    # Once: it takes most of a minute.
    peer = clock(bench, {what: ["qemu-img", *onto, theirs]}, rounds=1)[what]
    bench.row(what, seconds, "qemu-img", peer, "s")
    bench.row(what, seconds, "a second", 1, "s", ("<=", 1))
    for image in (empty, theirs, ours):
        image.unlink()
