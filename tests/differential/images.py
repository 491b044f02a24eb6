"""The folder of small images that random command lines are about: made by the peer, some of their
properties drawn. Names say what an image is; `IMAGES` says its format."""

import os
import random

SECRET = "secret,id=s0,data=hunter2"
OTHER_SECRET = "secret,id=s1,data=open-sesame"
OLD = 1_000_000_000  # the time of every file: what is newer was touched

IMAGES = {
    "t.raw": "raw", "odd.raw": "raw", "empty.raw": "raw", "tiny.raw": "raw", "zero.raw": "raw",
    "other.raw": "raw", "a,b.raw": "raw", "with space.raw": "raw",
    "a.qcow2": "qcow2", "b.qcow2": "qcow2", "base.qcow2": "qcow2", "mid.qcow2": "qcow2",
    "top.qcow2": "qcow2", "short.qcow2": "qcow2", "overraw.qcow2": "qcow2", "v2.qcow2": "qcow2",
    "snap.qcow2": "qcow2", "bits.qcow2": "qcow2", "packed.qcow2": "qcow2", "fine.qcow2": "qcow2",
    "data.qcow2": "qcow2", "full.qcow2": "qcow2", "orphan.qcow2": "qcow2", "blank.qcow2": "qcow2",
    "huge.qcow2": "qcow2", "secret.qcow2": "qcow2", "leak.qcow2": "qcow2", "bad.qcow2": "qcow2",
    "cut.qcow2": "qcow2", "link.qcow2": "qcow2", "readonly.qcow2": "qcow2", "readonly.raw": "raw",
    "l.luks": "luks", "sparse.vmdk": "vmdk", "flat.vmdk": "vmdk", "stream.vmdk": "vmdk",
    "over.vmdk": "vmdk", "noise.img": "raw",
}
HUGE = {"huge.qcow2"}  # never to be copied
ENCRYPTED = {"l.luks", "secret.qcow2"}


def draw_options(chooser):
    options = [f"cluster_size={chooser.choice(['512', '4k', '64k', '64k', '64k'])}"]
    if chooser.random() < 0.3:
        options.append(f"refcount_bits={chooser.choice([1, 8, 16, 64])}")
    if chooser.random() < 0.2:
        options.append("compression_type=zstd")
    if chooser.random() < 0.2:
        options.append("lazy_refcounts=on")
    return ",".join(options)


