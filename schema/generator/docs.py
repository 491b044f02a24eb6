"""Reads documentation blocks.

A block documents the definition that follows it:

    # @Name:
    #
    # Text.
    #
    # @member: text, which may go on
    #     in indented lines
    #
    # Features:
    # @feature: text
    #
    # Returns: text
"""

import re
from dataclasses import dataclass, field

from .lexer import SchemaError


@dataclass
class Doc:
    """The documentation of one definition."""

    symbol: str
    place: object
    body: list = field(default_factory=list)  # paragraphs
    members: dict = field(default_factory=dict)  # name -> text
    features: dict = field(default_factory=dict)  # name -> text
    returns: str = ""


_MEMBER = re.compile(r"@([A-Za-z0-9_.-]+):\s*(.*)")


class _Reader:
    def __init__(self, doc):
        self.doc = doc
        self.sink = None  # (dict, key) that continuation lines are appended to
        self.section = "members"

    def line(self, text):
        stripped = text.strip()
        match = _MEMBER.fullmatch(stripped)
        if not stripped:
            self.sink = None
        elif stripped == "Features:":
            self.section = "features"
        elif match and not text.startswith("    "):
            target = self.doc.features if self.section == "features" else self.doc.members
            name, said = match.groups()
            if name in target:
                raise SchemaError(self.doc.place, f"'@{name}' is documented twice")
            target[name] = said
            self.sink = (target, name)
        elif stripped.startswith("Returns:"):
            self.doc.returns = stripped[len("Returns:") :].strip()
            self.sink = "returns"
        elif self.sink == "returns":
            self.doc.returns += " " + stripped
        elif self.sink == "body":
            self.doc.body[-1] += " " + stripped
        elif self.sink:
            target, name = self.sink
            target[name] += " " + stripped
        else:
            self.doc.body.append(stripped)
            self.sink = "body"


def parse_doc(block, place):
    """The Doc of a block, which was written at `place`."""
    lines = []
    for raw in block.splitlines():
        if raw != "#" and not raw.startswith("# "):
            raise SchemaError(place, "documentation lines must start with '# '")
        lines.append(raw[2:])
    head = _MEMBER.fullmatch(lines[0].strip()) if lines else None
    if not head or head.group(2):
        raise SchemaError(place, "documentation must begin with '@NAME:'")
    reader = _Reader(Doc(head.group(1), place))
    for text in lines[1:]:
        reader.line(text)
    return reader.doc
