"""hftd/msg: records of one slot, identities that never come twice, codes with words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftd.core.jit import hot
from hftd.core.memory import records
from hftd.msg import enums, ids
from hftd.msg import records as r
from hftd.msg.check import order_check


@hot
def _identity(strategy, epoch, sequence):
    made = ids.make_id(strategy, epoch, sequence)
    return made, ids.strategy_of(made), ids.epoch_of(made), ids.sequence_of(made)


@hot
def _check(order, count):
    return order_check(order, count)


@pytest.mark.parametrize("name", sorted(r.RECORDS))
def test_every_record_is_a_slot_with_its_sequence_last(name):
    """64 bytes, seq in the last eight, little-endian, no object in it."""
    kind = r.RECORDS[name]
    assert kind.itemsize == r.SLOT == 64 and kind.fields["seq"][1] == 56 == r.SEQ_OFFSET
    assert not kind.hasobject and kind.isalignedstruct is False
    assert all(kind.fields[field][0].str[0] in "<|" for field in kind.names)


def test_stage_stamps_stand_in_every_record_of_the_order_path():
    """A latency is attributable because each hop has its stamp."""
    assert {"ts_recv", "t_feed"} <= set(r.market_event_dtype.names)
    assert {"ts_recv", "t_feed", "t_strategy"} <= set(r.intent_dtype.names)
    assert {"ts_recv", "t_feed", "t_strategy", "t_risk", "check"} <= set(r.order_dtype.names)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, ids.STRATEGY_MAX), st.integers(0, ids.EPOCH_MASK), st.integers(1, 2**32 - 1))
def test_an_identity_gives_back_its_parts(strategy, epoch, sequence):
    """All three, for every value; the id is positive."""
    made, *parts = _identity(strategy, epoch, sequence)
    assert made > 0 and parts == [strategy, epoch, sequence]
    assert ids.text(made) == f"{strategy}-{epoch:x}-{sequence}"


@settings(max_examples=200, deadline=None)
@given(st.integers(10**18, 4 * 10**18), st.lists(st.integers(0, 3 * 10**9), min_size=1, max_size=20))
def test_restarts_however_quick_never_share_an_epoch(start, steps):
    """Also several within one second: the epoch moves on by itself."""
    now, epoch, seen = start, 0, []
    for step in steps:
        now += step
        epoch = ids.next_epoch(now, epoch)
        assert epoch <= ids.EPOCH_MASK
        seen.append(epoch)
    assert len(set(seen)) == len(seen)


def test_an_epoch_goes_over_its_end():
    """After 194 days it begins again, and a restart there still differs from the one before."""
    at = (ids.EPOCH_MASK + 1) * 10**9 * 90
    assert ids.epoch_now(at) == 0 and ids.epoch_now(at - 1) == ids.EPOCH_MASK
    assert ids.next_epoch(at - 1, ids.EPOCH_MASK) == 0
    assert ids.next_epoch(at, ids.EPOCH_MASK) == 0


def test_every_code_has_words_and_zero_means_nothing():
    """Zeroed memory reads as none, OK, or the start."""
    assert set(enums.DENY_TEXT) == set(enums.DenyReason)
    for name in ("EventKind", "IntentKind", "OrdStatus", "ExecType", "LogCode", "AgentState"):
        assert getattr(enums, name)(0).name == "NONE"
    assert enums.DenyReason(0).name == "OK" and enums.Reason(0).name == "SLICE" and enums.RunState(0).name == "STARTING"
    assert enums.TERMINAL_FROM <= enums.OrdStatus.CANCELED <= enums.TERMINAL_TO


def test_the_order_checksum_sees_every_field_that_reaches_the_venue():
    """Each field changed by one, and the running count: another checksum; the latency stamps are nobody's business."""
    rng = np.random.default_rng(5)
    order = records(r.order_dtype, 1)[0]
    for field in r.order_dtype.names:
        kind = r.order_dtype.fields[field][0]
        order[field] = int(rng.integers(0, min(2**62, 2 ** (8 * kind.itemsize - 1))))
    whole = int(_check(order, 10**10))
    assert 0 <= whole < 2**32 and whole == int(_check(order, 10**10)) != int(_check(order, 10**10 + 1))
    for field in ("cl_ord_id", "px", "qty", "orig_seq", "instrument", "kind", "side", "tif", "flags", "strategy"):
        before = int(order[field])
        order[field] = before ^ 1
        assert int(_check(order, 10**10)) != whole, field
        order[field] = before
    for field in ("t_feed", "t_strategy", "t_risk", "ts_recv", "check", "seq"):
        order[field] = int(order[field]) ^ 1
    assert int(_check(order, 10**10)) == whole
