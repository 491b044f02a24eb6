"""Nodes as files of this host, through the kernel's FUSE driver."""

import errno
import hashlib
import json
import mmap
import os
import pathlib
import subprocess
import threading

import pytest

from support import PEER, Qmp, img, program, qcow2, run, same_bytes, wait_until

MIB = 1 << 20
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK),
                                reason="nothing can be mounted here")


def mounted(path):
    return any(line.split()[1] == str(path)
               for line in pathlib.Path("/proc/mounts").read_text().splitlines())


@pytest.fixture
def disk(folder, daemons):
    """Starts a daemon with the qcow2 image 'disk.qcow2' as node 'd' and as the file 'mnt'; returns it
    with a monitor."""
    started = []

    def start(size="64M", **options):
        image, point = folder / "disk.qcow2", folder / "mnt"
        if not image.exists():
            run("qemu-img", "create", "-q", "-f", "qcow2", image, size)
            point.touch()
        path = folder / "qmp.sock"
        path.unlink(missing_ok=True)
        daemon = daemons("--chardev", f"socket,id=c,path={path},server=on,wait=off",
                         "--monitor", "chardev=c")
        daemon.wait_for(path)
        monitor = Qmp(path)
        monitor("blockdev-add", **qcow2(image, discard="unmap"), node_name="d")
        added = monitor.ask("block-export-add", type="fuse", id="f", node_name="d",
                            mountpoint=str(point), **{"writable": True, **options})
        if "error" in added:
            daemon.kill()
        assert "error" not in added, added
        started.append(point)
        return daemon, monitor

    yield start
    for point in started:
        if mounted(point):
            subprocess.run(["umount", "-l", str(point)], check=False)


def test_a_file_system_is_made_checked_and_read(folder, disk):
    daemon, _ = disk()
    point = folder / "mnt"
    (folder / "tree").mkdir()
    for number in range(200):
        (folder / "tree" / f"{number}").write_bytes(os.urandom(1000 * (number % 50) + 1))
    run("mkfs.ext4", "-q", "-F", "-d", folder / "tree", point)
    run("e2fsck", "-f", "-n", point)
    (folder / "out").mkdir()
    run("debugfs", "-R", f"rdump / {folder}/out", point, cwd=folder)
    for number in range(200):
        same_bytes(folder / "tree" / f"{number}", folder / "out" / f"{number}")
    daemon.stop()
    assert not mounted(point) and point.stat().st_size == 0
    run("qemu-img", "check", folder / "disk.qcow2")
    img("convert", "-O", "raw", folder / "disk.qcow2", folder / "disk.raw")
    run("e2fsck", "-f", "-n", folder / "disk.raw")


