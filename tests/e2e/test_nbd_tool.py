"""cairn-nbd: one image served by one command, with libnbd and the tools as clients."""

import os
import pathlib
import signal
import socket
import subprocess

import pytest

from support import (PEER, TIMEOUT, Daemon, accepts, environment, img, io, program, run, same_bytes,
                     wait_until)

MIB = 1 << 20


def nbd(*arguments, **options):
    """cairn-nbd, to its end."""
    return run("cairn-nbd", *arguments, **options)


class Server(Daemon):
    """A cairn-nbd in the foreground that serves `arguments` on the socket `s`."""

    def __init__(self, folder, backend, *arguments, start_with=()):
        self.folder, self.socket, self.log = folder, folder / "s", folder / "nbd.log"
        command = [program("cairn-nbd"), *start_with, *(str(a) for a in arguments)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=environment(backend))

    def uri(self, name=""):
        return f"nbd+unix:///{name}?socket={self.socket}"

    def ended(self):
        code = self.process.wait(TIMEOUT)
        self.check_sanitizers()
        return code


@pytest.fixture
def serve(folder, backend):
    """serve(...) starts a server on `folder`/s and waits until it listens; it ends with the test."""
    started = []

    def start(*arguments):
        started.append(Server(folder, backend, "-k", folder / "s", *arguments))
        started[-1].wait_for(folder / "s")
        return started[-1]

    yield start
    for server in started:
        if server.alive():
            server.kill()


@pytest.fixture
def disk(ones_disk):
    return ones_disk


@pytest.fixture
def image(folder):
    """A qcow2 image with two snapshots: of fives, and of sixes; now it holds sevens."""
    path = folder / "t.qcow2"
    img("create", "-q", "-f", "qcow2", path, "1M")
    for value, name in ((5, "fives"), (6, "sixes"), (7, None)):
        io("-f", "qcow2", "-c", f"write -q -P {value} 0 128k", path)
        if name:
            img("snapshot", "-c", name, path)
    return path


def shell(server, code, name="", exit_code=0):
    return run("nbdsh", "-u", server.uri(name), "-c", code, code=exit_code)


# -- the end


def test_it_ends_when_the_only_client_has_left(serve, disk):
    server = serve("-f", "raw", disk)
    shell(server, "h.pwrite(b'x' * 512, 0)")
    assert server.ended() == 0
    assert not server.socket.exists()
    assert disk.read_bytes()[:512] == b"x" * 512


def test_it_waits_for_one_who_uses_the_export(serve, disk):
    server = serve("-f", "raw", disk)
    run("nbdinfo", server.uri("wrong"), code=1)
    nbd("-L", "-k", server.socket)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.socket))
    assert server.alive()
    run("nbdinfo", server.uri())
    assert server.ended() == 0


def test_the_last_of_several_clients_ends_it(serve, disk):
    server = serve("-f", "raw", "-e", "2", disk)
    shell(server, "import nbd\n"
                  f"other = nbd.NBD()\nother.connect_uri('{server.uri()}')\n"
                  "h.shutdown()\nother.pread(512, 0)\nother.shutdown()")
    assert server.ended() == 0


def test_one_client_at_a_time_unless_told_otherwise(serve, disk):
    server = serve("-f", "raw", "-t", disk)
    shell(server, "import select, socket\n"
                  "second = socket.socket(socket.AF_UNIX)\n"
                  f"second.connect('{server.socket}')\n"
                  "assert not select.select([second], [], [], 0.2)[0]\n"
                  "h.shutdown()\n"
                  "assert second.recv(8) == b'NBDMAGIC'\n")
    assert server.alive()
    server.stop()
    assert not server.socket.exists()


def test_who_waits_when_the_last_client_leaves_is_turned_away(serve, disk):
    server = serve("-f", "raw", disk)
    shell(server, "import socket\n"
                  "second = socket.socket(socket.AF_UNIX)\n"
                  f"second.connect('{server.socket}')\n"
                  "h.shutdown()\n"
                  "try:\n    got = second.recv(8)\n"
                  "except ConnectionResetError:\n    got = b''\n"
                  "assert got == b'', got\n")
    assert server.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_in_good_order(serve, disk, number):
    server = serve("-f", "raw", "-t", disk)
    server.process.send_signal(number)
    assert server.ended() == 0
    assert not server.socket.exists()


