"""The NBD server with real clients: libnbd (strict), the peer's tools, fio."""

import json
import os
import random
import socket
import subprocess
import threading

import nbd
import pytest

from support import (TIMEOUT, environment, fio, program, qcow2, raw, run, same_bytes,
                     wait_until)

MIB = 1 << 20


def connect(daemon, name="disk", base_allocation=False):
    client = nbd.NBD()
    if base_allocation:
        client.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    client.connect_uri(daemon.uri(name))
    return client


@pytest.fixture
def patchy(folder):
    """A qcow2 image with data, zeroes and holes; and the same contents as a raw file."""
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "disk.qcow2", "16M")
    run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 0 128k", "-c", "write -q -P 2 1M 1M",
        "-c", "write -q -z 3M 256k", "-c", "write -q -P 3 5M 512", "-c", "discard -q 1280k 64k",
        "-c", "write -q -P 4 15M 1M", folder / "disk.qcow2")
    run("qemu-img", "convert", "-O", "raw", folder / "disk.qcow2", folder / "same.raw")
    return folder / "disk.qcow2"


def add_run(runs, start, length, value):
    """Appends to a list of (start, length, value), joining equal neighbours."""
    if runs and runs[-1][2] == value:
        runs[-1] = (runs[-1][0], runs[-1][1] + length, value)
    else:
        runs.append((start, length, value))


def block_status(client):
    """base:allocation of the whole export as runs of flags."""
    runs, offset, size = [], 0, client.get_size()
    while offset < size:
        seen = []
        client.block_status(size - offset, offset,
                            lambda _context, _start, entries, _error: seen.extend(entries))
        assert seen and all(length > 0 for length in seen[::2])
        for length, flags in zip(seen[::2], seen[1::2]):
            add_run(runs, offset, length, flags)
            offset += length
    return runs


def test_block_status_is_what_map_says(daemons, patchy):
    daemon = daemons.serving(qcow2(patchy))
    told = []
    for start, length, flags in block_status(connect(daemon, base_allocation=True)):
        add_run(told, start, length, bool(flags & nbd.STATE_ZERO))
    mapped = []
    for entry in json.loads(run("qemu-img", "map", "-U", "--output=json", patchy).out):
        add_run(mapped, entry["start"], entry["length"], entry["zero"])
    assert told == mapped
    daemon.stop()


def test_clients_that_look_at_holes_copy_the_same(folder, daemons, patchy):
    daemon = daemons.serving(qcow2(patchy))
    run("nbdcopy", daemon.uri(), folder / "libnbd.raw")
    same_bytes(folder / "same.raw", folder / "libnbd.raw")
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", daemon.uri(), folder / "peer.raw")
    same_bytes(folder / "same.raw", folder / "peer.raw")
    daemon.stop()


def test_copying_in_makes_the_same_image(folder, daemons, patchy):
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "new.qcow2", "16M")
    daemon = daemons.serving(qcow2(folder / "new.qcow2"))
    run("nbdcopy", folder / "same.raw", daemon.uri())
    run("nbdcopy", "--flush", "--destination-is-zero", "--connections=4", folder / "same.raw",
        daemon.uri())
    daemon.stop()
    run("qemu-img", "compare", patchy, folder / "new.qcow2")
    assert "No errors were found" in run("qemu-img", "check", folder / "new.qcow2").out


def test_what_an_export_announces(daemons, patchy):
    daemon = daemons.serving(qcow2(patchy), export=",description=the demo disk")
    told = json.loads(run("nbdinfo", "--json", "--list", daemon.uri()).out)
    assert told["protocol"] == "newstyle-fixed" and told["structured"]
    [export] = told["exports"]
    assert export["export-name"] == "disk" and export["description"] == "the demo disk"
    assert export["export-size"] == 16 * MIB
    for flag in ("can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_df",
                 "can_cache", "can_multi_conn"):
        assert export[flag], flag
    assert not export["is_read_only"]
    assert "base:allocation" in export["contexts"]
    assert export["block_size_minimum"] == 1 and export["block_size_maximum"] >= 32 * MIB
    daemon.stop()


def test_a_read_only_export_refuses_to_be_changed(daemons, patchy):
    daemon = daemons.serving(qcow2(patchy), writable=False)
    client = connect(daemon)
    assert client.is_read_only()
    client.set_strict_mode(0)
    for change in (lambda: client.pwrite(b"x" * 512, 0), lambda: client.zero(512, 0),
                   lambda: client.trim(512, 0)):
        with pytest.raises(nbd.Error) as caught:
            change()
        assert caught.value.errno in ("EPERM", "EROFS", "EINVAL"), caught.value
    assert client.pread(512, 0) == b"\x01" * 512
    daemon.stop()


