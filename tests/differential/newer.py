"""Where the newest peer, or we, differ from the installed peer on purpose. Nothing else is left out.

`WORDS` rewrite what both say, so that what means the same is the same; `RULES` take one difference out of two
outcomes; `EXCUSES` name the outcomes that can not be compared. Each has its reason: a recorded transcript of the
newest peer (tests/golden/img), or a page in docs/decisions."""

import json
import re
from dataclasses import replace

import options

SIZE_HELP = (r" You may use k, M, G, T, P or E suffixes for\n"
             r"qemu-\w+: kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes\.")
BAD_OPTION = (r"(?m)^.*(?:unrecognized option|invalid option --|option requires an argument --|"
              r"missing argument for option|requires an argument|doesn't allow an argument|"
              r"is ambiguous; possibilities:).*$")

WORDS = [
    # (reason, pattern, replacement)
    ("cli-missing-operands: the advice names the command",
     r"Try '(\S+)(?: \w+)? --help' for more information", r"Try '\1 --help'"),
    ("cli-*: getopt words what is wrong with an option", BAD_OPTION, "bad option"),
    ("create-*, dd-*: what is wrong with a number",
     r"(Invalid [\w ]+ specified)(?:\." + SIZE_HELP + r"|: '.*'|\. Must be between \d+ and \d+\.)", r"\1"),
    ("vmdk-read-write-map: the number of an error is not told",
     r"(Could not create snapshot '.*': )-\d+ \((.*)\)", r"\1\2"),
    ("object-secret leaves open how a file could not be read",
     r"(Unable to read )(\S+: )Failed to open file .*: ", r"\1\2"),
    ("bench-errors-and-wrap", r"Invalid pattern byte specified(?:\. Must be .*)?", "Invalid pattern byte"),
    ("check-repair words", r"--repair \(-r\) expects 'leaks' or 'all', not '(.*)'",
     r"Unknown option value for -r (expecting 'leaks' or 'all'): \1"),
    ("io-argument-errors: letters were added to a usage line",
     r"(?m)^([a-z_]+ )\[-[A-Za-z]+\]( .* -- )", r"\1[$LETTERS]\2"),
    ("tests/golden/README.md: descriptions are our own", r"(?m)^([a-z_]+ .* -- ).*$", r"\1$HELP"),
    ("which types of objects there are is up to how a program was built",
     r"List of user creatable objects:\n(?:  .*\n)+", "List of user creatable objects:\n"),
    ("tests/golden/README.md: descriptions are our own", r"(?m)^(\s+\S+=<[^>]*>)\s+- .*$", r"\1 - $HELP"),
    ("info-*: nodes below are described", r"(?ms)^Child node '/[^']*':.*?(?=^\S|\Z)", ""),
    ("which of several surplus parameters is named is up to the order of a table",
     r"Parameter 'encrypt\.[\w-]+' is unexpected", "Parameter 'encrypt.…' is unexpected"),
    ("info-*: nodes below are described", r"\n+", "\n"),
    ("luks-*: detached headers", r"(?m)^\s+detached header: false\n", ""),
    ("snapshot lists have another width", r"(?m)^ID +TAG +VM.SIZE .*$", "$SNAPSHOTS"),
    ("snapshot lists have another width",
     r"(?m)^(\d+) +(.*?) +(\d\S*(?: [KMGT]?i?B)) (\S+) +\d+:\d\d:\d\d\.\d+ *(?:\d+|--)? *$", r"\1 \2 \3 \4"),
    ("what is told twice is told once", r"(?m)^(.*Block node is read-only\n)\1", r"\1"),
    ("what is told twice is told once", r"((?:^|\n)WARNING: Image format was not .*\n.*\n.*\n)\1", r"\1"),
    ("a null pointer that is printed", r"backing file to '\(null\)'", "backing file to ''"),
    ("snapshot lists end with spaces", r"(?m) +$", ""),
]
WORDS = [(re.compile(pattern), replacement) for _, pattern, replacement in WORDS]


def settled(text):
    """The text in words that both peers have in common."""
    text = re.sub(r"json:(\{.*\})", lambda found: "json:" + settled_json(found[1]), text)
    for pattern, replacement in WORDS:
        text = pattern.sub(replacement, text)
    if text[:1] in "{[" and text.strip():
        return settled_json(text)
    return text


def settled_json(text):
    try:
        value = json.loads(text)
    except ValueError:
        return text

    def prune(node):
        if isinstance(node, list):
            return [prune(entry) for entry in node]
        if isinstance(node, dict):
            # info-*-json: children; map-*: compressed; luks-*: detached headers
            # and a file tells what kind it is; the order of members is that of a hash table
            return {key: prune(entry) for key, entry in sorted(node.items())
                    if key not in ("children", "compressed", "detached-header")
                    and entry != {"type": "file", "data": {}}}
        return node
    return json.dumps(prune(value), indent=1)


