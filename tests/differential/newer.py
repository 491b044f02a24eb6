"""Where the newest peer, or we, differ from the installed peer on purpose. Nothing else is left out.

`WORDS` rewrite what both say, so that what means the same is the same; `EXCUSES` accept a difference of a
whole line. Each has its reason: a recorded transcript of the newest peer (tests/golden/img), or a page in
docs/decisions."""

import json
import re

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
     r"(?m)^([a-z_]+ )\[-[A-Za-z]+\]( .* -- ).*$", r"\1[$LETTERS]\2$HELP"),
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


def asks_for_help(words):
    return any(word in ("-h", "--help", "-?") or word.startswith("--h") for word in words) or any(
        re.fullmatch("--o[bject]*", before) and "help" in word.split(",")
        or re.match("--o[bject]*=(.*,)?help$", word)
        for before, word in zip(words, words[1:]))


def has_words(line, ours, theirs):
    """An excuse: help is in our own words, and about objects it is not there."""
    own = asks_for_help(line) or line[:2] == ["img", "measure"] and any("help" in w or "?" in w for w in line) or \
        ours.out.startswith("Usage: ") and theirs.out.startswith("Usage: ")
    return own and ours.code in (0, 1) and theirs.code in (0, 1)


def lists_snapshots(line, ours, theirs):
    """An excuse: the newest peer's snapshot lists when it is not told what to do (its manual)."""
    return line[:2] == ["img", "snapshot"] and not any(
        re.match("-q?U?[lacd]", word) for word in line[2:])


def measure_shows_usage(line, ours, theirs):
    """An excuse: the installed peer's measure shows all help, with success, for a wrong option
    (measure-by-size)."""
    return line[:2] == ["img", "measure"] and theirs.out.startswith("qemu-img version") and ours.code == 1


def peer_fails(line, ours, theirs):
    """An excuse: the peer crashes or hangs."""
    return theirs.code == "hang" or isinstance(theirs.code, int) and theirs.code < 0 \
        and not (isinstance(ours.code, int) and ours.code < 0) and ours.code != "hang"


def is_abbreviation(line, ours, theirs):
    """An excuse: the newest peer has more long options, which makes fewer abbreviations clear."""
    return "is ambiguous; possibilities:" in ours.err


def is_unsure(line, ours, theirs):
    """An excuse: on a busy machine the peer gives up deriving keys."""
    return "Unable to get accurate CPU usage" in theirs.err


def needs_no_alignment(line, ours, theirs):
    """An excuse: the peer asks for aligned direct I/O where the file system does not (tmpfs)."""
    return "not a multiple of request alignment" in theirs.err and "request alignment" not in ours.err


def replaces_backing(line, ours, theirs):
    """An excuse: 0020, a backing file on the command line replaces the one in the header."""
    return any("backing.filename" in word or "backing.driver" in word for word in line)


def compresses_to_data_file(line, ours, theirs):
    """An excuse: 0020, what is wrong with convert -c and an external data file is said."""
    return "images with an external data file" in ours.err and theirs.code == 1


def writes_all_or_nothing(line, ours, theirs):
    """An excuse: of a compressed write that fails the peer leaves the clusters that it has come to."""
    return line[0] == "io" and any(re.match(r"write .*-c", word) for word in line) \
        and "write failed" in ours.out and "write failed" in theirs.out


def stands_on_itself(line, ours, theirs):
    """An excuse: 0020, no image is rebased onto itself."""
    return line[1] == "rebase" and "Failed to get" in ours.err and "lock" in ours.err


EXCUSES = [stands_on_itself, writes_all_or_nothing, replaces_backing, compresses_to_data_file, needs_no_alignment, has_words, lists_snapshots, measure_shows_usage, peer_fails, is_abbreviation, is_unsure]


def excuse(line, ours, theirs):
    return next((e.__name__ for e in EXCUSES if e(line, ours, theirs)), None)


def forgiven_files(line, ours, theirs, left):
    """Names of files that may differ. 0020: what fails leaves files as they were. 0038: a failed convert
    leaves no half image, and empties what was there."""
    if line[0] == "img" and ours.code != 0 and theirs.code != 0:
        left = {name: state for name, state in left.items() if name in theirs.changed}
        same = {name for name in left if name not in ours.changed}
    else:
        same = set()
    if line[1] == "rebase":
        # The peer's rebase of version 2 shows the new backing file where zeroes were.
        same |= {"v2.qcow2"} & set(left)
    if line[1] == "convert" and ours.code != 0 and theirs.code != 0 and "-n" not in line:
        return same | {name for name in left if left[name] in ("gone", "empty")}
    return same
