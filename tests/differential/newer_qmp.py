"""Where the newest peer's daemon, or ours, differs from the installed peer's on purpose. Nothing else is left out.

`WORDS` rewrite errors of both, `settled()` takes away members that are new, `EXCUSES` accept a difference, after
which the session is not followed any further. Each has its reason: a recorded transcript of the newest peer
(tests/golden/qmp), or a page in docs/decisions."""

import re

WORDS = [
    # (reason, pattern, replacement)
    ("which of several surplus parameters is named is up to the order of a table",
     r"Parameter '[^']*' is unexpected", "Parameter … is unexpected"),
    ("advice to who writes clients goes into documentation, not into the log of whoever runs the daemon",
     r"warning: Use of \"backing\": \"\" is deprecated; use \"backing\": null instead\n", ""),
]
WORDS = [(re.compile(pattern), replacement) for _, pattern, replacement in WORDS]

# Members that the newest peer has added, by what they are: see tests/qmp/reference-10.2.json.
NEW_MEMBERS = re.compile("children|active|limits|detached-header|.*zone_append.*")


def settled(step, answer):
    """An answer in words that both peers have in common."""
    return prune(answer)


def in_common_words(text):
    for pattern, replacement in WORDS:
        text = pattern.sub(replacement, text)
    return text


def prune(value):
    if isinstance(value, list):
        return [prune(entry) for entry in value]
    if isinstance(value, dict):
        return {key: prune(entry) for key, entry in value.items()
                if not NEW_MEMBERS.fullmatch(key) and entry != {"type": "file", "data": {}}}
    return in_common_words(value) if isinstance(value, str) else value


def peer_fails(step, ours, theirs):
    """The peer crashes or hangs."""
    return "silent" in theirs and "silent" not in ours


def says_nothing(step, ours, theirs):
    """The peer takes an object without members for an option of the driver's, which the driver does not know."""
    return "{}" in str(step) and "support the option" in str(theirs) and "return" in ours


def replaces_backing(step, ours, theirs):
    """0020: a backing file that is described replaces the one in the header."""
    said = ("Can't specify 'file' and 'filename' options at the same time",
            "Cannot reference an existing block device with additional options or a new filename")
    return "backing" in str(step) and any(words in str(theirs) for words in said)


def is_unsure(step, ours, theirs):
    """On a busy machine the peer gives up deriving keys."""
    return "Unable to get accurate CPU usage" in str(theirs)


EXCUSES = [peer_fails, is_unsure, says_nothing, replaces_backing]


def excuse(step, ours, theirs):
    return next((e.__name__ for e in EXCUSES if e(step, ours, theirs)), None)


def forgives_files(steps, ours, theirs, left):
    """A new encrypted disk reads as what was made up for it."""
    return any("iter-time" in str(step) and "'luks'" in str(step) for step in steps)
