"""Monitor clients that misbehave, several at a time, and everybody else meanwhile."""

import json
import socket
import threading
import time

import pytest

from support import PEER, TIMEOUT, Qmp, qcow2, run

MIB = 1 << 20
# It is the daemon that must not be kept busy, not the machine that runs the tests.
PAUSE = 0.002
NAMES = ["nesting", "endless", "flood", "dribble", "coming", "half"]


def monitors(folder, *names):
    arguments = []
    for name in names:
        arguments += ["--chardev", f"socket,id={name},path={folder}/{name}.sock,server=on,wait=off",
                      "--monitor", f"chardev={name}"]
    return arguments


def keep_sending(path, piece, stop, first=b""):
    """Sends `piece` over and over to whoever listens, and begins anew when it is cut off."""
    while not stop.is_set():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.2)
            try:
                client.connect(str(path))
                client.sendall(first)
                while not stop.wait(PAUSE):
                    client.sendall(piece)
            except OSError:
                pass


def keep_coming(path, stop):
    """Connects and goes, in the middle of a request."""
    while not stop.is_set():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.2)
            try:
                client.connect(str(path))
                client.sendall(b'{"execute": "qmp_capa')
                stop.wait(PAUSE)
            except OSError:
                pass


def keep_halving(path, stop):
    """Closes its half before it has read anything, and never reads."""
    while not stop.is_set():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.2)
            try:
                client.connect(str(path))
                client.sendall(b'{"execute": "qmp_capabilities"}{"execute": "query-qmp-schema"}' * 50)
                client.shutdown(socket.SHUT_WR)
                stop.wait(10 * PAUSE)
            except OSError:
                pass


NEGOTIATION = b'{"execute": "qmp_capabilities"}'


@pytest.mark.slow
@pytest.mark.skipif(PEER, reason="the peer's monitor takes a hundred times as long for some of it")
def test_hostile_monitors_disturb_neither_commands_nor_data(folder, daemons):
    run("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "64M", cwd=folder)
    daemon = daemons.serving(qcow2("a.qcow2"), *monitors(folder, "good", *NAMES))
    daemon.wait_for(folder / "half.sock")
    honest, stop = Qmp(folder / "good.sock"), threading.Event()
    path = {name: folder / f"{name}.sock" for name in NAMES}
    crowd = [
        threading.Thread(target=keep_sending, args=(path["nesting"], b'{"a":[' * 5000, stop)),
        threading.Thread(target=keep_sending,
                         args=(path["endless"], b"x" * 65536, stop, b'{"execute": "')),
        threading.Thread(target=keep_sending,
                         args=(path["flood"], b'{"execute": "query-qmp-schema"}' * 500, stop,
                               NEGOTIATION)),
        threading.Thread(target=keep_sending, args=(path["dribble"], b"[", stop, NEGOTIATION)),
        threading.Thread(target=keep_coming, args=(path["coming"], stop)),
        threading.Thread(target=keep_halving, args=(path["half"], stop)),
    ]
    before = daemon.memory()
    for one in crowd:
        one.start()
    try:
        run("nbdsh", "-u", daemon.uri(), "-c",
            "for n in range(200):\n"
            "  h.pwrite(bytes([n]) * 4096, n * 8192)\n"
            "assert all(h.pread(4096, n * 8192) == bytes([n]) * 4096 for n in range(200))")
        for number in range(100):
            honest("blockdev-add", driver="null-co", node_name=f"n{number}")
            honest("blockdev-del", node_name=f"n{number}")
        assert daemon.memory() - before < 128 * MIB
    finally:
        stop.set()
        for one in crowd:
            one.join(TIMEOUT)
    for name in NAMES:
        again = Qmp(path[name])
        assert again("query-block") == []
        again.close()
    honest.close()
    daemon.stop()


JOBS, BATCH = 12000, 500


@pytest.mark.slow
@pytest.mark.skipif(PEER, reason="the peer keeps every event for such a client")
def test_a_client_that_lets_events_pile_up_is_cut_off_and_nobody_else(folder, daemons):
    run("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M", cwd=folder)
    daemon = daemons(*monitors(folder, "good", "bad"))
    for name in ("good", "bad"):
        daemon.wait_for(folder / f"{name}.sock")
    good, bad = Qmp(folder / "good.sock"), Qmp(folder / "bad.sock")
    good("blockdev-add", **{"node_name": "q", **qcow2("a.qcow2")})
    before, heard = daemon.memory(), 0
    for first in range(0, JOBS, BATCH):
        # Each job changes its state six times.
        for command in ("x-blockdev-amend", "job-dismiss"):
            requests = []
            for number in range(first, first + BATCH):
                arguments = {"id": f"j{number}"} if command == "job-dismiss" else {
                    "job-id": f"j{number}", "node-name": "q", "options": {"driver": "qcow2"}}
                requests.append(json.dumps({"execute": command, "arguments": arguments}))
            sender = threading.Thread(target=good.send, args=("".join(requests).encode(),))
            sender.start()
            for _ in requests:
                assert good.answer() == {"return": {}}
            sender.join(TIMEOUT)
        heard += len(good.events)
        good.events.clear()
    assert heard == 6 * JOBS
    assert daemon.memory() - before < 64 * MIB
    # What was sent to it before is there to be read, and then the end.
    received = 0
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            data = bad.socket.recv(1 << 20)
        except ConnectionResetError:
            break
        if not data:
            break
        received += len(data)
    assert received < 6 * JOBS * 100, "it was sent everything"
    late = Qmp(folder / "bad.sock")
    assert late("query-jobs") == []
    for client in (late, good):
        client.close()
    daemon.stop()
