"""New images in exports that servers offer: what the peer makes there, ours makes, too."""

import subprocess

import nbd
import pytest

from support import Qmp, accepts, img, io, qcow2, run, wait_until

MIB = 1 << 20
SECRET = ("--object", "secret,id=s,data=x")


@pytest.fixture
def export(folder):
    """Serves the 8 MiB of `target`, full of old data, and gives its name."""
    target = folder / "target"
    target.write_bytes(b"\xaa" * (8 * MIB))
    server = subprocess.Popen(["nbdkit", "-f", "-U", folder / "s", "file", target],
                              stderr=subprocess.DEVNULL)
    wait_until(lambda: accepts(folder / "s"), "the server's socket")
    yield f"nbd+unix:///?socket={folder}/s"
    server.kill()
    server.wait()


def source_of(folder, size=4 * MIB):
    source = folder / "source"
    with source.open("wb") as file:
        file.truncate(size)
    run("qemu-io", "-f", "raw", "-c", "write -q -P 7 1M 128k", source)
    return source


def test_a_raw_image_is_the_export_with_a_new_head(folder, backend, export):
    made = img("create", "-f", "raw", export, "1M", backend=backend)
    assert made.out == f"Formatting '{export}', fmt=raw size={MIB}\n"
    content = (folder / "target").read_bytes()
    assert content[:512] == bytes(512)
    assert content[512:] == b"\xaa" * (8 * MIB - 512)


@pytest.mark.parametrize("format_, options", [
    ("qcow2", ()), ("luks", (*SECRET, "-o", "key-secret=s,iter-time=10")), ("vmdk", ())])
def test_formats_are_made_in_the_export(folder, backend, export, format_, options):
    img("create", "-q", "-f", format_, *options, export, "1M", backend=backend)
    told = run("qemu-img", "info", "-U", "-f", format_, folder / "target")
    # A volume of LUKS ends where what it lies in does.
    assert ("virtual size: 6.03 MiB" if format_ == "luks" else "virtual size: 1 MiB") in told.out
    if format_ == "qcow2":
        run("qemu-img", "check", "-U", "-f", "qcow2", folder / "target")


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_a_conversion_into_an_export_leaves_nothing_of_what_it_held(folder, backend, export,
                                                                    format_):
    source = source_of(folder, 8 * MIB if format_ == "raw" else 4 * MIB)
    img("convert", "-f", "raw", "-O", format_, source, export, backend=backend)
    run("qemu-img", "compare", "-U", "-f", "raw", "-F", format_, source, folder / "target")


def test_dd_writes_into_an_export(folder, backend, export):
    source = source_of(folder)
    img("dd", "-f", "raw", "-O", "raw", "bs=64k", "skip=16", "count=18", f"if={source}",
        f"of={export}", backend=backend)
    content = (folder / "target").read_bytes()
    assert content[:128 << 10] == b"\x07" * (128 << 10)


def test_a_data_file_may_be_an_export(folder, backend, export):
    image = folder / "image"
    img("create", "-q", "-f", "qcow2", "-o", f"data_file={export}", image, "1M", backend=backend)
    # A header may name files only: who opens the image says where the data are.
    options = (f"driver=qcow2,file.filename={image},data-file.driver=nbd,"
               f"data-file.server.type=unix,data-file.server.path={folder}/s")
    io("--image-opts", "-c", "write -q -P 5 64k 64k", options, backend=backend)
    assert (folder / "target").read_bytes()[64 << 10:128 << 10] == b"\x05" * (64 << 10)


@pytest.mark.parametrize("arguments, error", [
    (("-f", "raw", "EXPORT", "100M"), "Cannot grow NBD nodes"),
    (("-f", "raw", "-o", "preallocation=full", "EXPORT", "1M"),
     "Unsupported preallocation mode 'full'"),
    (("-f", "raw", "-o", "preallocation=odd", "EXPORT", "1M"), "invalid parameter value: odd"),
    (("-f", "raw", "-o", "nocow=on", "EXPORT", "1M"), "Invalid parameter 'nocow'"),
])
def test_what_an_export_can_not_be_made_is_refused(folder, backend, export, arguments, error):
    arguments = [export if word == "EXPORT" else word for word in arguments]
    ours = img("create", *arguments, code=1, backend=backend)
    assert ours.err == f"cairn-img: {export}: {error}\n"
    assert (folder / "target").read_bytes() == b"\xaa" * (8 * MIB)


def test_an_overlay_may_lie_in_an_export(folder, daemons, export):
    base = folder / "base"
    img("create", "-q", "-f", "qcow2", base, "1M")
    daemon = daemons.serving(qcow2(base), "--chardev",
                             f"socket,id=m,path={folder}/qmp.sock,server=on,wait=off",
                             "--monitor", "m")
    daemon.wait_for(folder / "qmp.sock")
    monitor, client = Qmp(folder / "qmp.sock"), nbd.NBD()
    monitor("blockdev-snapshot-sync", node_name="disk", snapshot_file=export,
            snapshot_node_name="overlay")
    monitor.close()
    client.connect_uri(daemon.uri())
    client.pwrite(b"\x05" * 65536, 65536)
    client.shutdown()
    daemon.stop()
    run("qemu-io", "-r", "-U", "-f", "qcow2", "-c", "read -q -P 5 64k 64k",
        folder / "target")
    run("qemu-io", "-r", "-U", "-f", "qcow2", "-c", "read -q -P 0 0 1M", base)


def test_a_server_that_is_not_there_is_named(folder, backend):
    name = f"nbd+unix:///?socket={folder}/none"
    for format_ in ("raw", "qcow2"):
        failed = img("create", "-q", "-f", format_, name, "1M", code=1, backend=backend)
        assert failed.err == (f"cairn-img: {name}: Protocol driver 'nbd' does not support image "
                              "creation, and opening the image failed: Failed to connect to "
                              f"'{folder}/none': No such file or directory\n")
    assert list(folder.iterdir()) == []


def test_a_file_may_be_called_like_an_export(folder, backend):
    img("create", "-q", "-f", "raw", "file:nbd:odd", "1M", cwd=folder, backend=backend)
    assert (folder / "nbd:odd").stat().st_size == MIB
    img("create", "-q", "-f", "qcow2", "file:nbd:even", "1M", cwd=folder, backend=backend)
    run("qemu-img", "check", "-f", "qcow2", "file:nbd:even", cwd=folder)
