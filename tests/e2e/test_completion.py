"""Completion of cairnctl's command lines, by sourcing what was generated."""

import pathlib
import shutil
import subprocess

import pytest

import support

pytestmark = pytest.mark.skipif(support.PEER, reason="the peer has no such program")


def complete(line, cwd=None):
    """What bash offers for `line`, with the cursor at its end."""
    script = ('source "$1"; COMP_LINE=$2; COMP_POINT=${#2}; _cairnctl; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "--norc", "-c", script, "bash",
                           str(support.TOOLS / "cairnctl.bash"), line], cwd=cwd, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
    assert done.stderr == ""
    return sorted(done.stdout.splitlines()) if done.stdout != "\n" else []


def test_commands():
    assert complete("cairnctl query-block-e") == ["query-block-exports "]
    assert complete("cairnctl wa") == ["wait-event ", "watch "]
    assert complete("cairnctl -s sock watc") == ["watch "]
    assert complete("cairnctl help query-block-j") == ["query-block-jobs "]
    assert {"blockdev-add ", "graph "} <= set(complete("cairnctl "))


def test_options():
    assert complete("cairnctl --js") == ["--json "]
    assert complete("cairnctl watch --on") == ["--once "]
    assert complete("cairnctl graph --format ") == ["dot ", "svg ", "text "]
    assert complete("cairnctl graph --on") == []
    assert complete("cairnctl graph --tls-") == ["--tls-creds ", "--tls-hostname "]
    assert complete("cairnctl --tls-creds x --object y --js") == ["--json "]


def test_backups(folder):
    assert complete("cairnctl backup ") == ["create ", "list ", "prune ", "restore ", "verify "]
    assert complete("cairnctl backup create ") == []
    assert complete("cairnctl backup create disk x --f") == ["--full "]
    assert complete("cairnctl backup list x --f") == []
    assert complete("cairnctl backup restore x y --format ") == ["qcow2 ", "raw "]
    (folder / "backups").mkdir()
    for line in ("create disk ba", "list ba", "verify ba", "restore ba", "restore x ba",
                 "restore --point 3 ba"):
        assert complete(f"cairnctl backup {line}", folder) == ["backups"]


def test_arguments_and_their_values():
    assert complete("cairnctl block-export-del ") == ["id=", "mode="]
    assert complete("cairnctl block-export-del id=x ") == ["mode="]
    # bash has split the word at '=', and wants what comes behind it.
    assert complete("cairnctl block-export-del mode=") == ["hard ", "safe "]
    assert complete("cairnctl block-export-del mode=h") == ["hard "]
    assert complete("cairnctl block-export-add writable=o") == ["off ", "on "]


def test_members_come_with_the_tag_of_their_union():
    assert "l2-cache-size=" not in complete("cairnctl blockdev-add l2")
    assert complete("cairnctl blockdev-add driver=qcow2 l2-cache-s") == ["l2-cache-size="]
    assert complete("cairnctl blockdev-add driver=qcow2 fil") == ["file.", "file="]
    assert complete("cairnctl blockdev-add driver=qcow2 file.driver=nb") == ["nbd "]
    assert complete("cairnctl blockdev-add driver=qcow2 file.driver=file file.filen") \
        == ["file.filename="]
    assert complete("cairnctl blockdev-add driver=qcow2 backing.driver=raw backing.off") \
        == ["backing.offset="]
    assert complete("cairnctl nbd-server-start addr.type=inet addr.data.h") == ["addr.data.host="]


def test_lists_by_their_index():
    assert complete("cairnctl transaction actions.0.type=ab") == ["abort "]
    assert complete("cairnctl transaction actions.0.type=block-dirty-bitmap-clear "
                    "actions.0.data.no") == ["actions.0.data.node="]


def test_events_and_the_command_after_them():
    assert complete("cairnctl wait-event JOB_") == ["JOB_STATUS_CHANGE "]
    assert complete("cairnctl wait-event JOB_STATUS_CHANGE -- blockdev-c") == ["blockdev-create "]
    assert complete("cairnctl wait-event JOB_STATUS_CHANGE -- block-export-del m") == ["mode="]


