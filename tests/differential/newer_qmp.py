"""Where the newest peer's daemon, or ours, differs from the installed peer's on purpose. Nothing else is left out.

`WORDS` rewrite errors of both, `settled()` takes away members that are new, `EXCUSES` accept a difference, after
which the session is not followed any further. Each has its reason: a recorded transcript of the newest peer
(tests/golden/qmp), or a page in docs/decisions."""

import re

WORDS = [
    # (reason, pattern, replacement)
]
WORDS = [(re.compile(pattern), replacement) for _, pattern, replacement in WORDS]

# Members that the newest peer has added, by what they are: see tests/qmp/reference-10.2.json.
NEW_MEMBERS = {"children", "active", "limits", "detached-header", "auto-finalize", "auto-dismiss"}


def settled(step, answer):
    """An answer in words that both peers have in common."""
    if isinstance(answer, dict) and "error" in answer:
        text = answer["error"]["desc"]
        for pattern, replacement in WORDS:
            text = pattern.sub(replacement, text)
        return {"error": dict(answer["error"], desc=text)}
    return prune(answer)


def prune(value):
    if isinstance(value, list):
        return [prune(entry) for entry in value]
    if isinstance(value, dict):
        return {key: prune(entry) for key, entry in value.items()
                if key not in NEW_MEMBERS and entry != {"type": "file", "data": {}}}
    return value


def peer_fails(step, ours, theirs):
    """The peer crashes or hangs."""
    return "silent" in theirs and "silent" not in ours




def is_unsure(step, ours, theirs):
    """On a busy machine the peer gives up deriving keys."""
    return "Unable to get accurate CPU usage" in str(theirs)


EXCUSES = [peer_fails, is_unsure]


def excuse(step, ours, theirs):
    return next((e.__name__ for e in EXCUSES if e(step, ours, theirs)), None)


def forgives_files(steps, ours, theirs, left):
    """A new encrypted disk reads as what was made up for it."""
    return any("iter-time" in str(step) and "'luks'" in str(step) for step in steps)
