"""The options that the newest peer has for each command of qemu-img, and how the installed one, which knows
fewer long names, is asked for the same.

An option is (short name or None, long name or None, what draws its value or None, how often it is given)."""

OBJECT = (None, "object", "object", 0.08)
IMAGE_OPTS = (None, "image-opts", None, 0)  # changes the operands: see ImgLine
FORMAT = ("f", "format", "format", 0.6)
SHARE = ("U", "force-share", None, 0.12)
QUIET = ("q", "quiet", None, 0.2)
PROGRESS = ("p", "progress", None, 0.06)
OUTPUT = (None, "output", "output", 0.4)
CACHE = ("t", "cache", "cache", 0.12)
SOURCE_CACHE = ("T", "source-cache", "cache", 0.12)
HELP = ("h", "help", None, 0.004)

OPTIONS = {
    "create": [FORMAT, QUIET, OBJECT, ("b", "backing", "below", 0.25),
               ("F", None, "below_format", 0.15), ("B", "backing-format", "below_format", 0.1),
               ("u", "backing-unsafe", None, 0.1), ("o", "options", "create_options", 0.5)],
    "info": [FORMAT, OBJECT, SHARE, OUTPUT, IMAGE_OPTS, (None, "backing-chain", None, 0.3),
             ("t", "cache", "cache", 0)],
    "check": [FORMAT, OBJECT, SHARE, OUTPUT, IMAGE_OPTS, QUIET, SOURCE_CACHE,
              ("r", "repair", "repair", 0.3)],
    "map": [FORMAT, OBJECT, SHARE, OUTPUT, IMAGE_OPTS, ("s", "start-offset", "size", 0.3),
            ("l", "max-length", "size", 0.3)],
    "measure": [FORMAT, OBJECT, SHARE, OUTPUT, IMAGE_OPTS, ("l", "snapshot", "snapshot", 0.1),
                ("O", "target-format", "target_format", 0.7),
                ("o", "target-format-options", "target_options", 0.4), ("s", "size", "size", 0.2)],
    "convert": [("f", "source-format", "format", 0.6), OBJECT, SHARE, IMAGE_OPTS, QUIET, PROGRESS,
                ("t", "target-cache", "cache", 0.12), SOURCE_CACHE,
                ("O", "target-format", "target_format", 0.8),
                ("o", "target-format-options", "target_options", 0.35),
                (None, "target-image-opts", None, 0), (None, "target-is-zero", None, 0.04),
                (None, "bitmaps", None, 0.08), (None, "skip-broken-bitmaps", None, 0.05),
                ("C", "copy-range-offloading", None, 0.08), ("c", "compress", None, 0.15),
                ("n", "no-create", None, 0.12), ("B", None, "below", 0.04),
                ("b", "backing", "below", 0.04), ("F", "backing-format", "below_format", 0.08),
                ("l", "snapshot", "snapshot", 0.08), ("S", "sparse-size", "size", 0.15),
                ("r", "rate-limit", "rate", 0.04), ("m", "parallel", "number", 0.1),
                ("W", "oob", None, 0.1), (None, "salvage", None, 0.06)],
    "compare": [("f", None, "format", 0.6), ("F", None, "other_format", 0.4), OBJECT, SHARE,
                IMAGE_OPTS, QUIET, PROGRESS, SOURCE_CACHE, ("s", "strict", None, 0.2)],
    "resize": [FORMAT, OBJECT, IMAGE_OPTS, QUIET, (None, "shrink", None, 0.4),
               (None, "preallocation", "preallocation", 0.2)],
    "snapshot": [OBJECT, SHARE, IMAGE_OPTS, QUIET, ("f", "format", "format", 0), ("l", "list", None, 0.3),
                 ("c", "create", "name", 0.25), ("a", "apply", "name", 0.25),
                 ("d", "delete", "name", 0.25)],
    "bitmap": [FORMAT, OBJECT, IMAGE_OPTS, (None, "add", None, 0.4), (None, "remove", None, 0.2),
               (None, "clear", None, 0.2), (None, "enable", None, 0.2), (None, "disable", None, 0.2),
               (None, "merge", "name", 0.2), ("g", "granularity", "size", 0.15),
               ("b", "source-file", "other_image", 0.1), ("F", "source-format", "other_format", 0.1)],
    "rebase": [FORMAT, OBJECT, SHARE, IMAGE_OPTS, QUIET, PROGRESS, CACHE, SOURCE_CACHE,
               ("b", "backing", "below", 0.85), ("F", None, "below_format", 0.4),
               ("B", "backing-format", "below_format", 0.3), ("u", "backing-unsafe", None, 0.3),
               ("c", "compress", None, 0)],
    "commit": [FORMAT, OBJECT, IMAGE_OPTS, QUIET, PROGRESS, CACHE, ("b", "base", "below", 0.3),
               ("d", "drop", None, 0.2), ("r", "rate-limit", "rate", 0.06)],
    "amend": [FORMAT, OBJECT, IMAGE_OPTS, QUIET, PROGRESS, CACHE, (None, "force", None, 0.2),
              ("o", "options", "amend_options", 0.93)],
    "dd": [FORMAT, OBJECT, SHARE, IMAGE_OPTS, ("O", "output-format", "target_format", 0.5)],
    "bench": [FORMAT, SHARE, IMAGE_OPTS, QUIET, CACHE, ("c", "count", "number", 0.9),
              ("d", "depth", "number", 0.4), ("s", "buffer-size", "size", 0.4),
              ("o", "offset", "size", 0.3), ("S", "step-size", "size", 0.3), ("w", "write", None, 0.4),
              (None, "pattern", "number", 0.2), (None, "flush-interval", "number", 0.2),
              (None, "no-drain", None, 0.2), ("i", "aio", "aio", 0.1), ("n", "native", None, 0.1),
              (None, "object", "object", 0)],
}
for _options in OPTIONS.values():
    _options.append(HELP)

