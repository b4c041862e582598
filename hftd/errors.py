"""The base of every error that a person can mend: one line that names what is wrong and what would be right."""

WRONG = 2
"""Exit code of what trying again cannot mend: the command or the configuration is wrong. systemd does not try it again."""


class HftdError(Exception):
    """Shown as one line on standard error, with a non-zero exit: `exit_code`, 1 where a class or an error does not say."""

    exit_code = 1


def exit_code(error: BaseException) -> int:
    """Return the exit code that an error asks for."""
    return error.exit_code if isinstance(error, HftdError) else 1
