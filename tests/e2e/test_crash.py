"""The daemon is killed under a write load, again and again: flushed data reads back, and the image
is sound but for leaks."""

import json
import random

import pytest

from support import qcow2, run
from writer import SLOT, Writer

SLOTS = 32768  # 16 MiB


def check_image(image):
    """The peer's check: leaks at worst (exit code 3)."""
    done = run("qemu-img", "check", "--output=json", image, code=None)
    assert done.code in (0, 3), done
    report = json.loads(done.out)
    assert report.get("corruptions", 0) == 0 and report["check-errors"] == 0, done


def kill_and_check(daemons, folder, image, writer, rounds, blockdev, seed):
    limits = random.Random(seed)
    for turn in range(rounds):
        (folder / "nbd.sock").unlink(missing_ok=True)
        daemon = daemons.serving(blockdev)
        writer.run(daemon.uri(), limits.randrange(1, 400), lambda: daemon.kill_writing(image))
        check_image(image)
        run("qemu-img", "convert", "-O", "raw", image, folder / "after.raw")
        bad = writer.check(folder / "after.raw")
        assert not bad, f"round {turn}: {len(bad)} slots are wrong, the first: {bad[:3]}"


@pytest.mark.slow
@pytest.mark.parametrize("options", ["cluster_size=64k", "cluster_size=4k", "cluster_size=512",
                                     "cluster_size=2M", "refcount_bits=1,cluster_size=8k"])
def test_kill_under_load_twenty_times(folder, daemons, options):
    """A hundred times in all, on each back end. A new image every fifth time, as only a fresh one
    still allocates."""
    for turn in range(4):
        image = folder / f"disk{turn}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, SLOTS * SLOT)
        writer = Writer(SLOTS, seed=turn)
        kill_and_check(daemons, folder, image, writer, 5, qcow2(image), seed=turn)
        assert writer.flushes > 0, "the load hardly ran"
        image.unlink()


def test_kill_under_load_with_small_clusters_and_a_backing_file(folder, daemons):
    base, image = folder / "base.raw", folder / "disk.qcow2"
    base.write_bytes(bytes(SLOTS * SLOT))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", base, "-F", "raw",
        image)
    writer = Writer(SLOTS, seed=3)
    kill_and_check(daemons, folder, image, writer, 5, qcow2(image), seed=4)


def test_kill_under_load_with_lazy_refcounts(folder, daemons):
    """The image is dirty afterwards; its next opening for writing repairs it."""
    image = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", image, SLOTS * SLOT)
    writer = Writer(SLOTS, seed=5)
    for _ in range(3):
        (folder / "nbd.sock").unlink(missing_ok=True)
        daemon = daemons.serving(qcow2(image))
        writer.run(daemon.uri(), 200, lambda: daemon.kill_writing(image))
        run("qemu-img", "convert", "-O", "raw", image, folder / "after.raw")
        assert not writer.check(folder / "after.raw")
