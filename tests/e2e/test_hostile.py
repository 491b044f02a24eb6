"""Hostile images, clients and monitors: they get an error or are dropped, and harm nobody else."""

import errno
import os
import random
import resource
import socket
import struct
import time

import nbd
import pytest

from support import PEER, TOOLS, Qmp, img, io, qcow2, raw, run, wait_until

MIB = 1 << 20


# ---------------------------------------------------------------- images

@pytest.fixture
def image(folder):
    """A small qcow2 image with data, a zero cluster and a compressed cluster."""
    path = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "1M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 64k", "-c", "write -q -P 2 500k 20k",
        "-c", "write -q -z 128k 8k", "-c", "write -q -c -P 3 256k 4k", path)
    return path


def try_everything(path, backend):
    """Every offline reader ends by itself and by no signal, whatever the image says."""
    for command in (("cairn-img", "info", path), ("cairn-img", "check", path),
                    ("cairn-img", "map", "-f", "qcow2", path),
                    ("cairn-io", "-f", "qcow2", "-r", "-c", "read 0 1M", path)):
        done = run(*command, code=None, backend=backend, timeout=30)
        assert done.code == 0 or done.out or done.err, f"failed and says nothing: {done}"
        assert "Sanitizer" not in done.err and "runtime error" not in done.err, done


# Offsets of fields in the first cluster and of the tables that `image` has: corrupting these is
# more telling than corrupting bytes anywhere.
INTERESTING = [*range(0, 112), *range(112, 600, 8)]
NASTY = [0, 1, 0x7f, 0x80, 0xff]


def corrupted(data, chooser):
    data = bytearray(data)
    for _ in range(chooser.choice([1, 1, 2, 4])):
        kind = chooser.randrange(4)
        if kind == 0:
            data[chooser.choice(INTERESTING)] = chooser.choice(NASTY)
        elif kind == 1:
            at = chooser.randrange(0, len(data) - 8, 8)
            struct.pack_into(">Q", data, at, chooser.choice(
                [0, 1 << 63, (1 << 63) | 0x1000, (1 << 64) - 1, (1 << 56) - 512, 1 << 62, len(data),
                 0x1000, 0x3000]))
        elif kind == 2:
            data[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)
        else:
            del data[chooser.randrange(len(data)):]
            data = data or bytearray(1)
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_corrupted_images_are_survived(folder, image, backend, seed):
    original = image.read_bytes()
    chooser = random.Random(seed)
    for _ in range(10):
        image.write_bytes(corrupted(original.ljust(1024, b"\0"), chooser))
        try_everything(image, backend)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 71, 72, 103, 104, 111, 112, 511, 4096, 8192, 12288])
def test_truncated_images_are_survived(image, backend, length):
    with image.open("r+b") as file:
        file.truncate(length)
    try_everything(image, backend)


