"""Compiled code, its interpreter twin and plain Python agree: arithmetic, records, rings, pools, histograms, over random input.

One program runs twice, compiled here and interpreted in a child, and prints what it computed; the naive answer is beside it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hftd.core.jit import INTERPRETED

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, random, sys
import numpy as np
sys.path.insert(0, {root!r})
from tests.diff.test_core_twins import session
print(json.dumps(session(int(sys.argv[1]))))
"""


def session(seed: int) -> dict:
    """A random session over the foundations; everything it saw, as plain integers."""
    import random

    from hftd.core import clock, fixed
    from hftd.core.jit import hot
    from hftd.core.memory import load64, records, store64, swap16, swap32, swap64
    from hftd.msg.check import order_check
    from hftd.msg.records import order_dtype
    from hftd.shm.histogram import bucket_of
    from tests.support.pools import Pool
    from tests.support.rings import Ring

    @hot
    def arithmetic(at, out):
        a, b = load64(at), load64(at + 8)
        tick = (b & 1023) + 1
        store64(out, swap16(a))
        store64(out + 8, swap32(a))
        store64(out + 16, swap64(a))
        store64(out + 24, clock.scale(a & (2**61 - 1), b & 0x3FFFFFFF))
        store64(out + 32, fixed.round_down(a >> 8, tick))
        store64(out + 40, fixed.round_up(a >> 8, tick))
        store64(out + 48, fixed.bps_of(a >> 16, b & 8191))
        store64(out + 56, bucket_of(a >> (b & 63)))

    @hot
    def checked(order, count):
        return order_check(order, count)

    import numpy as np

    dice, seen = random.Random(seed), {"arithmetic": [], "check": [], "ring": [], "pool": []}
    source, target = np.zeros(2, np.int64), np.zeros(8, np.int64)
    for _ in range(200):
        source[:] = [dice.randrange(-(2**63), 2**63), dice.randrange(0, 2**62)]
        arithmetic(source.ctypes.data, target.ctypes.data)
        seen["arithmetic"].append([int(value) for value in (*source, *target)])
    order = records(order_dtype, 1)[0]
    for _ in range(50):
        for name in order_dtype.names:
            width = order_dtype.fields[name][0].itemsize
            order[name] = dice.randrange(0, 2 ** (8 * width - 1))
        seen["check"].append(int(checked(order, dice.randrange(1, 2**40))))
    pool, held = Pool(9), []
    for _ in range(200):
        if held and dice.random() < 0.5:
            pool.give(held.pop(dice.randrange(len(held))))
        else:
            index = pool.take()
            if index:
                held.append(index)
            seen["pool"].append(index)
    ring = Ring(8)
    try:
        ring.join(0)
        ring.join(1)
        ring.join(5, gating=False)
        for value in range(300):
            what = dice.randrange(6)
            if what < 3 and ring.room():
                ring.commit(value)
                ring.publish()
            elif what == 3:
                seen["ring"].append(ring.take(dice.randrange(2), bool(dice.randrange(2))))
            elif what == 4:
                seen["ring"].append(list(ring.observe(5)))
            else:
                seen["ring"].append([ring.take_one(0), int(ring.consumers[5]["lost"])])
    finally:
        ring.close()
    return seen


def _naive(a: int, b: int) -> list[int]:
    def swapped(value: int, width: int) -> int:
        return int.from_bytes((value % (1 << 8 * width)).to_bytes(width, "little"), "big", signed=width == 8)

    tick = (b & 1023) + 1
    px, value = a >> 8, a >> (b & 63)
    bucket = max(value, 0) if value < 2048 else 0
    if value >= 2048:
        shift = value.bit_length() - 11
        bucket = 28 * 1024 - 1 if shift > 26 else shift * 1024 + (value >> shift)
    return [
        swapped(a, 2), swapped(a, 4), swapped(a, 8), (a & (2**61 - 1)) * (b & 0x3FFFFFFF) >> 32,
        px // tick * tick, -(-px // tick) * tick, (a >> 16) * (b & 8191) // 10_000, bucket,
    ]  # fmt: skip


@pytest.mark.skipif(INTERPRETED, reason="compares the two modes itself")
@pytest.mark.parametrize("seed", [1, 2])
def test_compiled_interpreted_and_naive_agree(seed):
    """The same session, three times."""
    compiled = session(seed)
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", PROGRAM.format(root=str(ROOT)), str(seed)]
    child = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr[-3000:]
    interpreted = json.loads(child.stdout)
    assert json.loads(json.dumps(compiled)) == interpreted, f"seed {seed}"
    for a, b, *got in compiled["arithmetic"]:
        assert got == _naive(a, b), f"seed {seed}: {a}, {b}"
