"""cairn-img dd and bench: what they copy, measure and refuse. That they say what the peer says is in
the transcripts."""

import os
import random
import re

import pytest

from support import PEER, img, io, program, run

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def source(folder):
    """Two MiB of noise with a hole in it."""
    path = folder / "s.raw"
    noise = random.Random(1).randbytes(MIB)
    path.write_bytes(noise + bytes(MIB // 2) + noise[:MIB // 2])
    return path


@pytest.mark.parametrize("seed", range(12))
def test_dd_copies_what_the_peer_copies(folder, source, backend, seed):
    chooser = random.Random(seed)
    operands = []
    if chooser.random() < 0.8:
        operands.append(f"bs={chooser.choice(['100', '512', '1000', '4k', '64k', '1M', '3M'])}")
    if chooser.random() < 0.5:
        operands.append(f"count={chooser.choice([0, 1, 3, 100, 5000])}")
    if chooser.random() < 0.5:
        operands.append(f"skip={chooser.choice([0, 1, 2, 77, 100000])}")
    chooser.shuffle(operands)
    seen = []
    for tool in ("cairn-img", "qemu-img"):
        for form in ("raw", "qcow2"):
            target = folder / f"{tool}.{form}"
            done = run(tool, "dd", "-f", "raw", "-O", form, *operands, f"if={source}",
                       f"of={target}", backend=backend)
            run("qemu-img", "convert", "-f", form, "-O", "raw", target, folder / "plain")
            seen.append((done.out, done.err.replace(tool, "$P"), (folder / "plain").read_bytes()))
    assert seen[0] == seen[2] and seen[1] == seen[3]


def test_dd_leaves_holes_out(folder, source, backend):
    os.truncate(source, 100 * MIB)
    img("dd", "-f", "raw", "-O", "qcow2", f"if={source}", f"of={folder / 't.qcow2'}",
        backend=backend)
    if not PEER:  # which writes them
        assert (folder / "t.qcow2").stat().st_size < 4 * MIB
    img("compare", "-f", "raw", "-F", "qcow2", source, folder / "t.qcow2")


def test_dd_takes_the_last_of_equal_operands(folder, source):
    img("dd", "bs=4k", "count=9", "if=nowhere", f"if={source}", "of=elsewhere", "bs=1k", "count=2",
        f"of={folder / 't.raw'}", cwd=folder)
    assert (folder / "t.raw").read_bytes() == source.read_bytes()[:2 * KIB]
    assert not (folder / "elsewhere").exists()


@pytest.mark.parametrize("arguments, message", [
    (["-f", "raw", "--image-opts", "if=driver=raw,file.filename=s.raw", "of=t.raw"],
     "--image-opts and --format are mutually exclusive"),
    (["-f", "raw", "-O", "nosuch", "if=s.raw", "of=t.raw"], "Unknown file format"),
    (["-f", "nosuch", "if=s.raw", "of=t.raw"], "Could not open 's.raw': Unknown driver 'nosuch'"),
    (["-f", "raw", "if=s.raw", "of=nosuch:x"], "Unknown protocol 'nosuch'"),
    (["if=s.raw", "of=t.raw", "seek=1"], "unrecognized operand seek"),
    (["if=s.raw", "of=t.raw", "bs"], "unrecognized operand bs"),
    (["if=s.raw", "of=t.raw", "skip=-1"],
     "Invalid skip specified. Must be between 0 and 9223372036854775807."),
])
def test_what_dd_refuses(folder, source, arguments, message):
    done = img("dd", *arguments, code=1, cwd=folder)
    name = "qemu-img" if PEER else "cairn-img"
    assert (done.out, done.err) == ("", f"{name}: {message}\n")
    assert not (folder / "t.raw").exists()


def test_dd_says_where_writing_failed(folder, source):
    if PEER:
        pytest.skip("it names neither the place nor the cause")
    # A file may not be longer than 1000 KiB.
    done = run("bash", "-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "-", program("cairn-img"),
               "dd", "-f", "raw", "-O", "qcow2", f"if={source}", "of=t.qcow2", code=1, cwd=folder)
    assert re.fullmatch(r"cairn-img: error while writing at byte \d+: File too large\n", done.err), done


@pytest.mark.parametrize("options, ranges", [
    (["-c", "3", "-s", "4k"], [(0, 12 * KIB)]),
    (["-c", "4", "-s", "4k", "-S", "8k", "-o", "4k"],
     [(4 * KIB, 8 * KIB), (12 * KIB, 16 * KIB), (20 * KIB, 24 * KIB), (28 * KIB, 32 * KIB)]),
    (["-c", "4", "-s", "4k", "-S", "48k", "-d", "1"],
     [(0, 4 * KIB), (16 * KIB, 20 * KIB), (32 * KIB, 36 * KIB), (48 * KIB, 52 * KIB)]),
    (["-c", "9", "-s", "1k", "-d", "2", "--flush-interval", "4"], [(0, 9 * KIB)]),
    (["-c", "9", "-s", "1k", "-d", "2", "--flush-interval", "4", "--no-drain"], [(0, 9 * KIB)]),
    (["-c", "2", "-s", "4k", "-t", "writethrough"], [(0, 8 * KIB)]),
    (["-c", "0"], []),
])
def test_bench_writes_where_it_says(folder, backend, options, ranges):
    """The third begins anew behind the end: 96k and 144k of 64k are at 32k and 16k."""
    image = folder / "t.raw"
    image.write_bytes(bytes(64 * KIB))
    done = img("bench", "-f", "raw", "-w", "--pattern", "7", *options, image, backend=backend)
    assert re.search(r"\nRun completed in \d+\.\d{3} seconds\.\n$", done.out), done
    wanted = bytearray(64 * KIB)
    for start, end in ranges:
        wanted[start:end] = bytes([7]) * (end - start)
    assert image.read_bytes() == wanted


def test_bench_on_a_qcow2_image_leaves_it_sound(folder, backend):
    img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "t.qcow2", "4M", cwd=folder)
    # Three times round: every twelve KiB, then four further on.
    img("bench", "-w", "--pattern", "9", "-c", "1024", "-s", "4k", "-S", "12k", "t.qcow2",
        cwd=folder, backend=backend)
    img("check", "t.qcow2", cwd=folder)
    io("-f", "qcow2", "-c", "read -q -P 9 0 4M", "t.qcow2", cwd=folder)


@pytest.mark.parametrize("arguments, message", [
    (["-c", "-1", "t.raw"], None),
    (["-d", "0", "t.raw"], None),
    (["-s", "3G", "t.raw"], "Invalid buffer size specified. Must be between 0 and 2147483647."),
    (["-S", "5G", "t.raw"], "Invalid step_size specified. Must be between 0 and 2147483647."),
    (["-f", "raw", "-n", "-c", "1", "t.raw"],
     "Could not open 't.raw': aio=native was specified, but it requires cache.direct=on, which was "
     "not specified."),
    (["-f", "raw", "--image-opts", "driver=raw,file.filename=t.raw"],
     "--image-opts and --format are mutually exclusive"),
    (["-f", "raw", "-w", "--flush-interval", "4", "-d", "5", "t.raw"],
     "Flush interval can't be smaller than depth"),
    (["--flush-interval", "4", "t.raw"], "--flush-interval is only available in write tests"),
])
def test_what_bench_refuses(folder, arguments, message):
    (folder / "t.raw").write_bytes(bytes(64 * KIB))
    if PEER and message is None:
        pytest.skip("without requests in flight it never ends")
    done = img("bench", *arguments, code=1, cwd=folder)
    name = "qemu-img" if PEER else "cairn-img"
    assert done.out == ""
    assert done.err == f"{name}: {message}\n" if message else done.err.startswith(f"{name}: Invalid ")
