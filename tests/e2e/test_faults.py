"""Faults made on purpose: what scripts see of blkdebug, quorum, write logs and chaos."""

import json
import struct

import pytest

from support import PEER, Qmp, img, io

KIB = 1024
pytestmark = pytest.mark.skipif(PEER, reason="chaos is ours, and messages have changed")


@pytest.fixture
def image(folder):
    path = folder / "a.qcow2"
    img("create", "-q", "-f", "qcow2", path, "1M")
    io("-f", "qcow2", "-c", "write -q -P 1 0 1M", path)
    return path


def raw(path):
    path.write_bytes(bytes(64 * KIB))


def lines(finished):
    return [line.split(";")[0] for line in finished.out.splitlines()]


def test_a_request_waits_at_a_breakpoint(image):
    done = io("-c", f"open blkdebug::{image}", "-c", "break write_aio A",
              "-c", "aio_write -P 3 0 64k", "-c", "wait_break A", "-c", "read -q -P 1 0 512",
              "-c", "resume A", "-c", "aio_flush", "-c", "read -q -P 3 0 512")
    assert lines(done)[:3] == ["blkdebug: Suspended request 'A'", "blkdebug: Resuming request 'A'",
                               "wrote 65536/65536 bytes at offset 0"]


def test_options_may_stand_beside_a_name_with_a_protocol(image, folder):
    done = io("-c", f"open -o discard=unmap blkdebug::{image}", "-c", "break write_aio A",
              "-c", "aio_write -P 3 0 64k", "-c", "wait_break A", "-c", "resume A",
              "-c", "aio_flush", "-c", "discard -q 64k 64k", "-c", "read -q -P 0 64k 64k")
    assert lines(done)[0] == "blkdebug: Suspended request 'A'"


@pytest.mark.parametrize("command, says", [
    ("break nope A", "Could not set breakpoint: No such file or directory"),
    ("remove_break A", "Could not remove breakpoint A: No such file or directory"),
    ("resume A", "Could not resume request: No such file or directory")])
def test_breakpoints_that_are_none(image, command, says):
    assert lines(io("-c", f"open blkdebug::{image}", "-c", command, code=1)) == [says]


def test_breakpoints_need_blkdebug(image):
    assert lines(io("-f", "qcow2", "-c", "break l2_load A", image, code=1)) == [
        "Could not set breakpoint: Operation not supported"]


def test_rules_come_from_a_file_that_a_filename_names(image, folder):
    rules = folder / "rules"
    rules.write_text('[inject-error]\nevent = "read_aio"\nerrno = "28"\nonce = "on"\n')
    done = io("-c", f"open blkdebug:{rules}:{image}", "-c", "read 0 512", "-c", "read -q 0 512",
              code=1)
    assert lines(done) == ["read failed: No space left on device"]


def test_a_name_says_what_rules_there_are(image):
    told = json.loads(img("info", "--output=json", "--image-opts",
                          "driver=qcow2,file.driver=blkdebug,file.align=4096,"
                          f"file.image.filename={image}").out)
    name = told["filename"]
    assert name.startswith("json:")
    assert json.loads(name[5:])["file"]["align"] == 4096
    assert img("info", f"blkdebug::{image}").out.startswith(f"image: blkdebug::{image}\n")


def test_a_quorum_of_files_reads_what_most_of_them_hold(folder):
    for name in "abc":
        raw(folder / name)
    io("-f", "raw", "-c", "write -q -P 7 0 4k", folder / "c")
    children = ",".join(f"children.{i}.filename={folder / name}" for i, name in enumerate("abc"))
    io("--image-opts", "-c", "read -q -P 0 0 4k", "-c", "write -q -P 5 8k 4k",
       f"driver=quorum,vote-threshold=2,{children}")
    for name in "abc":
        io("-f", "raw", "-c", "read -q -P 5 8k 4k", folder / name)


def test_a_log_of_writes_is_one_of_the_kernels(folder):
    raw(folder / "a")
    (folder / "log").touch()
    io("-t", "writeback", "--image-opts", "-c", "write -q -P 1 512 1k", "-c", "flush",
       f"driver=blklogwrites,file.filename={folder / 'a'},log.filename={folder / 'log'}")
    log = (folder / "log").read_bytes()
    assert struct.unpack_from("<QQQI", log) == (0x6a736677736872, 1, 2, 512)
    assert struct.unpack_from("<QQQQ", log, 512) == (1, 2, 0, 0)
    assert log[1024:2048] == b"\1" * 1024
    assert struct.unpack_from("<QQQQ", log, 2048) == (0, 0, 1, 0)


def test_a_difference_ends_blkverify(folder):
    raw(folder / "a")
    raw(folder / "b")
    io("-c", f"open blkverify:{folder / 'a'}:{folder / 'b'}", "-c", "write -q -P 1 0 4k",
       "-c", "read -q -P 1 0 4k")
    io("-f", "raw", "-c", "write -q -P 2 4096 1", folder / "b")
    done = io("-c", f"open blkverify:{folder / 'a'}:{folder / 'b'}", "-c", "read 0 8k", code=1)
    assert done.err.endswith("blkverify: read offset=0 bytes=8192 contents mismatch at offset 4096\n")


def test_chaos_is_switched_on_while_a_client_works(daemons, folder):
    raw(folder / "a")
    path = folder / "qmp.sock"
    node = {"driver": "chaos", "node-name": "disk", "file": "f"}
    daemon = daemons("--chardev", f"socket,id=m,path={path},server=on,wait=off", "--monitor", "m",
                     "--blockdev", "driver=file,node-name=f,filename=a",
                     "--blockdev", "driver=chaos,node-name=disk,file=f",
                     "--nbd-server", f"addr.type=unix,addr.path={folder}/nbd.sock",
                     "--export", "type=nbd,id=e,node-name=disk,name=disk,writable=on")
    daemon.wait_for(path)
    daemon.wait_for(daemon.socket)
    monitor = Qmp(path)
    io("-f", "raw", "-c", "write -q -P 1 0 4k", daemon.uri())
    monitor("blockdev-reopen", options=[{**node, "read-errors": 1000000, "errno": 28}])
    io("-f", "raw", "-c", "read 0 4k", daemon.uri(), code=1)
    monitor("blockdev-reopen", options=[node])
    io("-f", "raw", "-c", "read -q -P 1 0 4k", daemon.uri())
    monitor.close()
    daemon.stop()