def test_unknown_exports_are_refused(daemons, patchy):
    daemon = daemons.serving(qcow2(patchy))
    with pytest.raises(nbd.Error):
        connect(daemon, "nosuch")
    connect(daemon)
    daemon.stop()


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_requests_of_every_kind_match_a_model(folder, daemons, form):
    """Reads, writes, zeroes and trims of any alignment, against an array of bytes."""
    size = 2 * MIB + (512 if form == "raw" else 0)
    run("qemu-img", "create", "-q", "-f", form, folder / "disk", size)
    node = raw(folder / "disk") if form == "raw" else qcow2(folder / "disk")
    daemon = daemons.serving(dict(node, discard="unmap"))
    client = connect(daemon)
    model, unknown = bytearray(size), bytearray(size)  # unknown: what a trim leaves undefined
    chooser = random.Random(5)
    for _ in range(600):
        length = chooser.choice([1, 7, 511, 512, 4096, 65536, 100000])
        offset = chooser.randrange(size - length)
        kind = chooser.choice(["write", "write", "read", "read", "zero", "zero-no-hole", "trim",
                               "fua", "flush", "cache"])
        if kind in ("write", "fua"):
            data = chooser.randbytes(length)
            client.pwrite(data, offset, nbd.CMD_FLAG_FUA if kind == "fua" else 0)
            model[offset:offset + length] = data
            unknown[offset:offset + length] = bytes(length)
        elif kind.startswith("zero"):
            client.zero(length, offset, nbd.CMD_FLAG_NO_HOLE if kind == "zero-no-hole" else 0)
            model[offset:offset + length] = bytes(length)
            unknown[offset:offset + length] = bytes(length)
        elif kind == "trim":
            client.trim(length, offset)
            unknown[offset:offset + length] = b"\1" * length
        elif kind == "flush":
            client.flush()
        elif kind == "cache":
            client.cache(length, offset)
        else:
            data = client.pread(length, offset)
            for i in range(length):
                if unknown[offset + i]:
                    # Trimmed: zero or what was there. From here on it is known.
                    assert data[i] in (0, model[offset + i]), (kind, offset, i)
                    model[offset + i], unknown[offset + i] = data[i], 0
            assert data == bytes(model[offset:offset + length]), (kind, offset, length)
    client.shutdown()
    daemon.stop()
    if form == "qcow2":
        assert "No errors were found" in run("qemu-img", "check", folder / "disk").out


def test_fast_zero_is_refused_rather_than_slow(folder, daemons):
    """NBD_CMD_FLAG_FAST_ZERO: either fast, or ENOTSUP and nothing changed."""
    (folder / "disk.raw").write_bytes(b"\x42" * MIB)
    daemon = daemons.serving(raw(folder / "disk.raw"))
    client = connect(daemon)
    try:
        client.zero(65536, 0, nbd.CMD_FLAG_FAST_ZERO)
        assert client.pread(65536, 0) == bytes(65536)
    except nbd.Error as error:
        assert error.errno == "ENOTSUP"
        assert client.pread(65536, 0) == b"\x42" * 65536
    daemon.stop()


def test_many_clients_at_once(folder, daemons):
    """Every client owns a part of the disk; nobody's data turns up elsewhere."""
    clients, part = 24, MIB
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "disk.qcow2", clients * part)
    daemon = daemons.serving(qcow2(folder / "disk.qcow2"))
    failures = []

    def work(number):
        try:
            client = connect(daemon)
            chooser = random.Random(number)
            for turn in range(20):
                length = chooser.choice([512, 4096, 30000])
                offset = number * part + chooser.randrange(part - length)
                data = bytes([number + 1, turn]) * (length // 2)
                client.pwrite(data, offset)
                assert client.pread(len(data), offset) == data
            client.shutdown()
        except Exception as error:  # noqa: BLE001 - told to the test below
            failures.append((number, error))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    daemon.stop()
    assert "No errors were found" in run("qemu-img", "check", folder / "disk.qcow2").out


def test_a_flush_on_one_connection_covers_another(folder, daemons):
    """What CAN_MULTI_CONN promises: written here, flushed there, killed, still there."""
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "disk.qcow2", "8M")
    daemon = daemons.serving(qcow2(folder / "disk.qcow2"))
    writer, other = connect(daemon), connect(daemon)
    assert writer.can_multi_conn()
    writer.pwrite(b"\x77" * 65536, 3 * MIB)
    assert other.pread(512, 3 * MIB) == b"\x77" * 512
    other.flush()
    daemon.kill()
    run("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 0x77 3M 64k", folder / "disk.qcow2")


