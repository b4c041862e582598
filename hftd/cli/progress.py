"""Progress for whatever takes longer than a second: a bar on a terminal, a line per step in a pipe."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def steps(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yield `step(name)`, to be called as each of `total` steps begins; the time taken is printed at the end.

    On a terminal a bar is drawn without a thread (a forked child must not inherit one); elsewhere each step is one line.
    """
    begun = time.monotonic()
    done = 0
    terminal = sys.stderr.isatty()
    width = 28

    def draw(name: str) -> None:
        filled = width * done // max(total, 1)
        bar = "█" * filled + "·" * (width - filled)
        sys.stderr.write(f"\r{title} {bar} {done}/{total} {name:<36.36}")
        sys.stderr.flush()

    def step(name: str) -> None:
        nonlocal done
        if terminal:
            draw(name)
        elif time.monotonic() - begun > 1.0 or done == 0:
            sys.stderr.write(f"{title}: {done + 1}/{total} {name}\n")
            sys.stderr.flush()
        done += 1

    try:
        yield step
    finally:
        if terminal:
            sys.stderr.write("\r\x1b[K")
        if time.monotonic() - begun > 1.0 or not terminal:
            sys.stderr.write(f"{title}: {done}/{total} in {time.monotonic() - begun:.1f} s\n")
        sys.stderr.flush()
