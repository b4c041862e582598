"""hftd/shm/map.py: who attaches to an instance, and when it is not there yet."""

import pytest

from hftd.shm import control, segment
from hftd.shm import map as shared
from hftd.shm.segment import SegmentError
from tests.support.risk_desk import small_config


def test_an_instance_that_is_being_made_is_refused_in_one_sentence(tmp_path):
    """Its control segment is there first, its configuration last: a daemon that looks for others on the host must live on."""
    config = small_config(tmp_path)
    name = config.daemon.name
    made = segment.create(segment.full_name(name, "control"), control.parts(), 1)
    try:
        for text in (b"", b'{"path": "a.toml", "daemon": {"na'):
            made["config"][: len(text)] = list(text)
            with pytest.raises(SegmentError, match=f"'{name}' is being started"):
                shared.attach(name)
    finally:
        segment.unlink(made.name)
    memory = shared.create(config, 1)
    try:
        assert shared.attach(name)[0].daemon.name == name
    finally:
        memory.unlink()
