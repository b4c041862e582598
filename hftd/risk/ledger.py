"""The day's positions and loss, kept on disk, so that a restart on the same day has used up the same part of its budget.

`state_dir/risk.json` holds, for the UTC day, each instrument's net shares and cash, the price they were last valued at, and
whether the loss limit was reached. The recorder writes it (once a second when something changed, and at the end), never a hot
process. Risk takes it up when it starts on fresh memory: as *carried* shares and cash, apart from `positions`, which count this
run alone and are compared with the exchange's ledger. Another day's file is ignored; one that cannot be read is an error that a
person must look at.

Honest limits: it is what risk knew; where the venue did something after our end, only the venue's word tells (reconciliation).
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from hftd.control.config import Config, state_dir
from hftd.errors import HftdError

DAY_NS = 86_400_000_000_000


class LedgerError(HftdError):
    """The day's ledger cannot be used, and what to do."""


def path_of(config: Config) -> Path:
    """Return the ledger's file."""
    return state_dir(config) / "risk.json"


def today(utc_ns: int | None = None) -> int:
    """Return the number of the UTC day."""
    return (time.time_ns() if utc_ns is None else utc_ns) // DAY_NS


def symbol_text(value: int) -> str:
    """Return an instrument's symbol as text."""
    return int(value).to_bytes(8, "little", signed=True).decode("ascii", "replace").strip(" \0")


def snapshot(memory) -> dict[str, Any]:
    """Return the day so far: earlier runs and this one together."""
    risk, market = memory["risk"], memory["market"]
    positions, exposures = np.array(risk["positions"]), np.array(risk["exposures"])
    account = risk["account"][0]
    rows = {}
    qty = positions["bought_qty"] - positions["sold_qty"] + exposures["carried_qty"]
    cash = positions["sold_cash"] - positions["bought_cash"] + exposures["carried_cash"]
    for at in np.flatnonzero((qty != 0) | (cash != 0)):
        symbol = symbol_text(market["instruments"]["symbol"][at])
        if symbol:
            rows[symbol] = {"qty": int(qty[at]), "cash": int(cash[at]), "mark_px": int(exposures["mark_px"][at])}
    return {"day": int(account["day"]), "loss_latched": bool(int(account["loss_latched"])), "instruments": rows}


def save(config: Config, memory, durable: bool = False) -> None:
    """Write the ledger, whole or not at all; `durable`: through to the disk."""
    facts = snapshot(memory)
    if not facts["day"]:
        return
    path = path_of(config)
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(json.dumps(facts) + "\n")
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def load(config: Config, day: int) -> dict[str, Any]:
    """Return the ledger of `day`; an empty one where there is none of that day. Raises LedgerError."""
    path = path_of(config)
    empty: dict[str, Any] = {"day": day, "loss_latched": False, "instruments": {}}
    try:
        facts = json.loads(path.read_text())
        if int(facts["day"]) != day:
            return empty
        rows = {
            str(symbol): {key: int(row[key]) for key in ("qty", "cash", "mark_px")} for symbol, row in facts["instruments"].items()
        }
        return {"day": day, "loss_latched": bool(facts["loss_latched"]), "instruments": rows}
    except FileNotFoundError:
        return empty
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise LedgerError(f"{path}: cannot be read, and it holds the day's positions and loss: look, then remove it") from None
