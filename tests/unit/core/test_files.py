"""A file is replaced whole or not at all, with the mode it should have."""

import os
import stat

import pytest

from hftd.core.files import replace_file


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_contents_and_mode_whatever_a_crash_left(tmp_path, umask):
    path, left = tmp_path / "a.json", tmp_path / "a.json.new"
    left.write_text("half of it, and longer than the new contents")
    left.chmod(0o666)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new" and mode(path) == 0o600 and not left.exists()
    replace_file(path, b"newer", 0o666)
    assert path.read_bytes() == b"newer" and mode(path) == 0o644


def test_mode_of_another_where_there_is_one(tmp_path, umask):
    path, like = tmp_path / "a", tmp_path / "b"
    replace_file(path, b"1", 0o644, like=like)
    assert mode(path) == 0o644
    like.touch()
    like.chmod(0o640)
    replace_file(path, b"2", 0o644, like=like)
    assert mode(path) == 0o640


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    (tmp_path / "a.new").mkdir()
    with pytest.raises(OSError):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
