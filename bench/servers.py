"""The NBD servers that bench/run compares, and what is measured on one: speed, CPU, memory, start."""

import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
SECRET = "secret,id=s,data=open sesame"  # of encrypted images


class UnixAddress:
    """A socket in a folder."""

    def __init__(self, folder):
        self.path = folder / "nbd.sock"
        self.path.unlink(missing_ok=True)
        self.uri = f"nbd+unix:///?socket={self.path}"
        self.daemon_option = f"addr.type=unix,addr.path={self.path}"
        self.nbdkit_options = ("--unix", str(self.path))

    def connect(self, client_timeout):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(client_timeout)
        client.connect(str(self.path))
        return client


class TcpAddress:
    """A port of the loopback device that nobody listens on."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.uri = f"nbd://127.0.0.1:{self.port}/"
        self.daemon_option = f"addr.type=inet,addr.host=127.0.0.1,addr.port={self.port}"
        self.nbdkit_options = ("--ipaddr", "127.0.0.1", "--port", str(self.port))

    def connect(self, client_timeout):
        return socket.create_connection(("127.0.0.1", self.port), client_timeout)


def cairnd(tools, io=None):
    def command(image, form, address):
        return [str(tools / "cairnd"), *([f"--io={io}"] if io else []),
                *_nodes(image, form, address)]
    return command


def storage_daemon(image, form, address):
    return [shutil.which("qemu-storage-daemon"), *_nodes(image, form, address)]


def nbdkit(image, form, address):
    assert form == "raw"
    return [shutil.which("nbdkit"), "--foreground", "--exit-with-parent", *address.nbdkit_options,
            "file", str(image)]


def bare(program):
    """The least that a server can do, in the same system calls: what only the kernel costs."""
    def command(image, form, address):
        assert form == "raw"
        return [str(program), str(address.path), str(image)]
    return command


def _nodes(image, form, address):
    node = {"driver": form, "node-name": "disk", "file": {"driver": "file", "filename": str(image)}}
    secret = []
    if form == "qcow2-luks":
        node.update({"driver": "qcow2", "encrypt": {"format": "luks", "key-secret": "s"}})
        secret = ["--object", SECRET]
    return [*secret, "--blockdev", json.dumps(node), "--nbd-server", address.daemon_option,
            "--export", "type=nbd,id=e,node-name=disk,name=,writable=on"]


class Server:
    """A server process with one export; from exec until it greets a client took `start_seconds`.
    It listens on a Unix socket in `folder`, unless it is given an address."""

    def __init__(self, make_command, image, form, folder, address=None):
        self.folder, self.address = folder, address or UnixAddress(folder)
        self.log = (folder / "server.log").open("w+", encoding="utf-8")
        command = make_command(image, form, self.address)
        self.process, begin = self._exec(command, folder)
        while not self._greets():
            if self.process.poll() is not None or time.perf_counter() - begin > 30:
                self.log.seek(0)
                raise RuntimeError(f"{command[0]} does not serve: {self.log.read()}")
        self.start_seconds = time.perf_counter() - begin

    def _exec(self, command, folder):
        """The process, and when it was about to become the server: a fork of Python takes longer
        than some servers need to start."""
        source, sink = os.pipe()

        def stamp():
            os.write(sink, struct.pack("d", time.perf_counter()))

        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=self.log,
                                   stderr=self.log, preexec_fn=stamp)
        begin = struct.unpack("d", os.read(source, 8))[0]
        os.close(source)
        os.close(sink)
        return process, begin

    def _greets(self):
        """A connection alone proves little: the kernel makes it before the server is ready."""
        try:
            with self.address.connect(10) as client:
                return client.recv(8) == b"NBDMAGIC"
        except OSError:
            return False

    def cpu_seconds(self):
        """User and system time of all its threads, the kernel's workers for it among them."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_bytes(self):
        return self._status_bytes("VmRSS")

    def forget_peak(self):
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_bytes(self):
        """Resident at the most, since the start or since that was to be forgotten."""
        return self._status_bytes("VmHWM")

    def _status_bytes(self, field):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {field}")

    def job(self, workload):
        """What fio is told about the export."""
        return dict(ioengine="nbd", uri=self.address.uri, **workload)

    def load(self, workload, seconds):
        """Runs fio on the export; returns the measurements of one run."""
        before = self.cpu_seconds()
        job = dict(name="bench", time_based=1, runtime=seconds, randrepeat=0, norandommap=1,
                   **self.job(workload))
        done = subprocess.run(["fio", "--output-format=json",
                               *(f"--{k}={v}" for k, v in job.items())],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=False, cwd=self.folder)
        if done.returncode != 0:
            raise RuntimeError(f"fio: {done.stderr}{done.stdout[-2000:]}")
        cpu = self.cpu_seconds() - before
        text = done.stdout[done.stdout.index("{"):]
        job = json.loads(text)["jobs"][0]
        side = job["read"] if job["read"]["total_ios"] else job["write"]
        return {"iops": side["iops"], "bandwidth": side["bw_bytes"],
                "latency": side["clat_ns"]["mean"] / 1000,
                "p99": side["clat_ns"]["percentile"]["99.000000"] / 1000,
                "cpu": cpu / side["total_ios"] * 1e6}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
