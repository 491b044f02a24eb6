"""What TLS costs, and what clients cost that do nothing: groups of bench/run."""

import resource
import socket
import statistics
import struct
import subprocess
import time

import servers

MIB = 1 << 20
CLIENTS = 1000
# After so many seconds a server has had time to take back what an idle client does not need.
IDLE_SECONDS = 12


def changed(make_command, option, before=()):
    """The same server with `option` behind its --nbd-server, and arguments before that."""
    def command(*where):
        words = make_command(*where)
        at = words.index("--nbd-server")
        return [*words[:at], *before, words[at], words[at + 1] + option, *words[at + 2:]]
    return command


def tls(bench):
    """Reading through TLS with a shared key, by nbdcopy, which is what backups do."""
    keys = bench.folder / "keys"
    keys.mkdir(exist_ok=True)
    (keys / "keys.psk").write_text("alice:0123456789abcdef0123456789abcdef\n")
    credentials = ("--object", f"tls-creds-psk,id=tls,dir={keys},endpoint=server")
    seen = {"cairnd": [], "qemu-storage-daemon": []}
    for _ in range(bench.rounds):
        for name, make_command in (("cairnd", bench.ours),
                                   ("qemu-storage-daemon", servers.storage_daemon)):
            server = servers.Server(changed(make_command, ",tls-creds=tls", credentials),
                                    bench.folder / "disk.raw", "raw", bench.folder)
            uri = f"nbds+unix://alice@localhost/?socket={server.address.path}" \
                  f"&tls-psk-file={keys}/keys.psk"
            begin, cpu = time.perf_counter(), server.cpu_seconds()
            subprocess.run(["nbdcopy", uri, "null:"], check=True)
            seen[name].append((bench.disk_size / (time.perf_counter() - begin) / 1e6,
                               (server.cpu_seconds() - cpu) / (bench.disk_size / MIB) * 1e3))
            server.stop()
    ours, peer = ([statistics.median(column) for column in zip(*seen[name])] for name in seen)
    bench.row("raw, copied out through TLS", ours[0], "qemu-storage-daemon", peer[0], "MB/s",
              (">=", 1.5))
    bench.row("raw, copied out through TLS: server CPU", ours[1], "qemu-storage-daemon", peer[1],
              "ms a MiB")


def enter(path):
    """A client that has chosen its export and read a sector."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    client.recv(18, socket.MSG_WAITALL)
    client.sendall(struct.pack(">I8sIIIH", 3, b"IHAVEOPT", 7, 6, 0, 0))
    while True:
        kind, length = struct.unpack(">12xII", client.recv(20, socket.MSG_WAITALL))
        if length:
            client.recv(length, socket.MSG_WAITALL)
        if kind == 1:
            break
    client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 512))
    client.recv(16 + 512, socket.MSG_WAITALL)
    return client


def clients(bench):
    """Resident memory of idle clients; each has read something before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 3 * CLIENTS)), hard))
    seen = {}
    for name, make_command in (("cairnd", bench.ours),
                               ("qemu-storage-daemon", servers.storage_daemon)):
        server = servers.Server(changed(make_command, ",max-connections=0"),
                                bench.folder / "disk.raw", "raw", bench.folder)
        before = server.resident_bytes()
        connected = [enter(server.address.path) for _ in range(CLIENTS)]
        time.sleep(IDLE_SECONDS)
        seen[name] = (server.resident_bytes() - before) / CLIENTS / 1024
        for client in connected:
            client.close()
        server.stop()
    bench.row(f"{CLIENTS} idle clients: resident memory of each", seen["cairnd"],
              "qemu-storage-daemon", seen["qemu-storage-daemon"], "KiB", ("<=", 1.0))


def imports(bench):
    """A whole disk fetched from nbdkit over several connections, by convert and by nbdcopy."""
    target = bench.folder / "fetched.raw"
    seen = {"cairn-img convert": [], "nbdcopy": []}
    for _ in range(bench.rounds):
        server = servers.Server(servers.nbdkit, bench.folder / "disk.raw", "raw", bench.folder)
        uri = f"nbd+unix:///?socket={server.address.path}"
        commands = {
            "cairn-img convert": [bench.img, "convert", "-f", "raw", "-O", "raw", uri, str(target)],
            "nbdcopy": ["nbdcopy", "--connections=4", uri, str(target)]}
        try:
            for name, command in commands.items():
                target.unlink(missing_ok=True)
                begin = time.perf_counter()
                subprocess.run(command, check=True)
                seen[name].append(time.perf_counter() - begin)
        finally:
            server.stop()
    target.unlink()
    ours, peer = (statistics.median(times) for times in seen.values())
    bench.row("fetching a disk from nbdkit", ours, "nbdcopy, 4 connections", peer, "s",
              ("<=", 1.0))
