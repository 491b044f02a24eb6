"""cairn-img convert --resume: going on with a conversion that did not come to its end."""

import os
import random
import signal
import subprocess

import pytest

import support
from support import TOOLS, img, io, run, wait_until

pytestmark = pytest.mark.skipif(support.PEER, reason="the peer can not do that")

MIB = 1 << 20
SECRET = ["--object", "secret,id=s,data=x"]
KINDS = {
    "raw": ["-O", "raw"],
    "qcow2": ["-O", "qcow2"],
    "small clusters": ["-O", "qcow2", "-o", "cluster_size=4k"],
    "version 2": ["-O", "qcow2", "-o", "compat=0.10"],
    "compressed": ["-c", "-O", "qcow2"],
    "zstd": ["-c", "-O", "qcow2", "-o", "compression_type=zstd"],
    "out of order": ["-W", "-m", "16", "-O", "qcow2"],
    "subclusters": ["-O", "qcow2", "-o", "extended_l2=on,cluster_size=64k"],
}


@pytest.fixture
def source(folder):
    """24 MiB: data that shrinks, data that does not, zeroes."""
    path = folder / "source"
    chooser = random.Random(1)
    with path.open("wb") as file:
        for index in range(24):
            block = (bytes(MIB), chooser.randbytes(MIB), bytes([index]) * MIB)[index % 3]
            file.write(block)
    return path


def part(folder):
    return folder / ".out.part"


def note(folder):
    return folder / ".out.part.begun"


def interrupt(folder, how, *arguments, after=6 * MIB, backend=None):
    """Ends a slow conversion to "out" once the file has grown; what it said."""
    process = subprocess.Popen(
        [str(word) for word in (TOOLS / "cairn-img", "convert", "-r", "12M", *arguments,
                                folder / "out")],
        env=support.environment(backend), stderr=subprocess.PIPE, text=True,
        preexec_fn=support.hear_signals)

    def far_enough():
        assert process.poll() is None, process.stderr.read()
        return note(folder).exists() and part(folder).stat().st_blocks * 512 >= after
    wait_until(far_enough, "half of the conversion")
    process.send_signal(how)
    err = process.communicate(timeout=support.TIMEOUT)[1]
    assert process.returncode == -how, err
    support.wait_for_locks(part(folder))
    return err


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_goes_on_where_it_was(folder, source, backend, kind, how):
    options = ["--resume", "-f", "raw", *KINDS[kind], source]
    after = 2 * MIB
    err = interrupt(folder, how, *options, after=after, backend=backend)
    if how == signal.SIGTERM:
        assert "What is done of it stays: the same command goes on with it" in err
    assert part(folder).exists() and not (folder / "out").exists()
    begun = part(folder).stat().st_ino
    img("convert", *options, folder / "out", backend=backend)
    assert (folder / "out").stat().st_ino == begun, "it was begun anew"
    assert sorted(os.listdir(folder)) == ["out", "source"]
    format = "raw" if kind == "raw" else "qcow2"
    run("qemu-img", "compare", "-f", "raw", "-F", format, source, folder / "out")
    if format == "qcow2":
        run("qemu-img", "check", "-q", folder / "out")
    # What was there is not stored a second time.
    img("convert", "-f", "raw", *KINDS[kind], source, folder / "again")
    assert (folder / "out").stat().st_blocks <= (folder / "again").stat().st_blocks * 1.2


def test_encrypted_images(folder, source):
    options = [*SECRET, "--resume", "-f", "raw", "-O", "luks", "-o", "key-secret=s,iter-time=10",
               source]
    interrupt(folder, signal.SIGKILL, *options)
    begun = part(folder).stat().st_ino
    img("convert", *options, folder / "out")
    assert (folder / "out").stat().st_ino == begun
    img("compare", *SECRET, "--image-opts", f"driver=raw,file.filename={source}",
        f"driver=luks,key-secret=s,file.filename={folder}/out")


@pytest.mark.parametrize("kind", ["raw", "qcow2", "compressed", "version 2"])
def test_nothing_of_what_is_there_is_believed(folder, source, kind):
    """The source may be another one, and a power cut may have left anything as the image's content."""
    options = ["--resume", "-f", "raw", *KINDS[kind], source]
    interrupt(folder, signal.SIGKILL, *options, after=4 * MIB)
    chooser = random.Random(2)
    with source.open("r+b") as file:
        for index in range(24):
            file.seek(index * MIB + 4096)
            file.write((bytes(300000), chooser.randbytes(300000))[index % 2])
    if kind == "raw":
        with part(folder).open("r+b") as file:
            file.seek(3 * MIB + 5)
            file.write(b"anything")
    img("convert", *options, folder / "out")
    format = "raw" if kind == "raw" else "qcow2"
    run("qemu-img", "compare", "-f", "raw", "-F", format, source, folder / "out")


