"""cairn-nbd and devices of the kernel: the whole way with a stand-in for the device (nbd_device.c), and
how far it goes without one."""

import os
import shutil
import signal
import subprocess

import pytest

from support import PEER, TIMEOUT, TOOLS, environment, program, run, wait_until

MIB = 1 << 20


@pytest.fixture
def disk(ones_disk):
    return ones_disk


class Device:
    """A stand-in for /dev/nbdN."""

    def __init__(self, folder):
        self.path, self.socket = folder / "nbd0", folder / "s"
        self.path.touch()
        source = os.path.join(os.path.dirname(__file__), "nbd_device.c")
        library = folder / "nbd_device.so"
        run("cc", "-shared", "-fPIC", "-o", library, source, "-ldl")
        self.environment = dict(environment(None), LD_PRELOAD=str(library),
                                NBD_DEVICE=str(self.path))
        self.started = []

    def nbd(self, *arguments, code=0):
        """Runs cairn-nbd to its end, and returns its output."""
        done = subprocess.run([program("cairn-nbd"), *(str(a) for a in arguments)],
                              env=self.environment, stdin=subprocess.DEVNULL, timeout=TIMEOUT,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == code, done
        return done

    def start(self, *arguments):
        """A cairn-nbd in the foreground, when the device is served."""
        self.started.append(subprocess.Popen(
            [program("cairn-nbd"), "-v", "-c", str(self.path), "-k", str(self.socket),
             *(str(a) for a in arguments)], env=self.environment, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True))
        wait_until(lambda: "flush 0" in self.log(), "the device to be used")
        return self.started[-1]

    def log(self):
        log = self.path.with_name("nbd0.log")
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def device(folder):
    if not shutil.which("cc") or "san" in TOOLS.parent.name:
        pytest.skip("needs a compiler, and programs that can be preloaded")
    made = Device(folder)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def test_a_device_is_served_until_somebody_disconnects_it(folder, device, disk):
    server = device.start("-f", "raw", disk)
    assert device.log()[:2] == ["unit 512", "blocks 2048"]
    assert int(device.log()[2].split()[1]) & 0x7 == 0x5  # there are flags; it is writable and flushes
    assert device.log()[3:6] == ["read 0 01", "write 0", "flush 0"]
    assert server.poll() is None
    done = device.nbd("-d", device.path)
    assert done.stdout == f"{device.path} disconnected\n"
    assert server.wait(TIMEOUT) == 0
    assert server.stderr.read() == f"NBD device {device.path} is now connected to {disk}\n"
    assert disk.read_bytes()[508:520] == b"\x01" * 4 + b"w" * 8
    assert not device.socket.exists()


@pytest.mark.parametrize("options", [[], ["-t"], ["-e", "3"]])
def test_a_signal_disconnects_the_device(device, disk, options):
    server = device.start("-f", "raw", *options, disk)
    server.send_signal(signal.SIGTERM)
    assert server.wait(TIMEOUT) == 0
    assert "clear" in device.log()
    assert (device.path.with_name("nbd0.disconnect")).exists()


def test_it_goes_to_the_background_unless_it_is_to_talk(device, disk, folder):
    pid_file = folder / "pid"
    done = device.nbd("-c", device.path, "-k", device.socket, "-f", "raw", "--pid-file", pid_file,
                      disk)
    assert done.stdout == done.stderr == ""
    pid = int(pid_file.read_text())
    os.kill(pid, 0)
    device.nbd("-d", device.path)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "its end")


def test_what_is_read_only_stays_so(device, disk):
    server = device.start("-f", "raw", "-r", disk)
    assert int(device.log()[2].split()[1]) & 0x2
    assert "write 22" in device.log()  # EINVAL
    device.nbd("-d", device.path)
    assert server.wait(TIMEOUT) == 0
    assert disk.read_bytes()[512:520] == b"\x01" * 8


def test_a_snapshot_and_a_name(device, disk):
    server = device.start("-f", "raw", "-s", "-n", "-x", "name", disk)
    device.nbd("-d", device.path)
    assert server.wait(TIMEOUT) == 0
    assert disk.read_bytes()[512:520] == b"\x01" * 8


def test_others_are_served_beside_the_device(device, disk):
    server = device.start("-f", "raw", "-e", "2", disk)
    uri = f"nbd+unix:///?socket={device.socket}"
    run("nbdsh", "-u", uri, "-c", "assert h.pread(8, 512) == b'w' * 8")
    assert server.poll() is None  # the device is still there
    device.nbd("-d", device.path)
    assert server.wait(TIMEOUT) == 0


@pytest.mark.parametrize("arguments, words", [
    (["-c", "/dev/nbd-none", "-f", "raw", "t.raw"],
     "Failed to open /dev/nbd-none: No such file or directory"),
    (["--fork", "-c", "/dev/nbd-none", "-f", "raw", "t.raw"],
     "Failed to open /dev/nbd-none: No such file or directory"),
    (["-v", "-c", "/dev/null", "-f", "raw", "t.raw"], "Failed to set NBD socket"),
    (["-c", "/dev/nbd-none", "-f", "raw", "none"],
     "Failed to blk_new_open 'none': Could not open 'none': No such file or directory"),
    (["-c", "/dev/nbd-none", "--tls-creds", "t", "t.raw"], "TLS is not supported with a host device"),
    (["-d", "/dev/nbd-none"], "Cannot open /dev/nbd-none: No such file or directory"),
    (["-d", "-c", "/dev/nbd-none"], "Invalid number of arguments"),
])
def test_what_can_not_be_connected_is_told(folder, disk, arguments, words):
    if arguments[0] == "-c" and "-k" not in arguments:
        arguments = ["-k", str(folder / "s"), *arguments]
    done = run("cairn-nbd", *arguments, cwd=folder, code=1)
    assert words in done.err, done
    assert not (folder / "s").exists()


@pytest.mark.skipif(PEER, reason="the peer calls it disconnected")
def test_a_device_of_another_kind_is_not_disconnected(folder):
    done = run("cairn-nbd", "-d", "/dev/null", code=1)
    assert done.err == "cairn-nbd: Cannot disconnect /dev/null: Inappropriate ioctl for device\n"
