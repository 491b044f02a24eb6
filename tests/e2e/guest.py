"""Linux guests for tests: Debian's kernel and busybox in an initramfs of our own, under QEMU without
hardware support. They take shell commands from the test."""

import gzip
import os
import pathlib
import shutil
import subprocess
import threading
import time

MODULES = ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "virtio_blk"]
TIMEOUT = 120

# A shell that says what came of each line.
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
stty -echo
for module in {modules}; do insmod /lib/$module.ko; done
echo "guest is ready"
while read -r line; do
  eval "$line"
  echo "guest says $?"
done
"""


def kernel():
    """(kernel, folder of its modules), the newest; None when none is installed."""
    found = sorted(pathlib.Path("/boot").glob("vmlinuz-*-cloud-amd64"))
    if not found:
        return None
    return found[-1], pathlib.Path("/lib/modules") / found[-1].name.removeprefix("vmlinuz-")


def missing():
    """What is not installed that a guest needs; empty when all is there."""
    programs = [p for p in ("qemu-system-x86_64", "cpio", "busybox") if not shutil.which(p)]
    return ", ".join(programs if kernel() else [*programs, "linux-image-cloud-amd64"])


def make_root(folder, modules, init):
    """What every guest has: busybox, modules of the kernel, and the program that comes first."""
    root = folder / "root"
    for name in ("bin", "dev", "lib", "mnt", "proc", "sys"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), root / "bin" / "busybox")
    for module in modules:
        source, = kernel()[1].rglob(f"{module}.ko")
        shutil.copy(source, root / "lib" / source.name)
    (root / "init").write_text(init.format(modules=" ".join(modules)))
    (root / "init").chmod(0o755)
    return root


def add_program(root, source, target):
    """A program, with the libraries that it needs, which are put below usr/."""
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, root / target)
    told = subprocess.run(["ldd", source], stdout=subprocess.PIPE, text=True, check=False).stdout
    for word in told.split():
        if word.startswith("/") and pathlib.Path(word).exists():
            place = root / "usr" / word.lstrip("/").removeprefix("usr/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, place)


def pack(root):
    """The initramfs that is made of a folder."""
    names = "\n".join(str(p.relative_to(root)) for p in root.rglob("*"))
    packed = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], input=names.encode(), cwd=root,
                            stdout=subprocess.PIPE, check=True).stdout
    path = root.parent / "initramfs"
    path.write_bytes(gzip.compress(packed, 1))
    return path


class Machine:
    """A machine that boots at once, into a shell on its console that says what came of each line."""

    def __init__(self, initramfs, *devices, memory="256M"):
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "q35,accel=tcg", "-cpu", "max", "-nodefaults", "-nographic",
             "-no-reboot", "-m", memory, "-smp", "2", *devices, "-serial", "stdio",
             "-kernel", str(kernel()[0]), "-initrd", str(initramfs),
             "-append", "console=ttyS0 quiet panic=-1"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.text, self.changed = "", threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        self._until("guest is ready", 0)

    def _listen(self):
        while True:
            some = os.read(self.process.stdout.fileno(), 65536)
            with self.changed:
                self.text += some.decode(errors="replace").replace("\r", "")
                self.changed.notify_all()
            if not some:
                return

    def _until(self, word, begin):
        """The text from `begin` to the end of the line with this word."""
        deadline = time.monotonic() + TIMEOUT
        with self.changed:
            while True:
                at = self.text.find(word, begin)
                end = self.text.find("\n", at)
                if at >= 0 and end >= 0:
                    return self.text[begin:end]
                left = deadline - time.monotonic()
                assert left > 0 and self.process.poll() is None, self.text[-4000:]
                self.changed.wait(min(left, 1))

    def begin(self, command):
        """Begins a command, whose end is for finish()."""
        begin = len(self.text)
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        return begin

    def finish(self, begin, code=0):
        said = self._until("guest says ", begin)
        output, _, ended = said.rpartition("guest says ")
        assert int(ended) == code, said
        return output.strip()

    def __call__(self, command, code=0):
        """What a command prints; it ends with this code."""
        return self.finish(self.begin(command), code)

    def power_off(self):
        self.begin("sync; poweroff -f")
        assert self.process.wait(TIMEOUT) == 0, self.text[-4000:]

    def kill(self):
        self.process.kill()
        self.process.wait()


class Guest(Machine):
    """A machine with one vhost-user-blk disk."""

    def __init__(self, folder, disk, **device):
        options = "".join(f",{k.replace('_', '-')}={v}" for k, v in device.items())
        super().__init__(
            pack(make_root(folder, MODULES, INIT)),
            "-object", "memory-backend-memfd,id=mem,size=256M,share=on", "-numa", "node,memdev=mem",
            "-chardev", f"socket,id=c,path={disk},reconnect=1",
            "-device", f"vhost-user-blk-pci,chardev=c{options}")
