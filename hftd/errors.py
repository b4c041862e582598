"""The base of every error that a person can mend: one line that names what is wrong and what would be right."""


class HftdError(Exception):
    """Shown as one line on standard error, with a non-zero exit."""
