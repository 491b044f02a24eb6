"""The NBD client with real servers: nbdkit, the peer's, and our own."""

import json
import subprocess
import time

import pytest

from support import TIMEOUT, accepts, environment, img, io, program, raw, run, wait_until

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


def uri(folder, name=""):
    return f"nbd+unix:///{name}?socket={folder}/s"


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


def test_a_server_that_dies_fails_what_is_asked(folder, backend, serve, daemons):
    make_disk(folder)
    server = serve(SERVERS["nbdkit"])
    daemon = daemons.serving({"driver": "nbd", "server": {"type": "unix", "path": f"{folder}/s"}})
    check = ["nbdsh", "-u", daemon.uri(), "-c", "h.pread(512, 0)"]
    run(*check)
    server.kill()
    server.wait()
    assert "Input/output error" in run(*check, code=1).err


def test_requests_wait_for_a_server_that_comes_back(folder, backend, serve, daemons):
    make_disk(folder)
    server = serve(SERVERS["nbdkit"])
    daemon = daemons.serving({"driver": "nbd", "reconnect-delay": 100,
                              "server": {"type": "unix", "path": f"{folder}/s"}})
    server.kill()
    server.wait()
    (folder / "s").unlink()
    client = subprocess.Popen(["nbdsh", "-u", daemon.uri(), "-c", "h.pwrite(b'x' * 512, 512)"],
                                  env=environment(None))
    serve(SERVERS["nbdkit"])
    assert client.wait(60) == 0
    assert (folder / "disk.raw").read_bytes()[512:1024] == b"x" * 512


def test_a_server_with_another_disk_is_not_the_one_that_was_lost(folder, backend, serve, daemons):
    make_disk(folder)
    server = serve(SERVERS["nbdkit"])
    daemon = daemons.serving({"driver": "nbd", "reconnect-delay": 100,
                              "server": {"type": "unix", "path": f"{folder}/s"}})
    server.kill()
    server.wait()
    (folder / "s").unlink()
    make_disk(folder, 4 * MIB)
    serve(SERVERS["nbdkit"])
    failed = run("nbdsh", "-u", daemon.uri(), "-c", "h.pread(512, 0)", code=1)
    assert "Input/output error" in failed.err


def test_our_own_server(folder, backend, daemons):
    make_disk(folder)
    daemon = daemons.serving(raw(folder / "disk.raw"))
    io("-f", "raw", "-c", "write -q -P 1 0 3M", "-c", "write -q -z 1M 1M", "-c", "read -q -P 0 1M 1M",
       "-c", "read -q -P 1 2M 1M", daemon.uri(), backend=backend)
    shown = img("info", daemon.uri(), backend=backend)
    assert f"image: {daemon.uri()}\nfile format: raw\n" in shown.out


def test_names_and_exports_that_are_not_there(folder, backend, daemons):
    make_disk(folder)
    daemon = daemons.serving(raw(folder / "disk.raw"), writable=False)
    for name, says in {
            daemon.uri("other"): "Requested export not available\nserver reported: ",
            f"nbd+unix:///disk?socket={folder}/none":
                f"Failed to connect to '{folder}/none': No such file or directory",
            "nbd+unix:///disk": "No valid URL specified",
            "nbd:localhost": "error parsing address 'localhost'"}.items():
        failed = img("info", name, code=1, backend=backend)
        assert f"Could not open '{name}': {says}" in failed.err
    failed = io("-f", "raw", "-c", "length", daemon.uri(), code=1, backend=backend)
    assert "Could not open image: Permission denied" in failed.err


def connections(log):
    """How many connections read or wrote, by the log of nbdkit's filter."""
    lines = [line for line in log.read_text().splitlines() if " Read " in line or " Write " in line]
    return {word for line in lines for word in line.split() if word.startswith("connection=")}


@pytest.mark.parametrize("mode, several", [("emulate", True), ("disable", False)])
def test_more_connections_carry_more_requests_where_that_is_safe(folder, backend, serve, mode,
                                                                 several):
    make_disk(folder)
    serve(["nbdkit", "-f", "-U", "s", "--filter=log", "--filter=multi-conn", "--filter=delay",
           "file", "disk.raw", f"multi-conn-mode={mode}", "delay-read=20ms", "logfile=log"])
    img("bench", "-c", "200", "-d", "32", "-s", "4096", "-f", "raw", uri(folder), backend=backend)
    assert (len(connections(folder / "log")) > 1) == several


def test_errors_that_a_server_gets_over_are_none(folder, backend, serve):
    make_disk(folder)
    run("qemu-io", "-f", "raw", "-c", "write -q -P 1 0 8M", folder / "disk.raw")
    (folder / "broken").touch()
    serve(["nbdkit", "-f", "-U", "s", "--filter=retry", "--filter=error", "file", "disk.raw",
           "retries=100", "retry-delay=1", "retry-exponential=no", "error-pread=EIO",
           "error-pread-rate=100%", f"error-pread-file={folder}/broken"])
    copying = subprocess.Popen([program("cairn-img"), "convert", "-f", "raw", "-O", "raw",
                                uri(folder), folder / "copy.raw"], env=environment(backend))
    time.sleep(0.5)
    assert copying.poll() is None
    (folder / "broken").unlink()
    assert copying.wait(TIMEOUT) == 0
    run("cmp", folder / "copy.raw", folder / "disk.raw")


def test_writes_in_flight_when_the_server_dies_are_made_again(folder, backend, serve, daemons):
    make_disk(folder)
    slow = ["nbdkit", "-f", "-U", "s", "--filter=log", "--filter=delay", "file", "disk.raw",
            "delay-write=60", "logfile=log"]
    server = serve(slow)
    daemon = daemons.serving({"driver": "nbd", "reconnect-delay": 100,
                              "server": {"type": "unix", "path": f"{folder}/s"}})
    client = subprocess.Popen(
        ["nbdsh", "-u", daemon.uri(), "-c", """
left = [h.aio_pwrite(bytes([65 + i]) * 4096, i * 4096) for i in range(20)]
while left:
    h.poll(-1)
    left = [cookie for cookie in left if not h.aio_command_completed(cookie)]
"""], env=environment(None))
    wait_until(lambda: (folder / "log").exists() and
               (folder / "log").read_text().count(" Write ") >= 20, "the writes to be in flight")
    server.kill()
    server.wait()
    (folder / "s").unlink()
    serve(SERVERS["nbdkit"])
    assert client.wait(60) == 0
    data = (folder / "disk.raw").read_bytes()
    assert all(data[i * 4096:(i + 1) * 4096] == bytes([65 + i]) * 4096 for i in range(20))


def test_replies_that_come_late_and_out_of_order_go_where_they_belong(folder, backend, serve):
    make_disk(folder)
    words = []
    for number in range(1, 32):
        words += ["-c", f"write -q -P {number} {number * 8192} 8192"]
    run("qemu-io", "-f", "raw", *words, folder / "disk.raw")
    # Small reads overtake the large ones, which take many turns.
    serve(["nbdkit", "-f", "-t", "16", "-U", "s", "--filter=delay", "file", "disk.raw",
           "delay-read=5ms"])
    words = []
    for number in range(1, 32):
        words += ["-c", f"aio_read -q -P {number} {number * 8192} {512 + number % 3 * 3584}"]
    io("-f", "raw", *words, "-c", "aio_flush", uri(folder), backend=backend)
