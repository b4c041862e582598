"""What the simulated exchange can be asked for: numbers that make no sense are refused by name, before anything opens."""

import math

import pytest

from hftd.sim.options import RANGES, Options, SimError, check


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [math.nan, -1.0, 1e300])
def test_a_number_that_makes_no_sense_is_refused_by_name(name, value):
    """Some ran into the engine as a traceback, others (500 percent, silence of no length) made a market of nonsense."""
    with pytest.raises(SimError, match=f"^--{name.replace('_', '-')}: must be "):
        check(Options(**{name: value}))


def test_the_usual_options_are_right():
    assert check(Options()) == Options()
