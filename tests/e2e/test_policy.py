"""--policy=untrusted: what images that others made may bring about, and may cost."""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import time

import pytest

import support
from support import TOOLS, img, run

# Sanitizers need far more address space than the policy leaves a program.
pytestmark = [pytest.mark.slow, pytest.mark.skipif(support.PEER, reason="the peer has no policies")]

MIB = 1 << 20
ANY = "--policy=untrusted,formats=qcow2:raw:vmdk:luks"
COPYING = [("info",), ("check",), ("map",), ("measure", "-O", "raw"), ("bench", "-c", "1"),
           ("snapshot", "-l"), ("resize", "+1M"), ("bitmap", "--add"), ("amend", "-o", "compat=1.1")]


def create(path, *arguments, size="1M"):
    img("create", "-q", "-f", "qcow2", *arguments, path, size)
    return path


def named(command, policy, path, *more):
    """A command line for one image; what some commands want behind it comes last."""
    last = {"resize": ["+1M"], "bitmap": ["b"]}.get(command[0], [])
    words = [word for word in command[1:] if word != "+1M"]
    return [command[0], *words, *policy, *more, path, *last]


@pytest.fixture
def secret(folder):
    """A file of somebody else, which is not to be opened: it tells by its access time."""
    path = folder / "secret"
    path.write_bytes(b"secret" * 100000)
    os.utime(path, (0, 0))
    yield path
    assert path.stat().st_atime == 0, "it was read"


def test_the_format_is_named_or_chosen_from_a_list(folder):
    path = create(folder / "a.qcow2")
    done = img("info", "--policy=untrusted", path, code=1)
    assert f"Could not open '{path}': The format of image '{path}' has to be named" in done.err
    assert "qcow2" in img("info", "--policy", "untrusted", "-f", "qcow2", path).out
    assert "qcow2" in img("info", "--policy=untrusted,formats=raw:qcow2", path).out
    done = img("info", "--policy=untrusted,formats=vmdk:raw", path, code=1)
    assert "is in format 'qcow2', and allowed are: vmdk, raw" in done.err
    done = img("info", "--policy=untrusted,formats=vmdk", "-f", "qcow2", path, code=1)
    assert "Format 'qcow2' is none of those that are allowed: vmdk" in done.err
    # Options say the driver, or it is looked for in the same way.
    done = img("info", "--policy=untrusted", "--image-opts", f"file.filename={path}", code=1)
    assert "has to be named" in done.err
    img("info", "--policy=untrusted", "--image-opts", f"driver=qcow2,file.filename={path}")
    done = img("info", "--policy=untrusted",
               'json:{"file": {"driver": "file", "filename": "%s"}}' % path, code=1)
    assert "has to be named" in done.err


@pytest.mark.parametrize("head, format", [
    (b"vhdxfile", "vhdx"), (b"conectix", "vpc"), (b"QED\0", "qed"), (b"QFI\xfb\0\0\0\1", "qcow"),
    (b"WithouFreSpacExt", "parallels"), (bytes(64) + b"\x7f\x10\xda\xbe", "vdi")])
def test_nothing_is_raw_because_it_is_nothing_else(folder, head, format):
    path = folder / "disk"
    path.write_bytes(bytes(MIB))
    done = img("info", "--policy=untrusted,formats=qcow2", path, code=1)
    assert f"Image '{path}' is in none of the formats that are allowed (qcow2)" in done.err
    assert "raw" in img("info", "--policy=untrusted,formats=qcow2:raw", path).out
    path.write_bytes(head.ljust(MIB, b"\0"))
    done = img("info", "--policy=untrusted,formats=qcow2:raw", path, code=1)
    assert f"is in format '{format}'" in done.err
    assert "raw" in img("info", path).out
    # Whoever names the format knows better.
    assert "raw" in img("info", "--policy=untrusted", "-f", "raw", path).out


@pytest.mark.parametrize("command", COPYING, ids=lambda command: command[0])
def test_a_backing_file_is_not_opened(folder, secret, command):
    path = create(folder / "a.qcow2", "-u", "-b", secret, "-F", "raw")
    before = path.read_bytes()
    done = img(*named(command, ["--policy=untrusted", "-f", "qcow2"], path), code=None)
    if command[0] == "info":
        assert done.code == 0 and str(secret) in done.out
        return
    if command[0] == "bitmap":
        assert done.code == 0  # it has no use for it
        return
    assert done.code == 1
    assert f"Image '{path}' names a backing file ('{secret}'), and opening it is not allowed" \
        in done.err
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", [("convert",), ("compare",), ("dd",), ("info", "--backing-chain")],
                         ids=lambda command: command[0])
@pytest.mark.parametrize("backing", ["secret", 'json:{"driver": "file", "filename": "secret"}',
                                     "nbd://localhost:1/x", "file:secret"])
