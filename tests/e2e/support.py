"""What the end-to-end tests share: the programs under test, a daemon to talk to, and images.

The programs come from the folder CAIRN_TOOLS (default build/tools). With CAIRN_E2E_PEER=1 the peer's
programs stand in for ours: that is how a test shows that it asks for what the peer really does.
"""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = os.environ.get("CAIRN_E2E_PEER") == "1"
TOOLS = (ROOT / os.environ.get("CAIRN_TOOLS", "build/tools")).resolve()
BACKENDS = ["peer"] if PEER else ["io_uring", "epoll"]
# Instrumented programs and busy machines are slow; a limit is there to end a hang, no more.
TIMEOUT = 120

PEER_NAMES = {"cairnd": "qemu-storage-daemon", "cairn-img": "qemu-img", "cairn-io": "qemu-io",
              "cairn-nbd": "qemu-nbd"}


# With CAIRN_EXPORT_THREAD in the environment every export of ours is served on an I/O thread.
ON_THREAD = "CAIRN_EXPORT_THREAD" in os.environ and not PEER


def program(name):
    """The path of one of our programs, or of its stand-in."""
    return shutil.which(PEER_NAMES[name]) if PEER else str(TOOLS / name)


def environment(backend):
    # Debian's Python is the one that has libnbd, whatever else comes first.
    env = dict(os.environ, LC_ALL="C", TZ="UTC", PATH="/usr/bin:/usr/sbin:/bin:/sbin")
    if backend not in (None, "peer"):
        env["CAIRN_IO"] = backend
    return env


class Finished:
    """How a command ended."""

    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def __repr__(self):
        return f"{self.command}\nexit {self.code}\n{self.out}{self.err}"


def run(*command, code=0, stdin=None, cwd=None, backend=None, timeout=TIMEOUT):
    """Runs a command to its end; `code` is the exit code that it must have, None for any but a
    signal's."""
    command = [str(c) for c in command]
    if command[0] in PEER_NAMES:
        command[0] = program(command[0])
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors="replace", check=False, cwd=cwd, timeout=timeout,
                          env=environment(backend))
    finished = Finished(command, done.returncode, done.stdout, done.stderr)
    assert finished.code >= 0, f"ended by a signal: {finished}"
    # A finding of a sanitizer ends a program like any error: it must not pass for an expected one.
    assert not sanitizer_speaks(finished.err), finished
    assert code is None or finished.code == code, finished
    return finished


def sanitizer_speaks(text):
    return "Sanitizer" in text or "runtime error: " in text


def img(*arguments, **options):
    """cairn-img"""
    return run("cairn-img", *arguments, **options)


def io(*arguments, **options):
    """cairn-io"""
    return run("cairn-io", *arguments, **options)


def hear_signals():
    """For preexec_fn. Whoever runs the tests may have had them ignore some: in the background, or
    under nohup."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_until(condition, what, timeout=TIMEOUT):
    """Polls until condition() is true; returns what it returned."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited too long: {what}"
        time.sleep(0.005)


