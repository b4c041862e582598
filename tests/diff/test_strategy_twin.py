"""The same strategy, compiled and interpreted, on the same tape: the same intents, positions and state, bit by bit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {"market_maker": ROOT / "strategies" / "market_maker.py", "imbalance_taker": ROOT / "strategies" / "imbalance_taker.py"}


def decisions(file: Path, seed: int, count: int) -> bytes:
    """Play a tape; return everything the strategy decided and knows."""
    from hftd.strategy.harness import Tape
    from hftd.strategy.synthetic import market_events

    tape = Tape(file, instruments=2)
    assert tape.play(market_events(count, seed=seed, instruments=2, apart_ns=400_000)) == count
    intents = tape.intents().copy()
    intents["t_strategy"] = 0                     # the only thing that depends on the machine
    books = np.asarray(tape.agent.books)
    tops = [books[name].tobytes() for name in ("bid_px", "bid_qty", "ask_px", "ask_qty", "last_px", "volume", "events")]
    states = np.asarray(tape.agent.states).tobytes()
    return b"".join([len(intents).to_bytes(8, "little"), intents.tobytes(), repr(tape.position(0)).encode(),
                     repr(tape.position(1)).encode(), *tops, states])  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_compiled_and_interpreted_decide_the_same(name, tmp_path):
    """Thousands of events, hundreds of orders."""
    seed, count = 11, 3000
    out = tmp_path / "interpreted"
    command = [sys.executable, __file__, str(FILES[name]), str(seed), str(count), str(out)]
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    child = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr[-3000:]

    compiled = decisions(FILES[name], seed, count)
    assert int.from_bytes(compiled[:8], "little") > 15
    assert compiled == out.read_bytes()


if __name__ == "__main__":
    Path(sys.argv[4]).write_bytes(decisions(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