# What the installed peer knows by the same long name.
KNOWN_LONG = {
    None: {"object", "image-opts", "force-share", "help", "output"}, "info": {"format", "backing-chain"},
    "check": {"format", "repair"}, "map": {"format", "start-offset", "max-length"}, "measure": {"size"},
    "convert": {"target-image-opts", "target-is-zero", "bitmaps", "skip-broken-bitmaps", "salvage"},
    "resize": {"preallocation", "shrink"}, "amend": {"force"},
    "bitmap": {"add", "remove", "clear", "enable", "disable", "merge", "granularity", "source-file",
               "source-format"},
    "bench": {"pattern", "flush-interval", "no-drain"},
}
# What has another short name there.
OTHER_SHORT = {("create", "B"): "-F", ("rebase", "B"): "-F", ("convert", "b"): "-B", ("measure", "s"): "--size"}
BAD = "--bad-option"
ACTIONS = ("l", "c", "a", "d")  # of snapshot


def find_long(command, name):
    """The option of a long name, which may be cut short where that is clear; a word for one that is not."""
    named = [option for option in OPTIONS[command] if option[1] is not None and option[1].startswith(name)]
    exact = [option for option in named if option[1] == name]
    found = exact or named
    return found[0] if len(found) == 1 else "ambiguous" if found else "unknown"


def short_name(command, letter):
    return OTHER_SHORT.get((command, letter), f"-{letter}")


def joined(name, value):
    if name.startswith("--"):
        return [f"{name}={value}"]
    return [name, value] if value == "" else [name + value]


class Reader:
    """Reads the words of a line as getopt does, and writes them for the installed peer."""

    def __init__(self, command, words):
        self.command, self.rest, self.out = command, list(words), []
        self.seen = set()  # options by short or long name
        self.values = {}  # the last one of each

    def _note(self, option, value=None):
        name = option[0] or option[1]
        self.seen.add(name)
        if value is not None:
            self.values[name] = value

    def _following(self, option):
        """The value that is the next word, if there is one."""
        if self.rest:
            self._note(option, self.rest[0])
            return [self.rest.pop(0)]
        return []

    def _long(self, word):
        name, equals, value = word[2:].partition("=")
        option = find_long(self.command, name)
        if isinstance(option, str):
            self.out.append(BAD)
            return
        short, long, kind, _ = option
        known = long in KNOWN_LONG[None] | KNOWN_LONG.get(self.command, set())
        spelled = f"--{long}" if known else short_name(self.command, short)
        self._note(option, value if equals else None)
        if kind is None:
            self.out.append(BAD if equals else spelled)
        elif equals:
            self.out += joined(spelled, value)
        else:
            self.out += [spelled, *self._following(option)]

    def _short(self, word):
        for at in range(1, len(word)):
            option = next((o for o in OPTIONS[self.command] if o[0] == word[at]), None)
            if option is None:
                self.out.append(f"-{word[at]}")
                continue
            spelled = short_name(self.command, word[at])
            self._note(option)
            if option[2] is None:
                self.out.append(spelled)
            elif at + 1 < len(word):
                self._note(option, word[at + 1:])
                self.out += joined(spelled, word[at + 1:])
                return
            else:
                self.out += [spelled, *self._following(option)]

    def read(self):
        while self.rest:
            word = self.rest.pop(0)
            if word == "--":
                self.out += [word, *self.rest]
                break
            if word.startswith("--"):
                self._long(word)
            elif word.startswith("-") and len(word) > 1:
                self._short(word)
            else:
                self.out.append(word)
        return self.out


def for_installed(line):
    """The line as the installed peer understands it."""
    program, command, *words = line
    if program != "img" or command not in OPTIONS:
        return line
    last = words[-1:] if command == "resize" else []  # is the size, whatever it looks like
    reader = Reader(command, words[:len(words) - len(last)])
    written = reader.read() + last
    if command == "snapshot" and not reader.seen & set(ACTIONS):
        written.insert(0, "-l")  # what the newest peer does when it is not told what to do (its manual)
    return [program, command, *written]


def given(line):
    """(names, values) of the options of a line of qemu-img; short names where there are any."""
    if line[0] != "img" or line[1] not in OPTIONS:
        return set(), {}
    reader = Reader(line[1], line[2:])
    reader.read()
    return reader.seen, reader.values