CORPUS = TOOLS.parent / "tests" / "formats" / "qcow2" / "write_qcow2_corpus"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Images damaged by hand, a field at a time: (file, what was done to it). Every 23rd of
    some thousands; all of them are for tests/formats/qcow2/corpus_test.cc."""
    if PEER:
        pytest.skip("the corpus is for our tools")
    if not CORPUS.exists():
        pytest.skip("the corpus was not built: ninja tests/formats/qcow2/write_qcow2_corpus")
    below = tmp_path_factory.mktemp("corpus")
    run(CORPUS, below, 23)
    return [(below / file, what) for file, what in
            (line.split(" ", 1) for line in (below / "names").read_text().splitlines())]


def test_refusals_name_the_file_and_the_cause(corpus):
    refused = 0
    for path, what in corpus:
        done = run("cairn-io", "-f", "qcow2", "-r", "-c", "read -q 0 512", path, code=None, timeout=60)
        if "can't open" not in done.err:
            continue
        refused += 1
        _, _, cause = done.err.partition(f"can't open device {path}: ")
        assert cause.strip() and cause.strip() not in (os.strerror(e) for e in errno.errorcode), \
            (what, done)
    assert refused > len(corpus) // 10


def test_checks_of_damaged_images_come_to_a_verdict(corpus):
    for path, what in corpus:
        done = img("check", "-f", "qcow2", path, code=None, timeout=60)
        assert done.code in (0, 1, 2, 3), (what, done)
        assert done.code == 0 or done.out or done.err, what
        assert done.code != 1 or str(path) in done.err or "Check failed" in done.err, (what, done)


def patch(path, offset, form, value):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(form, value))


@pytest.mark.parametrize("what, offset, form, value", [
    ("size near 2^63", 24, ">Q", (1 << 63) - 512),
    ("size near 2^64", 24, ">Q", (1 << 64) - 512),
    ("an L1 table of 2^32 - 1 entries", 36, ">I", (1 << 32) - 1),
    ("an L1 table near 2^64", 40, ">Q", (1 << 64) - 4096),
    ("a refcount table near 2^64", 48, ">Q", (1 << 64) - 4096),
    ("a refcount table of 2^32 - 1 clusters", 56, ">I", (1 << 32) - 1),
    ("2^32 - 1 snapshots", 60, ">I", (1 << 32) - 1),
    ("a backing name of 2^32 - 1 bytes", 16, ">I", (1 << 32) - 1),
    ("clusters of 2^63 bytes", 20, ">I", 63),
    ("refcounts of 2^32 bits", 96, ">I", 32),
    ("a header of 2^32 - 1 bytes", 100, ">I", (1 << 32) - 1),
])
def test_absurd_fields_are_refused_at_once(image, backend, what, offset, form, value):
    if what.startswith("a backing name"):
        patch(image, 8, ">Q", 512)
    patch(image, offset, form, value)
    begin = time.monotonic()
    done = io("-f", "qcow2", "-c", "read 0 512", image, code=1, backend=backend)
    assert done.err or done.out
    assert time.monotonic() - begin < 20
    # Memory that the program reserves for a field's sake would show here.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 * MIB, "over 2 GiB"


def test_a_cyclic_backing_chain_is_refused(folder, daemons, backend):
    for name, backing in (("a", "b"), ("b", "a")):
        run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", f"{backing}.qcow2", "-F", "qcow2",
            folder / f"{name}.qcow2", "1M")
    done = img("info", "--backing-chain", folder / "a.qcow2", code=1, backend=backend)
    assert "loop" in done.err or "cycl" in done.err, done
    if not PEER:  # the peer recurses until its file descriptors or its stack run out
        done = io("-f", "qcow2", "-r", "-c", "read 0 512", folder / "a.qcow2", code=1,
                  backend=backend)
        assert done.out or done.err
        node = '{"driver":"qcow2","node-name":"d","file":{"driver":"file","filename":"a.qcow2"}}'
        daemon = daemons("--blockdev", node)
        assert daemon.process.wait(60) == 1, daemon.output()


def test_a_long_backing_chain_is_followed_or_refused(folder, backend):
    previous = None
    for depth in range(200):
        name = f"{depth}.qcow2"
        backing = ["-u", "-b", previous, "-F", "qcow2"] if previous else []
        run("qemu-img", "create", "-q", "-f", "qcow2", *backing, name, "1M", cwd=folder)
        previous = name
    done = io("-f", "qcow2", "-r", "-c", "read -P 0 0 1M", previous, cwd=folder, code=None,
              backend=backend)
    assert done.code == 0 or done.out or done.err


def test_a_header_can_not_open_other_files(folder, daemons):
    """A JSON or protocol name inside an image is a file's name, not an invitation (the lesson of
    CVE-2024-4467), unless it is wanted; either way the daemon lives on."""
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "nbd://localhost:1/x", "-F", "raw",
        folder / "a.qcow2", "1M")
    daemon = daemons("--chardev", f"socket,id=c,path={folder}/qmp.sock,server=on,wait=off",
                     "--monitor", "chardev=c")
    daemon.wait_for(folder / "qmp.sock")
    monitor = Qmp(folder / "qmp.sock")
    reply = monitor.ask("blockdev-add", node_name="a", **qcow2(folder / "a.qcow2"))
    assert "error" in reply
    assert monitor("query-named-block-nodes") == []
    monitor.close()
    daemon.stop()


def test_requests_near_the_end_of_a_huge_disk(daemons):
    size = (1 << 63) - (1 << 31)
    daemon = daemons.serving({"driver": "null-co", "size": size, "read-zeroes": True})
    client = nbd.NBD()
    client.connect_uri(daemon.uri())
    assert client.get_size() <= size
    end = client.get_size()
    assert client.pread(512, end - 512) == bytes(512)
    client.set_strict_mode(0)
    for offset, length in ((end, 512), (end - 512, 1024), ((1 << 63) - 512, 512),
                           ((1 << 64) - 512, 512)):
        with pytest.raises(nbd.Error) as caught:
            client.pread(length, offset)
        assert caught.value.errnum in (errno.EINVAL, errno.ENOSPC)
    assert client.pread(512, 0) == bytes(512)
    daemon.stop()


# ---------------------------------------------------------------- clients

@pytest.fixture
def many_files():
    """Room for ten thousand connections, for us and for the daemons we start."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 11000
    if old[1] != resource.RLIM_INFINITY and old[1] < wanted:
        pytest.skip("the machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, old)


def connect_silently(path, count):
    """`count` connections that say nothing. A full listen queue is waited for."""
    clients = []
    deadline = time.monotonic() + 60
    while len(clients) < count and time.monotonic() < deadline:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        try:
            client.connect(str(path))
            clients.append(client)
        except BlockingIOError:
            client.close()
            time.sleep(0.001)
    return clients


def connect_patiently(daemon):
    """A client that comes again when the listen queue is full."""
    def connected():
        client = nbd.NBD()
        try:
            client.connect_uri(daemon.uri())
        except nbd.Error as error:
            assert error.errnum == errno.EAGAIN, error
            return None
        return client
    return wait_until(connected, "a place in the listen queue", 60)


@pytest.mark.slow
def test_ten_thousand_silent_connections(folder, daemons, many_files):
    (folder / "disk.raw").write_bytes(b"\x42" * MIB)
    daemon = daemons.serving(raw(folder / "disk.raw"), server=",max-connections=0")
    before = daemon.memory()
    silent = connect_silently(daemon.socket, 10000)
    assert len(silent) == 10000
    client = connect_patiently(daemon)
    assert client.pread(512, 0) == b"\x42" * 512
    if not PEER:
        assert daemon.memory() - before < 400 * MIB, "over 40 KiB a silent connection"
    for other in silent:
        other.close()
    client.pwrite(b"\x43" * 512, 0)
    client.shutdown()
    daemon.stop()


def test_silent_connections_make_room_in_time(folder, daemons):
    """With every place taken by a client that says nothing, an honest one is served once the
    handshake's time is up."""
    if PEER:
        pytest.skip("the peer of Debian 12 has no handshake limit")
    (folder / "disk.raw").write_bytes(b"\x42" * MIB)
    daemon = daemons.serving(raw(folder / "disk.raw"),
                             server=",max-connections=5,handshake-max-seconds=1")
    silent = connect_silently(daemon.socket, 5)
    client = connect_patiently(daemon)
    assert client.pread(512, 0) == b"\x42" * 512
    for other in silent:
        other.close()
    daemon.stop()


NBD_MAGICS = [b"IHAVEOPT", bytes.fromhex("0003e889045565a9"), bytes.fromhex("25609513")]


def garbage(chooser):
    """Bytes that begin like a handshake, with an option of absurd length or nonsense after it."""
    flags = struct.pack(">I", chooser.choice([0, 1, 3, 0xffffffff]))
    option = struct.pack(">8sII", NBD_MAGICS[0], chooser.choice([1, 2, 3, 5, 6, 7, 8, 9, 10, 99]),
                         chooser.choice([0, 1, 4, 8, 4096, 1 << 24, (1 << 32) - 1]))
    body = chooser.randbytes(chooser.choice([0, 1, 10, 4096]))
    return chooser.choice([chooser.randbytes(4096), flags + option + body,
                           flags + option + option + body, flags[:2], flags + option[:9]])


def test_garbage_in_the_handshake_harms_nobody(folder, daemons):
    (folder / "disk.raw").write_bytes(b"\x42" * MIB)
    daemon = daemons.serving(raw(folder / "disk.raw"))
    honest = nbd.NBD()
    honest.connect_uri(daemon.uri())
    chooser = random.Random(1)
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.02)
            client.connect(str(daemon.socket))
            try:
                client.sendall(garbage(chooser))
                client.recv(65536)
            except OSError:
                pass
        assert honest.pread(512, 0) == b"\x42" * 512
    daemon.stop()