def test_a_write_with_fua_survives_a_kill(folder, daemons):
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "disk.qcow2", "8M")
    daemon = daemons.serving(qcow2(folder / "disk.qcow2"))
    connect(daemon).pwrite(b"\x66" * 5000, MIB, nbd.CMD_FLAG_FUA)
    daemon.kill()
    run("qemu-io", "-f", "qcow2", "-r", "-c", "read -P 0x66 1M 5000", folder / "disk.qcow2")


@pytest.mark.parametrize("address, words", [
    ("type=vsock,addr.cid=host,addr.port=1", "Failed to parse cid 'host'"),
    ("type=vsock,addr.cid=4294967296,addr.port=1", "Failed to parse cid '4294967296'"),
    ("type=vsock,addr.cid=3,addr.port=nbd", "Failed to parse port 'nbd'"),
    ("type=vsock,addr.cid=3", "Parameter 'addr.port' is missing"),
    # A context that is no machine's.
    ("type=vsock,addr.cid=4000000000,addr.port=10809",
     "Failed to bind socket: Cannot assign requested address"),
    ("type=inet,addr.host=localhost,addr.port=0,addr.numeric=on",
     "address resolution failed for localhost:0: Name or service not known"),
    ("type=inet,addr.host=127.0.0.1,addr.port=100,addr.to=50", "Failed to create a socket"),
    ("type=inet,addr.host=127.0.0.1,addr.port=0,addr.to=65536", "Parameter 'to' expects uint16_t"),
    ("type=inet,addr.host=127.0.0.1,addr.port=0,addr.ipv4=off,addr.ipv6=off",
     "Cannot disable IPv4 and IPv6 at same time"),
    ("type=inet,addr.host=127.0.0.1,addr.port=0,addr.ipv4=off",
     "address resolution failed for 127.0.0.1:0: Address family for hostname not supported"),
])
def test_where_it_can_not_listen_is_told(address, words):
    if "vsock" in address and not os.path.exists("/dev/vsock"):
        pytest.skip("this kernel has no vsock")
    done = run("cairnd", "--nbd-server", f"addr.{address}", code=1)
    assert done.err.endswith(f": --nbd-server addr.{address}: {words}\n")


def test_it_serves_over_tcp(folder, daemons, patchy):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    daemon = daemons("--blockdev", json.dumps(dict(qcow2(patchy), **{"node-name": "disk"})),
                     "--nbd-server", f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}",
                     "--export", "type=nbd,id=e,node-name=disk")

    def answers():
        assert daemon.alive(), daemon.output()
        return run("nbdinfo", "--size", f"nbd://127.0.0.1:{port}/disk", code=None).code == 0

    wait_until(answers, "an answer over TCP")
    run("nbdcopy", f"nbd://127.0.0.1:{port}/disk", folder / "copy.raw")
    same_bytes(folder / "same.raw", folder / "copy.raw")
    daemon.stop()


def test_the_largest_request_works_and_a_larger_one_is_refused(folder, daemons):
    run("truncate", "-s", "80M", folder / "disk.raw")
    daemon = daemons.serving(raw(folder / "disk.raw"))
    client = connect(daemon)
    client.set_strict_mode(0)
    client.pwrite(b"\x05" * (32 * MIB), MIB)
    assert client.pread(32 * MIB, MIB) == b"\x05" * (32 * MIB)
    client.zero(79 * MIB, 0)  # carries no data, so its length is not limited
    assert client.pread(32 * MIB, MIB) == bytes(32 * MIB)
    with pytest.raises(nbd.Error):
        client.pread(64 * MIB, 0)
    daemon.stop()


def test_cache_none_works_with_requests_of_any_alignment(folder, daemons):
    run("qemu-img", "create", "-q", "-f", "qcow2", folder / "disk.qcow2", "16M")
    node = qcow2(folder / "disk.qcow2", cache={"direct": True})
    node["file"]["cache"] = {"direct": True}
    daemon = daemons.serving(node)
    fio(daemon, rw="randwrite", bs="4k", size="15M", verify="crc32c", verify_fatal=1, randseed=1)
    client = connect(daemon)
    client.pwrite(b"\x11" * 1000, 3 * MIB + 100)
    assert client.pread(1002, 3 * MIB + 99)[1:-1] == b"\x11" * 1000
    client.shutdown()
    daemon.stop()
    assert "No errors were found" in run("qemu-img", "check", folder / "disk.qcow2").out


