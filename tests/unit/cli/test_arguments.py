"""What cannot be meant on the command line: said at once, with what would be right; exit code 2."""

import argparse

import pytest

from hftd.cli.arguments import count, number
from hftd.cli.main import main


@pytest.mark.parametrize(("words", "said"), [
    ("orders --limit -2", "argument --limit: must be at least 1, was -2"),
    ("orders --limit many", "argument --limit: must be a whole number, was 'many'"),
    ("book AAPL --levels 0", "argument --levels: must be at least 1, was 0"),
    ("feed x.itch --pace 0", "argument --pace: must be above 0, was 0; leave it out for as fast as possible"),
    ("feed x.itch --pace -1", "argument --pace: must be above 0, was -1; leave it out for as fast as possible"),
    ("feed x.itch --rate nan", "argument --rate: must be a number, was 'nan'"),
    ("feed x.itch --seconds 0", "argument --seconds: must be above 0, was 0"),
    ("record --out x.pcapng --max-bytes 0", "argument --max-bytes: must be at least 1, was 0"),
    ("demo --seconds -3", "argument --seconds: must be above 0, was -3"),
    ("demo --seconds inf", "argument --seconds: must be a number, was 'inf'"),
    ("check --seconds 99", "argument --seconds: must be 0 to 60, was 99"),
    ("status --watch 0", "argument --watch: must be 0.05 to 86400, was 0"),
    ("latency --watch -1", "argument --watch: must be 0.05 to 86400, was -1"),
])  # fmt: skip
def test_number_that_cannot_be_meant(words, said, capsys):
    """argparse names command and option; what is right stands beside what was given."""
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.rstrip().endswith(f"hftd {words.split()[0]}: error: {said}")


def test_numbers_that_can_be_meant():
    """Bounds themselves are right where they are said to be."""
    assert count("1") == 1 and number(float, low=0, high=60)("60") == 60.0
    assert number(float, above=0, high=2)("2") == 2.0
    with pytest.raises(argparse.ArgumentTypeError, match="must be above 0, at most 2, was 3"):
        number(float, above=0, high=2)("3")
    with pytest.raises(argparse.ArgumentTypeError, match="must be at most 2, was 3"):
        number(int, high=2)("3")


def test_a_strategy_s_name_is_no_path(tmp_path, monkeypatch, capsys):
    """Nothing is written outside the folder of strategies."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["strategy", "new", "../x"]) == 2
    assert capsys.readouterr().err.startswith("hftd: ../x: a strategy's name is ")
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]