@pytest.mark.skipif(PEER, reason="the peer does not end by SIGTERM any more after it")
def test_a_question_for_progress_does_not_end_it(serve, disk):
    server = serve("-f", "raw", "-t", disk)
    server.process.send_signal(signal.SIGUSR1)
    run("nbdinfo", server.uri())
    server.stop()


# -- starting


def test_fork_returns_when_it_serves(folder, backend, disk):
    """The starter ends with the server's start, nothing of its own stays open in the server, and
    relative names mean the starter's directory."""
    done = subprocess.run([program("cairn-nbd"), "--fork", "-t", "--pid-file=n.pid", "-k",
                           str(folder / "s"), "-f", "raw", disk.name], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, cwd=folder, timeout=TIMEOUT, check=False,
                          env=environment(backend))
    assert (done.returncode, done.stdout) == (0, b"")
    pid = int((folder / "n.pid").read_text())
    try:
        run("nbdinfo", f"nbd+unix:///?socket={folder}/s")
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "the end of the server")
    assert not (folder / "s").exists()


@pytest.mark.parametrize("arguments, words", [
    (["-k", "S", "missing"],
     "Failed to blk_new_open 'missing': Could not open 'missing': No such file or directory"),
    (["-k", "/nonexistent/s", "t.raw"],
     "Failed to bind socket to /nonexistent/s: No such file or directory"),
    (["-k", "S", "--pid-file=/nonexistent/p", "t.raw"],
     "Could not create '/nonexistent/p': No such file or directory"),
    (["-k", "S", "-B", "nosuch", "t.raw"], "Bitmap 'nosuch' is not found"),
])
@pytest.mark.parametrize("fork", [[], ["--fork"]])
def test_a_failed_start_is_told_by_the_starter(folder, backend, disk, arguments, words, fork):
    arguments = [str(folder / "s") if word == "S" else word for word in arguments]
    done = nbd(*fork, "-f", "raw", *arguments, code=1, cwd=folder, backend=backend)
    assert done.err.split(": ", 1)[1] == words + "\n"
    assert PEER or not (folder / "s").exists()


def test_a_pid_file_is_held_and_stays(folder, serve, disk):
    pid_file = folder / "n.pid"
    server = serve("-f", "raw", "-t", f"--pid-file={pid_file}", disk)
    # It listens before all is set up, and answers afterwards.
    run("nbdinfo", server.uri())
    assert int(pid_file.read_text()) == server.process.pid
    done = nbd("-f", "raw", "-k", folder / "s2", f"--pid-file={pid_file}", disk, code=1)
    assert "Cannot lock pid file" in done.err
    server.stop()
    assert pid_file.exists()


ACTIVATE = """
import os, sys
listen_fds, *command = sys.argv[1:]
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=listen_fds)
os.execv(command[0], command)
"""


def activate(folder, backend, sockets, *arguments):
    """Starts cairn-nbd with listening sockets as a service manager does; returns the process."""
    def pass_on():
        # Out of the way first: one of them may have the number that another one is to get.
        copies = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(sockets)]
        for i, copy in enumerate(copies):
            os.dup2(copy, 3 + i, inheritable=True)
            os.close(copy)

    return subprocess.Popen(
        ["/usr/bin/python3", "-c", ACTIVATE, str(len(sockets)), program("cairn-nbd"), *arguments],
        cwd=folder, close_fds=False, preexec_fn=pass_on, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(backend))


def test_a_service_manager_passes_the_socket(folder, backend, disk):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        server = activate(folder, backend, [listener], "-f", "raw", disk)
        run("nbdinfo", f"nbd+unix:///?socket={folder}/s")
        assert (server.wait(TIMEOUT), server.stderr.read()) == (0, "")
    # It belongs to who made it.
    assert (folder / "s").exists()


@pytest.mark.parametrize("count, arguments, words", [
    (2, ["t.raw"], "does not support socket activation with LISTEN_FDS > 1"),
    (1, ["-k", "/s", "t.raw"], "Unix socket can't be set when using socket activation"),
    (1, ["-p", "1", "t.raw"], "TCP port number can't be set when using socket activation"),
    (1, ["-L"], "List mode is incompatible with socket activation"),
])
def test_a_passed_socket_is_the_only_one(folder, backend, disk, count, arguments, words):
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    try:
        server = activate(folder, backend, sockets, *arguments)
        assert server.wait(TIMEOUT) == 1
        assert words in server.stderr.read()
    finally:
        for one in sockets:
            one.close()


