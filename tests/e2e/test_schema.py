"""What the monitor offers beside what the peer's does: tests/qmp."""

import sys
import warnings

import pytest

from support import PEER, ROOT, Qmp

sys.path.insert(0, str(ROOT / "tests" / "qmp"))

import coverage  # noqa: E402


@pytest.fixture
def monitor(folder, daemons):
    path = folder / "qmp.sock"
    daemon = daemons("--chardev", f"socket,id=c,path={path},server=on,wait=off",
                     "--monitor", "chardev=c")
    daemon.wait_for(path)
    client = Qmp(path)
    yield client
    client.close()


@pytest.mark.skipif(PEER, reason="the list is of what we lack")
def test_nothing_is_missing_without_a_reason(monitor, record_property):
    verdict = coverage.Verdict(monitor("query-qmp-schema"))
    for version, (there, points) in verdict.figures.items():
        record_property(f"of the peer's interface, version {version}", f"{there} of {points}")
    for reason, count in verdict.explained.most_common():
        record_property(reason, count)
    if verdict.closed:
        warnings.warn(f"not-built.txt lists what is there: {', '.join(verdict.closed)}")
    assert verdict.unexplained == []


@pytest.mark.parametrize("version", coverage.VERSIONS)
def test_every_command_of_the_peer_has_an_answer(monitor, version):
    offered = {entry["name"] for entry in monitor("query-commands")}
    for entry in coverage.reference(version):
        if entry["meta-type"] != "command" or entry["name"] in ("quit", "qmp_capabilities"):
            continue
        # An argument that no command has: nothing is carried out, and what refuses it shows.
        reply = monitor.ask(entry["name"], no_such_argument=1)
        assert reply["error"]["class"] == "GenericError", (entry["name"], reply)
        if entry["name"] not in offered:
            assert "is not available: this version does not have " in reply["error"]["desc"]


def test_the_comparison_finds_what_is_missing():
    """The comparison itself: of a schema with itself, and with one that lacks something."""
    newer = coverage.reference("10.2")
    assert coverage.Comparison(newer, newer).gaps == []
    poorer = [entry for entry in newer if entry["name"] != "blockdev-add"]
    assert coverage.Comparison(newer, poorer).gaps == ["blockdev-add"]
    changed = [dict(entry, members=entry["members"][1:])
               if entry["name"] == by_name(newer)["job-pause"]["arg-type"] else entry
               for entry in newer]
    assert "job-pause.id" in coverage.Comparison(newer, changed).gaps


def by_name(schema):
    return {entry["name"]: entry for entry in schema}
