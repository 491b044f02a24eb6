"""Fixtures of the end-to-end tests."""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import pki as credentials  # noqa: E402
import support  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: too slow for an instrumented build, or with limits or "
                            "tracers that it can not have")
    for name in support.PEER_NAMES:
        if not pathlib.Path(support.program(name) or "").exists():
            raise pytest.UsageError(f"there is no {support.program(name)}; build first")


@pytest.fixture(params=support.BACKENDS)
def backend(request):
    """Each I/O back end in turn."""
    return request.param


@pytest.fixture
def folder():
    """A free directory with a name short enough for a socket in it."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="cairn-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """A folder with folders of credentials: see pki.py."""
    made = tmp_path_factory.mktemp("pki")
    credentials.make(made)
    return made


@pytest.fixture
def daemons(folder, backend):
    """Starts daemons in `folder`; kills at the end what the test has not stopped.

    daemons(...) is Daemon(...), daemons.serving(...) is Daemon.serving(...)."""
    started = []

    def start(*arguments):
        started.append(support.Daemon(folder, backend, *arguments))
        return started[-1]

    def serving(*arguments, **options):
        started.append(support.Daemon.serving(folder, backend, *arguments, **options))
        return started[-1]

    start.serving = serving
    yield start
    for daemon in started:
        if daemon.alive():
            daemon.kill()


@pytest.fixture
def bare_monitor(folder, daemons):
    """A client of the monitor of a daemon that has nothing else."""
    path = folder / "qmp.sock"
    daemon = daemons("--chardev", f"socket,id=c,path={path},server=on,wait=off", "--monitor", "chardev=c")
    daemon.wait_for(path)
    client = support.Qmp(path)
    yield client
    client.close()


@pytest.fixture
def ones_disk(folder):
    """A raw disk of 1 MiB: 64 KiB of ones, then zeroes."""
    with (folder / "t.raw").open("wb") as raw:
        raw.write(b"\x01" * (64 << 10))
        raw.truncate(1 << 20)
    return folder / "t.raw"


@pytest.fixture
def served(folder, daemons):
    """A monitor, and a way to make requests to the qcow2 image 'q' over the file 'f'."""
    path = folder / "qmp.sock"
    daemon = daemons("--chardev", f"socket,id=c,path={path},server=on,wait=off",
                     "--monitor", "chardev=c")
    daemon.wait_for(path)
    support.run("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "64M", cwd=folder)
    monitor = support.Qmp(path)
    monitor("blockdev-add", driver="file", node_name="f", filename="a.qcow2", discard="unmap")
    monitor("blockdev-add", driver="qcow2", node_name="q", file="f", discard="unmap")
    monitor("nbd-server-start", addr={"type": "unix", "data": {"path": f"{folder}/nbd.sock"}})
    monitor("block-export-add", type="nbd", id="e", node_name="q", name="e", writable=True)

    def client(script):
        support.run("nbdsh", "-u", f"nbd+unix:///e?socket={folder}/nbd.sock", "-c", script)
    yield monitor, client
    monitor.close()


FILES = 3000


@pytest.fixture(scope="session")
def file_tree():
    """A directory of a few thousand files of many sizes, and one large file to be overwritten."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="cairn-tree-"))
    for number in range(FILES):
        below = path / f"dir{number % 50}"
        below.mkdir(exist_ok=True)
        # Sizes from nothing to 20 KiB, in no order, and contents that tell the files apart.
        text = f"file {number}\n"
        (below / f"file{number}").write_text(text * (number * 7919 % 2000))
    with (path / "scratch").open("wb") as scratch:
        for _ in range(32):
            scratch.write(b"\xee" * (1 << 20))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def ext4(file_tree):
    """A raw image of an ext4 file system that holds file_tree."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="cairn-ext4-"))
    image = path / "ext4.raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", str(file_tree), str(image),
                    "128M"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield image
    shutil.rmtree(path)
