"""Commands asked for what cannot be: one line that says what would be right, exit code 2, and nothing done."""

import os
import subprocess
import sys

import pytest

from hftd.cli.main import main
from tests.support.data import ROOT


@pytest.mark.parametrize("words", [
    ["stop", "-n", ""], ["kill", "-n", ""], ["status", "--name="], ["positions", "--save", "x", "-n", ""],
    ["clean", "--cache", "nan"], ["clean", "--cache", "-1"], ["orders", "--limit", "0"], ["status", "--watch", "0"],
])  # fmt: skip
def test_argument_that_means_nothing_is_refused(words, capsys):
    """An empty name is a script's unset variable: `hftd stop -n "$NAME"` must not stop whatever runs."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "must be" in (said := capsys.readouterr().err) or "must name an instance, was empty" in said


@pytest.mark.parametrize(("words", "said"), [
    (["kill", "--clear"], "the kill switch is lifted by a named person: hftd kill --clear --by NAME"),
    (["kill", "--clear", "--by", "  "], "the kill switch is lifted by a named person: hftd kill --clear --by NAME"),
    (["strategy", "check", ""], "strategy check: must name a strategy file, was ''; `hftd strategy list` shows what there is"),
    (["strategy", "check", "/"], "strategy check: must name a strategy file, was '/'; `hftd strategy list` shows what there is"),
    (["books", "x.itch", "--out", "y"], "books: --symbol and --out go together"),
    (["feed", "live"], "feed live: say which lines: -c CONFIG, or --line GROUP:PORT"),
    (["feed", "synthetic", "--messages", "0"], "--messages: must be 1 to 1,000,000,000,000, was 0"),
    (["record", "--out", "x"], "record: say which lines: -c CONFIG, or --line GROUP:PORT"),
    (["feed", "live", "--line", "239.1.1.1:9", "--interface", "eth0"],
     "--interface: must be an IPv4 address, was 'eth0'; `ip -4 address` shows the interfaces'"),
    (["warm", "-c", ""], "no configuration file is named: give one with -c FILE, or in $HFTD_CONFIG"),
])  # fmt: skip
def test_wrong_use_ends_with_two(words, said, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err == f"hftd: {said}\n"


def test_a_dry_run_removes_no_kernel(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hftd.core.cache.directory", lambda: tmp_path)
    kernel = tmp_path / "old.kernel"
    kernel.write_bytes(b"x" * 10)
    os.utime(kernel, (1, 1))
    assert main(["clean", "--dry-run", "--cache"]) == 0
    assert kernel.exists() and capsys.readouterr().out == "1 compiled kernels would be removed, 0.0 MiB\n"
    assert main(["clean", "--cache"]) == 0
    assert not kernel.exists()


def test_a_name_that_is_no_text_is_shown_as_it_can_be(tmp_path):
    """Bytes that are not UTF-8, and a terminal that has no line to draw."""
    path = os.fsencode(tmp_path) + b"/\xff.toml"
    with open(path, "wb"):
        pass
    command = [sys.executable, "-m", "hftd", "check", "--seconds", "0", "-c", path]
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(command, capture_output=True, cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": encoding}, check=False)
        assert b"Traceback" not in done.stderr and b"\\udcff.toml: " in done.stdout, done.stderr


@pytest.mark.parametrize("to", [">&-", "2>&- >&-", ">/dev/full"])
def test_output_that_goes_nowhere_is_no_traceback(tmp_path, to):
    """Closed by whoever started us, or a full disk: the latter is told."""
    (tmp_path / "c.toml").touch()
    line = f"{sys.executable} -m hftd check --seconds 0 -c {tmp_path}/c.toml --json {to}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "Traceback" not in done.stderr and "Error" not in done.stderr
    assert (done.stderr == "hftd: the output cannot be written: No space left on device\n") == (to == ">/dev/full")
