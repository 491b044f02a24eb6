"""Our tools and the peer's take turns on one image: what one writes the other reads, both see the
same map, and neither leaves anything to repair. A raw file that only the peer writes is the model.

What is random comes from the seed in the test's name, so a failure replays.
"""

import json
import random

import pytest

from support import run

KIB, MIB = 1 << 10, 1 << 20
CLUSTERS = {"512": 512, "4k": 4 * KIB, "64k": 64 * KIB, "2M": 2 * MIB}
SHAPES = [f"compat={compat},cluster_size={cluster}" for compat in ("0.10", "1.1")
          for cluster in CLUSTERS]


def cluster_of(options):
    return CLUSTERS[options.rsplit("=", 1)[1]]


def script(chooser, size, cluster, count):
    """Commands that change an image, each with the one that does the same to a raw file."""
    pairs = []
    for _ in range(count):
        unit = chooser.choice([512, 4 * KIB, cluster, cluster])
        length = min(chooser.choice([1, 1, 2, 5]) * unit, size)
        offset = chooser.randrange((size - length) // unit + 1) * unit
        where = f"{offset} {length}"
        kind = chooser.choice(["write", "write", "write", "zero", "unmap", "discard", "flush"])
        if kind == "write":
            command = f"write -q -P {chooser.randrange(1, 256)} {where}"
            pairs.append((command, command))
        elif kind == "flush":
            pairs.append(("flush", "flush"))
        elif kind == "discard" and unit == cluster:
            # Only whole clusters are sure to read as zeroes afterwards.
            pairs.append((f"discard -q {where}", f"write -q -z {where}"))
        else:
            pairs.append((f"write -q -z {'-u ' if kind == 'unmap' else ''}{where}",
                          f"write -q -z {where}"))
    return pairs


def change(folder, tool, backend, image, model, pairs):
    for program, name, form, column in ((tool, image, "qcow2", 0), ("qemu-io", model, "raw", 1)):
        words = [word for pair in pairs for word in ("-c", pair[column])]
        run(program, "-f", form, "-d", "unmap", *words, name, cwd=folder, backend=backend)


def pieces(tool, folder, image):
    """What `map` says, with neighbours of one kind joined. Where an image's file takes far less room
    than its clusters, the peer also tells which of them are holes in the file; we do not."""
    joined = []
    for entry in json.loads(run(tool, "map", "-f", "qcow2", "--output=json", image,
                                cwd=folder).out):
        kind = (entry["depth"], entry["present"], entry["data"], entry["zero"] > entry["data"])
        place = entry.get("offset")
        if joined and joined[-1][2] == kind and (
                place is None or joined[-1][3] is None
                or joined[-1][3] + joined[-1][1] == place):
            start, length, _, first = joined.pop()
            joined.append((start, length + entry["length"], kind, first))
        else:
            joined.append((entry["start"], entry["length"], kind, place))
    return joined


def assert_sound(folder, image, model):
    for tool in ("qemu-img", "cairn-img"):
        run(tool, "check", "-q", image, cwd=folder)
        run(tool, "compare", "-q", "-f", "qcow2", "-F", "raw", image, model, cwd=folder)
    assert pieces("cairn-img", folder, image) == pieces("qemu-img", folder, image)


@pytest.mark.parametrize("options", SHAPES)
def test_both_take_turns_on_one_image(folder, backend, options):
    chooser = random.Random(options)
    cluster = cluster_of(options)
    size = max(2 * MIB, 5 * cluster) + chooser.choice([0, 512])
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "a.qcow2", size, cwd=folder)
    run("truncate", "-s", size, folder / "model")
    for turn in range(8):
        tool = ("cairn-io", "qemu-io")[turn % 2]
        change(folder, tool, backend, "a.qcow2", "model", script(chooser, size, cluster, 25))
        if turn in (3, 6):
            size += chooser.choice([512, cluster, MIB])
            run(tool.replace("-io", "-img"), "resize", "-q", "-f", "qcow2", "a.qcow2", size,
                cwd=folder)
            run("truncate", "-s", size, folder / "model")
        assert_sound(folder, "a.qcow2", "model")


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_overwriting_compressed_clusters_leaks_nothing(folder, backend, cluster, compression):
    options = f"compression_type={compression},cluster_size={cluster}"
    chooser = random.Random(options)
    size = max(2 * MIB, 5 * CLUSTERS[cluster])
    with (folder / "model").open("wb") as model:
        for _ in range(size // 512):
            model.write(bytes([chooser.randrange(1, 4)]) * 500 + chooser.randbytes(12))
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "model", "a.qcow2",
        cwd=folder)
    assert_sound(folder, "a.qcow2", "model")
    for _ in range(3):
        pairs = script(chooser, size, CLUSTERS[cluster], 25)
        change(folder, "cairn-io", backend, "a.qcow2", "model", pairs)
        assert_sound(folder, "a.qcow2", "model")
