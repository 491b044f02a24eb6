"""The Debian packages: what is in them, and that they install, work and go away again.

CAIRN_PACKAGES names the folder with the .deb files. They are installed below a folder of the test's,
by what dpkg knows of this machine, so that what they depend on is judged as it would be in earnest.
"""

import os
import pathlib
import shutil
import subprocess

import pytest

PACKAGES = pathlib.Path(os.environ["CAIRN_PACKAGES"])
NAMES = ("cairn-common", "cairn-utils", "cairnd")


def package(name):
    found = sorted(PACKAGES.glob(f"{name}_*.deb"))
    assert len(found) == 1, f"{name}: {found}"
    return found[0]


def output(*command, code=0):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == code, f"{command}: {done.stdout}"
    return done.stdout


def files(name):
    """The files that a package installs, but for its documentation."""
    listing = output("dpkg-deb", "--contents", package(name)).splitlines()
    paths = [line.split()[5].removeprefix(".") for line in listing]
    return {path for path in paths if not path.endswith("/") and "/doc/" not in path}


class Root:
    """A folder that dpkg takes for the root of this machine."""

    def __init__(self, folder):
        self.folder = folder
        self.admin = folder / "var/lib/dpkg"
        for part in ("info", "updates"):
            (self.admin / part).mkdir(parents=True)
        shutil.copy("/var/lib/dpkg/status", self.admin / "status")

    def dpkg(self, *arguments, code=0):
        return output("dpkg", "--force-not-root", "--force-script-chrootless", f"--log={os.devnull}",
                      f"--instdir={self.folder}", f"--admindir={self.admin}", *arguments, code=code)

    def files(self):
        return {f"/{path.relative_to(self.folder)}" for path in self.folder.rglob("*")
                if not path.is_dir() and self.admin not in path.parents and "doc" not in path.parts}


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path)


def test_programs_come_with_their_manual_and_completion():
    tools = files("cairn-utils")
    assert {"/usr/bin/cairn-img", "/usr/bin/cairn-io", "/usr/bin/cairn-nbd",
            "/usr/share/man/man1/cairn-img.1.gz", "/usr/share/man/man1/cairn-io.1.gz",
            "/usr/share/man/man8/cairn-nbd.8.gz",
            "/usr/share/bash-completion/completions/cairn-img"} <= tools
    daemon = files("cairnd")
    assert {"/usr/bin/cairnd", "/usr/bin/cairnctl", "/usr/share/man/man1/cairnd.1.gz",
            "/usr/lib/systemd/system/cairnd@.service", "/usr/lib/sysusers.d/cairn.conf"} <= daemon
    assert not tools & daemon


def test_units_name_the_installed_program(tmp_path):
    output("dpkg-deb", "--extract", package("cairnd"), tmp_path)
    unit = (tmp_path / "usr/lib/systemd/system/cairnd@.service").read_text()
    assert "ExecStart=/usr/bin/cairnd --config /etc/cairn/%i.json" in unit


def test_tools_are_not_installed_without_what_they_load(root):
    told = root.dpkg("--install", package("cairn-utils"), code=1)
    assert "cairn-utils depends on cairn-common" in told


def test_installed_tools_work(root, tmp_path):
    # The daemon's script makes a user: it is unpacked, and not set up on this machine.
    root.dpkg("--install", package("cairn-common"), package("cairn-utils"))
    root.dpkg("--unpack", package("cairnd"))
    assert root.files() == set().union(*(files(name) for name in NAMES))
    programs = root.folder / "usr/bin"
    version = output("dpkg-deb", "--field", package("cairn-utils"), "Version").strip()
    for name in ("cairn-img", "cairn-io", "cairn-nbd", "cairnd", "cairnctl"):
        assert version in output(programs / name, "--version"), name

    image = tmp_path / "disk.luks"
    secret = ["--object", "secret,id=s,data=words"]
    output(programs / "cairn-img", "create", "-q", *secret, "-f", "luks", "-o",
           "key-secret=s,iter-time=10", image, "1M")
    options = f"driver=luks,key-secret=s,file.filename={image}"
    output(programs / "cairn-io", *secret, "-c", "write -P 7 0 64k", "--image-opts", options)
    told = output(programs / "cairn-io", *secret, "-c", "read -P 7 0 64k", "--image-opts", options)
    assert "read 65536/65536 bytes" in told


def test_nothing_is_left_of_them(root):
    root.dpkg("--install", package("cairn-common"), package("cairn-utils"))
    assert root.files()
    root.dpkg("--purge", "cairn-utils", "cairn-common")
    assert not root.files()
