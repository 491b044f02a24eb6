"""The same command line to the peer's tools and to ours: the same output, exit code and bytes; and
each checks and reads what the other wrote.

What is random comes from the seed in the test's name, so a failure replays.
"""

import json
import random
import re
import shutil

import pytest

from support import PEER, img, io, program, run, same_bytes

KIB, MIB = 1 << 10, 1 << 20

IMAGE_OPTIONS = [
    "cluster_size=64k", "cluster_size=4k", "cluster_size=512", "cluster_size=2M", "compat=0.10",
    "cluster_size=8k,refcount_bits=1", "cluster_size=1k,refcount_bits=64", "lazy_refcounts=on",
    "compression_type=zstd", "cluster_size=4k,refcount_bits=2",
]


def without_times(text):
    """Durations and rates, which differ from run to run, are masked; and the letters in a usage line,
    to which the newest peer has added some."""
    text = re.sub(r"(?m)^([a-z_]+ )\[-[A-Za-z]+\]( .* -- )", r"\1[$LETTERS]\2", text)
    text = re.sub(r"(\d+ ops; )[0-9:.]+(?: sec)? \([^)]*\)", r"\1$TIME", text)
    return re.sub(r"(?m)^(\d+,\d+),[0-9:.]+,[^,\s]+,[^,\s]+$", r"\1,$TIME", text)


def as_named(text, *renames):
    for old, new in renames:
        text = text.replace(str(old), new)
    return text


def assert_same(ours, theirs, *renames):
    """Both commands ended alike and said the same, but for the names of files and programs."""
    names = [*renames, ("cairn-img", "$P"), ("qemu-img", "$P"), ("cairn-io", "$P"),
             ("qemu-io", "$P")]
    for mine, other in ((ours.out, theirs.out), (ours.err, theirs.err)):
        assert as_named(without_times(mine), *names) == as_named(without_times(other), *names), \
            (ours, theirs)
    assert ours.code == theirs.code, (ours, theirs)


def size_word(chooser, value):
    """One of the ways to write a number of bytes."""
    if value % MIB == 0 and value and chooser.random() < 0.5:
        return f"{value // MIB}M"
    if value % KIB == 0 and chooser.random() < 0.7:
        return f"{value // KIB}k"
    return hex(value) if chooser.random() < 0.2 else str(value)


