"""Reads schema files into expressions: plain dictionaries with their place, module and documentation."""

import os
from dataclasses import dataclass

from .docs import parse_doc
from .lexer import SchemaError, tokens

META = ("include", "enum", "struct", "union", "alternate", "command", "event")


@dataclass
class Expression:
    """One definition. `module` is the name of its file without '.json'."""

    meta: str
    name: str
    body: dict
    doc: object
    place: object
    module: str


class _FileParser:
    def __init__(self, path):
        self.file = os.path.basename(path)
        with open(path, encoding="utf-8") as stream:
            self.tokens = tokens(stream.read(), self.file)
        self.token = next(self.tokens)

    def accept(self):
        token = self.token
        if token.kind != "end":
            self.token = next(self.tokens)
        return token

    def expect(self, *kinds):
        if self.token.kind not in kinds:
            wanted = " or ".join(f"'{kind}'" for kind in kinds)
            raise SchemaError(self.token.place, f"expected {wanted}, found '{self.token.kind}'")
        return self.accept()

    def value(self):
        if self.token.kind == "{":
            return self.object()
        if self.token.kind == "[":
            return self.array()
        return self.expect("string", "bool", "{", "[").value

    def object(self):
        result = {}
        self.expect("{")
        while self.token.kind != "}":
            key = self.expect("string", "}")
            if key.value in result:
                raise SchemaError(key.place, f"'{key.value}' is given twice")
            self.expect(":")
            result[key.value] = self.value()
            if self.token.kind != "}":
                self.expect(",", "}")
                if self.token.kind == "}":
                    raise SchemaError(self.token.place, "expected 'string' after ','")
        self.expect("}")
        return result

    def array(self):
        result = []
        self.expect("[")
        while self.token.kind != "]":
            result.append(self.value())
            if self.token.kind != "]":
                self.expect(",", "]")
        self.expect("]")
        return result

    def expressions(self):
        """Yields (body, doc, place) for every top-level expression."""
        while self.token.kind != "end":
            doc = None
            if self.token.kind == "doc":
                block = self.accept()
                doc = parse_doc(block.value, block.place)
            place = self.token.place
            yield self.object(), doc, place


def _expression(body, doc, place, module):
    meta = next((key for key in META if key in body), None)
    if meta is None:
        raise SchemaError(place, "definition names no kind: " + ", ".join(META))
    name = body[meta]
    if not isinstance(name, str):
        raise SchemaError(place, f"'{meta}' must be a string")
    if meta != "include":
        if doc is None:
            raise SchemaError(place, f"'{name}' has no documentation")
        if doc.symbol != name:
            raise SchemaError(doc.place, f"documentation is for '{doc.symbol}', not for '{name}'")
    return Expression(meta, name, {k: v for k, v in body.items() if k != meta}, doc, place, module)


@dataclass
class ParsedSchema:
    """All expressions in order of inclusion, and the modules each module includes."""

    expressions: list
    includes: dict


def parse_schema(path):
    """Reads `path` and everything it includes, each file once."""
    parsed = ParsedSchema([], {})
    _parse_file(os.path.abspath(path), parsed, [])
    return parsed


def module_of(path):
    return os.path.splitext(os.path.basename(path))[0]


def _parse_file(path, parsed, chain):
    module = module_of(path)
    if module in parsed.includes:
        return
    parsed.includes[module] = []
    for body, doc, place in _FileParser(path).expressions():
        expression = _expression(body, doc, place, module)
        if expression.meta != "include":
            parsed.expressions.append(expression)
            continue
        target = os.path.join(os.path.dirname(path), expression.name)
        if target == path or target in chain:
            raise SchemaError(place, f"'{expression.name}' includes itself")
        if not os.path.exists(target):
            raise SchemaError(place, f"'{expression.name}' does not exist")
        parsed.includes[module].append(module_of(target))
        _parse_file(target, parsed, chain + [path])
