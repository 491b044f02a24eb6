"""Runs a line in a folder, and tells what two runs have left behind that is not alike."""

import dataclasses
import json
import os
import pathlib
import random
import re
import subprocess
import time

from images import OLD, OTHER_SECRET, SECRET

LONGEST = 30    # seconds: ends a hang, no more
NOBODY = 65534
DATA_FILES = {"data.bin", "new.bin"}
LARGE = 1 << 28  # bytes
SERVED = 1 << 20
SIGNATURES = ((b"QFI\xfb", "qcow2"), (b"LUKS\xba\xbe", "luks"), (b"KDMV", "vmdk"),
              (b"# Disk Descriptor", "vmdk"))
# What differs from run to run, wherever it lies.
MASKS = [(re.compile(pattern), replacement) for pattern, replacement in (
    (r"(?m)(disk size: ).*$", r"\1$DISK"), (r'("actual-size": )\d+', r"\1 0"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b", "$DATE"), (r'("(?:date|vm-clock)-n?sec": )\d+', r"\1 0"),
    (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "$UUID"),
    (r"(?m)^(\s*(?:parent )?cid: )\d+", r"\1$N"), (r'("(?:parent-)?cid": )\d+', r"\1 0"),
    (r"(?m)^(\s*(?:master key )?iters: )\d+", r"\1$N"),
    (r'("(?:master-key-)?iters": )\d+', r"\1 0"),
    (r"(\d+ ops; )[0-9:.]+(?: sec)? \([^)]*\)", r"\1$TIME"),
    (r"(?m)^(\d+,\d+),[0-9:.]+,[^,\s]+,[^,\s]+$", r"\1,$TIME"),
    (r"(Run completed in )[0-9.]+( seconds)", r"\1$TIME\2"), (r"#block\d+", "#block$N"),
    (r"(?:\r?    \(\s*\d+\.\d\d/100%\)\r?)*\r?    \(\s*(\d+\.\d\d)/100%\)\r?", r"$PROGRESS(\1)"),
)]


@dataclasses.dataclass
class Outcome:
    code: object  # of the exit; negative for a signal, a word for a hang
    out: str
    err: str
    changed: dict  # name to kind, for whatever is not as it was


def run(program, words, folder, environment, user=None):
    """(exit code, stdout, stderr)"""
    identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    try:
        done = subprocess.run([program, *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LONGEST,
                              check=False, **identity)
    except subprocess.TimeoutExpired:
        return "hang", "", ""
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def masked(text, folder):
    text = text.replace(str(folder), "$FOLDER")
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    return text


def copy(source, target):
    """Copies a file with its holes; the copy is as old as all others."""
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        place = 0
        while place < size:
            try:
                place = os.lseek(reader.fileno(), place, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(reader.fileno(), place, os.SEEK_HOLE)
            os.pwrite(writer.fileno(), os.pread(reader.fileno(), end - place, place), place)
            place = end
    target.chmod(source.stat().st_mode & 0o7777)
    os.utime(target, (OLD, OLD))


class Place:
    """A copy of the folder of images, which is made good again after each line."""

    def __init__(self, pristine, folder, owner):
        self.pristine, self.folder, self.owner = pristine, folder, owner
        folder.mkdir()
        self.expected = {}
        for path in pristine.iterdir():
            self._bring(path.name)
        if owner is not None:
            os.chown(folder, owner, owner)

    def _bring(self, name):
        source, target = self.pristine / name, self.folder / name
        if source.is_dir():
            target.mkdir(exist_ok=True)
            target.chmod(0o777)
        else:
            copy(source, target)
        if self.owner is not None:
            os.chown(target, self.owner, self.owner, follow_symlinks=False)
        self.expected[name] = self._state(target)

    def expect(self, name):
        self.expected[name] = self._state(self.folder / name)

    @staticmethod
    def _state(path):
        found = path.lstat()
        return found.st_mode, found.st_size if path.is_file() else 0, found.st_mtime_ns, found.st_ino

    def changed(self):
        """What is new, other or gone."""
        now = {path.name: self._state(path) for path in self.folder.iterdir()}
        found = {name: "gone" for name in self.expected if name not in now}
        for name, state in now.items():
            if name not in self.expected:
                found[name] = "new"
            elif state != self.expected[name] and not (self.folder / name).is_dir():
                found[name] = "changed"
        return found

    def restore(self):
        for name, kind in self.changed().items():
            path = self.folder / name
            if kind != "gone":
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()
            if name in self.expected:
                self._bring(name)
        for path in (self.folder / "folder").iterdir():
            path.unlink()


class Server:
    """A server of the peer in a place, with an image that is nowhere else."""

    def __init__(self, place, environment):
        self.image = place.folder.parent / f"{place.folder.name}.served"
        self.content = random.Random(2).randbytes(8192) + bytes(SERVED - 8192)
        self.image.write_bytes(self.content)
        socket = place.folder / "nbd.sock"
        command = ["/usr/bin/qemu-nbd", "-f", "raw", "-x", "n", "-e", "8", "-t", "-k", str(socket), str(self.image)]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            if socket.exists():
                break
            time.sleep(0.05)
        socket.chmod(0o777)
        place.expect("nbd.sock")

    def take_content(self):
        """What the image holds now; after that it holds what it did."""
        now = self.image.read_bytes()
        if now != self.content:
            with self.image.open("r+b") as file:
                file.write(self.content)
                file.truncate(SERVED)
        return now

    def close(self):
        self.process.kill()
        self.process.wait()


def kind_of(path):
    with path.open("rb") as file:
        start = file.read(32)
    return next((kind for signature, kind in SIGNATURES if start.startswith(signature)), "raw")


def same_bytes(ours, theirs):
    """Of large files, which have nothing but holes, the size has to do."""
    size = ours.stat().st_size
    return size == theirs.stat().st_size and (size > LARGE or ours.read_bytes() == theirs.read_bytes())


def padded(path):
    content = path.read_bytes()
    return content + bytes(-len(content) % 4096)


class Judge:
    """The peer, asked about images that have come out different."""

    def __init__(self, img, environment, places):
        self.img, self.environment, self.places = img, environment, places

    def ask(self, place, *words):
        code, out, err = run(self.img, words, place.folder, self.environment)
        return code, masked(out, place.folder), masked(err, place.folder)

    def differences(self, name):
        """How our file differs from theirs in what can be seen of it: a list of texts."""
        ours, theirs = (place.folder / name for place in self.places)
        if not ours.exists() or not theirs.exists():
            return [] if ours.exists() == theirs.exists() else [f"{name}: not on both sides"]
        if ours.is_dir() or theirs.is_dir() or same_bytes(ours, theirs):
            return []
        kinds = {kind_of(ours), kind_of(theirs)}
        if len(kinds) > 1:
            return [f"{name}: formats {kind_of(ours)} and {kind_of(theirs)}"]
        kind = kinds.pop()
        if kind == "raw" and name in DATA_FILES and len({p.read_bytes().rstrip(b"\0")
                                                          for p in (ours, theirs)}) == 1:
            return []  # how far they go beyond the disk's end is nobody's affair
        if kind == "raw" and padded(ours) == padded(theirs):
            return []  # the peer writes whole blocks, also where the file ends within one
        if kind == "raw":
            return [f"{name}: other bytes ({ours.stat().st_size} and {theirs.stat().st_size})"]
        found = []
        infos = [self.ask(p, "info", "-U", "-f", kind, "--output=json", name) for p in self.places]
        if self._without_extents(infos[0]) != self._without_extents(infos[1]):
            found.append(f"{name}: info: {infos[0]}\nand {infos[1]}")
        if kind == "qcow2":
            found += self._check(name)
        return found + self._content(name, kind)

    @staticmethod
    def _without_extents(info):
        return re.sub(r'("virtual-size": \d+,\s*"filename": "[^"]*-[sf]\d+.vmdk")', "", str(info))

    def _check(self, name):
        reports = []
        for place in self.places:
            code, out, err = self.ask(place, "check", "-U", "-f", "qcow2", "--output=json", name)
            report = json.loads(out) if out else {}
            reports.append((code, report.get("corruptions", 0), report.get("check-errors", 0), err)
                           if code not in (0, 3) else (code, report.get("leaks", 0)))
        ours, theirs = reports
        if ours != theirs and ours != (0, 0):
            return [f"{name}: check: {ours} and {theirs}"]
        return []

    def _content(self, name, kind):
        ours, theirs = (place.folder / name for place in self.places)
        objects = ["--object", SECRET, "--object", OTHER_SECRET]
        names = [str(theirs), str(ours)]
        forms = ["-f", kind, "-F", kind]
        code, out, err = run(self.img, ["compare", "-U", *objects, *forms, *names],
                             self.places[1].folder, self.environment)
        for secret in ("s0", "s1"):
            if code in (0, 1) or "secret" not in err and "password" not in err:
                break
            key = "key-secret" if kind == "luks" else "encrypt.key-secret"
            described = [f"driver={kind},file.filename={n},{key}={secret}" for n in names]
            code, out, err = run(self.img, ["compare", "-U", *objects, "--image-opts", *described],
                                 self.places[1].folder, self.environment)
        if code == 1:
            return [f"{name}: content: {out.strip()}"]
        return []


def changed_names(place, changed):
    return {name: kind for name, kind in changed.items()
            if kind == "new" or kind == "gone" or not is_same(place, name)}


def is_same(place, name):
    path, origin = place.folder / name, place.pristine / name
    if path.is_symlink() or origin.is_symlink():
        return path.is_symlink() and origin.is_symlink() and os.readlink(path) == os.readlink(origin)
    return path.is_file() and path.stat().st_mode == origin.stat().st_mode and same_bytes(path, origin)


def find_tools(folder):
    return {name: str(pathlib.Path(folder) / f"qemu-{name}") for name in ("img", "io")}
