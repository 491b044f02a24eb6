"""What `measure` tells is what the peer tells, for new images and for copies, and images that are made
take no more than that.

What is random comes from the seed in the test's name, so a failure replays.
"""

import json
import os
import random

import pytest

from support import run

KIB, MIB = 1 << 10, 1 << 20


def draw_options(chooser):
    cluster = chooser.choice([512, 4 * KIB, 16 * KIB, 64 * KIB, 2 * MIB])
    options = [f"cluster_size={cluster}", f"refcount_bits={chooser.choice([1, 8, 16, 64])}"]
    if cluster >= 16 * KIB and chooser.random() < 0.3:
        options.append("extended_l2=on")
    if chooser.random() < 0.3:
        options.append(f"preallocation={chooser.choice(['off', 'metadata', 'falloc', 'full'])}")
    if chooser.random() < 0.2:
        options.append("backing_file=below.raw")
    return ",".join(options)


def told(tool, *arguments):
    done = run(tool, "measure", "--output=json", *arguments)
    human = run(tool, "measure", *arguments)
    return json.loads(done.out), human.out


@pytest.mark.parametrize("seed", range(12))
def test_new_images(seed):
    chooser = random.Random(seed)
    options = draw_options(chooser)
    for size in (0, 1, chooser.randrange(64 * MIB), chooser.randrange(100 << 30)):
        arguments = ["-O", "qcow2", "-o", options, "--size", str(size)]
        assert told("cairn-img", *arguments) == told("qemu-img", *arguments)


@pytest.mark.parametrize("seed", range(12))
def test_copies(folder, seed):
    chooser = random.Random(seed)
    image = folder / "image"
    kind = chooser.choice(["raw", "qcow2"])
    made = ["-o", f"cluster_size={chooser.choice(['512', '4k', '64k'])}"] if kind == "qcow2" else []
    run("qemu-img", "create", "-q", "-f", kind, *made, image, 8 * MIB)
    words = []
    for _ in range(20):
        offset = chooser.randrange(8 * MIB - 128 * KIB) // 512 * 512
        words += ["-c", f"{chooser.choice(['write -q', 'write -q -z'])} {offset} "
                        f"{chooser.choice([512, 4 * KIB, 128 * KIB])}"]
    run("qemu-io", "-f", kind, *words, image)
    for target in ("raw", "qcow2"):
        options = draw_options(chooser)
        arguments = ["-O", target, "-f", kind, *(["-o", options] if target == "qcow2" else []), image]
        assert told("cairn-img", *arguments) == told("qemu-img", *arguments)


@pytest.mark.parametrize("cluster", [512, 4 * KIB, 64 * KIB])
def test_a_copy_takes_what_was_measured(folder, cluster):
    source, copy = folder / "source.raw", folder / "copy.qcow2"
    source.write_bytes(random.Random(1).randbytes(3 * MIB))
    os.truncate(source, 8 * MIB)
    options = f"cluster_size={cluster}"
    told_sizes, _ = told("cairn-img", "-O", "qcow2", "-f", "raw", "-o", options, source)
    run("cairn-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, source, copy)
    assert copy.stat().st_size <= told_sizes["required"]
    # Refcounts are there for the whole disk in what is measured, for what is written in the copy.
    assert copy.stat().st_size >= told_sizes["required"] * 9 // 10


@pytest.mark.parametrize("arguments, message", [
    ([], "Either --size N or one filename must be specified."),
    (["--size", "1M", "image"], "--size N cannot be used together with a filename."),
    (["one", "two"], "At most one filename argument is allowed."),
    (["-f", "raw", "--size", "1M"], "--image-opts, -f, and -l require a filename argument."),
    (["-O", "nosuch", "--size", "1M"], "Unknown file format 'nosuch'"),
    (["-O", "file", "--size", "1M"], "Block driver 'file' does not support size measurement"),
    (["-O", "qcow2", "--size", "65P"], "The image size is too large (try using a larger cluster size)"),
    (["-O", "qcow2", "-o", "cluster_size=5", "--size", "1M"],
     "Cluster size must be a power of two between 512 and 2048k"),
])
def test_what_can_not_be_measured(arguments, message):
    done = run("cairn-img", "measure", *arguments, code=1)
    assert (done.out, done.err) == ("", f"cairn-img: {message}\n")


def test_a_snapshot_is_measured(folder):
    image = folder / "a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, 8 * MIB)
    for number in range(1, 4):
        run("qemu-io", "-f", "qcow2", "-c", f"write -q 0 {number}M", image)
        run("qemu-img", "snapshot", "-c", f"s{number}", image)
    run("qemu-img", "bitmap", "--add", image, "b")
    for choice in ("s1", "2", "snapshot.name=s3", "snapshot.id=1,snapshot.name=s1"):
        for target in ("raw", "qcow2"):
            arguments = ["-O", target, "-f", "qcow2", "-l", choice, image]
            assert told("cairn-img", *arguments) == told("qemu-img", *arguments)
    for choice in ("nosuch", "snapshot.id=1,snapshot.name=s2", "snapshot.nosuch=1"):
        done = run("cairn-img", "measure", "-O", "qcow2", "-l", choice, image, code=1)
        assert done.err.startswith("cairn-img: ") and done.out == ""
