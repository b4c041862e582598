"""`config/README.md`, made from the configuration's own declarations: what the program checks is what the page says.

To write it anew after a key has changed: .venv/bin/python -m hftd.control.reference > config/README.md
"""

import dataclasses
import sys
from typing import Any

from hftd.control.config import RISK_PER_INSTRUMENT, SECTIONS, TYPES, RolePlacement

HEAD = """# Configuration

One TOML file says all there is to say about an instance. [hftd.toml](hftd.toml) trades against `hftd sim` as it stands: copy it and
edit it. [production.toml](production.toml) is where to begin on a machine with isolated cores and a real venue.

The file is read once, at the start, and kept in the daemon's shared memory, so that `hftd status` looks at what runs and not at
what the file has come to say since. Every mistake is one line that names the file, the key, its value and what would be right; an
unknown key is a mistake, and the nearest known one is named:

```
$ hftd start -c my.toml
hftd: my.toml: risk.order_qty_maxx: unknown key; did you mean order_qty_max?
```

A key that is left out has its default. Numbers are in the unit shown. Passwords do not belong in this file: `gateway.password_env`
names an environment variable, `gateway.password_file` a file of mode 0600 or a systemd credential.

This page is generated: `.venv/bin/python -m hftd.control.reference > config/README.md` writes it, and a test holds it to the code.
"""


def reference() -> str:
    """Return the page that describes every key."""
    return "\n".join([HEAD, *(_section(name, kind) for name, kind in SECTIONS.items())]).rstrip() + "\n"


def _section(name: str, kind: type) -> str:
    about = (kind.__doc__ or "").partition(": ")[2].strip()
    title = f"[[{name}]]" if name == "strategy" else f"[{name}]"
    lines = [f"## {title}", "", f"{about[:1].upper()}{about[1:]}", ""]
    lines += ["| key | type | default | range | meaning |", "|---|---|---|---|---|"]
    lines += [_row(item) for item in dataclasses.fields(kind)]
    if name == "risk":
        lines += ["", f"`[risk.instrument.SYMBOL]` may set {', '.join(f'`{key}`' for key in RISK_PER_INSTRUMENT)}."]
    if name == "placement":
        lines += ["", f"`[placement.role.ROLE]` may set {', '.join(f'`{one.name}`' for one in dataclasses.fields(RolePlacement))}."]
    return "\n".join([*lines, ""])


def _row(item: dataclasses.Field) -> str:
    facts = item.metadata
    default = item.default_factory() if item.default is dataclasses.MISSING else item.default  # type: ignore[misc]
    return f"| `{item.name}` | {_type(item, default)} | {_value(default)} | {_range(facts)} | {_cell(facts['doc'])} |"


def _type(item: dataclasses.Field, default: Any) -> str:
    word = TYPES[type(default)].removeprefix("an ").removeprefix("a ")
    if isinstance(default, list):
        return "list of " + ("integers" if "int" in str(item.type) else "texts")
    return f"{word}, {item.metadata['unit']}" if item.metadata["unit"] else word


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, dict):
        return "none"
    if isinstance(value, list):
        return f"`{str(value).replace(chr(39), chr(34))}`"
    return f"`{value}`"


def _range(facts: Any) -> str:
    if facts["choices"]:
        return ", ".join(f"`{choice}`" for choice in facts["choices"])
    if facts["pattern"]:
        return f"`{_cell(facts['pattern'])}`"
    low, high = facts["min"], facts["max"]
    said = "" if low is None else f"at least {low}" if high is None else f"{low} to {high}"
    return f"{said}, a power of two" if facts["pow2"] else said


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
