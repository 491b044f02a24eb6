"""Monitor sessions about nodes, jobs, exports and more: the same answers, events and images as the peer's.

tests/differential/sessions plays them: those that are written down, and a sample of random ones.
"""

import pytest

from support import PEER, ROOT, TOOLS, run

RUNNER = ROOT / "tests" / "differential" / "sessions"


@pytest.mark.skipif(PEER, reason="compares with the peer")
def test_sessions_about_changes_that_are_written_down():
    done = run(RUNNER, "--area", "node-cases", "--count", 20, "--tools", TOOLS, code=None, timeout=1200)
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == "20 sessions, 0 findings"


@pytest.mark.skipif(PEER, reason="compares with the peer")
@pytest.mark.parametrize("area, seed, first, count", [
    ("nodes", "4", 24, 9), ("jobs", "fixed", 0, 12), ("services", "fixed", 0, 25)])
def test_random_sessions(area, seed, first, count):
    done = run(RUNNER, "--area", area, "--first", first, "--count", count, "--seed", seed, "--tools", TOOLS, code=None,
               timeout=1200)
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == f"{count} sessions, 0 findings"


@pytest.mark.skipif(PEER, reason="it is ours that has to be told apart")
def test_the_runner_sees_a_difference(folder):
    """A program that stands in for ours, and knows nothing of a node that it was told of, is found out."""
    for name in ("cairn-img", "cairn-io"):
        (folder / name).symlink_to(TOOLS / name)
    daemon = folder / "cairnd"
    daemon.write_text(f"#!/bin/sh\nsed -u 's/blockdev-add/blockdev-del/' | {TOOLS}/cairnd \"$@\"\n")
    daemon.chmod(0o755)
    done = run(RUNNER, "--count", 2, "--seed", "fixed", "--tools", folder, code=None, timeout=1200)
    assert done.code == 1, done
    assert done.out.splitlines()[-1] == "2 sessions, 2 findings", done
