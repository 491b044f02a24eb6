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
    ("the same: the peer says this of every copy to a disk of no known cluster size",
     r"warning: The target block device doesn't provide .*\n", ""),
    ("Debian's peer is missing a space", r"therange", "the range"),
    ("object-secret leaves open how a file could not be read",
     r"(Unable to read \S+: )(?:Failed to open file|Error reading file) .*?: ", r"\1"),
]
WORDS = [(re.compile(pattern), replacement) for _, pattern, replacement in WORDS]

# Members that the newest peer has added, by what they are: see tests/qmp/reference-10.2.json.
NEW_MEMBERS = re.compile("children|active|limits|detached-header|actively-synced|.*zone_append.*")
# How far a job has come, which is a matter of time while it runs, and of its own for mirrors and commits.
PROGRESS = {"current-progress", "total-progress", "len", "offset", "busy"}
UNSETTLED = {"running", "paused", "ready", "standby", "aborting"}


def settled(step, answer):
    """An answer in words that both peers have in common."""
    return prune(answer)


def in_common_words(text):
    for pattern, replacement in WORDS:
        text = pattern.sub(replacement, text)
    return text


def prune(value):
    if isinstance(value, list):
        # The order of character devices is that of a hash table.
        if all(isinstance(entry, dict) and "label" in entry for entry in value):
            value = sorted(value, key=lambda device: device["label"])
        return [prune(entry) for entry in value]
    if isinstance(value, dict):
        is_moving = value.get("type") in ("mirror", "commit") or value.get("status") in UNSETTLED
        left_out = PROGRESS if "status" in value and is_moving else ()
        return {key: prune(entry) for key, entry in value.items()
                if key not in left_out and not NEW_MEMBERS.fullmatch(key) and entry != {"type": "file", "data": {}}}
    return in_common_words(value) if isinstance(value, str) else value


def peer_fails(step, ours, theirs):
    """The peer crashes or hangs."""
    return "silent" in theirs and "silent" not in ours


def says_nothing(step, ours, theirs):
    """The peer takes an object without members for an option of the driver's, which the driver does not know."""
    return "{}" in str(step) and "support the option" in str(theirs) and "return" in ours


# What ours says where the peer says something else: (reason, ours, the peer's).
SAYS_ELSE = [(reason, re.compile(ours), re.compile(theirs)) for reason, ours, theirs in (
    ("block-create.json of the newest peer: the header of LUKS may lie in a file of its own, without the disk",
     "Either the parameter 'header' or 'file' must be specified|'concluded'", "Parameter 'options.file' is missing"),
    ("sockets may be passed to our daemon by number, and by name in its configuration",
     "Unable to parse FD number|File descriptor '.*' is not a socket", "only QEMU supports file descriptor passing"),
    ("an empty path can not be meant", "A UNIX socket needs a path", "Failed to connect to ''"),
    ("an image that would be its own data file is refused before anything is done",
     "can not be its own data file", "Permission conflict on node .* as 'data-file' child"),
    ("where a socket can not connect to a machine that is not there it is told when it is read from",
     "Failed to read the NBD server's greeting", "Failed to connect to '[0-9]+:[0-9]+'"),
)]


def says_else(step, ours, theirs):
    """SAYS_ELSE: with reasons."""
    return any(mine.search(str(ours)) and other.search(str(theirs)) for _, mine, other in SAYS_ELSE)


def replaces_backing(step, ours, theirs):
    """0020: a backing file that is described replaces the one in the header."""
    said = ("Can't specify 'file' and 'filename' options at the same time",
            "Cannot reference an existing block device with additional options or a new filename")
    return "backing" in str(step) and any(words in str(theirs) for words in said)


def refuses_what_helps_nobody(step, ours, theirs):
    """An empty path would be a socket that nobody finds, and a ring has at most 64 MiB (0021)."""
    return "A UNIX socket needs a path" in str(ours) or "must be at most 67108864 bytes" in str(ours)


def keeps_bitmaps_of_read_only_images(step, ours, theirs):
    """The peer takes a persistent bitmap for an image that it can not write to, and loses it."""
    return "persistent in" in str(ours) and "The image is read-only" in str(ours) and "return" in theirs


def keeps_devices(step, ours, theirs):
    """The peer loses a character device whose change has failed."""
    return isinstance(step, dict) and step.get("execute") == "query-chardev" and (
        len(ours.get("return", [])) > len(theirs.get("return", [])))


def reads_server_options_first(step, ours, theirs):
    """The newest peer's options of an NBD server have their address last (tests/qmp/reference-10.2.json)."""
    return isinstance(step, dict) and step.get("execute") == "nbd-server-start" and (
        "Parameter" in str(ours) or "No TLS credentials" in str(ours)) and "error" in theirs


def is_unsure(step, ours, theirs):
    """On a busy machine the peer gives up deriving keys."""
    return "Unable to get accurate CPU usage" in str(theirs)


EXCUSES = [peer_fails, is_unsure, says_nothing, says_else, replaces_backing, refuses_what_helps_nobody,
           keeps_bitmaps_of_read_only_images, keeps_devices, reads_server_options_first]


def excuse(step, ours, theirs):
    return next((e.__name__ for e in EXCUSES if e(step, ours, theirs)), None)


def is_other_order(text):
    """What is told of two images differs only in the order of its lines."""
    ours, _, theirs = text.partition("\nand ")
    parts = [sorted(line.rstrip(",") for line in part.partition("(0, ")[2].split("\\n")) for part in (ours, theirs)]
    return "info: (0, " in ours and parts[0] == parts[1]


def forgives_files(steps, ours, theirs, left):
    """A new encrypted disk reads as what was made up for it, and clusters that are preallocated in a file that was
    in use before as what it held there, which depends on where they lie."""
    sockets = {f"{name}: as it was, not new" for name in ("nbd", "v")}
    if all(text in sockets or is_other_order(text) for text in left):
        return True  # the peer leaves sockets behind, and bitmaps have no order
    made = [str(step) for step in steps if isinstance(step, dict) and "create" in step.get("execute", "")]
    return any("iter-time" in step and "'luks'" in step for step in made) or \
        any("'preallocation'" in step for step in made) and all(" content: " in text for text in left)
