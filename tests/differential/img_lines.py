"""Random command lines of qemu-img: for each command its options, and how a plausible line is made.

An option is (short name or None, long name or None, what draws its value or None, how often it is
given). Options that the newest peer has and the installed one has not are left out.
"""

from images import ENCRYPTED, HUGE, IMAGES

OBJECT = (None, "object", "object", 0.08)
IMAGE_OPTS = (None, "image-opts", None, 0)  # changes the operands: see _by_options
FORMAT = ("f", None, "format", 0.6)
LONG_FORMAT = ("f", "format", "format", 0.6)
SHARE = ("U", "force-share", None, 0.12)
QUIET = ("q", None, None, 0.2)
PROGRESS = ("p", None, None, 0.06)
OUTPUT = (None, "output", "output", 0.4)
HELP = ("h", "help", None, 0.004)
CACHE = ("t", None, "cache", 0.12)
SOURCE_CACHE = ("T", None, "cache", 0.12)

OPTIONS = {
    "create": [FORMAT, QUIET, OBJECT, ("b", None, "below", 0.25), ("F", None, "below_format", 0.25),
               ("u", None, None, 0.1), ("o", None, "create_options", 0.5)],
    "info": [LONG_FORMAT, OBJECT, SHARE, OUTPUT, IMAGE_OPTS, (None, "backing-chain", None, 0.3)],
    "check": [LONG_FORMAT, OBJECT, SHARE, OUTPUT, IMAGE_OPTS, QUIET, SOURCE_CACHE,
              ("r", "repair", "repair", 0.3)],
    "map": [LONG_FORMAT, OBJECT, SHARE, OUTPUT, IMAGE_OPTS, ("s", "start-offset", "size", 0.3),
            ("l", "max-length", "size", 0.3)],
    "measure": [FORMAT, OBJECT, SHARE, OUTPUT, IMAGE_OPTS, ("l", None, "snapshot", 0.1),
                ("O", None, "target_format", 0.7), ("o", None, "target_options", 0.4),
                (None, "size", "size", 0.2)],
    "convert": [FORMAT, OBJECT, SHARE, IMAGE_OPTS, QUIET, PROGRESS, CACHE, SOURCE_CACHE,
                ("O", None, "target_format", 0.8), ("o", None, "target_options", 0.35),
                (None, "target-image-opts", None, 0), (None, "target-is-zero", None, 0.04),
                (None, "bitmaps", None, 0.08), (None, "skip-broken-bitmaps", None, 0.05),
                ("C", None, None, 0.08), ("c", None, None, 0.15), ("n", None, None, 0.12),
                ("B", None, "below", 0.08), ("F", None, "below_format", 0.08),
                ("l", None, "snapshot", 0.08), ("S", None, "size", 0.15), ("r", None, "size", 0.04),
                ("m", None, "number", 0.1), ("W", None, None, 0.1), (None, "salvage", None, 0.06)],
    "compare": [FORMAT, ("F", None, "other_format", 0.4), OBJECT, SHARE, IMAGE_OPTS, QUIET, PROGRESS,
                SOURCE_CACHE, ("s", None, None, 0.2)],
    "resize": [FORMAT, OBJECT, IMAGE_OPTS, QUIET, (None, "shrink", None, 0.4),
               (None, "preallocation", "preallocation", 0.2)],
    "snapshot": [OBJECT, SHARE, IMAGE_OPTS, QUIET, ("l", None, None, 0.3), ("c", None, "name", 0.25),
                 ("a", None, "name", 0.25), ("d", None, "name", 0.25)],
    "bitmap": [FORMAT, OBJECT, IMAGE_OPTS, (None, "add", None, 0.4), (None, "remove", None, 0.2),
               (None, "clear", None, 0.2), (None, "enable", None, 0.2), (None, "disable", None, 0.2),
               (None, "merge", "name", 0.2), ("g", "granularity", "size", 0.15),
               ("b", None, "other_image", 0.1), ("F", None, "other_format", 0.1)],
    "rebase": [FORMAT, OBJECT, SHARE, IMAGE_OPTS, QUIET, PROGRESS, CACHE, SOURCE_CACHE,
               ("b", None, "below", 0.85), ("F", None, "below_format", 0.7), ("u", None, None, 0.3)],
    "commit": [FORMAT, OBJECT, IMAGE_OPTS, QUIET, PROGRESS, CACHE, ("b", None, "below", 0.3),
               ("d", None, None, 0.2), ("r", None, "size", 0.06)],
    "amend": [FORMAT, OBJECT, IMAGE_OPTS, QUIET, PROGRESS, CACHE, (None, "force", None, 0.2),
              ("o", None, "amend_options", 0.93)],
    "dd": [FORMAT, OBJECT, SHARE, IMAGE_OPTS, ("O", None, "target_format", 0.5)],
    "bench": [FORMAT, SHARE, IMAGE_OPTS, QUIET, CACHE, ("c", None, "number", 0.9),
              ("d", None, "number", 0.4), ("s", None, "size", 0.4), ("o", None, "size", 0.3),
              ("S", None, "size", 0.3), ("w", None, None, 0.4), (None, "pattern", "number", 0.2),
              (None, "flush-interval", "number", 0.2), (None, "no-drain", None, 0.2),
              ("i", None, "aio", 0.1), ("n", None, None, 0.1)],
}
WEIGHTS = {"create": 5, "convert": 6, "info": 3, "rebase": 3, "resize": 3, "measure": 3, "bitmap": 3,
           "snapshot": 3, "commit": 2, "amend": 3, "dd": 3}
