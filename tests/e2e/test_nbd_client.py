"""The NBD client with real servers: nbdkit and the peer's."""

import json
import subprocess

import pytest

from support import accepts, img, io, run, wait_until

MIB = 1 << 20

# How to start a server of `disk.raw` on the socket `s`; each makes the client go another way.
SERVERS = {
    "nbdkit": ["nbdkit", "-f", "-U", "s", "file", "disk.raw"],
    "nbdkit-simple-replies": ["nbdkit", "-f", "--no-sr", "-U", "s", "file", "disk.raw"],
    "nbdkit-export-name": ["nbdkit", "-f", "--mask-handshake=0", "-U", "s", "file", "disk.raw"],
    "nbdkit-blocks": ["nbdkit", "-f", "-U", "s", "--filter=blocksize-policy", "file", "disk.raw",
                      "blocksize-error-policy=error", "blocksize-minimum=4096",
                      "blocksize-preferred=65536", "blocksize-maximum=131072"],
    "nbdkit-plain": ["nbdkit", "-f", "-U", "s", "--filter=nozero", "file", "disk.raw",
                     "zeromode=none"],
    "qemu-nbd": ["qemu-nbd", "-f", "raw", "-t", "-e", "0", "-k", None, "disk.raw"],
}


@pytest.fixture
def serve(folder):
    """Starts a server of `folder`/disk.raw; ends it with the test."""
    started = []

    def start(command):
        command = [str(folder / "s") if word is None else word for word in command]
        started.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL))
        wait_until(lambda: accepts(folder / "s"), "the server's socket")
        return started[-1]

    yield start
    for server in started:
        server.kill()
        server.wait()


def uri(folder):
    return f"nbd+unix:///?socket={folder}/s"


def make_disk(folder, size=8 * MIB):
    with (folder / "disk.raw").open("wb") as disk:
        disk.truncate(size)


@pytest.mark.parametrize("server", SERVERS)
def test_what_is_written_is_there(folder, backend, serve, server):
    make_disk(folder)
    serve(SERVERS[server])
    io("-f", "raw", "-c", "write -q -P 1 0 1M", "-c", "write -q -P 2 512 700",
       "-c", "write -q -z 64k 128k", "-c", "write -q -f -P 3 2M 300k", "-c", "discard -q 5M 1M",
       "-c", "aio_write -q -P 4 6M 64k", "-c", "aio_write -q -P 5 7M 1M", "-c", "aio_flush",
       "-c", "flush", "-c", "read -q -P 1 0 512", "-c", "read -q -P 2 512 700",
       "-c", "read -q -P 0 64k 128k", "-c", "read -q -P 5 7M 1M", uri(folder), backend=backend)
    checks = ["read -q -P 1 1212 60k", "read -q -P 0 64k 128k", "read -q -P 1 192k 832k",
              "read -q -P 3 2M 300k", "read -q -P 4 6M 64k", "read -q -P 5 7M 1M"]
    words = [word for check in checks for word in ("-c", check)]
    run("qemu-io", "-r", "-U", "-f", "raw", *words, folder / "disk.raw")


@pytest.mark.parametrize("server", SERVERS)
def test_copies_there_and_back_are_the_same(folder, backend, serve, server):
    make_disk(folder)
    run("qemu-io", "-f", "raw", "-c", "write -q -P 1 1M 1M", "-c", "write -q -P 7 5M 100k",
        folder / "disk.raw")
    serve(SERVERS[server])
    img("convert", "-f", "raw", "-O", "qcow2", uri(folder), folder / "copy.qcow2", backend=backend)
    run("qemu-img", "compare", "-U", "-f", "qcow2", "-F", "raw", folder / "copy.qcow2",
        folder / "disk.raw")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 9 4M 2M", folder / "copy.qcow2")
    img("convert", "-n", "-f", "qcow2", "-O", "raw", folder / "copy.qcow2", uri(folder),
        backend=backend)
    run("qemu-img", "compare", "-U", "-f", "qcow2", "-F", "raw", folder / "copy.qcow2",
        folder / "disk.raw")


@pytest.mark.parametrize("server", ["nbdkit", "qemu-nbd"])
def test_map_is_what_the_peer_says(folder, backend, serve, server):
    make_disk(folder)
    run("qemu-io", "-f", "raw", "-c", "write -q -P 1 1M 1M", folder / "disk.raw")
    serve(SERVERS[server])
    ours = img("map", "--output=json", "-f", "raw", uri(folder), backend=backend)
    peers = run("qemu-img", "map", "--output=json", "-f", "raw", uri(folder))
    assert [(e["start"], e["length"], e["data"], e["zero"]) for e in json.loads(ours.out)] == \
           [(e["start"], e["length"], e["data"], e["zero"]) for e in json.loads(peers.out)]


def test_errors_of_the_server_are_errors_of_the_request(folder, backend, serve):
    make_disk(folder)
    serve(["nbdkit", "-f", "-U", "s", "--filter=error", "file", "disk.raw",
           "error-pwrite=ENOSPC", "error-pwrite-rate=100%"])
    failed = io("-f", "raw", "-c", "write 0 64k", "-c", "read -q -P 0 0 64k", uri(folder), code=1,
                backend=backend)
    assert "No space left on device" in failed.out + failed.err