@pytest.mark.skipif(PEER, reason="the peer drives devices of the kernel")


# -- what is served


def test_clients_find_what_the_options_say(folder, serve, disk):
    server = serve("-f", "raw", "-x", "disk", "-D", "some disk", "-t", disk)
    listed = nbd("-L", "-k", server.socket).out
    assert " export: 'disk'\n  description: some disk\n  size:  1048576\n" in listed
    run("nbdcopy", server.uri("disk"), folder / "copy.raw")
    same_bytes(disk, folder / "copy.raw")
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri("disk"), folder / "more.raw")
    same_bytes(disk, folder / "more.raw")
    assert "description: some disk" in run("nbdinfo", server.uri("disk")).out


def test_reading_alone(serve, disk):
    server = serve("-r", "-t", "-f", "raw", disk)
    assert "readonly" in nbd("-L", "-k", server.socket).out
    assert run("nbdinfo", "--is", "read-only", server.uri())
    io("-f", "raw", "-c", "write 0 512", server.uri(), code=1)


def test_several_connections_agree(serve, disk):
    server = serve("-f", "raw", "-t", "-e", "0", disk)
    assert " multi " in nbd("-L", "-k", server.socket).out
    shell(server, "import nbd\n"
                  f"other = nbd.NBD()\nother.connect_uri('{server.uri()}')\n"
                  "h.pwrite(b'y' * 512, 512)\nassert other.pread(512, 512) == b'y' * 512")


def test_a_part_of_the_disk(serve, disk):
    server = serve("-o", "32768", "-f", "raw", "-t", disk)
    io("-f", "raw", "-c", "read -q -P 1 0 32k", "-c", "read -q -P 0 32k 32k", "-c",
       "write -q -P 9 0 512", server.uri())
    assert run("nbdinfo", "--size", server.uri()).out.strip() == str(MIB - 32768)
    server.stop()
    assert disk.read_bytes()[32768 - 512:32768 + 1024] == b"\1" * 512 + b"\x09" * 512 + b"\1" * 512


@pytest.mark.parametrize("which", ["fives", "1", "snapshot.name=fives", "snapshot.id=1"])
def test_a_snapshot_inside_the_image(serve, image, which):
    server = serve("-l", which, "-f", "qcow2", image)
    io("-f", "raw", "-r", "-c", "read -q -P 5 0 128k", server.uri())
    assert server.ended() == 0


def test_a_part_of_a_snapshot(serve, image):
    if PEER:
        pytest.skip("the peer looks for snapshots in the part")
    server = serve("-l", "sixes", "-o", "65536", "-f", "qcow2", image)
    io("-f", "raw", "-r", "-c", "read -q -P 6 0 64k", "-c", "read -q -P 0 64k 64k", server.uri())


def test_an_overlay_that_vanishes(folder, serve, image):
    before = image.read_bytes()
    server = serve("-s", "-t", "-f", "qcow2", image)
    io("-f", "raw", "-c", "write -q -P 9 64k 64k", server.uri())
    io("-f", "raw", "-r", "-c", "read -q -P 7 0 64k", "-c", "read -q -P 9 64k 64k", server.uri())
    server.stop()
    assert image.read_bytes() == before


def test_zeroes_are_found_when_asked_for(serve, folder):
    img("create", "-q", "-f", "qcow2", folder / "z.qcow2", "1M")
    server = serve("-f", "qcow2", "--discard=unmap", "--detect-zeroes=unmap", folder / "z.qcow2")
    shell(server, "h.pwrite(bytes(512 << 10), 0)\nh.pwrite(b'z' * 65536, 512 << 10)")
    assert server.ended() == 0
    said = img("map", "-f", "qcow2", folder / "z.qcow2").out.splitlines()
    assert len(said) == 2 and said[1].startswith("0x80000 "), said


@pytest.mark.parametrize("mode", ["none", "writethrough", "directsync", "unsafe", "writeback"])
def test_every_cache_mode_keeps_what_is_written(serve, disk, mode):
    server = serve("-f", "raw", f"--cache={mode}", disk)
    shell(server, "h.pwrite(b'c' * 4096, 8192)\nh.flush()\nassert h.pread(4096, 8192) == b'c' * 4096")
    assert server.ended() == 0
    assert disk.read_bytes()[8192:12288] == b"c" * 4096


