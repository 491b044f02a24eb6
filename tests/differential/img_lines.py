"""Random command lines of qemu-img: how a plausible line is made."""

from images import ENCRYPTED, HUGE, IMAGES
from options import IMAGE_OPTS, OPTIONS

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

    def rate(self):
        """Most bytes a second: enough for a small image."""
        return self.words.pick(["", "x", "-1", "8E", "1k1", "+64M"]) if self.words.is_wrong() else "64M"

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
