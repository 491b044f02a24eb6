"""Random command lines of qemu-io: options, and scripts of several commands."""

# -b, which reads and writes the state of a machine, is not built.
RANGES = {"read": "aCqv", "write": "cCfnquz", "discard": "Cq"}
VECTORS = {"readv": "Cqv", "writev": "Cfq", "aio_read": "Ciqv", "aio_write": "Cfiquz"}
ODD_COMMANDS = ["nosuch", "", " ", "help nosuch", "q", "quit", "close", "info", "abort x", "flush x",
                "length x", "map x", "sleep", "sleep x", "sleep 1", "sigraise x", "sigraise", "open",
                "open nosuch", "open -r t.raw", "open a.qcow2", "open -o driver=qcow2 base.qcow2",
                "open -o driver=nosuch t.raw", "open -Z t.raw", "open -t bogus t.raw", "open t.raw t.raw",
                "open -n -k t.raw", "open -s t.raw", "open -C t.raw", "open -U t.raw", "open -d bogus x",
                "reopen", "reopen -r", "reopen -w", "reopen -r -w", "reopen -c none", "reopen -c bogus",
                "reopen -o bogus=1", "reopen x", "reopen -o lazy-refcounts=on",
                "break x", "break bogus tag", "resume x", "wait_break x", "remove_break x", "resume",
                "aio_flush", "aio_flush x", "w", "r", "read\t0\t512", "read  0  512", "'read 0 512'"]


class IoLine:
    def __init__(self, words):
        self.words = words
        self.described = False  # by --image-opts, which the peer has for what is opened later, too
        self.temporary = False  # the peer can not reopen its temporary overlay

    def number(self):
        return self.words.size()

    def place(self):
        words = self.words
        if words.is_wrong(0.5):
            return words.size()
        unit = words.pick([512, 4096, 65536, 1])
        return str(unit * words.pick([0, 0, 1, 2, 3, 7, 15]))

    def length(self):
        words = self.words
        if words.is_wrong(0.5):
            return words.size()
        return words.pick(["512", "1k", "4k", "64k", "128k", "100", "65536", "0x200", "0", "1M"])

    def pattern(self):
        words = self.words
        if words.is_wrong():
            return words.pick(["256", "-1", "x", "", "0x1ff", "1k", "0.5", "010"])
        return words.pick(["0", "1", "7", "0xff", "255"])

    def flags(self, letters):
        words = self.words
        if words.is_wrong(0.5):
            letters += "Zxz"
        return [f"-{letter}" for letter in letters
                if words.chance(0.5 if letter == "q" else 0.12)]

    def range_command(self):
        words = self.words
        name = words.pick(sorted(RANGES))
        parts = self.flags(RANGES[name])
        if name != "discard" and words.chance(0.4):
            parts += ["-P", self.pattern()]
        if name == "read" and words.chance(0.1):
            parts += ["-s", self.length()]
        if name == "read" and words.chance(0.1):
            parts += ["-l", self.length()]
        if name == "write" and words.chance(0.06):
            parts += ["-s", words.pick(["password", "tiny.raw", "nosuch", "empty.raw", "folder"])]
        return [name, *parts, self.place(), self.length()]

    def vector_command(self):
        words = self.words
        name = words.pick(sorted(VECTORS))
        parts = self.flags(VECTORS[name])
        if words.chance(0.4):
            parts += ["-P", self.pattern()]
        return [name, *parts, self.place(), *(self.length() for _ in range(words.pick([1, 1, 2, 3])))]

    def plain_command(self):
        words = self.words
        return words.pick([["flush"], ["length"], ["map"], ["aio_flush"], ["info"],
                           ["alloc", self.place()], ["alloc", self.place(), self.length()],
                           ["truncate", words.size()],
                           ["truncate", "-m", words.pick(["off", "full", "falloc", "metadata", "x"]),
                            words.size()]])

    def commands(self):
        words = self.words
        if words.is_wrong(0.4):
            yield words.pick([c for c in ODD_COMMANDS if not (self.temporary and "reopen" in c)
                              and not (self.described and c.startswith("open"))])
            return
        kind = words.pick([self.range_command, self.range_command, self.range_command,
                           self.vector_command, self.plain_command])
        parts = kind()
        if words.is_wrong(0.2):
            parts.append(words.pick(["x", "512", "--", "-q"]))
        if words.is_wrong(0.2):
            parts.pop()
        if len(parts) > 2 and any(p[:1] == "-" and p[1:2].isdigit() for p in parts) and words.chance(0.7):
            parts.insert(len(parts) - 2, "--")
        yield " ".join(parts)
        if parts and parts[0].startswith("aio_"):
            yield "aio_flush"  # else what comes next may come first

    def options(self):
        words = self.words
        for often, option in ((0.1, "-r"), (0.05, "-s"), (0.06, "-n"), (0.05, "-C"), (0.05, "-m"),
                              (0.03, "-k"), (0.08, "-U"), (0.04, "--read-only"), (0.03, "--snapshot")):
            if words.chance(often):
                yield [option]
        if words.chance(0.08):
            yield [words.pick(["-i", "--aio"]), words.pick(["threads", "native", "io_uring", "bogus", ""])]
        if words.chance(0.1):
            yield [words.pick(["-t", "--cache"]), words.cache()]
        if words.chance(0.4):
            yield [words.pick(["-d", "--discard"]),
                   words.pick(["unmap", "ignore", "on", "off"]) if not words.is_wrong() else "bogus"]
        if words.chance(0.08) or words.main in ("l.luks", "secret.qcow2"):
            yield ["--object", words.object()]
        if words.is_wrong(0.15):
            yield [words.pick(["-y", "--bogus", "--form=raw", "-f", "--ali", "-c", "--cmd", "--image"])]

    def draw(self):
        words = self.words
        parts = list(self.options())
        if words.chance(0.15):
            parts.append(["--image-opts"])
            self.described = True
            image = words.image_options()
            if words.is_wrong():
                parts.append(["-f", words.format()])
        else:
            image = words.image()
            if words.chance(0.8):
                parts.append([words.pick(["-f", "--format"]), words.format()])
        words.chooser.shuffle(parts)
        self.temporary = ["-s"] in parts or ["--snapshot"] in parts
        line = [word for part in parts for word in part]
        for _ in range(words.pick([1, 2, 3, 4, 6, 8])):
            for command in self.commands():
                line += [words.pick(["-c", "-c", "--cmd"]), command]
        if not words.is_wrong(0.1):
            line.append(image)
        if words.is_wrong(0.1):
            line.append(words.other_image())
        return line