UNKNOWN_OPTIONS = ["-y", "-Z", "--bogus", "--bogus=1", "--", "-", "-fy", "-1", "---", "--x-y", "-?", "--="]


class ImgLine:
    """One line of a command."""

    def __init__(self, words):
        self.words = words
        commands = [c for c in OPTIONS for _ in range(WEIGHTS.get(c, 2))]
        self.command = words.pick(commands)
        self.target = words.any_format()
        self.below_name = None

    # Values that are not of Words alone.
    def below(self):
        words = self.words
        if words.is_wrong(0.5):
            return words.pick(["", "nosuch", "new", "json:{}", "folder", words.main, "nbd:localhost:1"])
        choices = ["base.qcow2", "mid.qcow2", "t.raw", "a.qcow2", "short.qcow2", "sparse.vmdk"]
        if self.command == "commit":
            choices = ["base.qcow2", "mid.qcow2", "sparse.vmdk", "t.raw"]
        if self.command == "rebase":
            choices.append("")
        self.below_name = words.pick(choices)
        return self.below_name

    def below_format(self):
        if self.words.is_wrong():
            return self.words.format()
        return IMAGES.get(self.below_name, "raw")

    def other_format(self):
        return self.words.format() if self.words.is_wrong() else self.words.pick(["qcow2", "raw"])

    def target_format(self):
        return self.target

    def target_options(self):
        return self.words.create_options(self.target)

    def create_options(self):
        return self.words.create_options(self.target)

    def repair(self):
        return self.words.pick(["leaks", "all", "all", "none", "", "bogus"])

    def preallocation(self):
        return self.words.pick(["off", "metadata", "falloc", "full", "bogus", ""])

    def snapshot(self):
        return self.words.pick(["one", "two", "1", "snapshot.name=one", "snapshot.id=2", "snapshot.name=",
                                "snapshot.bogus=1", "nosuch", "", "snapshot.id=1,snapshot.name=one"])

    def aio(self):
        return self.words.pick(["threads", "native", "io_uring", "bogus", ""])

    def format(self):
        return self.target if self.command == "create" else self.words.format()

    def draw_value(self, kind):
        own = getattr(self, kind, None)
        return own() if own else getattr(self.words, kind)()

    def draw_option(self, option):
        """An option in one of the ways to write it."""
        words = self.words
        short, long, kind, _ = option
        use_long = short is None or (long is not None and words.chance(0.4))
        name = f"--{long}" if use_long else f"-{short}"
        if use_long and words.is_wrong(0.4):
            name = name[:words.chooser.randrange(3, len(name) + 1)]  # an abbreviation
        if kind is None:
            return [f"{name}=x"] if use_long and words.is_wrong(0.05) else [name]
        value = self.draw_value(kind)
        if use_long:
            return [f"{name}={value}"] if words.chance(0.6) else [name, value]
        return [name, value] if words.chance(0.8) or not value else [name + value]

    def _by_options(self):
        """Whether images are given by --image-opts."""
        return (IMAGE_OPTS in OPTIONS[self.command]) and self.words.chance(0.12)

    def operands(self, by_options):
        words = self.words
        image = words.image_options if by_options else words.image
        if self.command == "create":
            return [words.new_name(), *([words.size()] if words.chance(0.75) else [])]
        if self.command == "compare":
            return [image(), words.image_options(words.draw_image()) if by_options
                    else words.pick([words.main, words.other_image()])]
        if self.command == "resize":
            return [image(), words.change_of_size()]
        if self.command == "bitmap":
            return [image(), words.pick(["b0", "b1", "b2"]) if not words.is_wrong() else words.name()]
        if self.command == "dd":
            return self.dd_operands(image())
        if self.command == "convert":
            sources = [image()]
            while words.chance(0.08):
                sources.append(words.image_options(words.draw_image(HUGE)) if by_options
                               else words.other_image())
            return [*sources, words.new_name()]
        if self.command == "measure" and words.chance(0.3):
            return []
        return [image()]

    def dd_operands(self, image):
        words = self.words
        output = words.new_name()
        parts = [f"if={image}", f"of={output if output != image else 'new'}"]
        for name in ("bs", "count", "skip"):
            if words.chance(0.5):
                parts.append(f"{name}={words.size() if name == 'bs' else words.number()}")
        if words.is_wrong(0.3):
            parts.append(words.pick(["bogus=1", "if", "bs", "=", "seek=1", "count=", "conv=notrunc", ""]))
        if words.is_wrong(0.3):
            parts.pop(words.chooser.randrange(len(parts)))
        words.chooser.shuffle(parts)
        return parts

    def draw(self):
        words = self.words
        parts = []
        for option in OPTIONS[self.command]:
            *_, often = option
            if words.chance(often):
                parts.append(self.draw_option(option))
            if often and words.is_wrong(0.1):
                parts.append(self.draw_option(option))  # twice, or for once
        by_options = self._by_options()
        if by_options:
            parts = [p for p in parts if words.is_wrong() or p[0] not in ("-f",) and "--f" not in p[0]]
            parts.append(["--image-opts"])
        if self.command == "bitmap" and not any(p[0][2:] in ("add", "remove", "clear", "enable", "disable")
                                                for p in parts) and not words.is_wrong():
            parts.append(["--add"])
        if self.command == "measure" and not words.is_wrong():
            with_size = any("size" in p[0] for p in parts)
            operands = [] if with_size else [words.image()]
        else:
            operands = self.operands(by_options)
        if words.main in ENCRYPTED and self.command != "bench" and words.chance(0.8):
            parts.append(["--object", "secret,id=s0,data=hunter2"])
        if self.command == "convert" and words.chance(0.06):
            parts.append(["--target-image-opts"])
            if not words.is_wrong(2):
                parts.append(["-n"])
            operands[-1] = words.image_options("blank.qcow2")
        if words.is_wrong(0.15):
            parts.append([words.pick(UNKNOWN_OPTIONS)])
        if words.chance(0.004):
            parts.append(["--help"])
        words.chooser.shuffle(parts)
        if words.is_wrong(0.1) and self.command != "resize":
            operands.append(words.other_image())
        if words.is_wrong(0.1) and operands and self.command != "resize":
            operands.pop()
        line = [word for part in parts for word in part]
        if words.is_wrong(0.1) and line:
            line.pop(words.chooser.randrange(len(line)))
        if any(word.startswith("-") for word in operands) and words.chance(0.7) \
                and self.command != "resize":
            operands.insert(0, "--")
        # (The installed peer takes whatever is last for resize's size.)
        line = line + operands if self.command == "resize" or words.chance(0.85) else operands + line
        return [self.command, *line]
