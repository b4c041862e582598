"""The README tells what the code does: its tables are generated, and the order of the checks is the code's."""

import re
from pathlib import Path

from hftd.msg.enums import DENY_TEXT, DenyReason
from hftd.risk import docs, loop


def test_the_readme_is_current():
    """`python -m hftd.risk.docs` would change nothing."""
    text = docs.README.read_text()
    assert docs.render(text) == text, "run: python -m hftd.risk.docs"


def test_every_reason_has_a_text():
    """No code without its documentation."""
    assert set(DENY_TEXT) == set(DenyReason)


def test_every_reason_of_the_table_stands_in_the_code():
    """A reason that risk is said to give is named in its hot modules."""
    source = "".join(Path(loop.__file__).with_name(name).read_text() for name in ("loop.py", "checks.py"))
    for reason in docs.BY_RISK:
        assert re.search(rf"\b{reason.name}\b", source), reason.name
