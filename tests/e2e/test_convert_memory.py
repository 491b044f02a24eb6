"""cairn-img convert in a control group with little memory, as containers are."""

import os
import pathlib
import random
import subprocess

import pytest

from support import PEER, img, program, run, wait_until

pytestmark = pytest.mark.skipif(PEER, reason="the peer fills its memory with what it writes")

MIB = 1 << 20
LIMIT = 64 * MIB
SIZE = 256 * MIB


class Group:
    """A memory control group of version 1 or 2."""

    def __init__(self, folder, version):
        self.folder = folder
        self.limit = folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")
        self.peak_file = folder / ("memory.peak" if version == 2 else "memory.max_usage_in_bytes")

    def run(self, *command):
        return run(*self.entering(command))

    def start(self, *command):
        return subprocess.Popen([str(word) for word in self.entering(command)])

    def entering(self, command):
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', self.folder, *command]

    def peak(self):
        return int(self.peak_file.read_text())

    def times_at_limit(self):
        events = self.folder / "memory.events"
        if events.exists():
            return int(dict(line.split() for line in events.read_text().splitlines())["max"])
        return int((self.folder / "memory.failcnt").read_text())


def make_group():
    """A group below the root of a hierarchy that limits memory, or nothing."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options = line.split()[:4]
        root = pathlib.Path(mount)
        version = 2 if kind == "cgroup2" else 1
        if version == 1 and not (kind == "cgroup" and "memory" in options.split(",")):
            continue
        folder = root / f"cairn-test-{os.getpid()}"
        try:
            folder.mkdir()
            group = Group(folder, version)
            group.limit.write_text(str(LIMIT))
            group.peak()
            return group
        except OSError:
            if folder.exists():
                folder.rmdir()
    return None


@pytest.fixture
def group():
    made = make_group()
    if made is None:
        pytest.skip("needs to make a control group that limits memory")
    yield made
    made.folder.rmdir()


@pytest.fixture
def source(folder):
    if run("stat", "-f", "-c", "%T", folder).out == "tmpfs\n":
        pytest.skip("needs a disk")
    path = folder / "s.raw"
    noise = random.Random(1).randbytes(4 * MIB)
    with path.open("wb") as file:
        for piece in range(SIZE // len(noise)):
            file.write(noise)
            file.write(piece.to_bytes(8, "little"))
        file.truncate(SIZE)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def is_direct(process, name):
    """Whether a process has a file of that name open with O_DIRECT; None when it has not opened it. What
    keeps the cache small has the files open a second time."""
    modes = set()
    for fd in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            if pathlib.Path(os.readlink(fd)).name == name:
                info = (fd.parent.parent / "fdinfo" / fd.name).read_text()
                modes.add(bool(int(info.split("flags:")[1].split()[0], 8) & os.O_DIRECT))
        except FileNotFoundError:
            pass  # closed meanwhile
    return True in modes if modes else None


@pytest.mark.slow
def test_a_conversion_stays_far_from_the_limit(folder, source, backend, group):
    done = group.run("env", f"CAIRN_IO={backend}", program("cairn-img"), "convert", "-f", "raw", "-O",
                     "qcow2", source, folder / "t")
    assert done.code == 0, done.err
    assert group.times_at_limit() == 0
    assert group.peak() < LIMIT // 2 + 8 * MIB
    img("compare", "-f", "raw", "-F", "qcow2", source, folder / "t")


@pytest.mark.parametrize(("options", "reads_direct", "writes_direct"), [
    ((), True, True),
    (("-T", "writeback"), False, True),
    (("-t", "writeback"), True, False),
    (("--cache-limit", "8M"), False, False),
])
def test_what_the_user_says_about_the_cache_counts(folder, source, group, options, reads_direct,
                                                   writes_direct):
    converting = group.start(program("cairn-img"), "convert", "-r", "8M", *options, "-f", "raw", "-O",
                             "qcow2", source, folder / "t")
    try:
        wait_until(lambda: is_direct(converting, ".t.part") is not None, "the target is open")
        # The target is made before it is opened for the copy.
        wait_until(lambda: is_direct(converting, ".t.part") == writes_direct, "the target's mode", timeout=20)
        assert is_direct(converting, "s.raw") == reads_direct
    finally:
        converting.kill()
        converting.wait()
