"""Random sequences of operations on qcow2 images, by the peer's tools and by ours in turns: a sample of
what tests/differential/run plays by the hundred thousand."""

import pytest

from support import PEER, ROOT, TOOLS, run

RUNNER = ROOT / "tests" / "differential" / "run"


@pytest.mark.parametrize("seed", ["first", "second", "third"])
def test_random_sequences(seed):
    done = run(RUNNER, "--sequences", 100, "--seed", seed, "--tools", "peer" if PEER else TOOLS,
               code=None, timeout=1200)
    assert done.code == 0, done
    assert done.out.splitlines()[-1] == "100 sequences, 0 findings"