def test_whatever_the_name_of_a_backing_file_looks_like(folder, secret, command, backing):
    path = create(folder / "a.qcow2", "-u", "-b", backing, "-F", "raw")
    out = folder / "out"
    files = {"dd": [f"if={path}", f"of={out}"], "compare": [path, path],
             "convert": [path, out]}.get(command[0], [path])
    done = img(*command, "--policy=untrusted", "-f", "qcow2", *files, code=None, cwd=folder)
    assert done.code in (1, 2)
    assert f"Image '{path}' names a backing file (" in done.err
    assert not out.exists()


def test_names_of_data_files_and_extents_are_not_followed(folder, secret):
    path = folder / "a.qcow2"
    img("create", "-q", "-f", "qcow2", "-o", f"data_file={folder}/data", path, "1M")
    done = img("map", "--policy=untrusted", "-f", "qcow2", path, code=1)
    assert f"Image '{path}' names a data file ('{folder}/data')" in done.err
    assert "data" in img("info", "--policy=untrusted", "-f", "qcow2", path).out
    img("map", "--policy=untrusted", "--image-opts",
        f"driver=qcow2,file.filename={path},data-file.filename={folder}/data")

    path = folder / "a.vmdk"
    path.write_text("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
                    f'createType="monolithicFlat"\nRW 1000 FLAT "{secret}" 0\n')
    for command in ("info", "map", "check"):
        done = img(command, ANY, path, code=1)
        assert f"Image '{path}' names an extent file ('{secret}')" in done.err, done


def test_what_the_user_names_is_opened(folder):
    base, path = create(folder / "base.qcow2"), folder / "a.qcow2"
    run("cairn-io", "-f", "qcow2", "-c", "write -q -P 7 0 64k", base)
    create(path, "-b", base, "-F", "qcow2")
    options = (f"driver=qcow2,file.filename={path},backing.driver=qcow2,"
               f"backing.file.filename={base}")
    out = folder / "out"
    img("convert", "--policy=untrusted", "--image-opts", options, "-O", "raw", out)
    assert out.read_bytes()[:65536] == b"\7" * 65536
    # The backing file of a target is the user's choice.
    img("convert", "--policy=untrusted", "-f", "raw", "-O", "qcow2", "-B", base, "-F", "qcow2", out,
        folder / "overlay")
    img("compare", out, folder / "overlay")


def test_a_hostile_name_can_not_speak_to_the_terminal(folder):
    path = create(folder / "a.qcow2", "-u", "-b", "x\033[2J\nCairn: all is well", "-F", "raw")
    done = img("map", "--policy=untrusted", "-f", "qcow2", path, code=1)
    assert r"('x\x1b[2J\x0aCairn: all is well')" in done.err


def test_the_size_of_the_disk_is_limited(folder):
    path = create(folder / "a.qcow2", size="3T")
    done = img("info", "--policy=untrusted", "-f", "qcow2", path, code=1)
    assert f"Image '{path}' has a disk of {3 << 40} bytes, and more than {2 << 40} are not" in done.err
    img("info", "--policy=untrusted,max-size=3T", "-f", "qcow2", path)
    img("info", "--policy=untrusted,max-size=0", "-f", "qcow2", path)
    done = img("info", "--policy=untrusted,max-size=1M", "-f", "raw", folder / "a.qcow2", code=None)
    assert done.code == 0
    # A snapshot of another size is no way around it.
    path = create(folder / "b.qcow2", size="8M")
    img("snapshot", "-c", "large", path)
    run("qemu-img", "resize", "-q", "--shrink", "-f", "qcow2", path, "1M")
    img("convert", "--policy=untrusted,max-size=1M", "-f", "qcow2", "-O", "raw", path, folder / "o")
    done = img("convert", "--policy=untrusted,max-size=1M", "-f", "qcow2", "-O", "raw",
               "-l", "large", path, folder / "p", code=1)
    assert f"has a disk of {8 * MIB} bytes" in done.err and not (folder / "p").exists()


def test_time_is_limited(folder, backend):
    os.mkfifo(folder / "fifo")
    begin = time.monotonic()
    done = img("info", "--policy=untrusted", "-f", "raw", folder / "fifo", code=1, backend=backend)
    assert done.err and time.monotonic() - begin < 20
    img("create", "-q", folder / "disk", "64M")
    run("cairn-io", "-f", "raw", "-c", "write -q 0 64M", folder / "disk")
    code, err = convert_slowly(folder, backend)
    assert "takes longer than the policy allows (1 s)" in err
    assert code in (1, -signal.SIGTERM)
    assert sorted(path.name for path in folder.iterdir()) == ["disk", "fifo"]


def convert_slowly(folder, backend):
    process = subprocess.run(
        [TOOLS / "cairn-img", "convert", "-r", "1M", "--policy=untrusted,max-time=1", "-f", "raw",
         "-O", "qcow2", folder / "disk", folder / "out"], env=support.environment(backend),
        stderr=subprocess.PIPE, text=True, check=False, timeout=support.TIMEOUT)
    return process.returncode, process.stderr