def accepts(path):
    """Whether somebody listens on the Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def is_locked(path):
    """Whether anybody holds a lock of the file, of whatever kind."""
    with open(path, "r+b") as file:
        question = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return struct.unpack("hhqqi", fcntl.fcntl(file, fcntl.F_OFD_GETLK, question))[0] != fcntl.F_UNLCK


def wait_for_locks(path):
    """Of one that was killed: the kernel is still at its requests, maybe, when the process is gone, and
    holds its locks until they are done: rightly so, and not for long."""
    wait_until(lambda: not is_locked(path), f"the end of the locks of {path}")


class Daemon:
    """A running cairnd in the foreground."""

    def __init__(self, folder, backend, *arguments):
        self.folder, self.socket = folder, folder / "nbd.sock"
        self.log = folder / "daemon.log"
        command = [program("cairnd"), *self._on_thread([str(a) for a in arguments])]
        if backend != "peer":
            command.insert(1, f"--io={backend}")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=environment(backend))

    @classmethod
    def serving(cls, folder, backend, blockdev, *more, writable=True, name="disk", server="",
                export=""):
        """A daemon that serves the node 'disk', made from `blockdev`, over NBD as `name`."""
        if not isinstance(blockdev, str):
            blockdev = json.dumps(dict({"node-name": "disk"}, **blockdev))
        daemon = cls(folder, backend, "--blockdev", blockdev, *more,
                     "--nbd-server", f"addr.type=unix,addr.path={folder}/nbd.sock{server}",
                     "--export", f"type=nbd,id=export0,node-name=disk,name={name},"
                     f"writable={'on' if writable else 'off'}{export}")
        daemon.wait_for(daemon.socket)
        return daemon

    @staticmethod
    def _on_thread(arguments):
        """The arguments, with an I/O thread for each export that has none."""
        if not ON_THREAD:
            return arguments
        exports = {at + 1 for at, word in enumerate(arguments) if word == "--export"}
        return ["--object", "iothread,id=exports",
                *(word + ",iothread=exports" if at in exports and not word.startswith("{")
                  and "iothread" not in word else word for at, word in enumerate(arguments))]

    def wait_for(self, path):
        """Waits until the daemon listens on the Unix socket `path`."""
        def ready():
            assert self.process.poll() is None, f"the daemon ended: {self.output()}"
            return accepts(path)
        wait_until(ready, f"{path.name} of the daemon")

    def output(self):
        return self.log.read_text(errors="replace")

    def uri(self, name="disk"):
        return f"nbd+unix:///{name}?socket={self.socket}"

    def memory(self):
        """Resident memory in bytes."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self):
        """Asks it to end, and insists that it does so in good order."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(TIMEOUT)
        assert code == 0, f"exit {code}: {self.output()}"
        self.check_sanitizers()

    def kill(self):
        self.process.kill()
        self.process.wait(TIMEOUT)
        self.check_sanitizers()

    def kill_writing(self, image):
        """Kills it with requests to `image` in flight."""
        self.kill()
        wait_for_locks(image)

    def alive(self):
        return self.process.poll() is None

    def check_sanitizers(self):
        assert not sanitizer_speaks(self.output()), self.output()


class Qmp:
    """A monitor connection."""

    def __init__(self, path, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rwb")
        self.events = []
        self.greeting = json.loads(self.file.readline())["QMP"]
        if negotiate:
            self("qmp_capabilities")

    def send(self, data):
        self.file.write(data)
        self.file.flush()

    def answer(self):
        """The next reply; events on the way are kept in self.events."""
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError("the monitor closed the connection")
            message = json.loads(line)
            if "event" not in message:
                return message
            self.events.append(message)

    def ask(self, command, **arguments):
        """The whole reply, which may be an error. '_' in an argument's name stands for '-'."""
        if ON_THREAD and command == "block-export-add":
            arguments = {"iothread": "exports", **arguments}
        request = {"execute": command}
        if arguments:
            request["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.send(json.dumps(request).encode() + b"\n")
        return self.answer()

    def __call__(self, command, **arguments):
        """What a command returns; an error fails the test."""
        reply = self.ask(command, **arguments)
        assert "return" in reply, f"{command}: {reply}"
        return reply["return"]

    def close(self):
        self.file.close()
        self.socket.close()


def qcow2(path, **options):
    """The options of a qcow2 node over a file, backing files as the image names them."""
    return dict({"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}}, **options)


def raw(path, **options):
    return dict({"driver": "raw", "file": {"driver": "file", "filename": str(path)}}, **options)


def same_bytes(first, second):
    done = subprocess.run(["cmp", str(first), str(second)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


def fio(daemon, **options):
    """A fio job against the daemon's export; fails on any error and on a failed verify."""
    job = dict(name="load", ioengine="nbd", uri=daemon.uri(), iodepth=16, **options)
    return run("fio", "--output-format=json", "--allow_file_create=0",
               *(f"--{k}={v}" for k, v in job.items()), cwd=daemon.folder)