def io_command(chooser, size):
    """A random cairn-io command; now and then a wrong one."""
    unit = chooser.choice([512, 4096, 65536, 1])
    length = chooser.choice([1, 1, 2, 3, 16, 40]) * unit
    offset = chooser.randrange(0, max(1, (size - length) // unit)) * unit
    where = f"{size_word(chooser, offset)} {size_word(chooser, length)}"
    pattern = chooser.randrange(1, 256)
    return chooser.choice([
        f"write -P {pattern} {where}", f"write -P {pattern} {where}", f"write {where}",
        f"write -f -P {pattern} {where}", f"write -z {where}", f"write -z -u {where}",
        f"write -q -P {pattern} {where}", f"discard {where}", f"discard -q {where}",
        f"read {where}", f"read -P {pattern} {where}", f"read -v {size_word(chooser, offset)} 48",
        f"read -P 0 {where}", f"writev -P {pattern} {size_word(chooser, offset)} 512 1024 512",
        f"readv {size_word(chooser, offset)} 512 1024", "flush", "length", "map",
        f"alloc {size_word(chooser, offset // 512 * 512)} {size_word(chooser, 4096)}",
        f"write -P {pattern} {size_word(chooser, size - 512)} 1024", "read -1 512", "write 0",
        "nosuch", f"write -P 300 {where}", "read 0 2G", f"read -P {pattern} -s 100 -l 40 {where}",
    ])


def random_script(chooser, size, count=40):
    return [word for _ in range(count) for word in ("-c", io_command(chooser, size))]


def with_backing(folder, chooser, name, options):
    """Makes an image, over a backing file now and then shorter or longer than it."""
    size = chooser.choice([1, 2, 3]) * MIB
    backing = []
    if chooser.random() < 0.5:
        length = chooser.choice([size, size // 2, size + 300 * KIB])
        run("qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", length, cwd=folder)
        run("qemu-io", "-f", "qcow2", "-c", f"write -q -P 200 0 {length // 3}", "-c",
            f"write -q -P 201 {length // 2 // 512 * 512} 100k", "base.qcow2", cwd=folder)
        backing = ["-b", "base.qcow2", "-F", "qcow2"]
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *backing, name, size, cwd=folder)
    return size


def assert_equal_images(folder, ours, theirs, form="qcow2"):
    """Both tools read the same bytes from both images and find both sound."""
    for tool in ("qemu-img", "cairn-img"):
        for image in (ours, theirs):
            run(tool, "convert", "-f", form, "-O", "raw", image, f"{tool}.{image}.raw", cwd=folder)
            if form == "qcow2":
                report = json.loads(run(tool, "check", "--output=json", image, cwd=folder).out)
                assert "corruptions" not in report and "leaks" not in report, report
            same_bytes(folder / f"qemu-img.{ours}.raw", folder / f"{tool}.{image}.raw")


def mapping(tool, folder, image):
    """What `map` says, without where in the file it lies."""
    entries = json.loads(run(tool, "map", "-f", "qcow2", "--output=json", image, cwd=folder).out)
    merged = []
    for entry in entries:
        kind = (entry["depth"], entry["present"], entry["zero"], entry["data"])
        if merged and merged[-1][2] == kind:
            merged[-1] = (merged[-1][0], merged[-1][1] + entry["length"], kind)
        else:
            merged.append((entry["start"], entry["length"], kind))
    return merged


@pytest.mark.parametrize("options", IMAGE_OPTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_scripts_of_reads_and_writes(folder, backend, seed, options):
    chooser = random.Random(f"{seed} {options}")
    size = with_backing(folder, chooser, "theirs.qcow2", options)
    shutil.copy(folder / "theirs.qcow2", folder / "ours.qcow2")
    for _ in range(3):
        script = random_script(chooser, size)
        ours = io("-f", "qcow2", "-d", "unmap", *script, "ours.qcow2", cwd=folder, code=None,
                  backend=backend)
        theirs = run("qemu-io", "-f", "qcow2", "-d", "unmap", *script, "theirs.qcow2", cwd=folder,
                     code=None)
        assert_same(ours, theirs, ("ours.qcow2", "$I"), ("theirs.qcow2", "$I"))
        assert_equal_images(folder, "ours.qcow2", "theirs.qcow2")
        # Now each goes on with what the other wrote.
        (folder / "ours.qcow2").rename(folder / "swap")
        (folder / "theirs.qcow2").rename(folder / "ours.qcow2")
        (folder / "swap").rename(folder / "theirs.qcow2")


@pytest.mark.parametrize("seed", range(4))
def test_scripts_on_raw_images(folder, backend, seed):
    chooser = random.Random(seed)
    size = MIB + chooser.choice([0, 512, 3 * 512])
    for name in ("ours.raw", "theirs.raw"):
        run("truncate", "-s", size, folder / name)
    script = [word.replace("map", "length") for word in random_script(chooser, size, 60)]
    ours = io("-f", "raw", *script, "ours.raw", cwd=folder, code=None, backend=backend)
    theirs = run("qemu-io", "-f", "raw", *script, "theirs.raw", cwd=folder, code=None)
    assert_same(ours, theirs, ("ours.raw", "$I"), ("theirs.raw", "$I"))
    same_bytes(folder / "ours.raw", folder / "theirs.raw")


@pytest.mark.parametrize("options", IMAGE_OPTIONS)
def test_both_map_alike(folder, options):
    chooser = random.Random(options)
    size = with_backing(folder, chooser, "a.qcow2", options)
    script = [word for _ in range(30) for word in (
        "-c", chooser.choice(["write -q -P 1", "write -q -z", "write -q -z -u", "discard -q"])
        + f" {chooser.randrange(size // 512) * 512} {chooser.choice([512, 4096, 65536])}")]
    run("qemu-io", "-f", "qcow2", "-d", "unmap", *script, "a.qcow2", cwd=folder, code=None)
    ours, theirs = (mapping(tool, folder, "a.qcow2") for tool in ("cairn-img", "qemu-img"))
    assert ours == theirs


@pytest.mark.parametrize("options", IMAGE_OPTIONS)
@pytest.mark.parametrize("size", ["0", "512", "1M", "1000001", "3G", "7T"])
def test_created_images_are_the_same(folder, options, size):
    done = {}
    for tool in ("cairn-img", "qemu-img"):
        done[tool] = run(tool, "create", "-f", "qcow2", "-o", options, f"{tool}.qcow2", size,
                         cwd=folder, code=None)
    assert_same(done["cairn-img"], done["qemu-img"])
    if done["qemu-img"].code == 0:
        infos = []
        for tool in ("cairn-img", "qemu-img"):
            info = json.loads(run("qemu-img", "info", "--output=json", f"{tool}.qcow2",
                                  cwd=folder).out)
            infos.append({k: v for k, v in info.items() if k not in ("filename", "actual-size")})
            run("qemu-img", "check", f"{tool}.qcow2", cwd=folder)
        assert infos[0] == infos[1]


@pytest.mark.parametrize("seed", range(6))
def test_converted_images_are_equal(folder, backend, seed):
    chooser = random.Random(seed)
    size = with_backing(folder, chooser, "source.qcow2", chooser.choice(IMAGE_OPTIONS))
    script = random_script(chooser, size)
    run("qemu-io", "-f", "qcow2", *script, "source.qcow2", cwd=folder, code=None)
    for number in range(4):
        form = chooser.choice(["raw", "qcow2"])
        options = ["-o", chooser.choice(IMAGE_OPTIONS)] if form == "qcow2" else []
        options += chooser.choice([[], ["-S", "0"], ["-S", "64k"], ["-m", "4", "-W"]])
        done = {}
        for tool in ("cairn-img", "qemu-img"):
            done[tool] = run(tool, "convert", "-f", "qcow2", "-O", form, *options, "source.qcow2",
                             f"{tool}{number}", cwd=folder, code=None, backend=backend)
        assert_same(done["cairn-img"], done["qemu-img"])
        assert_equal_images(folder, f"cairn-img{number}", f"qemu-img{number}", form)


@pytest.mark.parametrize("offset", [1, 513, 1000])
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_window_from_within_a_sector_is_copied_to_its_end(folder, form, offset):
    (folder / "a.raw").write_bytes(random.Random(offset).randbytes(MIB))
    for tool in ("cairn-img", "qemu-img"):
        run(tool, "convert", "--image-opts", "-O", form, f"driver=raw,offset={offset},file.filename=a.raw",
            f"{tool}.{form}", cwd=folder)
    img("compare", "-f", form, "-F", form, folder / f"cairn-img.{form}", folder / f"qemu-img.{form}")


@pytest.mark.parametrize("arguments", [
    ["info", "a.qcow2"], ["info", "--output=json", "a.qcow2"], ["info", "missing"],
    ["info", "-f", "raw", "a.qcow2"], ["check", "a.qcow2"], ["check", "--output=json", "a.qcow2"],
    ["check", "-f", "raw", "a.qcow2"], ["check", "missing"], ["map", "a.qcow2"],
    ["map", "--output=json", "-s", "64k", "-l", "512k", "a.qcow2"],
    ["compare", "a.qcow2", "a.raw"], ["compare", "a.qcow2", "b.raw"],
    ["compare", "-s", "a.qcow2", "a.raw"], ["compare", "-q", "a.qcow2", "b.raw"],
    ["compare", "a.qcow2", "missing"], ["resize", "a.qcow2", "+1M"], ["resize", "a.qcow2", "4M"],
    ["resize", "-f", "raw", "a.raw", "3000001"], ["resize", "a.qcow2", "1M"],
    ["resize", "a.qcow2", "abc"], ["create", "-f", "raw", "new", "1.5M"],
    ["create", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "new"],
    ["create", "-f", "qcow2", "-b", "missing", "-F", "qcow2", "new"],
    ["create", "-f", "qcow2", "new", "10E"], ["create", "-f", "qcow2", "new"],
    ["convert", "-O", "raw", "missing", "new"], ["convert", "-O", "nosuch", "a.qcow2", "new"],
])
def test_single_commands(folder, backend, arguments):
    outcome = {}
    for tool in ("cairn-img", "qemu-img"):
        below = folder / tool
        below.mkdir()
        run("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "2M", cwd=below)
        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 1 100k 300k", "-c", "write -q -z 1M 64k",
            "a.qcow2", cwd=below)
        run("qemu-img", "convert", "-O", "raw", "a.qcow2", "a.raw", cwd=below)
        shutil.copy(below / "a.raw", below / "b.raw")
        with (below / "b.raw").open("r+b") as file:
            file.seek(200000)
            file.write(b"other")
        outcome[tool] = run(tool, *arguments, cwd=below, code=None, backend=backend)
    for done in outcome.values():
        done.out = newest(done.out)
    assert_same(outcome["cairn-img"], outcome["qemu-img"])


def newest(text):
    """What the newest peer prints and Debian 12's does not, and what depends on the file system."""
    text = re.sub(r"(?m)^disk size: .*$", "disk size: $DISK", text)
    text = re.sub(r'"actual-size": \d+', '"actual-size": 0', text)
    text = re.sub(r"(?ms)^Child node '/file':.*?(?=^\S|\Z)", "", text)
    try:
        value = json.loads(text)
    except ValueError:
        return text
    for entry in value if isinstance(value, list) else [value]:
        entry.pop("children", None)
        entry.pop("compressed", None)
    return json.dumps(value, sort_keys=True)


def test_tools_answer_to_the_peers_names(folder):
    """A symbolic link named as the peer's tool is a drop-in: it calls itself so."""
    if PEER:
        pytest.skip("that is the peer")
    for ours, theirs, arguments in (("cairn-img", "qemu-img", ["info", "missing"]),
                                    ("cairn-io", "qemu-io", ["-c", "info", "missing"])):
        (folder / theirs).symlink_to(program(ours))
        done = run(folder / theirs, *arguments, code=1, cwd=folder)
        assert done.err.startswith(f"{theirs}: "), done
    assert img("info", "missing", code=1, cwd=folder).err.startswith("cairn-img: ")