def test_bitmaps_and_depth_are_contexts(folder, serve):
    img("create", "-q", "-f", "qcow2", folder / "base.qcow2", "1M")
    io("-f", "qcow2", "-c", "write -q 0 128k", folder / "base.qcow2")
    top = folder / "top.qcow2"
    img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", top)
    img("bitmap", "--add", top, "b0")
    io("-f", "qcow2", "-c", "write -q 64k 64k", top)
    server = serve("-r", "-A", "-B", "b0", "-f", "qcow2", "-t", top)
    assert nbd("-L", "-k", server.socket).out.endswith(
        "  available meta contexts: 3\n   base:allocation\n   qemu:allocation-depth\n"
        "   qemu:dirty-bitmap:b0\n")
    for context, first, second in (("qemu:allocation-depth", "2", "1"),
                                   ("qemu:dirty-bitmap:b0", "0", "1")):
        told = run("nbdinfo", f"--map={context}", server.uri()).out.splitlines()
        assert [line.split()[:3] for line in told[:2]] == \
               [["0", "65536", first], ["65536", "65536", second]], told


def test_tcp(folder, backend, disk):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(folder, backend, "-b", "127.0.0.1", "-p", port, "-f", "raw", "-t", disk)
    try:
        wait_until(lambda: nbd("-L", "-b", "127.0.0.1", "-p", port, code=None).code == 0,
                   "the server")
        assert run("nbdinfo", "--size", f"nbd://127.0.0.1:{port}").out.strip() == str(MIB)
        done = nbd("-b", "127.0.0.1", "-p", port, "-r", "-f", "raw", disk, code=1)
        assert done.err.endswith("Failed to find an available port: Address already in use\n")
        server.stop()
    finally:
        if server.alive():
            server.kill()


def test_listing_and_serving_with_tls(folder, serve, disk):
    (folder / "keys.psk").write_text("user:00112233445566778899aabbccddeeff\n")
    server = serve("--object", f"tls-creds-psk,id=t,endpoint=server,dir={folder}", "--tls-creds=t",
                   "-t", "-f", "raw", disk)
    listed = nbd("-L", "-k", server.socket, "--object",
                 f"tls-creds-psk,id=t,endpoint=client,username=user,dir={folder}", "--tls-creds=t")
    assert "exports available: 1\n export: ''\n  size:  1048576\n" in listed.out
    refused = nbd("-L", "-k", server.socket, code=1)
    assert "TLS" in refused.err
    uri = f"nbds+unix://user@/?socket={server.socket}&tls-psk-file={folder}/keys.psk"
    assert run("nbdinfo", "--size", uri).out.strip() == str(MIB)


# -- beside the peer

LISTED = {
    "raw": ["qemu-nbd", "-f", "raw", "-t", "-k", "S", "t.raw"],
    "raw-read-only": ["qemu-nbd", "-f", "raw", "-r", "-e", "3", "-t", "-k", "S", "t.raw"],
    "described": ["qemu-nbd", "-f", "raw", "-x", "a 'b'", "-D", "c", "-t", "-k", "S", "t.raw"],
    "nbdkit": ["nbdkit", "-f", "-U", "S", "file", "t.raw"],
    "nbdkit-no-structured-replies": ["nbdkit", "-f", "--no-sr", "-U", "S", "file", "t.raw"],
    "nbdkit-blocks": ["nbdkit", "-f", "-U", "S", "--filter=blocksize-policy", "file", "t.raw",
                      "blocksize-minimum=512", "blocksize-preferred=65536",
                      "blocksize-maximum=1M"],
    "nbdkit-many": ["nbdkit", "-f", "-U", "S", "--filter=exportname", "file", "t.raw",
                    "exportname=a", "exportname=b", "exportname-list=explicit",
                    "exportdesc=fixed:hey"],
    "nbdkit-none": ["nbdkit", "-f", "-U", "S", "--filter=exportname", "file", "t.raw",
                    "exportname-list=empty"],
    "nbdkit-no-lists": ["nbdkit", "-f", "--mask-handshake=0", "-U", "S", "file", "t.raw"],
}


@pytest.mark.parametrize("server", LISTED)
def test_a_server_is_listed_as_the_peer_lists_it(folder, disk, server):
    command = [str(folder / "s") if word == "S" else word for word in LISTED[server]]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: accepts(folder / "s"), "the server's socket")
            ours = nbd("-L", "-k", folder / "s", code=None)
            theirs = run("qemu-nbd", "-L", "-k", folder / "s", code=None)
        finally:
            process.kill()
    assert ours.out == theirs.out
    assert ours.err.replace("cairn-nbd", "qemu-nbd") == theirs.err
    assert ours.code == theirs.code


