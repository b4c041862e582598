"""The README's example and table hold."""

from pathlib import Path

from hftd.recorder import journal
from hftd.recorder.journal import Stream


def test_every_stream_is_in_the_readme():
    """Number and name."""
    text = Path(journal.__file__).with_name("README.md").read_text()
    for stream in Stream:
        assert f"| {int(stream)} {stream.name} |" in text
    assert f"entry, {journal.ENTRY} bytes" in text and f"header, {journal.HEADER} bytes" in text