def shows_usage(line, ours, theirs):
    """Help is in our own words."""
    if ours.out.startswith("Usage:") and re.match("qemu-img version|Usage: ", theirs.out):
        return replace(ours, out="$USAGE"), replace(theirs, out="$USAGE")
    return None


def measure_shows_usage(line, ours, theirs):
    """The installed peer's measure shows all help, with success, for a wrong option (measure-by-size)."""
    if line[:2] == ["img", "measure"] and theirs.out.startswith("qemu-img version") and theirs.err:
        return ours, replace(theirs, code=1, out="",
                             err=theirs.err + "Try 'qemu-img --help'\n")
    return None


def says_why_it_can_not_compress(line, ours, theirs):
    """0020: what is wrong with convert -c and an external data file is said."""
    if theirs.code == 1 and not theirs.err:
        return replace(ours, err=re.sub(".*images with an external data file.*\n", "", ours.err)), theirs
    return None


def measure_lists_options(line, ours, theirs):
    """0020: measure -o help lists the options."""
    asked = line[:2] == ["img", "measure"] and {"help", "?"} & set(options.given(line)[1].get("o", "").split(","))
    if asked and ours.code == 0 and ours.out.startswith("Supported ") and theirs.code == 1:
        return replace(ours, code=1, out=""), replace(theirs, err="")
    return None


def bitmaps_are_in_use(line, ours, theirs):
    """0051: the flag that tells of bitmaps that were not saved is set by the first write."""
    if line[0] == "io" and "info" in line:
        return tuple(replace(o, out=re.sub(r"(?m)^ +\[\d\]: (?:in-use\n|(auto\n))", r"\1", o.out))
                     for o in (ours, theirs))
    return None


RULES = [measure_lists_options, bitmaps_are_in_use, shows_usage, measure_shows_usage, says_why_it_can_not_compress]


def adjusted(line, ours, theirs):
    """The two outcomes without the differences that are meant."""
    ours, theirs = (replace(o, out=settled(o.out), err=settled(o.err)) for o in (ours, theirs))
    for rule in RULES:
        ours, theirs = rule(line, ours, theirs) or (ours, theirs)
    return ours, theirs


def peer_fails(line, ours, theirs):
    """The peer crashes or hangs, and we do not."""
    return theirs.code == "hang" or isinstance(theirs.code, int) and theirs.code < 0 \
        and not (isinstance(ours.code, int) and ours.code < 0) and ours.code != "hang"


def is_unsure(line, ours, theirs):
    """On a busy machine the peer gives up deriving keys."""
    return "Unable to get accurate CPU usage" in theirs.err


def needs_no_alignment(line, ours, theirs):
    """The peer asks for aligned direct I/O where the file system does not (tmpfs)."""
    return "not a multiple of request alignment" in theirs.err and "request alignment" not in ours.err


def stands_on_itself(line, ours, theirs):
    """0020: no image is rebased onto itself."""
    return line[1] == "rebase" and "Failed to get" in ours.err and "lock" in ours.err


def takes_units_of_hex(line, ours, theirs):
    """Hexadecimal numbers with a unit, which version 8.0 removed."""
    return "Using a multiplier suffix on hex numbers is deprecated" in theirs.err and ours.code != 0


def has_room_for_no_tables(line, ours, theirs):
    """VMDK images of more than a pebibyte, of which the installed peer writes no tables."""
    return theirs.code == 0 and "The image size is too large for file format 'vmdk'" in ours.err


# Lines whose outcome can not be compared at all.
EXCUSES = [peer_fails, takes_units_of_hex, has_room_for_no_tables, is_unsure, needs_no_alignment, stands_on_itself]


def excuse(line, ours, theirs):
    return next((e.__name__ for e in EXCUSES if e(line, ours, theirs)), None)


def forgiven_files(line, ours, theirs, left):
    """Names of files that may differ. 0020: what fails leaves files as they were. 0038: a failed convert
    leaves no half image, and empties what was there."""
    same = set()
    if line[0] == "img" and ours.code != 0 and theirs.code != 0:
        same = {name for name in left if name in theirs.changed and name not in ours.changed}
        if line[1] == "convert" and "n" not in options.given(line)[0]:
            same |= {name for name in left if left[name] in ("gone", "empty")}
    if line[0] == "io" and all(re.search("writev? failed", o.out) for o in (ours, theirs)) \
            and any(re.match(r"write .*-c|.*stream\.vmdk", word) for word in line):
        # Of a compressed write that fails the peer leaves the clusters that it has come to.
        same |= set(left)
    if line[1] == "amend" and re.search(r"compat=(0\.10|v2)", " ".join(line)):
        same |= {"bits.qcow2"} & set(left)  # of which the peer leaves bitmaps behind that version 2 can not have
    if line[1] == "rebase":
        # The peer's rebase of version 2 shows the new backing file where zeroes were.
        same |= {"v2.qcow2"} & set(left)
    return same