# Command lines that end at once. S is a free socket path, L a text longer than the protocol allows.
REFUSED = """
|extra t.raw|--nosuch t.raw|-Z|-p|--per=1 t.raw|--s=1
-e x t.raw|-e -1 t.raw|-e 2x t.raw|-e 99999999999 t.raw|-e 2147483648 t.raw
-o 32k t.raw|-o x t.raw|-o 99999999999999999999 t.raw|-k S -f raw -o -1 t.raw
-k S -f raw -o 2097152 t.raw|-k S -f raw -o 9223372036854775807 t.raw
-k s t.raw|-k s --nosuch|-k s -L|-k /nonexistent/s -f raw t.raw|-k /nonexistent/s -f raw missing
--cache=bogus t.raw|-n --cache=none t.raw|--cache=none -n t.raw|--aio=bogus t.raw
--aio=native --aio=threads t.raw|-k S -f raw --aio=native t.raw|--discard=bogus t.raw
--discard=on --discard=off t.raw|--detect-zeroes=bogus t.raw|--detect-zeroes=unmap t.raw
--detect-zeroes=unmap --discard=unmap t.raw|-k S -f raw --image-opts t.raw
-k S -f nosuch t.raw|-k S -f qcow2 t.raw|-k S -f raw missing|-k S missing|-k S -f raw .
-k S --image-opts driver=nosuch|-k S --image-opts driver=raw|-k S --image-opts file.filename=missing
-k S --image-opts driver=raw,file.filename=t.raw,bogus=1|-k S -s -f raw missing
-k S -l nosuch -f qcow2 t.qcow2|-k S -l snapshot.id=7 -f qcow2 t.qcow2|-l snapshot.foo=1 t.qcow2
-k S -l one -f raw t.raw|-k S -s -l one -f qcow2 t.qcow2|-x L t.raw|-D L t.raw
-k S -B nosuch -f qcow2 t.qcow2|-k S -B nosuch -f raw t.raw|-k S -B b0 -B b1 -f qcow2 t.qcow2
-L t.raw|-L -x a|-L -D a|-L -o 1|-L -A|-L -B a|-L -f raw|-L -n|-L --discard=on|-L --aio=native
-L -l a|-L -c /dev/nonexistent|-L -d|-L --fork|-L --fork -x a|-L -k S
-d|-d /dev/nonexistent|-d /dev/nonexistent extra|-k S -f raw -c /dev/nonexistent t.raw
--tls-authz=a t.raw|--tls-hostname=a t.raw|--tls-authz=a -L|-k S --tls-creds=x t.raw
-k S --object secret,id=x,data=y --tls-creds=x t.raw|--object secret,id=x -k S t.raw
--object nosuch,id=x -k S t.raw|--object secret -k S t.raw|--object secret,id=x,bogus=1 -k S t.raw
-L -k S --tls-creds=x|--trace foo=bar t.raw|-p x -f raw t.raw|-b 1.2.3.4 -f raw t.raw
-k S -f raw --pid-file=/nonexistent/p t.raw|-k S -f raw --fork --pid-file=/nonexistent/p t.raw
-k S -f raw --fork missing
"""


@pytest.mark.parametrize("line", REFUSED.strip("\n").replace("\n", "|").split("|"))
def test_a_wrong_command_line_is_refused_as_the_peer_refuses_it(folder, disk, line):
    run("qemu-img", "create", "-q", "-f", "qcow2", "t.qcow2", "1M", cwd=folder)
    run("qemu-img", "snapshot", "-c", "one", "t.qcow2", cwd=folder)
    run("qemu-img", "bitmap", "--add", "t.qcow2", "b0", cwd=folder)
    words = [{"S": str(folder / "s"), "L": "x" * 5000}.get(word, word) for word in line.split()]
    ours = nbd(*words, code=1, cwd=folder)
    assert PEER or not (folder / "s").exists()
    theirs = run("qemu-nbd", *words, code=1, cwd=folder)
    assert ours.err.replace("cairn-nbd", "qemu-nbd") == theirs.err
    assert (ours.out, ours.code) == (theirs.out, theirs.code)
