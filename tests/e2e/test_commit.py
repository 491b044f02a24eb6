"""Committing an image into its backing chain: as the peer does it, and what goes wrong."""

import json
import random
import resource
import shutil
import signal
import subprocess
import time

import pytest

from support import PEER, TOOLS, img, io, run, wait_until

KIB, MIB = 1 << 10, 1 << 20
QEMU = shutil.which("qemu-img")
pytestmark = pytest.mark.skipif(QEMU is None or PEER, reason="needs the peer beside our own tools")


def content(folder, image, image_format="qcow2", tool="qemu-img"):
    run(tool, "convert", "-f", image_format, "-O", "raw", image, "seen.raw", cwd=folder)
    return (folder / "seen.raw").read_bytes()


def layout(folder, image, image_format="qcow2"):
    """What map says, but for host offsets."""
    done = run("qemu-img", "map", "-f", image_format, "--output=json", image, cwd=folder)
    return [{k: v for k, v in extent.items() if k != "offset"} for extent in json.loads(done.out)]


def sound(folder, *images):
    for image in images:
        for tool in ("cairn-img", "qemu-img"):
            done = run(tool, "check", "-f", "qcow2", image, cwd=folder)
            assert "No errors were found" in done.out, done


def scribble(folder, chooser, image, size):
    commands = []
    for _ in range(8):
        at = chooser.randrange(size // 512) * 512
        length = min(size - at, 512 * chooser.randint(1, 400))
        what = chooser.choice([f"write -q -P {chooser.randint(1, 255)}", "write -q -P 0",
                               "write -q -z", "discard -q"])
        commands += ["-c", f"{what} {at} {length}"]
    io("-d", "unmap", "-f", "qcow2", *commands, image, cwd=folder)


def chain(folder, chooser):
    """base <- mid <- top, of different lengths, each with something of its own."""
    below = None
    for name in ("base", "mid", "top"):
        size = 512 * chooser.randint(1000, 5000)
        backing = ["-b", below, "-F", "qcow2"] if below else []
        options = [f"cluster_size={chooser.choice([4096, 65536])}"]
        options += ["compat=0.10"] if chooser.random() < 0.2 else []
        img("create", "-q", "-f", "qcow2", "-o", ",".join(options), *backing, f"{name}.qcow2",
            size, cwd=folder)
        scribble(folder, chooser, f"{name}.qcow2", size)
        below = f"{name}.qcow2"


@pytest.mark.parametrize("options", [[], ["-d"], ["-b", "mid.qcow2"], ["-b", "base.qcow2"]])
@pytest.mark.parametrize("seed", range(4))
def test_the_outcome_is_the_peers(tmp_path, seed, options):
    chooser = random.Random(f"{seed} {options}")
    ours, peers = tmp_path / "ours", tmp_path / "peers"
    ours.mkdir()
    chain(ours, chooser)
    before = content(ours, "top.qcow2")
    shutil.copytree(ours, peers)
    done = run("cairn-img", "commit", "-f", "qcow2", *options, "top.qcow2", cwd=ours)
    assert done.out == "Image committed.\n" and done.err == ""
    run("qemu-img", "commit", "-f", "qcow2", *options, "top.qcow2", cwd=peers)
    assert content(ours, "top.qcow2") == content(ours, "top.qcow2", tool="cairn-img") == before
    target = "base.qcow2" if "base.qcow2" in options else "mid.qcow2"
    assert content(ours, target)[:len(before)] == before
    for image in ("base", "mid", "top"):
        assert content(ours, f"{image}.qcow2") == content(peers, f"{image}.qcow2"), image
        sound(ours, f"{image}.qcow2")
    allocated = [e for e in layout(ours, "top.qcow2") if e["depth"] == 0 and e["present"]]
    assert bool(allocated) == bool(options)


def test_zeroes_become_zeroes_and_data_stays_data(tmp_path):
    for folder, tool in (("ours", "cairn-img"), ("peers", "qemu-img")):
        where = tmp_path / folder
        where.mkdir()
        img("create", "-q", "-f", "qcow2", "base.qcow2", MIB, cwd=where)
        img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", cwd=where)
        io("-f", "qcow2", "-c", "write -q -P 1 0 64k", "-c", "write -q -z 64k 64k",
           "-c", "write -q -P 0 128k 64k", "top.qcow2", cwd=where)
        run(tool, "commit", "top.qcow2", cwd=where)
    assert layout(tmp_path / "ours", "base.qcow2") == layout(tmp_path / "peers", "base.qcow2")


def test_a_raw_base_grows_and_is_never_cut(tmp_path):
    img("create", "-q", "-f", "raw", "base.raw", MIB, cwd=tmp_path)
    io("-f", "raw", "-c", f"write -q -P 5 0 {MIB}", "base.raw", cwd=tmp_path)
    for size, after in ((MIB // 2, MIB), (3 * MIB, 3 * MIB)):
        img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2", size,
            cwd=tmp_path)
        io("-f", "qcow2", "-c", "write -q -P 7 64k 10k", "top.qcow2", cwd=tmp_path)
        before = content(tmp_path, "top.qcow2")
        done = img("commit", "-q", "top.qcow2", cwd=tmp_path)
        assert done.out == "" and done.err == ""
        base = (tmp_path / "base.raw").read_bytes()
        assert len(base) == after and base[:size] == before
        assert content(tmp_path, "top.qcow2") == before


def test_what_lies_below_a_short_base_stays_hidden(tmp_path):
    """The image reads zeroes where its base ends; the base's own backing file has data there."""
    img("create", "-q", "-f", "raw", "low.raw", 4 * MIB, cwd=tmp_path)
    io("-f", "raw", "-c", f"write -q -P 9 0 {4 * MIB}", "low.raw", cwd=tmp_path)
    img("create", "-q", "-f", "qcow2", "-b", "low.raw", "-F", "raw", "base.qcow2", MIB, cwd=tmp_path)
    img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", 3 * MIB,
        cwd=tmp_path)
    io("-f", "qcow2", "-c", f"write -q -P 7 {2 * MIB} 64k", "top.qcow2", cwd=tmp_path)
    before = content(tmp_path, "top.qcow2")
    assert before[MIB:2 * MIB] == bytes(MIB)
    img("commit", "top.qcow2", cwd=tmp_path)
    assert content(tmp_path, "top.qcow2") == before == content(tmp_path, "base.qcow2")
    sound(tmp_path, "base.qcow2", "top.qcow2")


def test_the_base_is_found_by_any_of_its_names(tmp_path):
    (tmp_path / "images").mkdir()
    folder = tmp_path / "images"
    img("create", "-q", "-f", "qcow2", "base.qcow2", MIB, cwd=folder)
    img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", cwd=folder)
    for name in ("base.qcow2", "./base.qcow2", "images/base.qcow2", str(folder / "base.qcow2")):
        for tool in ("cairn-img", "qemu-img"):
            code = 1 if tool == "qemu-img" and name == "images/base.qcow2" else 0
            run(tool, "commit", "-b", name, "images/top.qcow2", cwd=tmp_path, code=code)
    for name in ("top.qcow2", "gone.qcow2", "images/top.qcow2"):
        ours, peers = (run(tool, "commit", "-b", name, "images/top.qcow2", cwd=tmp_path, code=1)
                       for tool in ("cairn-img", "qemu-img"))
        assert ours.err.replace("cairn-img", "qemu-img") == peers.err


def test_bitmaps_of_both_images_survive(tmp_path):
    img("create", "-q", "-f", "qcow2", "base.qcow2", MIB, cwd=tmp_path)
    img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", cwd=tmp_path)
    for image in ("base.qcow2", "top.qcow2"):
        img("bitmap", "--add", "-g", "4k", image, "b", cwd=tmp_path)
    io("-f", "qcow2", "-c", "write -q -P 1 64k 64k", "top.qcow2", cwd=tmp_path)
    img("commit", "top.qcow2", cwd=tmp_path)
    for image in ("base.qcow2", "top.qcow2"):
        described = json.loads(run("qemu-img", "info", "--output=json", image, cwd=tmp_path).out)
        (bitmap,) = described["format-specific"]["data"]["bitmaps"]
        assert bitmap["name"] == "b" and bitmap["flags"] == ["auto"], image
        sound(tmp_path, image)


def test_a_base_in_use_is_left_alone(tmp_path):
    img("create", "-q", "-f", "raw", "base.raw", MIB, cwd=tmp_path)
    img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2", cwd=tmp_path)
    io("-f", "qcow2", "-c", "write -q -P 1 64k 64k", "top.qcow2", cwd=tmp_path)
    before = (tmp_path / "base.raw").read_bytes()
    user = subprocess.Popen(["qemu-io", "-f", "raw", "base.raw"], cwd=tmp_path,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        user.stdin.write(b"read 0 512\n")
        user.stdin.flush()
        assert b"512" in user.stdout.readline()
        done = img("commit", "top.qcow2", cwd=tmp_path, code=1)
    finally:
        user.communicate()
    assert "base.raw" in done.err and "lock" in done.err
    assert (tmp_path / "base.raw").read_bytes() == before
    img("commit", "top.qcow2", cwd=tmp_path)


def test_a_base_that_runs_out_of_space_is_named_and_the_image_kept(tmp_path):
    img("create", "-q", "-f", "raw", "base.raw", 64 * KIB, cwd=tmp_path)
    img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2", 8 * MIB,
        cwd=tmp_path)
    io("-f", "qcow2", "-c", f"write -q -P 1 {4 * MIB} {MIB}", "top.qcow2", cwd=tmp_path)
    before = content(tmp_path, "top.qcow2")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))

    done = subprocess.run([TOOLS / "cairn-img", "commit", "top.qcow2"], cwd=tmp_path, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limit,
                          check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("cairn-img: Could not commit 'top.qcow2' into 'base.raw': ")
    assert "File too large" in done.stderr
    assert content(tmp_path, "top.qcow2") == before
    sound(tmp_path, "top.qcow2")


def test_a_rate_limit_is_kept_and_progress_shown(tmp_path):
    img("create", "-q", "-f", "raw", "base.raw", MIB, cwd=tmp_path)
    img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "top.qcow2", cwd=tmp_path)
    io("-f", "qcow2", "-c", f"write -q -P 1 0 {MIB}", "top.qcow2", cwd=tmp_path)
    begun = time.monotonic()
    done = img("commit", "-p", "-r", "2M", "top.qcow2", cwd=tmp_path)
    assert time.monotonic() - begun > 0.3
    assert "(100.00/100%)" in done.out and done.out.endswith("\nImage committed.\n")


def test_killed_at_any_moment_the_image_reads_as_before(tmp_path):
    chooser = random.Random(7)
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        chain(folder, chooser)
        before = content(folder, "top.qcow2")
        program = subprocess.Popen([TOOLS / "cairn-img", "commit", "-q", "-r", "8M", "top.qcow2"],
                                   cwd=folder)
        time.sleep(chooser.random() * 0.4)
        program.kill()
        program.wait()
        # The kernel may take a moment longer to let go of the killed program's locks.
        wait_until(lambda: run("qemu-img", "info", "top.qcow2", cwd=folder, code=None).code == 0,
                   "an image without locks")
        assert content(folder, "top.qcow2") == before, attempt
        for image in ("base", "mid", "top"):
            code = run("qemu-img", "check", f"{image}.qcow2", cwd=folder, code=None)
            assert "corrupt" not in code.out + code.err or code.code == 0, code
        img("commit", "top.qcow2", cwd=folder)
        assert content(folder, "top.qcow2") == before, attempt
