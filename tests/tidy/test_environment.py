"""`scripts/environment`: what it says where hftd cannot run, and that a sound environment is left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hftd.errors import how_to_install
from tests.support.data import ROOT


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout as far as the script looks, in a path with a space."""
    made = tmp_path / "a checkout"
    (made / "scripts").mkdir(parents=True)
    (made / "scripts/environment").write_text((ROOT / "scripts/environment").read_text())
    (made / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    return made


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def source(checkout: Path, path: str, **variables: str) -> subprocess.CompletedProcess:
    command = ["bash", "-c", f'source "{checkout}/scripts/environment" && echo "$PYTHON"']
    environment = {"PATH": path, "HOME": str(checkout / "home"), **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", env=environment)


def test_other_machines_are_refused_in_one_line(checkout, tmp_path):
    program(tmp_path / "bin", "uname", 'case "$1" in -s) echo Linux;; *) echo aarch64;; esac')
    done = source(checkout, f"{tmp_path}/bin:/usr/bin:/bin")
    assert (done.returncode, done.stderr) == (1, "hftd: hftd runs on Linux on x86-64; this is Linux on aarch64\n")


def test_missing_python_is_named_with_what_to_install(checkout, tmp_path):
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        program(tmp_path / "bin", name, "exit 1")
    done = source(checkout, f"{tmp_path}/bin:/usr/bin:/bin")
    assert done.returncode == 1
    assert done.stderr == "hftd: Python 3.11, 3.12 or 3.13 is missing; on Debian: apt-get install python3 python3-venv\n"
    assert not (checkout / ".venv").exists()


def test_something_else_in_the_way_is_not_removed(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv/thesis.txt").write_text("years of work")
    done = source(checkout, os.environ["PATH"])
    assert done.returncode == 1
    assert "is in the way and is no Python environment" in done.stderr
    assert (checkout / ".venv/thesis.txt").read_text() == "years of work"


def test_sound_environment_is_used_as_it_is_and_a_half_made_one_finished(checkout, tmp_path):
    """The stamp says what an environment was made from; pip is called only where it differs."""
    calls = tmp_path / "calls"
    answers = f'case "$*" in *" install "*) echo "$@" >> "{calls}";; *purelib*) echo "{tmp_path}";; esac'
    program(tmp_path / "python", "python", answers)
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/pyvenv.cfg").write_text("")
    (checkout / ".venv/bin/python").symlink_to(tmp_path / "python/python")
    for _ in range(2):
        done = source(checkout, os.environ["PATH"])
        assert (done.returncode, done.stdout) == (0, f"{checkout}/.venv/bin/python\n"), done.stderr
    assert len(calls.read_text().splitlines()) == 1
    assert (tmp_path / "hftd-checkout.pth").read_text() == f"{checkout}\n"
    assert os.access(checkout / ".venv/bin/hftd", os.X_OK)
    (checkout / "pyproject.toml").write_text("[project]\n")
    assert source(checkout, os.environ["PATH"]).returncode == 0
    assert len(calls.read_text().splitlines()) == 2


@pytest.mark.parametrize("extra", ["research", "test", "fuzz"])
def test_command_that_a_hint_names_installs_that_extra(tmp_path, monkeypatch, extra):
    """As it is printed, from anywhere, into the environment that runs: the only stand-in is pip, which notes what it was given."""
    venv = tmp_path / "an environment"
    stand_in = f"""case "$*" in
        *"pip install"*) for last; do :; done; cat "$last" > "{tmp_path}/installed" ;;
        *"pip --version"*) ;;
        *sysconfig*) mkdir -p "{tmp_path}/site"; echo "{tmp_path}/site" ;;
        *) exec "{sys.executable}" "$@" ;; esac"""
    venv.mkdir()
    program(venv / "bin", "python", stand_in)
    monkeypatch.setattr(sys, "prefix", str(venv))
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    done = subprocess.run(how_to_install(extra), shell=True, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    installed = (tmp_path / "installed").read_text().split()
    assert any(one.startswith({"research": "pyarrow", "test": "pytest", "fuzz": "atheris"}[extra]) for one in installed)
    assert any(one.startswith("numba") for one in installed)


def test_without_an_environment_of_its_own_pip_is_named(monkeypatch):
    """An interpreter that is no virtual environment's: pip, with the checkout's own path, for no index has hftd."""
    monkeypatch.setattr(sys, "prefix", "/usr")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    assert how_to_install("research") == f"{sys.executable} -m pip install '{ROOT}[research]'"