class Builder:
    """Runs the peer's programs in the folder."""

    def __init__(self, chooser, run, run_ours):
        self.chooser, self.run, self.run_ours = chooser, run, run_ours

    def create(self, form, name, size="", options="", extra=()):
        words = ["create", "-q", "-f", form, *extra]
        words += ["-o", options] if options else []
        # The peer takes seconds for a key.
        program = self.run_ours if "key-secret" in options else self.run
        program("img", *words, name, *([str(size)] if size != "" else []))

    def write(self, form, name, *commands, opts=None):
        words = [word for command in commands for word in ("-c", command)]
        where = ["--image-opts", opts] if opts else ["-f", form, name]
        self.run("io", "-d", "unmap", "--object", SECRET, *words, *where)

    def draw_content(self, size, kinds=("write -q -P {}", "write -q -P {}", "write -q -z"), units=(65536,)):
        commands = []
        for _ in range(self.chooser.randrange(1, 5)):
            # Whole clusters in formats: from where on an image looks preallocated is a matter of
            # judgement.
            unit = self.chooser.choice(units)
            start = self.chooser.randrange(size // unit) * unit
            length = min(size - start, unit * self.chooser.choice([1, 1, 2, 3]))
            kind = self.chooser.choice(kinds).format(self.chooser.randrange(1, 256))
            commands.append(f"{kind} {start} {length}")
        return commands


def build_raw(builder, folder):
    for name, size in (("t.raw", 1 << 20), ("odd.raw", 1000), ("empty.raw", 0), ("zero.raw", 65536),
                       ("other.raw", 1 << 20), ("a,b.raw", 4096), ("with space.raw", 4096),
                       ("readonly.raw", 65536)):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    (folder / "tiny.raw").write_bytes(b"hello")
    (folder / "noise.img").write_bytes(random.Random(1).randbytes(70000))
    for name in ("t.raw", "other.raw"):
        builder.write("raw", name, *builder.draw_content(1 << 20, units=(512, 4096, 65536)))
    (folder / "password").write_bytes(b"hunter2")
    (folder / "folder").mkdir()


def build_qcow2(builder):
    chooser = builder.chooser
    size = chooser.choice([1, 1, 2]) << 20
    for name in ("a.qcow2", "b.qcow2", "snap.qcow2", "bits.qcow2", "readonly.qcow2"):
        options = draw_options(chooser)
        builder.create("qcow2", name, size, options if name < "c" else "")
        builder.write("qcow2", name, *builder.draw_content(size))
    builder.create("qcow2", "base.qcow2", size)
    builder.write("qcow2", "base.qcow2", *builder.draw_content(size))
    for name, below in (("mid.qcow2", "base.qcow2"), ("top.qcow2", "mid.qcow2")):
        builder.create("qcow2", name, options=draw_options(chooser),
                       extra=["-b", below, "-F", "qcow2"])
        builder.write("qcow2", name, *builder.draw_content(size))
    builder.create("qcow2", "short.qcow2", size // 2, extra=["-b", "base.qcow2", "-F", "qcow2"])
    builder.create("qcow2", "overraw.qcow2", chooser.choice(["", "1536k"]),
                   extra=["-b", "t.raw", "-F", "raw"])
    builder.create("qcow2", "v2.qcow2", size, "compat=0.10")
    builder.write("qcow2", "v2.qcow2", *builder.draw_content(size))
    for name in ("one", "two"):
        builder.run("img", "snapshot", "-c", name, "snap.qcow2")
        builder.write("qcow2", "snap.qcow2", *builder.draw_content(size))
    builder.run("img", "bitmap", "--add", "bits.qcow2", "b0")
    builder.run("img", "bitmap", "--add", "--disable", "-g", "32k", "bits.qcow2", "b1")
    builder.write("qcow2", "bits.qcow2", *builder.draw_content(size))
    builder.run("img", "convert", "-c", "-O", "qcow2", "a.qcow2", "packed.qcow2")
    builder.create("qcow2", "fine.qcow2", size, "extended_l2=on")
    builder.write("qcow2", "fine.qcow2",
                  *builder.draw_content(size, ("write -q -P {}", "write -q -z -u", "discard -q")))
    builder.create("qcow2", "data.qcow2", size, "data_file=data.bin,data_file_raw="
                   + chooser.choice(["on", "off"]))
    builder.write("qcow2", "data.qcow2", *builder.draw_content(size))
    builder.create("qcow2", "full.qcow2", 1 << 20, "preallocation="
                   + chooser.choice(["metadata", "falloc", "full"]))
    builder.create("qcow2", "orphan.qcow2", size, extra=["-u", "-b", "gone.qcow2", "-F", "qcow2"])
    builder.create("qcow2", "blank.qcow2", size, draw_options(chooser))
    builder.create("qcow2", "huge.qcow2", chooser.choice(["1T", "8T", "100G"]))
    builder.create("qcow2", "secret.qcow2", size,
                   "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10",
                   extra=["--object", SECRET])
    builder.write("qcow2", "secret.qcow2", *builder.draw_content(size),
                  opts="driver=qcow2,file.filename=secret.qcow2,encrypt.key-secret=s0")


def build_others(builder):
    builder.create("luks", "l.luks", "64k", "key-secret=s0,iter-time=10", ["--object", SECRET])
    builder.write("luks", "l.luks", "write -q -P 7 0 4k",
                  opts="driver=luks,file.filename=l.luks,key-secret=s0")
    for name, subformat in (("sparse", "monolithicSparse"), ("flat", "monolithicFlat")):
        builder.create("vmdk", f"{name}.vmdk", 1 << 20, f"subformat={subformat}")
        builder.write("vmdk", f"{name}.vmdk", *builder.draw_content(1 << 20))
    builder.run("img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "a.qcow2",
                "stream.vmdk")
    builder.create("vmdk", "over.vmdk", extra=["-b", "sparse.vmdk", "-F", "vmdk"])


def damage(folder):
    """Images with leaks, with a header that is none, and cut short."""
    whole = (folder / "base.qcow2").read_bytes()
    leak = bytearray(whole)
    leak[2 * 65536 + 2 * 40:2 * 65536 + 2 * 42] = b"\0\1\0\1"  # counts of clusters 40 and 41
    (folder / "leak.qcow2").write_bytes(leak)
    bad = bytearray(whole)
    bad[20:24] = b"\0\0\0\x30"  # bits of a cluster
    (folder / "bad.qcow2").write_bytes(bad)
    (folder / "cut.qcow2").write_bytes(whole[:60])


def build(folder, seed, run, run_ours):
    """Fills the folder; `run(program, *words)` runs the peer in it."""
    builder = Builder(random.Random(seed), run, run_ours)
    build_raw(builder, folder)
    build_qcow2(builder)
    build_others(builder)
    damage(folder)
    (folder / "link.qcow2").symlink_to("a.qcow2")
    (folder / "dangling").symlink_to("nowhere")
    for path in folder.iterdir():
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444 if "readonly" in path.name else 0o666)
            os.utime(path, (OLD, OLD))
