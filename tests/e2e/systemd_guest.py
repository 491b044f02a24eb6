"""A guest whose first program is systemd, with our units in it as a package installs them."""

import pathlib
import shutil

import guest
import support

MODULES = ["vsock", "vmw_vsock_virtio_transport_common", "vsock_loopback"]
SYSTEMD = pathlib.Path("/usr/lib/systemd/systemd")
UNITS = pathlib.Path("/lib/systemd/system")
PROGRAMS = ["cairnd", "cairnctl", "cairn-img", "cairn-io"]

# systemd does not live in an initramfs for long: it gets a file system of its own.
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
for module in {modules}; do insmod /lib/$module.ko; done
mkdir /new
mount -t tmpfs -o size=90% tmpfs /new
cp -a /system/. /new/
for name in $(busybox --list); do
  [ -e /new/usr/bin/$name ] || ln -s busybox /new/usr/bin/$name
done
umount /proc
exec switch_root /new /usr/lib/systemd/systemd
"""

SHELL = """stty -echo
echo "guest is ready"
while read -r line; do
  eval "$line"
  echo "guest says $?"
done
"""

FILES = {
    "etc/passwd": "root:x:0:0::/:/bin/sh\ncairn:x:900:900::/var/lib/cairn:/bin/false\n",
    "etc/group": "root:x:0:\ncairn:x:900:\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/systemd/system.conf": "[Manager]\nShowStatus=no\nLogLevel=warning\nLogTarget=console\n",
    "etc/systemd/system/default.target":
        "[Unit]\nRequires=basic.target shell.service\nAllowIsolate=yes\n",
    "etc/systemd/system/shell.service":
        "[Unit]\nAfter=basic.target\n\n[Service]\nExecStart=/bin/sh /shell\nStandardInput=tty\n"
        "StandardOutput=tty\nTTYPath=/dev/ttyS0\nEnvironment=SYSTEMD_PAGER=\n",
    "shell": SHELL,
}


def missing():
    """What is not installed that such a guest needs; empty when all is there."""
    needed = [("systemd", SYSTEMD.exists()), ("vsock_loopback.ko", guest.kernel() and any(
        guest.kernel()[1].rglob("vsock_loopback.ko")))]
    return ", ".join(filter(None, [guest.missing(), *(name for name, there in needed if not there)]))


def add_units(system):
    """Ours, as they are installed below /usr, and systemd's targets."""
    place = system / "usr/lib/systemd/system"
    place.mkdir(parents=True, exist_ok=True)
    for target in UNITS.glob("*.target"):
        shutil.copy(target, place, follow_symlinks=True)
    for unit in (support.ROOT / "packaging" / "systemd").glob("cairnd*"):
        text = unit.read_text().replace("@BINDIR@", "/usr/bin").replace("@SYSCONFDIR@", "/etc")
        (place / unit.name).write_text(text)


def make_system(root, files):
    """The file system that systemd gets, below `root`."""
    system = root / "system"
    for name in ("dev", "etc", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib64", "var/lib",
                 "var/tmp"):
        (system / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (system / name).symlink_to(f"usr/{name}")
    shutil.copy(shutil.which("busybox"), system / "usr/bin/busybox")
    guest.add_program(system, SYSTEMD, "usr/lib/systemd/systemd")
    guest.add_program(system, "/bin/systemctl", "usr/bin/systemctl")
    for name in PROGRAMS:
        guest.add_program(system, support.TOOLS / name, f"usr/bin/{name}")
    add_units(system)
    for name, text in {**FILES, **files}.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)


class SystemdGuest(guest.Machine):
    """`files`: what it has besides, {path: text}."""

    def __init__(self, folder, files):
        root = guest.make_root(folder, MODULES, INIT)
        make_system(root, files)
        super().__init__(guest.pack(root), memory="768M")

    def start(self, unit):
        self(f"systemctl --no-ask-password start {unit}")

    def shows(self, unit, name):
        """A property of a unit."""
        return self(f"systemctl show -P {name} {unit}")