def test_a_failure_leaves_it_too(folder, source):
    """A source that can not be read for now is an occasion to go on later."""
    broken = folder / "broken.conf"
    broken.write_text('[inject-error]\nevent = "read_aio"\nerrno = "5"\nsector = "40000"\n')
    options = ["-f", "raw", "-O", "qcow2", "-m", "1"]
    done = img("convert", "--resume", *options, f"blkdebug:{broken}:{source}", folder / "out", code=1)
    assert "error while reading" in done.err and "goes on with it" in done.err
    assert sorted(os.listdir(folder)) == [".out.part", ".out.part.begun", "broken.conf", "source"]
    begun = part(folder).stat().st_ino
    img("convert", "--resume", "--verify", *options, source, folder / "out")
    assert (folder / "out").stat().st_ino == begun
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, folder / "out")


def test_it_is_refused_when_it_would_make_another_image(folder, source):
    interrupt(folder, signal.SIGKILL, "--resume", "-f", "raw", "-O", "qcow2", source)
    before = part(folder).read_bytes()
    for other in (["-O", "raw"], ["-O", "qcow2", "-o", "compat=0.10"]):
        done = img("convert", "--resume", "-f", "raw", *other, source, folder / "out", code=1)
        assert "was begun in another way" in done.err and "(-O qcow2 -o ''" in done.err
    os.truncate(source, 25 * MIB)
    done = img("convert", "--resume", "-f", "raw", "-O", "qcow2", source, folder / "out", code=1)
    assert "was begun in another way" in done.err
    assert part(folder).read_bytes() == before
    # Without --resume it is made anew, as ever.
    img("convert", "-f", "raw", "-O", "qcow2", source, folder / "out")
    assert sorted(os.listdir(folder)) == ["out", "source"]
    done = img("convert", "--resume", "-f", "raw", "-O", "qcow2", source, folder / "out", code=1)
    assert "exists: there is nothing to go on with" in done.err


def test_a_damaged_image_is_not_gone_on_with(folder, source):
    options = ["--resume", "-f", "raw", "-O", "qcow2", source]
    interrupt(folder, signal.SIGTERM, *options)
    image = bytearray(part(folder).read_bytes())
    table = int.from_bytes(image[40:48], "big")
    entry = int.from_bytes(image[table:table + 8], "big") & 0x00fffffffffffe00
    image[entry:entry + 8] = image[entry + 8 * 20:entry + 8 * 21]  # one cluster in two places
    part(folder).write_bytes(image)
    done = img("convert", *options, folder / "out", code=1)
    assert f"What there is of '{folder}/out' can not be gone on with: it is damaged" in done.err
    assert not (folder / "out").exists()


def test_what_is_in_use_by_nothing_is_given_back(folder, source):
    options = ["--resume", "-f", "raw", "-O", "qcow2", source]
    interrupt(folder, signal.SIGTERM, *options)
    image = bytearray(part(folder).read_bytes())
    table = int.from_bytes(image[48:56], "big")
    block = int.from_bytes(image[table:table + 8], "big")
    image[block + 2 * 300:block + 2 * 320] = b"\0\1" * 20
    part(folder).write_bytes(image)
    img("convert", *options, folder / "out")
    run("qemu-img", "check", "-q", folder / "out")
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", source, folder / "out")


def test_what_is_there_without_a_note_is_made_anew(folder, source):
    options = ["-f", "raw", "-O", "qcow2", source]
    part(folder).write_bytes(b"something" * 1000)
    img("convert", "--resume", *options, folder / "out")
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, folder / "out")
    assert sorted(os.listdir(folder)) == ["out", "source"]


def test_two_at_a_time(folder, source):
    options = ["--resume", "-f", "raw", "-O", "qcow2", source]
    first = subprocess.Popen([TOOLS / "cairn-img", "convert", "-r", "6M", *options, folder / "out"],
                             stderr=subprocess.PIPE)
    wait_until(lambda: note(folder).exists(), "the first one")
    done = img("convert", *options, folder / "out", code=1)
    assert 'Failed to get "write" lock' in done.err
    first.terminate()
    first.communicate()
    img("convert", *options, folder / "out")


def test_contradictions(folder, source):
    for more in (["-n"], ["-B", "x", "-F", "raw"], ["-C"], ["-S", "0"], ["--bitmaps"]):
        done = img("convert", "--resume", "-f", "raw", "-O", "qcow2", *more, source, folder / "out",
                   code=1)
        assert "Cannot use --resume with" in done.err
    done = img("convert", "--resume", "-f", "raw", "-O", "vmdk", source, folder / "out", code=1)
    assert "--resume is for raw, qcow2 and luks images" in done.err
    assert os.listdir(folder) == ["source"]
