"""Emits shell completion for cairnctl: tables of commands, their arguments and values, around the
functions in tools/completion that walk them.

A type is known by a short name: s (anything), b (on or off), En (one of some values), Ln (a list),
On (an object), An (one of several types).
"""

import os
import re

from .model import Alternate, Array, Builtin, Enum, Object


class Tables:
    """Collects what can be reached from the arguments of commands."""

    def __init__(self, schema):
        self.names = {}
        self.commands = {}
        self.enums = {"b": "on off"}
        self.elements = {}
        self.members = {}
        self.tags = {}
        self.variants = {}
        self.branches = {}
        for command in schema.commands:
            self.commands[command.name] = self.name(command.arguments)
        self.events = sorted(event.name for event in schema.events)

    def name(self, kind):
        if isinstance(kind, Builtin):
            return "b" if kind.json == "boolean" else "s"
        # Arrays are made anew wherever they are used.
        key = f"[{self.name(kind.element)}]" if isinstance(kind, Array) else id(kind)
        if key not in self.names:
            letter = {Array: "L", Enum: "E", Alternate: "A"}.get(type(kind), "O")
            self.names[key] = f"{letter}{len(self.names)}"
            self.describe(self.names[key], kind)
        return self.names[key]

    def describe(self, name, kind):
        if isinstance(kind, Array):
            self.elements[name] = self.name(kind.element)
        elif isinstance(kind, Enum):
            self.enums[name] = " ".join(value.name for value in kind.values)
        elif isinstance(kind, Alternate):
            self.branches[name] = " ".join(self.name(member.type) for member in kind.members)
        else:
            self.members[name] = " ".join(f"{member.name}:{self.name(member.type)}"
                                          for member in kind.all_members())
            if kind.tag:
                self.tags[name] = kind.tag.name
                for value in kind.tag.type.values:
                    if isinstance(kind.variants.get(value.name), Object):
                        self.variants[f"{name}/{value.name}"] = self.name(
                            kind.variants[value.name])


def _table(name, entries):
    lines = "".join(f"  [{key}]='{value}'\n" for key, value in sorted(entries.items()))
    return f"typeset -gA _cairnctl_{name}\n_cairnctl_{name}=(\n{lines})\n"


def _tables(schema):
    tables = Tables(schema)
    for text in [*tables.commands, *tables.events, *tables.enums.values()]:
        # They stand between quotes, and are split at spaces.
        assert re.fullmatch(r"[\w. -]*", text), text
    out = "# Made from schema/*.json by schema/generator.\n"
    out += f"_cairnctl_commands='{' '.join(sorted(tables.commands))}'\n"
    out += f"_cairnctl_events='{' '.join(tables.events)}'\n"
    for name, entries in [("arguments", tables.commands), ("enums", tables.enums),
                          ("elements", tables.elements), ("members", tables.members),
                          ("tags", tables.tags), ("variants", tables.variants),
                          ("branches", tables.branches)]:
        out += _table(name, entries)
    return out


def scripts(schema, parts):
    """File name -> text; `parts` is the folder with the functions."""
    def part(name):
        with open(os.path.join(parts, name), encoding="utf-8") as file:
            return file.read()
    body = _tables(schema) + part("core.sh")
    return {"cairnctl.bash": body + part("bash.sh"),
            "_cairnctl": "#compdef cairnctl\n" + body + part("zsh.sh")}
