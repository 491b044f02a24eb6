"""Compares two answers of query-qmp-schema: what a client may send and expect with the one, and not
with the other.

Names of types mean nothing on the wire, so that types are compared by what they are made of, from
commands and events downwards. Each thing that a client could rely on is a point; a point that the
other side lacks is a gap, named by the way to it:

    blockdev-add<file>.filename          a member of the arguments of a command, in a branch of a union
    query-jobs().status                  a member of what a command returns
    query-jobs().status=paused           a value of an enumeration
"""

import collections
import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
VERSIONS = ("7.2", "10.2")


def reference(version):
    """The peer's answer."""
    return json.loads((HERE / f"reference-{version}.json").read_text(encoding="utf-8"))


class Comparison:
    """`gaps` are the points of `wanted` that `offered` lacks; `points` is how many there are."""

    def __init__(self, wanted, offered):
        self.wanted = {entity["name"]: entity for entity in wanted}
        self.offered = {entity["name"]: entity for entity in offered}
        self.points, self.gaps = 0, []
        self._compared = set()
        self._todo = collections.deque()
        for name, entity in self.wanted.items():
            if entity["meta-type"] in ("command", "event"):
                self._root(name, entity)
        while self._todo:
            self._type(*self._todo.popleft())

    def _point(self, there, path):
        self.points += 1
        if not there:
            self.gaps.append(path)
        return there

    def _later(self, wanted, offered, path):
        """Types may contain themselves: a pair is compared once a direction, at the shortest way."""
        pair = (wanted, offered, self._is_told(path))
        if pair not in self._compared:
            self._compared.add(pair)
            self._todo.append((wanted, offered, path))

    def _is_told(self, path):
        """Whether a client gets it; else the client sends it."""
        name = path.split(".")[0].split("<")[0]
        return name.endswith("()") or self.wanted[name]["meta-type"] == "event"

    def _root(self, name, entity):
        mine = self.offered.get(name)
        same = mine is not None and mine["meta-type"] == entity["meta-type"]
        if not self._point(same, name):
            return
        self._later(entity["arg-type"], mine["arg-type"], name)
        if "ret-type" in entity:
            self._later(entity["ret-type"], mine["ret-type"], f"{name}()")

    def _type(self, wanted, offered, path):
        one, other = self.wanted[wanted], self.offered[offered]
        kind = one["meta-type"]
        if kind == "builtin" and other["meta-type"] != "builtin":
            # A string of which it is known by now what it can be.
            self._point(one["json-type"] == "string" and other["meta-type"] == "enum",
                        f"{path} is {one['json-type']}")
            return
        if not self._point(kind == other["meta-type"], f"{path} is {kind}"):
            return
        if kind == "builtin":
            self._point(one["json-type"] in (other["json-type"], "number")
                        or other["json-type"] == "value", f"{path} is {one['json-type']}")
        elif kind == "enum":
            values = set(self._values(other))
            for value in self._values(one):
                self._point(value in values, f"{path}={value}")
        elif kind == "array":
            self._later(one["element-type"], other["element-type"], path)
        elif kind == "alternate":
            self._alternate(one, other, path)
        else:
            self._object(one, other, path)

    @staticmethod
    def _values(enum):
        return [member["name"] for member in enum["members"]] if "members" in enum \
            else enum["values"]

    def _alternate(self, one, other, path):
        """Branches are told apart by the kind of JSON value."""
        def branches(schema, alternate):
            named = {}
            for member in alternate["members"]:
                entity = schema[member["type"]]
                named[entity.get("json-type", entity["meta-type"])] = member["type"]
            return named
        mine = branches(self.offered, other)
        for kind, type_name in branches(self.wanted, one).items():
            if self._point(kind in mine, f"{path}|{kind}"):
                self._later(type_name, mine[kind], path)

    def _object(self, one, other, path):
        mine = {member["name"]: member for member in other["members"]}
        for member in one["members"]:
            name = member["name"]
            if not self._point(name in mine, f"{path}.{name}"):
                continue
            optional, stays = "default" in member, "default" in mine[name]
            if self._is_told(path):
                if not optional:
                    self._point(not stays, f"{path}.{name} is always there")
            elif optional:
                self._point(stays, f"{path}.{name} is optional")
            self._later(member["type"], mine[name]["type"], f"{path}.{name}")
        cases = {variant["case"]: variant["type"] for variant in other.get("variants", [])}
        for variant in one.get("variants", []):
            case = variant["case"]
            entity = self.wanted[variant["type"]]
            if not entity["members"] and not entity.get("variants"):
                continue  # nothing to send: the tag's value says it all
            if self._point(case in cases, f"{path}<{case}>"):
                self._later(variant["type"], cases[case], f"{path}<{case}>")


def read_reasons(path):
    """{gap: why it is there} of a list like not-built.txt: gaps below their reason in brackets."""
    reasons, reason = {}, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            reason = line.strip("[]")
        elif reason is None or line in reasons:
            raise ValueError(f"{path}:{number}: no reason, or a second one: {line}")
        else:
            reasons[line] = reason
    return reasons


class Verdict:
    """What not-built.txt says of the difference between the peer's schemas and `offered`.

    figures      {version: (points that are there, points)}
    unexplained  gaps that the list does not have
    explained    {reason: how many gaps it is the reason for}
    closed       what the list has and is no gap
    """

    def __init__(self, offered):
        reasons = read_reasons(HERE / "not-built.txt")
        self.figures, gaps = {}, set()
        for version in VERSIONS:
            comparison = Comparison(reference(version), offered)
            there = comparison.points - len(comparison.gaps)
            self.figures[version] = (there, comparison.points)
            gaps.update(comparison.gaps)
        self.unexplained = sorted(gaps - reasons.keys())
        self.closed = sorted(reasons.keys() - gaps)
        self.explained = collections.Counter(reasons[gap] for gap in gaps & reasons.keys())
