"""Where the tests find real exchange data: never in the repository, since it may not be republished."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("HFTD_SHARED_DATA", ROOT.parent / "shared" / "data"))


def shared_spec(name: str) -> dict:
    """Return the tables of a specification, which lie beside the data, or skip the test."""
    path = SHARED.parent / "specs" / name
    if not path.exists():
        pytest.skip(f"specification absent: {name} (looked in ../shared/specs)")
    return json.loads(path.read_text())


def shared_data(name: str) -> Path:
    """Return the path of a file of real data, or skip the test, saying what is missing."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"real data absent: {name} (looked in ../shared/data; HFTD_SHARED_DATA overrides)")
    return path
