"""Draws the words of monitor sessions: plausible requests most of the time, spoilt ones now and then."""

import copy

ODD_VALUES = [None, True, False, 0, 1, -1, 1.5, 513, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, "", "x", "on", "0",
              "none", "a b", "x" * 32, [], {}, [1], {"x": 1}, "nosuch", "%s", "é"]


class QmpWords:
    def __init__(self, chooser, wrong):
        self.chooser = chooser
        self.wrong = wrong  # how often a request is wrong on purpose

    def chance(self, part):
        return self.chooser.random() < part

    def is_wrong(self, times=1.0):
        return self.chooser.random() < self.wrong * times

    def pick(self, values):
        return self.chooser.choice(values)

    def some(self, table, most=3):
        """A few members of a table of names and values; a value may be a function."""
        names = self.chooser.sample(sorted(table), min(len(table), self.chooser.randrange(most + 1)))
        return {name: value() if callable(value := self.pick(table[name])) else value for name in names}

    def request(self, command, **arguments):
        """A request; members that are None are left out, and _ in a name stands for a dash."""
        members = {name.replace("_", "-"): value for name, value in arguments.items() if value is not None}
        return self.request_with(command, members)

    def request_with(self, command, members):
        if self.is_wrong():
            members = self.spoilt(members)
        return {"execute": command, "arguments": members} if members else {"execute": command}

    def spoilt(self, value):
        """A copy with something wrong in it, somewhere."""
        value = copy.deepcopy(value)
        places = list(self._places(value))
        if not places or self.chance(0.1):
            if isinstance(value, dict):
                value["bogus"] = self.pick(ODD_VALUES)
            return value
        holder, name = self.pick(places)
        what = self.pick(["odd", "odd", "gone", "unknown", "twin"])
        if what == "odd":
            holder[name] = copy.deepcopy(self.pick(ODD_VALUES))
        elif what == "gone":
            del holder[name]
        elif what == "unknown" and isinstance(holder, dict):
            holder[self.pick(["bogus", "x", "Driver", ""])] = self.pick(ODD_VALUES)
        elif what == "twin":
            # A value of another member: of the right type now and then.
            other, its_name = self.pick(places)
            holder[name] = copy.deepcopy(other[its_name])
        return value

    def _places(self, value):
        members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
        for name, entry in list(members):
            yield value, name
            yield from self._places(entry)
