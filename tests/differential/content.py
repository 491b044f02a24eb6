"""What a disk is to hold: runs of one byte each, so that its size does not matter."""

UNKNOWN = None  # a run that may hold anything


class Content:
    """`runs` are (start, end, value): adjacent, in order, from 0 to `size`."""

    def __init__(self, size, runs=None):
        self.size = size
        self.runs = runs if runs is not None else [(0, size, 0)] if size else []

    def copy(self):
        return Content(self.size, list(self.runs))

    def put(self, start, end, value):
        before = [(s, min(e, start), v) for s, e, v in self.runs if s < start]
        behind = [(max(s, end), e, v) for s, e, v in self.runs if e > end]
        self.runs = [*before, (start, end, value), *behind]

    def resize(self, size):
        """What is added reads as zeroes."""
        self.runs = [(s, min(e, size), v) for s, e, v in self.runs if s < size]
        if size > self.size:
            self.runs.append((self.size, size, 0))
        self.size = size

    def over(self, size):
        """The same below a disk of another size."""
        below = self.copy()
        below.resize(size)
        return below

    def known(self, longest):
        """(offset, length, value) of what can be verified. Of long runs the two ends alone."""
        merged = []
        for start, end, value in self.runs:
            if merged and merged[-1][2] == value:
                merged[-1] = (merged[-1][0], end, value)
            else:
                merged.append((start, end, value))
        for start, end, value in merged:
            if value is UNKNOWN or start == end:
                continue
            if end - start <= 2 * longest:
                yield start, end - start, value
            else:
                yield start, longest, value
                yield end - longest, longest, value