@pytest.fixture
def loop_device():
    """Makes loop devices of files; they go at the end."""
    devices = []

    def attach(path):
        done = subprocess.run(["losetup", "--find", "--show", str(path)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no loop devices here: {done.stderr.strip()}")
        devices.append(done.stdout.strip())
        return devices[-1]

    yield attach
    for device in devices:
        subprocess.run(["umount", "-l", device], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["losetup", "--detach", device], check=False)


def digest_tree(top):
    """The content of every file below a folder, by name."""
    return {str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(top.rglob("*")) if path.is_file() and not path.is_symlink()}


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_loop_device_on_an_export_holds_a_file_system(folder, disk, loop_device, kind):
    daemon, monitor = disk(size="512M")
    device, place = loop_device(folder / "mnt"), folder / "place"
    place.mkdir()
    run(f"mkfs.{kind}", "-q", device)
    run("mount", device, place)
    try:
        source = pathlib.Path(__file__).resolve().parents[2] / "formats"
        run("cp", "-r", source, place / "tree")
        with (place / "sparse").open("wb") as sparse:
            sparse.truncate(100 * MIB)
            sparse.seek(50 * MIB)
            sparse.write(os.urandom(MIB))
        run("cp", "--sparse=always", place / "sparse", place / "copy")
        expected = digest_tree(place)
        assert len(expected) > 100
        run("fstrim", place)
    finally:
        run("umount", place)
    run("losetup", "--detach", device)
    check = ["e2fsck", "-f", "-n"] if kind == "ext4" else ["xfs_repair", "-n"]
    run(*check, folder / "mnt")
    monitor("block-export-del", id="f")
    wait_until(lambda: not mounted(folder / "mnt"), "the export goes")
    daemon.stop()
    run("qemu-img", "check", folder / "disk.qcow2")
    # The same files are in the image.
    run("qemu-img", "convert", "-O", "raw", folder / "disk.qcow2", folder / "disk.raw")
    run("mount", "-o", "loop,ro", folder / "disk.raw", place)
    try:
        assert digest_tree(place) == expected
    finally:
        run("umount", place)


@pytest.mark.parametrize("direct", [0, 1])
def test_random_writes_are_read_back(folder, disk, direct):
    daemon, _ = disk()
    run("fio", "--name=v", f"--filename={folder}/mnt", "--rw=randrw", "--bsrange=4k-256k", "--size=64M",
        "--io_size=64M", "--ioengine=libaio", "--iodepth=16", f"--direct={direct}", "--verify=crc32c",
        "--verify_fatal=1", "--randseed=7", cwd=folder)
    daemon.stop()
    run("qemu-img", "check", folder / "disk.qcow2")


def test_holes_are_those_of_the_image(folder, disk):
    daemon, _ = disk("4M")
    point = folder / "mnt"
    with point.open("r+b", buffering=0) as file:
        for at in (0, 1 * MIB, 3 * MIB):
            os.pwrite(file.fileno(), b"\x55" * 256 * 1024, at)
    run("fallocate", "-p", "-o", 64 * 1024, "-l", 64 * 1024, point)
    found, at = [], 0
    with point.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                break
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found.append((begin, at - begin))
    run("cp", "--sparse=always", point, folder / "copy.raw")
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", point, folder / "copy2.raw")
    daemon.stop()
    told = json.loads(img("map", "--output=json", folder / "disk.qcow2").out)
    wanted = []
    for entry in told:
        if not entry["zero"]:
            if wanted and sum(wanted[-1]) == entry["start"]:
                wanted[-1] = (wanted[-1][0], wanted[-1][1] + entry["length"])
            else:
                wanted.append((entry["start"], entry["length"]))
    assert found == wanted
    img("convert", "-O", "raw", folder / "disk.qcow2", folder / "disk.raw")
    same_bytes(folder / "copy.raw", folder / "disk.raw")
    same_bytes(folder / "copy2.raw", folder / "disk.raw")


def test_two_exports_serve_many_readers(folder, disk):
    daemon, monitor = disk("16M")
    (folder / "second").touch()
    (folder / "noise").write_bytes(os.urandom(16 * MIB))
    run("dd", f"if={folder}/noise", f"of={folder}/mnt", "bs=1M", "conv=notrunc,fsync", "status=none")
    monitor("block-export-add", type="fuse", id="g", node_name="d", mountpoint=f"{folder}/second")
    failures = []

    def compare(name):
        done = subprocess.run(["cmp", str(folder / "noise"), str(folder / name)], check=False)
        if done.returncode != 0:
            failures.append(name)

    readers = [threading.Thread(target=compare, args=(name,)) for name in ["mnt", "second"] * 5]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert not failures
    daemon.stop()


@pytest.mark.parametrize("mode", ["safe", "hard"])
def test_a_busy_export_goes_when_it_is_told_to(folder, disk, mode):
    daemon, monitor = disk()
    with subprocess.Popen(["dd", "if=/dev/zero", f"of={folder}/mnt", "bs=64k", "count=100000",
                           "conv=notrunc", "oflag=direct"], stderr=subprocess.DEVNULL) as user:
        wait_until(lambda: (folder / "disk.qcow2").stat().st_size > 2 * MIB, "the first writes")
        monitor("block-export-del", id="f", mode=mode)
        assert user.wait(20) != 0
    wait_until(lambda: monitor("query-block-exports") == [], "the export gone")
    assert not mounted(folder / "mnt")
    monitor("blockdev-del", node_name="d")
    run("qemu-img", "check", folder / "disk.qcow2")
    daemon.stop()


@pytest.mark.skipif(PEER, reason="the peer does not explain it")
def test_what_a_killed_daemon_leaves_is_explained(folder, disk):
    daemon, _ = disk()
    with (folder / "mnt").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"\x11" * 4096, 8192)
        os.fsync(file.fileno())
    daemon.kill()
    with pytest.raises(AssertionError, match="fusermount3 -u"):
        disk()
    run("umount", folder / "mnt")
    daemon, _ = disk()
    assert (folder / "mnt").read_bytes()[8192:12288] == b"\x11" * 4096
    daemon.stop()


def test_the_owner_decides_who_may_use_it(folder, disk):
    daemon, monitor = disk(allow_other="on")
    point = folder / "mnt"
    assert point.stat().st_mode & 0o777 == 0o600
    os.chmod(point, 0o644)
    assert point.stat().st_mode & 0o777 == 0o644
    (folder / "mine").touch()
    monitor("block-export-add", type="fuse", id="g", node_name="d", mountpoint=f"{folder}/mine",
            allow_other="off")
    with pytest.raises(PermissionError):
        os.chmod(folder / "mine", 0o644)
    daemon.stop()


def test_a_resize_of_the_node_is_a_resize_of_the_file(folder, disk):
    daemon, monitor = disk()
    monitor("block_resize", node_name="d", size=96 * MIB)
    wait_until(lambda: (folder / "mnt").stat().st_size == 96 * MIB, "the new size")
    os.truncate(folder / "mnt", 80 * MIB)
    info = [n for n in monitor("query-named-block-nodes") if n["node-name"] == "d"][0]
    assert info["image"]["virtual-size"] == 80 * MIB
    daemon.stop()


@pytest.mark.skipif(PEER, reason="the peer lets the kernel remember the size for a second")
def test_who_has_the_file_open_sees_another_size_at_once(folder, disk):
    daemon, monitor = disk()
    with (folder / "mnt").open("rb", buffering=0) as file:
        assert os.fstat(file.fileno()).st_size == 64 * MIB
        monitor("block_resize", node_name="d", size=96 * MIB)
        assert len(os.pread(file.fileno(), 4096, 95 * MIB)) == 4096
        assert os.fstat(file.fileno()).st_size == 96 * MIB
        monitor("block_resize", node_name="d", size=32 * MIB)
        assert os.fstat(file.fileno()).st_size == 32 * MIB
        assert os.pread(file.fileno(), 4096, 40 * MIB) == b""
    daemon.stop()


@pytest.mark.skipif(PEER, reason="the option is ours")
def test_what_others_write_is_seen_at_once_without_a_cache(folder, disk):
    """With the cache, whoever opens the file anew sees it."""
    daemon, monitor = disk(direct_io=True)
    (folder / "cached").touch()
    monitor("block-export-add", type="fuse", id="g", node_name="d", mountpoint=f"{folder}/cached")
    monitor("nbd-server-start", addr={"type": "unix", "data": {"path": f"{folder}/nbd.sock"}})
    monitor("block-export-add", type="nbd", id="e", node_name="d", name="e", writable=True)
    with (folder / "mnt").open("rb", buffering=0) as file, (folder / "cached").open("rb") as other:
        for byte in (b"\x01", b"\x02"):
            run("nbdsh", "-u", f"nbd+unix:///e?socket={folder}/nbd.sock", "-c",
                f"h.pwrite({byte!r} * 8192, 4096)")
            assert os.pread(file.fileno(), 8192, 4096) == byte * 8192
            assert os.pread(other.fileno(), 8192, 4096)
            with (folder / "cached").open("rb") as anew:
                assert os.pread(anew.fileno(), 8192, 4096) == byte * 8192
    daemon.stop()


@pytest.mark.skipif(PEER, reason="the peer forgets it")
@pytest.mark.parametrize("end", ["removal", "end of the daemon"])
def test_what_a_mapping_holds_is_written_before_the_export_goes(folder, disk, end):
    daemon, monitor = disk()
    with (folder / "mnt").open("r+b") as file:
        memory = mmap.mmap(file.fileno(), MIB)
    with memory:
        memory[8192:12288] = b"\x33" * 4096
        if end == "removal":
            monitor("block-export-del", id="f")
            wait_until(lambda: not mounted(folder / "mnt"), "the export goes")
        daemon.stop()
    img("convert", "-O", "raw", folder / "disk.qcow2", folder / "disk.raw")
    assert (folder / "disk.raw").read_bytes()[8192:12288] == b"\x33" * 4096


@pytest.mark.skipif(PEER, reason="the peer loads it when it starts")
def test_a_machine_without_libfuse_is_told_so(folder):
    """The daemon starts all the same; only what mounts needs the library."""
    library = next(pathlib.Path("/lib").glob("*/libfuse3.so.3")).resolve()
    hide = f"mount --bind /dev/null {library} && exec \"$0\" \"$@\""
    (folder / "a.raw").write_bytes(bytes(4096))
    (folder / "mnt").touch()
    node = ["--blockdev", f"driver=file,node-name=f,filename={folder}/a.raw"]
    export = f"type=fuse,id=x,node-name=f,mountpoint={folder}/mnt"
    daemon = pathlib.Path(program("cairnd")).resolve()
    done = run("unshare", "-m", "sh", "-c", hide, daemon, *node, "--export", export, code=1)
    assert "FUSE exports need libfuse3.so.3" in done.err
    assert not mounted(folder / "mnt")
    run("unshare", "-m", "sh", "-c", hide, daemon, *node, "--version")