def test_a_limit_on_connections_makes_others_wait(folder, daemons, patchy):
    daemon = daemons.serving(qcow2(patchy), server=",max-connections=2")
    first, second = connect(daemon), connect(daemon)
    done = []
    third = threading.Thread(target=lambda: done.append(connect(daemon).pread(512, 0)))
    third.start()
    assert first.pread(512, 0) == second.pread(512, 0) == b"\x01" * 512
    assert not done
    first.shutdown()
    third.join(60)
    assert done == [b"\x01" * 512]
    daemon.stop()


def test_simple_replies_for_a_client_without_structured_ones(daemons, patchy):
    daemon = daemons.serving(qcow2(patchy))
    client = nbd.NBD()
    client.set_request_structured_replies(False)
    client.connect_uri(daemon.uri())
    assert not client.get_structured_replies_negotiated()
    assert client.pread(512, MIB) == b"\x02" * 512
    client.set_strict_mode(0)
    with pytest.raises(nbd.Error):
        client.pread(512, 16 * MIB)
    assert client.pread(512, 0) == b"\x01" * 512
    daemon.stop()


def test_an_oldest_style_negotiation_by_export_name(daemons, patchy):
    daemon = daemons.serving(qcow2(patchy))
    client = nbd.NBD()
    client.set_handshake_flags(0)
    client.connect_uri(daemon.uri())
    assert client.pread(512, MIB) == b"\x02" * 512
    daemon.stop()


def test_a_socket_that_was_handed_over_is_served(folder, backend, patchy):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "handed.sock"))
        listener.listen()
        number = listener.fileno()
        command = [program("cairnd"), "--blockdev", json.dumps(dict(qcow2(patchy), **{
            "node-name": "disk"})), "--nbd-server", f"addr.type=fd,addr.str={number}",
            "--export", "type=nbd,id=e,node-name=disk,name=disk"]
        if backend != "peer":
            command.insert(1, f"--io={backend}")
        daemon = subprocess.Popen(command, pass_fds=[number], env=environment(backend))
    try:
        client = nbd.NBD()
        client.connect_uri(f"nbd+unix:///disk?socket={folder}/handed.sock")
        assert client.get_size() == 16 * MIB
        client.shutdown()
    finally:
        daemon.terminate()
        assert daemon.wait(TIMEOUT) == 0


def test_an_end_in_good_order_answers_what_is_in_flight(daemons):
    daemon = daemons.serving({"driver": "null-aio", "latency-ns": 300_000_000, "size": MIB,
                              "read-zeroes": True})
    client = connect(daemon)
    left = [client.aio_pread(nbd.Buffer(4096), i * 4096) for i in range(16)]
    client.poll(0)
    daemon.process.terminate()
    while left:
        client.poll(-1)
        left = [cookie for cookie in left if not client.aio_command_completed(cookie)]
    assert daemon.process.wait(TIMEOUT) == 0


def test_dirty_bitmaps_of_the_whole_chain_are_told(folder, daemons):
    base, top = folder / "base.qcow2", folder / "top.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", base, "4M")
    run("qemu-img", "bitmap", "--add", "-g", "65536", base, "low")
    run("qemu-io", "-c", "write -q 128k 100k", "-c", "write -q 3M 64k", base)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top, "8M")
    run("qemu-img", "bitmap", "--add", "-g", "65536", top, "high")
    run("qemu-io", "-c", "write -q 5M 1", top)
    run("qemu-img", "bitmap", "--disable", top, "high")
    daemon = daemons.serving(qcow2(top), writable=False,
                             export=",bitmaps.0=low,bitmaps.1=high,allocation-depth=on")
    expected = {"low": [(128 * 1024, 128 * 1024), (3 * MIB, 65536)], "high": [(5 * MIB, 65536)]}
    for name, dirty in expected.items():
        told = json.loads(run("nbdinfo", "--json", f"--map=qemu:dirty-bitmap:{name}",
                              daemon.uri()).out)
        assert [(e["offset"], e["length"]) for e in told if e["type"] == 1] == dirty
        for tool in ("qemu-img", "cairn-img"):
            mapped = run(tool, "map", "--output=json", "--image-opts",
                         f"driver=nbd,server.type=unix,server.path={daemon.socket},export=disk,"
                         f"x-dirty-bitmap=qemu:dirty-bitmap:{name}")
            assert [(e["start"], e["length"]) for e in json.loads(mapped.out)
                    if not e["data"]] == dirty
    depth = json.loads(run("nbdinfo", "--json", "--map=qemu:allocation-depth", daemon.uri()).out)
    assert {(e["offset"], e["type"]) for e in depth} >= {(5 * MIB, 1), (3 * MIB, 2)}
    daemon.stop()
