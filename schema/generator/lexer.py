"""Splits schema text into tokens: punctuation, strings, `true`, `false` and documentation blocks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where something was written, for messages."""

    file: str
    line: int

    def __str__(self):
        return f"{self.file}:{self.line}"


class SchemaError(Exception):
    """The schema is wrong; the message says where and what to do."""

    def __init__(self, place, message):
        super().__init__(f"{place}: {message}")
        self.place = place


@dataclass(frozen=True)
class Token:
    """kind is one of `{}[]:,`, 'string', 'bool', 'doc' or 'end'."""

    kind: str
    value: object
    place: Place


def tokens(text, file):
    """Yields the tokens of `text`, the last of them of kind 'end'."""
    line = 1
    at = 0
    while at < len(text):
        char = text[at]
        place = Place(file, line)
        if char == "\n":
            line += 1
            at += 1
        elif char in " \t\r":
            at += 1
        elif text.startswith("##\n", at):
            end = text.find("\n##\n", at + 2)
            if end < 0:
                raise SchemaError(place, "documentation block has no end")
            block = text[at + 3 : end + 1]
            yield Token("doc", block, place)
            line += block.count("\n") + 2
            at = end + 4
        elif char == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif char in "{}[]:,":
            yield Token(char, char, place)
            at += 1
        elif char == "'":
            end = at + 1
            while end < len(text) and text[end] not in "'\n":
                end += 1
            if end >= len(text) or text[end] == "\n":
                raise SchemaError(place, "string has no end")
            yield Token("string", text[at + 1 : end], place)
            at = end + 1
        elif text.startswith("true", at):
            yield Token("bool", True, place)
            at += 4
        elif text.startswith("false", at):
            yield Token("bool", False, place)
            at += 5
        else:
            raise SchemaError(place, f"stray {char!r}")
    yield Token("end", None, Place(file, line))