def negotiated(path, name=b"disk"):
    """A bare socket after a handshake with NBD_OPT_EXPORT_NAME, ready for requests."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(path))
    assert client.recv(18, socket.MSG_WAITALL)[:8] == b"NBDMAGIC"
    client.sendall(struct.pack(">I8sII", 3, NBD_MAGICS[0], 1, len(name)) + name)
    assert len(client.recv(10, socket.MSG_WAITALL)) == 10
    return client


def request(kind, offset, length, flags=0, magic=0x25609513):
    return struct.pack(">IHHQQI", magic, flags, kind, 7, offset, length)


BAD_REQUESTS = {
    "a wrong magic": request(0, 0, 512, magic=0x12345678),
    "an unknown command": request(77, 0, 512),
    "a read of 4 GiB": request(0, 0, (1 << 32) - 1),
    "a write of 4 GiB that never comes": request(1, 0, (1 << 32) - 1),
    "a write that stops half-way": request(1, 0, 65536) + bytes(1000),
    "a write beyond the end": request(1, 1 << 62, 512) + bytes(512),
    "unknown flags": request(0, 0, 512, flags=0xffff),
    "half a header": request(0, 0, 512)[:11],
    "zeroes over everything and beyond": request(6, 0, (1 << 32) - 1),
    "a trim beyond the end": request(4, (1 << 64) - 512, 4096),
}


@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_a_bad_request_is_an_error_or_the_end(folder, daemons, what):
    (folder / "disk.raw").write_bytes(b"\x42" * MIB)
    daemon = daemons.serving(raw(folder / "disk.raw"))
    client = negotiated(daemon.socket)
    client.sendall(BAD_REQUESTS[what])
    client.shutdown(socket.SHUT_WR)
    received = b""
    try:
        while len(received) < 1 << 20:
            part = client.recv(65536)
            if not part:
                break
            received += part
    except ConnectionResetError:
        pass
    if received:
        magic, error = struct.unpack(">II", received[:8])
        assert magic == 0x67446698 and error != 0, f"{what} was obeyed"
    client.close()
    honest = nbd.NBD()
    honest.connect_uri(daemon.uri())
    assert honest.pread(512, 0) == b"\x42" * 512, f"{what} did something"
    daemon.stop()


def test_a_client_that_never_reads_does_not_grow_the_server(folder, daemons):
    (folder / "disk.raw").write_bytes(b"\x42" * (4 * MIB))
    daemon = daemons.serving(raw(folder / "disk.raw"))
    client = negotiated(daemon.socket)
    client.setblocking(False)
    sent = 0
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and sent < 50000:
        try:
            client.sendall(request(0, 0, MIB))
            sent += 1
        except BlockingIOError:
            time.sleep(0.01)
    assert daemon.memory() < 300 * MIB, f"{sent} requests for 1 MiB each"
    honest = nbd.NBD()
    honest.connect_uri(daemon.uri())
    assert honest.pread(512, 0) == b"\x42" * 512
    client.close()
    daemon.stop()


# ---------------------------------------------------------------- monitors

@pytest.fixture
def monitored(folder, daemons):
    daemon = daemons("--chardev", f"socket,id=c,path={folder}/qmp.sock,server=on,wait=off",
                     "--monitor", "chardev=c")
    daemon.wait_for(folder / "qmp.sock")
    return daemon, folder / "qmp.sock"


HUGE_LINES = {
    "a string of 10 MB": b'{"execute": "' + b"x" * 10_000_000 + b'"}\n',
    "an argument of 10 MB": b'{"execute": "query-status", "arguments": {"a": "'
                            + b"x" * 10_000_000 + b'"}}\n',
    "ten million brackets": b"[" * 10_000_000 + b"\n",
    "two million objects": b'{"a":' * 2_000_000 + b"\n",
    "10 MB without an end": b'{"execute": "' + b"y" * 10_000_000,
    "10 MB of noise": bytes(range(1, 256)) * 40000 + b"\n",
}


@pytest.mark.parametrize("what", HUGE_LINES)
def test_a_huge_line_is_refused_and_forgotten(monitored, what):
    if PEER:
        pytest.skip("the peer passes, but takes a minute for each")
    daemon, path = monitored
    monitor = Qmp(path)
    monitor.socket.settimeout(60)
    try:
        monitor.send(HUGE_LINES[what])
        monitor.socket.shutdown(socket.SHUT_WR)
        while monitor.file.readline():
            pass
    except OSError:
        pass  # the daemon may hang up on it
    monitor.socket.close()
    assert daemon.alive(), f"{what}: {daemon.output()}"
    if not PEER:
        wait_until(lambda: daemon.memory() < 128 * MIB, f"memory given back after {what}", 20)
    again = Qmp(path)
    assert again("query-block") == []
    again.close()
    daemon.stop()


@pytest.fixture
def two_monitors(folder, daemons):
    """A daemon with a monitor for the hostile and another one for the honest."""
    arguments = []
    for name in ("bad", "good"):
        arguments += ["--chardev", f"socket,id={name},path={folder}/{name}.sock,server=on,wait=off",
                      "--monitor", f"chardev={name}"]
    daemon = daemons(*arguments)
    for name in ("bad", "good"):
        daemon.wait_for(folder / f"{name}.sock")
    return daemon, folder / "bad.sock", folder / "good.sock"


def test_thousands_of_monitor_clients_change_nothing_for_others(two_monitors, many_files):
    daemon, bad, good = two_monitors
    before = daemon.memory()
    crowd = connect_silently(bad, 2000)
    assert len(crowd) == 2000
    honest = Qmp(good)
    assert honest("query-block") == []
    assert daemon.memory() - before < 16 * MIB
    # All go at once, most of them without having been served; the next one is.
    for client in crowd:
        client.close()
    last = Qmp(bad)
    assert last("query-block") == []
    last.close()
    honest.close()
    daemon.stop()


FLOODS = {
    "requests": b'{"execute": "query-qmp-schema"}',
    "out-of-band requests": b'{"exec-oob": "query-qmp-schema"}',
    "requests before negotiation": b'{"execute": "nope", "id": [[[[[[[[]]]]]]]]}',
    "noise": b'"x" ] } , 17 \xff',
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_from_a_client_that_does_not_read(two_monitors, what):
    daemon, bad, good = two_monitors
    honest = Qmp(good)
    before = daemon.memory()
    hostile = Qmp(bad, negotiate=False)
    if what != "requests before negotiation":
        hostile("qmp_capabilities", **({"enable": ["oob"]} if "band" in what else {}))
    hostile.socket.setblocking(False)
    sent, deadline = 0, time.monotonic() + 60
    try:
        while sent < 32 * MIB and time.monotonic() < deadline:
            sent += hostile.socket.send(FLOODS[what] * 1000)
            assert honest("query-block") == []
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    assert sent < 32 * MIB, "it took everything"
    assert honest("query-block") == []
    assert daemon.memory() - before < 32 * MIB
    hostile.socket.close()
    honest.close()
    daemon.stop()


def test_half_closed_monitor_clients_get_their_answers(two_monitors):
    daemon, bad, _ = two_monitors
    for _ in range(50):
        client = Qmp(bad)
        client.send(b'{"execute": "query-block", "id": 1}{"execute": "query-jo')
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer() == {"return": [], "id": 1}
        assert client.file.readline() == b""
        client.close()
    daemon.stop()
