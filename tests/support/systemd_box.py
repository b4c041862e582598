"""A real systemd, booted as PID 1 of a throw-away machine made of namespaces, to install a unit in and to see what becomes of it.

    host                           the box
    cgroup2/hftd-box.PID      ->   /sys/fs/cgroup        (root of its own cgroup namespace)
    /                         ->   / (overlay: every write goes to a tmpfs and is gone with the box)
    the checkout              ->   /opt/hftd             (read-only)
    the venv's base Python    ->   at the same path      (read-only)
                                   own pids, network (lo only), host name, IPC, /dev, /dev/shm, /run, /tmp

Nothing of the host is written to but one cgroup, which goes away with the box; nothing is installed or downloaded. Only root
may do this, and not on every kernel: `missing()` says what is absent. Turned down: nspawn and debootstrap (packages, a mirror,
45 s), `systemd --user` (no capabilities, no sandbox, no other user).
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
PROGRAMS = ("unshare", "nsenter", "mount", "umount", "pivot_root", "ip", "systemctl", "journalctl")
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POWEROFF = signal.SIGRTMIN + 4
PR_SET_PDEATHSIG = 1

# Runs in fresh namespaces; $1 an empty directory, $2 the checkout, $3 the base interpreter's prefix.
BUILD = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755,size=2g box "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" box "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys                       # read-only: udev stays out
mount -t cgroup2 cgroup2 sys/fs/cgroup
for each in run:755 dev:755 tmp:1777 var/tmp:1777; do mount -t tmpfs -o "mode=${each#*:}" tmpfs "${each%:*}"; done
for each in null zero full random urandom tty; do : > "dev/$each"; mount --bind "/dev/$each" "dev/$each"; done
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
# what this distribution would start by itself does not concern us: no wants, no generators, no fstab, no old logs
rm -rf etc/systemd/system/*.wants usr/lib/systemd/system/*.wants usr/lib/systemd/system-generators/* var/log/journal etc/fstab
mkdir usr/lib/systemd/system/sysinit.target.wants
for each in journald.socket journald-dev-log.socket journald.service; do
    ln -s "../systemd-$each" usr/lib/systemd/system/sysinit.target.wants/
done
: > etc/machine-id
mkdir -p opt/hftd ".$3"
mount --bind "$2" opt/hftd; mount -o remount,bind,ro opt/hftd
if [ "$3" != /usr ]; then mount --bind "$3" ".$3"; mount -o remount,bind,ro ".$3"; fi
up=$(dirname "$3"); while [ "$up" != / ]; do chmod a+x ".$up"; up=$(dirname "$up"); done      # an interpreter under /root, mode 700
mkdir -p .host
pivot_root . .host
umount -l /.host
mount --make-rshared /                              # credentials reach a unit by mount propagation; at a real boot PID 1 does this
ip link set lo up
exec env -i container=hftd-box LANG=C.UTF-8 "PATH=$4" \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no
"""


def missing() -> str:
    """Return why no box can be made here, '' where one can."""
    if os.getuid() != 0:
        return "a systemd box needs root"
    if not SYSTEMD.exists():
        return "systemd is not installed"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=SEARCH)]
    if absent:
        return f"a systemd box needs {', '.join(absent)}"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "a systemd box needs overlayfs in the kernel"
    if not _cgroup2():
        return "a systemd box needs a cgroup2 mount"
    try_out = ["unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "--cgroup", "--net", "true"]
    tried = subprocess.run(try_out, capture_output=True, text=True, timeout=20)
    return f"a systemd box needs namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def _cgroup2() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return Path(where)
    return None


class BoxError(RuntimeError):
    """The box did not boot, and what it said."""


class Box:
    """One booted systemd. `with Box() as box: box.run("systemctl", "status")`."""

    def __enter__(self) -> "Box":
        mount = _cgroup2()
        assert mount, "missing() was not asked"
        self.folder = Path(tempfile.mkdtemp(prefix="hftd-box."))
        self.cgroup = mount / self.folder.name
        self.cgroup.mkdir()
        self._log = (self.folder / "boot.log").open("w+")
        (self.folder / "box").mkdir()
        command = ["unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "--cgroup", "--net", "--kill-child",
                   "sh", "-c", BUILD, "sh", str(self.folder / "box"), str(ROOT), sys.base_prefix, SEARCH]  # fmt: skip
        procs = self.cgroup / "cgroup.procs"

        def enter() -> None:
            procs.write_text("0")
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        self._unshare = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True, preexec_fn=enter,
            env={"PATH": SEARCH},
        )  # fmt: skip
        try:
            self.pid = self._wait_for_systemd(20.0)
            state = self.run("systemctl", "is-system-running", "--wait", check=False, timeout=30).stdout.strip()
            if state not in ("running", "degraded"):
                raise BoxError(f"systemd is {state!r}: {self.run('systemctl', '--failed', check=False).stdout}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_for_systemd(self, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        while time.monotonic() < deadline and self._unshare.poll() is None:
            with contextlib.suppress(OSError):
                for pid in children.read_text().split():
                    if Path(f"/proc/{pid}/root/run/systemd/private").exists():
                        return int(pid)
            time.sleep(0.02)
        self._log.seek(0)
        raise BoxError(f"systemd did not come up: {self._log.read().strip()[-2000:] or 'it said nothing'}")

    def __exit__(self, *_) -> None:
        with contextlib.suppress(ProcessLookupError, AttributeError):
            os.kill(self.pid, POWEROFF)
        try:
            self._unshare.wait(5)
        except subprocess.TimeoutExpired:
            self._unshare.kill()                      # --kill-child: PID 1 dies with it, and with PID 1 all the box
            self._unshare.wait(5)
        self._log.close()
        deadline = time.monotonic() + 3.0
        while self.cgroup.exists() and time.monotonic() < deadline:
            for path, _, _ in os.walk(self.cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            time.sleep(0.02)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str, check: bool = True, timeout: float = 30.0, **options) -> subprocess.CompletedProcess:
        """Run a command inside as root and return what it printed. Raises CalledProcessError with its output."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-a", "--wd=/", "--", *command], capture_output=True, text=True, timeout=timeout,
            env={"PATH": SEARCH, "LANG": "C.UTF-8"}, **options,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def path(self, inside: str) -> Path:
        """Return the path by which the host reaches a file of the box."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit."""
        text = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).stdout
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def journal(self, unit: str, lines: int = 60) -> str:
        """Return the last lines a unit logged."""
        return self.run("journalctl", "-u", unit, "-n", str(lines), "--no-pager", "-o", "short-monotonic", check=False).stdout

    def until(self, what: str, condition, timeout_s: float, unit: str = ""):
        """Wait for `condition()` to be true and return its value; AssertionError with the unit's journal where it does not come."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {timeout_s:g} s" + (f"\n{self.journal(unit)}" if unit else ""))
            time.sleep(0.05)
