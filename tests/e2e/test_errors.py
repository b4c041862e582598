"""Wrong input of every kind: one line that says what to do, a non-zero exit, and nothing left behind."""

import fcntl
import gzip
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hftd.core.agent import alive
from hftd.shm import segment
from tests.support.daemon import hftd, until

STRATEGY = "def on_book(ctx, book):\n    return None\n"


class Place:
    """A directory, an instance name and a configuration of a test's own."""

    def __init__(self, path: Path):
        self.path = path
        self.name = f"e{os.getpid()}"
        self.config = path / "hftd.toml"
        self.write()

    def write(self, strategy: str = STRATEGY, **sections: dict) -> Path:
        """Write a configuration that would be right, but for `sections` and `strategy` (the text of the strategy file)."""
        times = {"ready_timeout_s": 2, "stop_timeout_s": 0.5}
        tables: dict[str, dict] = {
            "daemon": {"name": self.name, "run_dir": str(self.path), "layout": "shared", **times},
            "feed": {"line_a": f"127.0.0.1:{free_port()}", "request": []},
            "gateway": {"address": f"127.0.0.1:{free_port()}"},
        }
        for section, values in sections.items():
            tables.setdefault(section, {}).update(values)
        (self.path / "strategy.py").write_text(strategy)
        lines = []
        for section, values in tables.items():
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        self.config.write_text("\n".join([*lines, "[[strategy]]", f'file = "{self.path}/strategy.py"', ""]))
        return self.config

    def start(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        return hftd("start", "-c", str(self.config), *arguments, **options)

    def left(self) -> list[str]:
        """Return what is still there: processes, shared memory, sockets, a lock."""
        found = list(segment.existing(self.name))
        for process in psutil.process_iter(["pid", "cmdline"]):
            if str(self.path) in " ".join(process.info["cmdline"] or []) and alive(process.info["pid"]):
                found.append(f"process {process.info['pid']}")
        run = self.path / self.name
        found += [path.name for path in run.glob("*.sock")]
        if (run / "pid").exists():
            with (run / "pid").open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.append("lock")
        return found


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    until(lambda: not made.left(), 10, f"nothing to be left, but {made.left()}")


def said(done: subprocess.CompletedProcess, code: int = 1) -> str:
    """Return the one line that was said, after checking that it is one."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("compiling")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("hftd: ")
    assert done.returncode == code
    return lines[0].removeprefix("hftd: ")


# ------------------------------------------------------------ configuration


def test_missing_configuration(place):
    path = place.path / "none.toml"
    assert said(hftd("start", "-c", str(path)), 2) == f"{path}: no such file; copy config/hftd.toml and edit it"


def test_wrong_value_and_unknown_key(place):
    place.write(risk={"order_qty_max": 0})
    assert said(place.start(), 2) == f"{place.config}: risk.order_qty_max: must be 1 to 999999 shares, was 0"
    place.write(risk={"order_qty_maxx": 1})
    assert said(hftd("warm", "-c", str(place.config)), 2) == (
        f"{place.config}: risk.order_qty_maxx: unknown key; did you mean order_qty_max?"
    )


def test_more_spinning_roles_than_cores(place):
    place.write(daemon={"cores": [min(os.sched_getaffinity(0))]})
    assert "dedicated spins" in said(place.start("--layout", "dedicated"), 2)


def test_run_directory_that_cannot_be(place):
    (place.path / "file").write_text("")
    place.write(daemon={"run_dir": f"{place.path}/file"})
    assert said(place.start(), 2).endswith("Not a directory")


def test_path_too_long_for_a_socket(place):
    deep = place.path / ("d" * 100)
    place.write(daemon={"run_dir": str(deep)})
    assert said(place.start(), 2).endswith("AF_UNIX path too long; choose another daemon.run_dir")


def test_cache_that_others_may_write_to(place):
    cache = place.path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    done = place.start(env={**os.environ, "HFTD_CACHE_DIR": str(cache)})
    assert said(done) == f"compile cache {cache}: others may write to it; run: chmod 700 {cache}"


def test_password_that_others_may_read(place):
    (place.path / "secret").write_text("geheim")
    (place.path / "secret").chmod(0o644)
    place.write(gateway={"password_file": "secret"})
    line = said(place.start(), 2)
    assert line.endswith(f"gateway.password_file: others may read {place.path}/secret; run: chmod 600 {place.path}/secret")
    assert "geheim" not in line


def test_password_file_that_is_not_there_is_wrong_in_the_foreground_too(place):
    """What systemd sees: exit code 2, which it does not try again."""
    place.write(gateway={"password_file": "none"})
    assert "gateway.password_file" in said(place.start("--foreground"), 2)


def test_placement_that_this_host_refuses(place):
    """Strict: no start, and trying again would not help."""
    if "HugePages_Free:        0" not in Path("/proc/meminfo").read_text():
        pytest.skip("this host has reserved 2 MiB pages, and would grant what is asked for")
    place.write(placement={"huge_pages": "reserved"})
    assert "placement.huge_pages: 2 MiB (reserved) refused to" in said(place.start(), 2)


# ------------------------------------------------------------ strategies

BROKEN = {
    "syntax": ("def on_book(ctx, book):\n    if True\n        pass\n", r"strategy\.py:2: "),
    "a type": ("def on_book(ctx, book):\n    x = 1\n    x.nothing()\n", r"strategy\.py:3: "),
    "a name": ("def on_book(ctx, book):\n    submitt(ctx)\n", r"strategy\.py:2: "),
    "a callback": ("def on_bok(ctx, book):\n    pass\n", r"strategy\.py:1: on_bok: unknown callback; did you mean on_book\?"),
    "an import": ("import no_such_module\n" + STRATEGY, r"strategy\.py:1: ModuleNotFoundError"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_strategy_with_a_mistake_in(place, what):
    text, expected = BROKEN[what]
    place.write(strategy=text)
    assert re.search(expected, said(place.start(), 2))


def test_strategy_check_says_the_same(place):
    place.write(strategy=BROKEN["a type"][0])
    assert re.search(BROKEN["a type"][1], said(hftd("strategy", "check", str(place.path / "strategy.py"))))


def test_strategy_that_is_not_there(place):
    place.config.write_text(place.config.read_text().replace("strategy.py", "stratgy.py"))
    assert said(place.start(), 2).startswith(f"{place.path}/stratgy.py: no such strategy file")


# ------------------------------------------------------------ data


def itch(path: Path, messages: int = 3) -> Path:
    """Write a few system events as a BinaryFILE."""
    one = b"S" + bytes(10) + b"O"
    path.write_bytes((len(one).to_bytes(2, "big") + one) * messages)
    return path


READERS = [("books",), ("sim", "--data"), ("demo", "--seconds", "1", "--data")]


@pytest.mark.parametrize("command", READERS, ids=[words[0] for words in READERS])
def test_data_that_is_not_there(place, command):
    path = place.path / "none.itch.gz"
    line = said(hftd(*command, str(path)))
    assert str(path) in line and "no such file" in line.lower()


def test_data_cut_in_the_middle_of_a_message(place):
    path = itch(place.path / "cut.itch")
    path.write_bytes(path.read_bytes()[:-5])
    assert str(path) in said(hftd("books", str(path)))


def test_compressed_data_cut_off(place):
    path = itch(place.path / "whole.itch", 5000)
    cut = place.path / "cut.itch.gz"
    cut.write_bytes(gzip.compress(path.read_bytes())[:-20])
    assert str(cut) in said(hftd("books", str(cut)))


def test_data_that_is_something_else(place):
    path = place.path / "letter.itch"
    path.write_text("Dear Sir or Madam,\n" * 100)
    assert str(path) in said(hftd("books", str(path)))


# ------------------------------------------------------------ ports, instances, venues


def test_port_of_the_exchange_in_use(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = said(hftd("sim", "--ouch-port", str(port), "--line-a", f"127.0.0.1:{free_port()}"))
    assert str(port) in line and "in use" in line


def test_port_of_the_feed_in_use(place):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        place.write(feed={"line_a": f"127.0.0.1:{taken.getsockname()[1]}"})
        line = said(place.start())
    assert line.startswith("feed did not start: ") and "feed.line_a" in line and "in use" in line


def test_port_of_the_metrics_in_use(place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place.write(recorder={"metrics": f"127.0.0.1:{taken.getsockname()[1]}"})
        line = said(place.start())
    assert line.startswith("recorder did not start: ") and "recorder.metrics" in line and "in use" in line


def test_interface_that_is_not_ours(place):
    place.write(feed={"line_a": "239.192.70.99:31991", "interface": "192.0.2.1"})
    line = said(place.start())
    assert line.startswith("feed did not start: ") and "feed.line_a" in line and "192.0.2.1" in line


def test_exchange_that_is_not_there(place):
    line = said(place.start())
    assert line.startswith("not ready after 2 s: waiting for ") and "gateway" in line


def test_second_instance(place):
    (place.path / place.name).mkdir(mode=0o700)
    with (place.path / place.name / "pid").open("w") as lock:
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert said(place.start()) == (
            f"{place.config}: daemon.name: an instance called {place.name!r} is running (pid {os.getpid()}); "
            "stop it with `hftd stop`, or choose another name"
        )


# ------------------------------------------------------------ machines

OTHER = {
    "a processor": ("platform.machine = lambda: 'aarch64'", "hftd needs an x86-64 processor; this is aarch64"),
    "a system": ("sys.platform = 'darwin'", "hftd runs on Linux; this is darwin: use a Linux host or virtual machine"),
    "a clock": ("host.tsc_is_invariant = lambda: False",
                "this processor's time stamp counter is not invariant (constant_tsc, nonstop_tsc): stamps would lie"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHER)
def test_machine_that_will_not_do(place, what):
    """Each command that would run hot code refuses; the patch stands for the machine."""
    patch, expected = OTHER[what]
    program = (
        "import platform, sys\n"
        "from hftd.control import demo, host, supervisor\nfrom hftd.sim import server\nfrom hftd.cli.main import main\n"
        f"{patch}\n"
        f"codes = [main(words.split('|')) for words in ('start|-c|{place.config}', 'sim|--seconds|1', 'demo|--seconds|1')]\n"
        "sys.exit(codes != [1, 1, 1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr == f"hftd: {expected}\n" * 3


# ------------------------------------------------------------ people in a hurry


@pytest.mark.parametrize(("arguments", "words"), [
    (("kill", "--clear", "-n", "nobodyhere"), "lifted by a named person"),
    (("demo", "--seconds", "0"), "--seconds: must be above 0"),
    (("demo", "--json", "/no/such/place/x.json", "--seconds", "1"), "give a file in a directory that exists"),
])  # fmt: skip
def test_what_cannot_be_meant_is_said_at_once(arguments, words):
    child = hftd(*arguments)
    assert child.returncode != 0 and words in child.stderr and "Traceback" not in child.stderr
