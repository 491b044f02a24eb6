"""Sessions about nodes that are written down: one of each error that the peer was seen to answer with.

node_cases.txt has them, a request a line, with an empty line between two; "wait JOB" waits until it is concluded."""

import json
import pathlib


def read(path):
    for block in path.read_text().split("\n\n"):
        steps = []
        for line in block.splitlines():
            command, _, rest = line.partition(" ")
            if line.startswith("#") or not line:
                continue
            if command == "wait":
                steps.append({"wait": [rest, "concluded"]})
            else:
                steps.append({"execute": command, **({"arguments": json.loads(rest)} if rest else {})})
        if steps:
            yield steps


CASES = list(read(pathlib.Path(__file__).with_suffix(".txt")))
