"""The base of every error that a person can mend: one line that names what is wrong and what would be right."""

import shlex
import sys
from pathlib import Path

WRONG = 2
"""Exit code of what trying again cannot mend: the command or the configuration is wrong. systemd does not try it again."""


class HftdError(Exception):
    """Shown as one line on standard error, with a non-zero exit: `exit_code`, 1 where a class or an error does not say."""

    exit_code = 1


class WrongUse(HftdError):
    """The command line asks for what cannot be, and what would be right."""

    exit_code = WRONG


def exit_code(error: BaseException) -> int:
    """Return the exit code that an error asks for."""
    return error.exit_code if isinstance(error, HftdError) else 1


def how_to_install(extra: str) -> str:
    """Return the command that installs an optional extra of pyproject.toml where this program runs: in a checkout's environment."""
    root = Path(__file__).resolve().parents[1]
    if sys.prefix == sys.base_prefix or not (root / "scripts/environment").is_file():
        return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(f'{root}[{extra}]')}"
    place = "" if Path(sys.prefix) == root / ".venv" else f"HFTD_VENV={shlex.quote(sys.prefix)} "
    return f"cd {shlex.quote(str(root))} && {place}bash -c 'source scripts/environment {extra}'"
