"""A sample of the fault matrix: every kind of fault, from two seeds each."""

import pytest

from tests.fault.matrix import CASES, play


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_books_are_those_of_a_run_without_faults(name, seed):
    play(name, seed)
