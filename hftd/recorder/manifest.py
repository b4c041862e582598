"""What a run was made of: the code, the strategies and the limits that its orders came from, in a file beside its journals. Cold.

    <instance>-<start>.run.json     version, digests of sources and of each strategy's file, tool chain, machine, configuration

It is written once, by the run's first recorder, before the first journal file; each journal file's header carries its SHA-256. So
an order can be tied to what decided on it, and `hftd journal` sees where that was changed. A recorder that is started anew takes
the file that is there: what lies on the disk by then may be the next version. No secret is in a configuration.
"""

import dataclasses
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from hftd import __version__
from hftd.control.config import Config, strategy_name
from hftd.core.files import replace_file
from hftd.errors import HftdError
from hftd.recorder.journal import run_name

PACKAGE = Path(__file__).resolve().parents[1]


def manifest_path(directory: Path, instance: str, epoch: int) -> Path:
    """Return the manifest of a run. epoch: utc ns of the daemon's start."""
    return directory / f"{run_name(instance, epoch)}.run.json"


def keep_manifest(config: Config, directory: Path, epoch: int) -> str:
    """Write the manifest of a run where there is none yet; return its SHA-256, in hex. Raises OSError."""
    path = manifest_path(directory, config.daemon.name, epoch)
    if not path.exists():
        replace_file(path, (json.dumps(made_of(config, epoch), indent=1) + "\n").encode())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of(directory: Path, instance: str, epoch: int) -> str:
    """Return the SHA-256, in hex, of a run's manifest as it is; '' where there is none that can be read."""
    try:
        return hashlib.sha256(manifest_path(directory, instance, epoch).read_bytes()).hexdigest()
    except OSError:
        return ""


def made_of(config: Config, epoch: int) -> dict[str, Any]:
    """Return what a run is made of, for JSON."""
    import llvmlite
    import numba

    return {
        "instance": config.daemon.name, "epoch": epoch, "version": __version__, "sources_sha256": sources_digest(),
        "strategies": {strategy_name(row): _strategy(row.file, config.path) for row in config.strategy if row.enabled},
        "python": platform.python_version(), "numba": numba.__version__, "llvmlite": llvmlite.__version__,
        "machine": platform.machine(), "kernel": platform.release(), "config": dataclasses.asdict(config),
    }  # fmt: skip


def sources_digest(package: Path = PACKAGE) -> str:
    """Return the SHA-256, in hex, of all Python files of a package: names and contents, in order of their names."""
    made = hashlib.sha256()
    for name, path in sorted((path.relative_to(package).as_posix(), path) for path in package.rglob("*.py")):
        made.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return made.hexdigest()


def _strategy(file: str, config_path: str) -> dict[str, str]:
    """Return a strategy's file and its SHA-256; '' where it cannot be read any more."""
    from hftd.strategy.program import find_file

    try:
        path = find_file(file, config_path)
        return {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    except (OSError, HftdError):
        return {"file": file, "sha256": ""}
