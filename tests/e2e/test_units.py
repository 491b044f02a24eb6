"""The units for systemd, judged by systemd's own tool."""

import shutil
import subprocess

import pytest

import support

pytestmark = [
    pytest.mark.skipif(support.PEER, reason="the peer has no units"),
    pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")]

UNITS = ["cairnd@.service", "cairnd-activated@.service", "cairnd-nbd@.socket", "cairnd-qmp@.socket"]


@pytest.fixture
def units(folder):
    """The units as they would be installed, for the configuration 'x'."""
    for name in UNITS:
        text = (support.ROOT / "packaging" / "systemd" / name).read_text()
        text = text.replace("@BINDIR@", str(support.TOOLS)).replace("@SYSCONFDIR@", "/etc")
        assert "@" not in text.replace("@.service", "").replace("@vms", "").replace("@%i", "") \
            .replace("@system-service", "").replace("@privileged", "").replace("@resources", "") \
            .replace("@.socket", ""), "something was not replaced"
        (folder / name).write_text(text)
        (folder / name.replace("@", "@x")).symlink_to(name)
    return folder


def test_systemd_finds_nothing_to_say(units):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(units / n.replace("@", "@x"))
                                                    for n in UNITS)],
        env=dict(support.environment(None), SYSTEMD_UNIT_PATH=f"{units}:"), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_services_differ_only_in_their_sockets(units):
    plain = (units / "cairnd@.service").read_text().splitlines()
    activated = (units / "cairnd-activated@.service").read_text().splitlines()
    differing = {line.split("=")[0] for line in set(plain) ^ set(activated)
                 if line and not line.startswith(("#", "["))}
    assert differing == {"Requires", "After", "Sockets", "ExecStart", "RuntimeDirectory",
                         "RuntimeDirectoryMode", "WantedBy"}