def test_running_out_of_time_is_no_verdict(folder):
    """`compare` ends with 1 when images differ, and only then."""
    img("create", "-q", folder / "disk", "64M")
    options = f"driver=throttle,throttle-group=t,file.filename={folder}/disk"
    run("cairn-io", "-f", "raw", "-c", "write -q -P 1 0 64M", folder / "disk")
    done = img("compare", "--policy=untrusted,max-time=1", "--object",
               "throttle-group,id=t,x-bps-total=1048576", "--image-opts", options, options, code=4)
    assert "longer than the policy allows" in done.err


def test_memory_is_limited(folder):
    path = folder / "disk"
    img("create", "-q", path, "64M")
    run("cairn-io", "-f", "raw", "-c", "write -q -P 1 0 64M", path)
    convert = ["convert", "-m", "16", "-W", "-c", "-f", "raw", "-O", "qcow2", "-o",
               "cluster_size=2M"]
    done = img(*convert, "--policy=untrusted,max-memory=16M", path, folder / "out", code=1)
    assert "memory" in done.err and list(folder.iterdir()) == [path]
    img(*convert, "--policy=untrusted", path, folder / "out")
    for wrong in ("max-memory=1M", "max-time=x", "max-size=x", "formats=nbd", "formats=", "bogus=1",
                  "bogus"):
        done = img("info", f"--policy=untrusted,{wrong}", path, code=1)
        assert "Invalid policy" in done.err
    assert "Invalid policy 'lenient'" in img("info", "--policy=lenient", path, code=1).err
    img("info", "--policy=trusted", path)


# ---------------------------------------------------------------- damaged images

CORPUS = TOOLS.parent / "tests" / "formats" / "qcow2" / "write_qcow2_corpus"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Images damaged by hand, a field at a time."""
    if not CORPUS.exists():
        pytest.skip("the corpus was not built: ninja tests/formats/qcow2/write_qcow2_corpus")
    below = tmp_path_factory.mktemp("corpus")
    run(CORPUS, below, 7)
    yield [below / line.split(" ", 1)[0] for line in (below / "names").read_text().splitlines()]
    shutil.rmtree(below)


def in_64_mib(command, backend="io_uring"):
    """Exit code, seconds of the processor and messages of a program that has 64 MiB of addresses."""
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (64 * MIB, 64 * MIB))
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, errors="replace",
                               env=support.environment(backend), preexec_fn=limit)
    err = process.stderr.read()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime, err


@pytest.mark.slow
def test_info_of_anything_takes_a_second_and_64_mib(damaged, backend):
    described = 0
    for path in damaged:
        code, seconds, err = in_64_mib([TOOLS / "cairn-img", "info", ANY, "--output=json", path],
                                       backend)
        assert code in (0, 1) and seconds < 1, (path, code, seconds, err)
        assert code == 0 or err, path
        assert "policy allows" not in err, (path, err)
        described += code == 0
    assert 0 < described < len(damaged)


def sparse_qcow2(path, size, l1_entries, cluster_bits=16, **fields):
    """A header whose tables lie in the hole behind it."""
    values = dict({"backing": 0, "backing_length": 0, "crypt": 0, "l1_offset": 1 << cluster_bits,
                   "refcount_offset": 2 << cluster_bits, "refcount_clusters": 1, "snapshots": 0,
                   "snapshot_offset": 0}, **fields)
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, values["backing"],
                         values["backing_length"], cluster_bits, size, values["crypt"], l1_entries,
                         values["l1_offset"], values["refcount_offset"],
                         values["refcount_clusters"], values["snapshots"],
                         values["snapshot_offset"])
    path.write_bytes(header + struct.pack(">QQQII", 0, 0, 0, 4, 104) + bytes(8))
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("fields", [
    dict(size=1 << 40, l1_entries=(32 << 20) // 8, cluster_bits=9, l1_offset=1 << 20),
    dict(size=1 << 40, l1_entries=2048, snapshots=65536, snapshot_offset=1 << 30),
    dict(size=1 << 40, l1_entries=2048, refcount_clusters=(8 << 20) >> 16, refcount_offset=1 << 30),
    dict(size=1 << 40, l1_entries=2048, cluster_bits=21, l1_offset=1 << 21,
         refcount_offset=2 << 21),
], ids=["L1 table", "snapshots", "refcount table", "clusters"])
def test_info_of_the_largest_tables_takes_no_more(folder, fields, backend):
    sparse_qcow2(folder / "a", **fields)
    code, seconds, err = in_64_mib([TOOLS / "cairn-img", "info", ANY, folder / "a"], backend)
    assert code in (0, 1) and seconds < 1, (seconds, err)
    assert code == 0 or "a" in err


def test_info_as_json_stays_one_document(folder):
    path = create(folder / "a.qcow2", "-u", "-b", 'x"\n}, {', "-F", "raw")
    done = img("info", "--policy=untrusted", "-f", "qcow2", "--output=json", path)
    assert json.loads(done.out)["backing-filename"] == 'x"\n}, {'