def test_names_of_files(folder):
    (folder / "disk.qcow2").touch()
    assert complete("cairnctl -s di", folder) == ["disk.qcow2"]
    assert complete("cairnctl blockdev-add driver=file filename=di", folder) == ["disk.qcow2"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh")
def test_zsh_walks_the_same_tables():
    script = ('setopt ksharrays shwordsplit; source "$1"; shift; _cairnctl_complete "$@"; '
              'printf "%s\\n" "${_cairnctl_reply[@]}"')
    done = subprocess.run(["zsh", "-f", "-c", script, "zsh", str(support.TOOLS / "_cairnctl"),
                           "file.filen", "cairnctl", "blockdev-add", "driver=qcow2",
                           "file.driver=file"], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=True)
    assert done.stderr == "" and done.stdout == "file.filename=\n"


def test_every_command_of_its_own_is_offered():
    text = subprocess.run([support.TOOLS / "cairnctl", "--help"], stdout=subprocess.PIPE,
                          text=True, check=True).stdout
    own = text.split("Commands of its own:\n")[1].split("\nOptions:")[0]
    for line in own.splitlines():
        if line.startswith("  ") and line[2] != " ":
            assert f"{line.split()[0]} " in complete("cairnctl ")
    assert pathlib.Path(support.TOOLS / "_cairnctl").read_text().startswith("#compdef cairnctl\n")


def complete_img(*words):
    """What bash offers for the last of the words behind "cairn-img"."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cairn_img; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "--norc", "-c", script, "bash",
                           str(support.ROOT / "tools/completion/cairn-img.bash"),
                           support.program("cairn-img"), *words], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_options_and_formats_of_cairn_img():
    assert complete_img("con") == ["convert"]
    assert set(complete_img("--")) == {"--help", "--version", "--trace"}
    assert complete_img("convert", "--ver") == ["--verify"]
    assert {"-f", "-O", "-p", "--progress", "--cache-limit", "-W"} <= set(complete_img("convert", "-"))
    assert complete_img("convert", "--prog") == ["--progress"]
    assert {"raw", "qcow2"} <= set(complete_img("convert", "-O", ""))
    assert complete_img("create", "-f", "qco") == ["qcow2"]
    assert complete_img("convert", "-t", "write") == ["writeback", "writethrough"]
    assert complete_img("info", "--output", "j") == ["json"]


def ask_zsh(function, *arguments):
    """What a function of the script for zsh prints; bash understands those that only print."""
    shell = ["zsh", "-f"] if shutil.which("zsh") else ["bash", "--norc"]
    script = support.ROOT / "tools/completion/cairn-img.zsh"
    functions = script.read_text().split("\n_cairn-img() {")[0]
    done = subprocess.run([*shell, "-c", functions + '\n"$@"', "shell", function,
                           support.program("cairn-img"), *arguments], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_zsh_offers_what_the_help_of_cairn_img_tells():
    assert "convert:Copies images, one after the other, into one of another kind." \
        in ask_zsh("_cairn_img_commands")
    options = ask_zsh("_cairn_img_options", "convert")
    assert "--verify:read the target once more and compare it with the sources" in options
    assert "-f:format of the sources; looked for when not given" in options
    assert "--source-format:format of the sources; looked for when not given" in options
    assert {"-B", "-b", "--backing", "--progress", "-p", "--cache-limit"} \
        <= {line.split(":")[0] for line in options}
    assert {"raw", "qcow2"} <= set(ask_zsh("_cairn_img_values", "-O"))
    assert ask_zsh("_cairn_img_values", "--output") == ["human", "json"]
    assert ask_zsh("_cairn_img_values", "--verify") == []


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh")
def test_zsh_can_read_its_script():
    script = support.ROOT / "tools/completion/cairn-img.zsh"
    subprocess.run(["zsh", "-f", "-n", str(script)], check=True)


def img_help(*command):
    return subprocess.run([support.program("cairn-img"), *command, "--help"], text=True,
                          stdout=subprocess.PIPE, check=True).stdout


def test_every_command_of_cairn_img_has_examples_that_its_help_explains():
    commands = [line.split()[0] for line in img_help().splitlines() if " - " in line]
    assert len(commands) > 10
    for command in commands:
        options, _, examples = img_help(command).partition("\nExamples:\n")
        lines = [line for line in examples.splitlines() if f" {command} " in line and "#" not in line]
        assert len(lines) >= 2, command
        for word in " ".join(lines).split():
            if word.startswith("-"):
                name = word.split("=")[0]
                assert f" {name}" in options or f"{name}," in options, (command, word)
