"""The files of a machine, real or made for a test: what `/proc` and `/sys` say, with nothing assumed about what is there."""

from pathlib import Path


class Host:
    """The files of a machine under `root`, and the questions only a living one answers."""

    def __init__(self, root: Path = Path("/")):
        self.root = Path(root)
        self.live = self.root == Path("/")

    def read(self, path: str) -> str:
        """Return a file's text, '' where it cannot be read."""
        try:
            return (self.root / path).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def number(self, path: str) -> int | None:
        """Return a file's number, None where there is none."""
        text = self.read(path)
        return int(text) if text.lstrip("-").isdigit() else None

    def names(self, path: str) -> list[str]:
        """Return the entries of a directory, sorted; none where it cannot be read."""
        try:
            return sorted(entry.name for entry in (self.root / path).iterdir())
        except OSError:
            return []

    def flags(self) -> set[str]:
        """Return the processor's flags."""
        for line in self.read("proc/cpuinfo").splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
        return set()

    def boot(self) -> dict[str, str]:
        """Return the kernel's command line."""
        return {word.partition("=")[0]: word.partition("=")[2] for word in self.read("proc/cmdline").split()}

    def limit(self, name: str) -> int | None:
        """Return a soft limit of this process by its name in /proc/self/limits, None where it is unlimited or not known."""
        for line in self.read("proc/self/limits").splitlines():
            if line.startswith(name):
                word = line[26:].split()[0]
                return int(word) if word.isdigit() else None
        return None

    def capable(self, bit: int) -> bool:
        """Tell whether this process has a capability."""
        for line in self.read("proc/self/status").splitlines():
            if line.startswith("CapEff"):
                return bool(int(line.split()[1], 16) >> bit & 1)
        return False

    def roles(self) -> list[tuple[int, str]]:
        """Return (pid, name) of every running process of a daemon; the supervisor and this command are not among them."""
        found = []
        for entry in self.names("proc"):
            if entry.isdigit() and (name := self.read(f"proc/{entry}/comm")).startswith("hftd:"):
                found.append((int(entry), name.removeprefix("hftd:")))
        return sorted(found)

    def facts(self, pid: int) -> dict[str, str]:
        """Return /proc/PID/status as a dict."""
        lines = (line.partition(":") for line in self.read(f"proc/{pid}/status").splitlines())
        return {name: value.strip() for name, _, value in lines}


CAP_NET_ADMIN, CAP_IPC_LOCK, CAP_SYS_NICE = 12, 14, 23
