"""cairn-img convert does no harm: whatever ends it, no half image has the name of a whole one; what
was written is verified; the host's cache stays within bounds. What it copies is tested elsewhere."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time

import pytest

from support import PEER, TIMEOUT, environment, hear_signals, img, program, run, wait_until

pytestmark = pytest.mark.skipif(PEER, reason="the peer leaves what it has written")

KIB, MIB = 1 << 10, 1 << 20
SIZE = 24 * MIB
SLOW = ("-r", "8M")


@pytest.fixture
def source(folder):
    """Noise with a hole in it."""
    path = folder / "s.raw"
    noise = random.Random(1).randbytes(SIZE // 2)
    with path.open("wb") as file:
        file.write(noise)
        file.seek(4 * MIB, 1)
        file.write(noise[:SIZE // 2 - 4 * MIB])
    return path


def start(folder, *arguments, backend=None, **options):
    options.setdefault("preexec_fn", hear_signals)
    return subprocess.Popen([program("cairn-img"), "convert", *(str(a) for a in arguments)],
                            cwd=folder, env=environment(backend), stderr=subprocess.PIPE, text=True,
                            **options)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def allocated(path):
    return path.stat().st_blocks * 512 if path.exists() else 0


def wait_for_data(path, amount=2 * MIB):
    wait_until(lambda: allocated(path) >= amount, f"{amount} bytes in {path}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_an_interruption_leaves_nothing(folder, source, backend, number, form):
    copying = start(folder, *SLOW, "-f", "raw", "-O", form, source, "t", backend=backend)
    wait_for_data(folder / ".t.part")
    assert not (folder / "t").exists()
    copying.send_signal(number)
    assert copying.wait(TIMEOUT) == -number
    assert copying.stderr.read() == f"cairn-img: Interrupted by {number.name}: 't' was not made\n"
    assert files(folder) == ["s.raw"]


def test_an_interruption_empties_what_was_there_before(folder, source, backend):
    (folder / "real").write_bytes(b"old")
    (folder / "real").chmod(0o600)
    os.link(folder / "real", folder / "other")
    (folder / "t").symlink_to("real")
    copying = start(folder, *SLOW, "-f", "raw", "-O", "qcow2", source, "t", backend=backend)
    wait_for_data(folder / "real")
    copying.terminate()
    assert copying.wait(TIMEOUT) == -signal.SIGTERM
    assert copying.stderr.read() == "cairn-img: Interrupted by SIGTERM: 't' is empty now\n"
    assert (folder / "t").is_symlink() and (folder / "other").stat().st_size == 0
    assert (folder / "real").stat().st_mode & 0o777 == 0o600


def test_an_interruption_leaves_a_target_that_was_not_to_be_made(folder, source, backend):
    img("create", "-q", "-f", "qcow2", folder / "t", SIZE)
    copying = start(folder, *SLOW, "-n", "-f", "raw", "-O", "qcow2", source, "t", backend=backend)
    wait_for_data(folder / "t")
    copying.terminate()
    assert copying.wait(TIMEOUT) == -signal.SIGTERM
    assert copying.stderr.read() == "cairn-img: Interrupted by SIGTERM: 't' is incomplete\n"
    run("qemu-img", "check", "-q", folder / "t")


def test_a_source_that_answers_no_more_does_not_keep_the_signal_waiting(folder, backend):
    server = subprocess.Popen(["nbdkit", "-f", "-U", folder / "sock", "--filter=delay", "pattern",
                               str(SIZE), "delay-read=1000"])
    try:
        wait_until((folder / "sock").exists, "nbdkit")
        copying = start(folder, "-f", "raw", f"nbd+unix:///?socket={folder}/sock", "t",
                        backend=backend)
        wait_until((folder / ".t.part").exists, "the beginning")
        time.sleep(0.2)
        copying.terminate()
        assert copying.wait(20) == -signal.SIGTERM
        assert "'t' was not made" in copying.stderr.read()
        assert files(folder) == ["sock"]
    finally:
        server.kill()
        server.wait()


def test_a_signal_that_is_ignored_interrupts_nothing(folder, source, backend):
    copying = start(folder, "-r", "16M", "-f", "raw", source, "t", backend=backend,
                    preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for_data(folder / ".t.part")
    copying.send_signal(signal.SIGHUP)
    assert copying.wait(TIMEOUT) == 0
    assert (folder / "t").read_bytes() == source.read_bytes()


def test_one_that_was_killed_leaves_no_name_and_is_not_in_the_way(folder, source, backend):
    copying = start(folder, *SLOW, "-f", "raw", "-O", "qcow2", source, "t", backend=backend)
    wait_for_data(folder / ".t.part")
    copying.kill()
    copying.wait(TIMEOUT)
    assert files(folder) == [".t.part", "s.raw"]
    # The kernel may still be at its last writes.
    wait_until(lambda: img("convert", "-f", "raw", "-O", "qcow2", source, "t", cwd=folder, code=None,
                           backend=backend).code == 0, "the next one")
    assert files(folder) == ["s.raw", "t"]
    run("qemu-img", "compare", "-q", source, folder / "t")


def test_of_two_that_make_one_name_the_second_fails(folder, source, backend):
    first = start(folder, *SLOW, "-f", "raw", "-O", "qcow2", source, "t", backend=backend)
    wait_for_data(folder / ".t.part")
    second = img("convert", "-f", "raw", "-O", "qcow2", source, "t", cwd=folder, code=1)
    assert second.err == ("cairn-img: t: error while converting qcow2: Failed to get \"write\" lock\n"
                          "Is another process using the image [t]?\n")
    assert first.wait(TIMEOUT) == 0
    run("qemu-img", "compare", "-q", source, folder / "t")


@pytest.mark.parametrize("form, options", [
    ("raw", ""), ("qcow2", ""), ("qcow2", "data_file=d"), ("vmdk", "subformat=monolithicFlat"),
    ("vmdk", "subformat=twoGbMaxExtentSparse")])
def test_a_file_that_may_not_grow_leaves_nothing(folder, source, backend, form, options):
    copying = start(folder, "-f", "raw", "-O", form, *(["-o", options] if options else []), source,
                    "t", backend=backend, preexec_fn=lambda: resource.setrlimit(
                        resource.RLIMIT_FSIZE, (4 * MIB, 4 * MIB)))
    assert copying.wait(TIMEOUT) == 1
    assert "too large" in copying.stderr.read()
    assert files(folder) == ["s.raw"]


def test_a_full_disk_leaves_nothing(folder, source, backend):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    small = folder / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", small)
    try:
        done = img("convert", "-f", "raw", "-O", "qcow2", source, small / "t", code=1,
                   backend=backend)
        assert "No space left on device" in done.err
        assert files(small) == []
        (small / "t").write_bytes(b"old")
        img("convert", "-f", "raw", "-O", "raw", source, small / "t", code=1, backend=backend)
        assert (small / "t").stat().st_size == 0
    finally:
        run("umount", small)


def broken(source):
    """The source with one sector in 12 MiB that can not be read."""
    rules = {"driver": "raw", "file": {
        "driver": "blkdebug", "inject-error": [{"event": "none", "iotype": "read", "errno": 5,
                                                "sector": 8 * MIB // 512 + 3}],
        "image": {"driver": "file", "filename": str(source)}}}
    return "json:" + json.dumps(rules)


def test_a_source_that_can_not_be_read_leaves_nothing(folder, source, backend):
    done = img("convert", "-O", "qcow2", broken(source), folder / "t", code=1, backend=backend)
    assert done.err == "cairn-img: error while reading at byte 8388608: Input/output error\n"
    assert files(folder) == ["s.raw"]


def test_what_can_be_salvaged_is_made(folder, source, backend):
    done = img("convert", "-O", "raw", "--salvage", broken(source), folder / "t", backend=backend)
    hole = 8 * MIB + 3 * 512
    assert f"error while reading offset {hole}: Input/output error" in done.err
    content = source.read_bytes()
    assert (folder / "t").read_bytes() == content[:hole] + bytes(512) + content[hole + 512:]
    img("convert", "--salvage", "--verify", source, folder / "u", code=1)
    assert files(folder) == ["s.raw", "t"]


@pytest.mark.parametrize("name", [".t.part", "t"])
def test_a_target_that_vanishes_is_told(folder, source, backend, name):
    if name == "t":
        (folder / "t").touch()
    copying = start(folder, *SLOW, "-f", "raw", source, "t", backend=backend)
    wait_for_data(folder / name)
    (folder / name).unlink()
    assert copying.wait(TIMEOUT) == 1
    assert copying.stderr.read() == "cairn-img: 't' was removed while it was written\n"
    assert files(folder) == ["s.raw"]


def test_a_name_that_is_taken_meanwhile_stays_whose_it_is(folder, source, backend):
    copying = start(folder, "-r", "16M", "-f", "raw", source, "t", backend=backend)
    wait_for_data(folder / ".t.part")
    (folder / "t").write_bytes(b"theirs")
    assert copying.wait(TIMEOUT) == 1
    assert "Somebody else has made 't' meanwhile" in copying.stderr.read()
    assert (folder / "t").read_bytes() == b"theirs"
    assert files(folder) == ["s.raw", "t"]


def test_a_backing_file_is_found_beside_the_target(folder, source, backend):
    (folder / "sub").mkdir()
    img("convert", "-f", "raw", "-O", "qcow2", source, "sub/base", cwd=folder)
    img("convert", "-f", "qcow2", "-O", "qcow2", "-B", "base", "-F", "qcow2", "sub/base", "sub/t",
        cwd=folder, backend=backend)
    img("convert", "--verify", "-f", "qcow2", "-O", "qcow2", "-B", "base", "-F", "qcow2", "sub/t",
        "sub/u", cwd=folder, backend=backend)
    run("qemu-img", "compare", "-q", source, folder / "sub/u")
    assert files(folder / "sub") == ["base", "t", "u"]


@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk"])
def test_what_is_right_is_verified(folder, source, backend, form):
    small = folder / "small"
    small.write_bytes(b"x" * 1536)
    img("convert", "--verify", "-f", "raw", "-O", form, small, source, small, folder / "t",
        backend=backend)
    (folder / "all").write_bytes(small.read_bytes() + source.read_bytes() + small.read_bytes())
    run("qemu-img", "compare", "-q", folder / "all", folder / "t")


def test_verification_finds_what_was_changed_under_the_copy(folder, source, backend):
    copying = start(folder, "--verify", "-r", "16M", "-f", "raw", source, "t", backend=backend)
    wait_for_data(folder / ".t.part", 8 * MIB)
    with (folder / ".t.part").open("r+b") as file:
        file.seek(MIB + 5)
        byte = file.read(1)[0]
        file.seek(MIB + 5)
        file.write(bytes([byte ^ 1]))
    assert copying.wait(TIMEOUT) == 1
    assert copying.stderr.read() == (f"cairn-img: Verification failed: 't' differs from '{source}' "
                                     "at offset 1048576\n")
    assert files(folder) == ["s.raw"]


def test_verification_finds_a_server_that_stores_nothing(folder, source, backend):
    server = subprocess.Popen(["nbdkit", "-f", "-U", folder / "sock", "null", str(SIZE)])
    try:
        wait_until((folder / "sock").exists, "nbdkit")
        uri = f"nbd+unix:///?socket={folder}/sock"
        img("convert", "-n", "-f", "raw", "-O", "raw", source, uri, backend=backend)
        done = img("convert", "--verify", "-n", "-f", "raw", "-O", "raw", source, uri, code=1,
                   backend=backend)
        assert done.err.endswith(f"differs from '{source}' at offset 0\n")
    finally:
        server.kill()
        server.wait()


def test_progress_is_the_peers_where_no_terminal_is(folder, source):
    seen = [run(tool, "convert", "-p", "-m", "1", "-f", "raw", "-O", "qcow2", source, folder / tool).out
            for tool in ("cairn-img", "qemu-img")]
    # Each line overwrites the last one; which steps are shown depends on the sizes of requests.
    lines = [out.splitlines() for out in seen]
    assert lines[0][0] == lines[1][0] == "    (0.00/100%)"
    assert lines[0][-1] == lines[1][-1] == "    (100.00/100%)"


def test_progress_for_programs_is_json(folder, source, backend):
    out = img("convert", "--progress=json", "-f", "raw", "-O", "qcow2", source, folder / "t",
              backend=backend).out
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[0]["done"] == 0 and lines[-1]["done"] == lines[-1]["total"] == SIZE
    assert lines[-1]["percent"] == 100 and lines[-1]["remaining"] == 0
    assert all(a["done"] <= b["done"] for a, b in zip(lines, lines[1:]))
    assert set(lines[0]) == {"done", "total", "percent", "rate", "remaining"}
    done = img("convert", "--progress=xml", source, folder / "u", code=1)
    assert done.err == "cairn-img: --progress takes no value but json, not 'xml'\n"


def test_a_terminal_gets_a_bar(folder, source):
    command = f"{program('cairn-img')} convert -p -f raw {source} {folder}/t"
    shown = run("script", "-qec", command, "/dev/null").out
    assert "100.00% [====" in shown and "24 MiB of 24 MiB" in shown


def test_the_host_cache_is_kept_within_its_bound(folder, source, backend):
    if shutil.which("fincore") is None or run("stat", "-f", "-c", "%T", folder).out == "tmpfs\n":
        pytest.skip("needs fincore and a disk")
    os.truncate(source, 96 * MIB)
    with source.open("r+b") as file:
        file.seek(SIZE)
        file.write(random.Random(2).randbytes(96 * MIB - SIZE))

    def in_cache(*options):
        img("convert", *options, "-f", "raw", "-O", "qcow2", source, folder / "t", backend=backend)
        size = int(run("fincore", "-nb", "-o", "RES", folder / "t").out)
        (folder / "t").unlink()
        return size
    assert in_cache("--cache-limit", "0") > 64 * MIB
    assert in_cache("--cache-limit", "8M") <= 8 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_the_host_copies_where_both_are_files(folder, source, backend, form):
    img("convert", "-f", "raw", "-O", form, source, folder / "s")
    strace = ["strace", "-f", "-qq", "-e", "trace=copy_file_range", "-o", folder / "calls"]
    if shutil.which("strace") is None:
        strace = []
    run(*strace, program("cairn-img"), "convert", "-C", "--verify", "-f", form, folder / "s", folder / "s",
        folder / "t", backend=backend)
    assert (folder / "t").read_bytes() == source.read_bytes() * 2
    assert allocated(folder / "t") <= 2 * SIZE - 8 * MIB + MIB
    if strace:
        copied = sum(int(line.split("=")[-1]) for line in (folder / "calls").read_text().splitlines()
                     if "copy_file_range" in line and "=" in line and "unfinished" not in line)
        assert copied >= SIZE


def test_the_host_does_not_copy_behind_filters_and_into_formats(folder, source, backend):
    done = img("convert", "-C", "-O", "raw", broken(source), folder / "t", code=1, backend=backend)
    assert "error while reading" in done.err
    img("convert", "-C", "-f", "raw", "-O", "qcow2", source, folder / "u", backend=backend)
    run("qemu-img", "compare", "-q", source, folder / "u")
