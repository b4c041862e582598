"""What the pages say exists: links, folders, files, commands, options."""

import os
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from hftd.cli.main import parser
from tests.support.data import ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"(?:\.\./)*[\w.-]+(?:/[\w.-]+)+/?|[\w-]+\.(?:py|toml|md|service|sysusers)")
NO_FILE = ("build/", ".venv", "~", "/", "log/", "log_dir/", "run_dir/", "state_dir/", "http", "ring.")
STAGES = ("feed", "strategy", "risk", "gateway", "recorder", "control", "sim")


@cache
def checkout() -> tuple[Path, ...]:
    """Return every file of the checkout, without what was made there (hidden folders, caches, builds)."""
    found = []
    for folder, below, files in os.walk(ROOT):
        below[:] = [each for each in below if not each.startswith((".", "__pycache__", "build")) and not each.endswith(".egg-info")]
        found += [Path(folder) / file for file in files]
    return tuple(sorted(found))


PAGES = [path for path in checkout() if path.suffix == ".md"]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    broken = []
    for target in LINK.findall(prose(page)):
        place, _, anchor = target.partition("#")
        if place.startswith(("http://", "https://", "mailto:")):
            continue
        reached = (page.parent / place).resolve() if place else page
        if not reached.exists() or (anchor and reached.suffix == ".md" and anchor not in anchors(reached)):
            broken.append(target)
    assert not broken


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def folders() -> list[str]:
    top = {path.relative_to(ROOT).parts[0] for path in checkout() if len(path.relative_to(ROOT).parts) > 1}
    return sorted(folder for folder in top if not folder.startswith("."))


@pytest.mark.parametrize("folder", [*folders(), *(f"hftd/{stage}" for stage in STAGES)])
def test_folder_says_what_it_is_for(folder):
    assert (ROOT / folder / "README.md").is_file()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_named_in_prose_exist(page):
    """A path in backquotes is one that can be opened, from the page, the checkout or the package."""
    wrong = []
    for words in CODE.findall(prose(page)):
        if not PATH.fullmatch(words) or words.startswith(NO_FILE) or "*" in words:
            continue
        bases = (page.parent, ROOT, ROOT / "hftd", ROOT / "tests", ROOT / "strategies")
        if not any((base / words).exists() for base in bases) and not elsewhere(words):
            wrong.append(words)
    assert not wrong


def elsewhere(words: str) -> bool:
    """Tell whether a bare file name stands somewhere in the checkout; or whether it is a ratio, a pair or a date after all."""
    if "/" in words:
        first = words.split("/")[0]
        return not (ROOT / first).is_dir() and not (ROOT / "hftd" / first).is_dir() and "." not in words.rsplit("/", 1)[1]
    return any(path.name == words for path in checkout())


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        text = page.read_text()
        lines = [line for block in FENCE.findall(text) for line in block.splitlines()] + CODE.findall(prose(page))
        for line in lines:
            for part in re.split(r"[;&|]| {2,}#", line):
                words = re.sub(r"^[$#] ", "", part.strip())
                if re.match(r"(\S*/)?hftd [a-z]", words) and "…" not in words:
                    found.append((name(page), words))
    return sorted(set(found))


@cache
def synopsis() -> dict[str, tuple[set[str], set[str]]]:
    """Return command -> (its options, its subcommands)."""
    known = {}
    for action in parser()._actions:
        if action.dest == "command":
            for command, sub in action.choices.items():
                below = [each for each in sub._actions if each.choices and hasattr(each, "add_parser")]
                options = {option for each in sub._actions for option in each.option_strings}
                for one in (one for each in below for one in each.choices.values()):
                    options |= {option for each in one._actions for option in each.option_strings}
                known[command] = options, {choice for each in below for choice in each.choices}
    return known


def test_commands_in_the_pages_are_found():
    assert len(commands()) > 10


@pytest.mark.parametrize(("page", "line"), commands())
def test_command_named_in_a_page_exists(page, line):
    words = shlex.split(line, comments=True)[1:]
    assert words[0] in synopsis(), f"hftd {words[0]} is no command"
    options, below = synopsis()[words[0]]
    unknown = [word for word in words[1:] if word.startswith("--") and word.split("=")[0] not in options]
    assert not unknown
    if below and len(words) > 1 and not words[1].startswith("-"):
        assert words[1] in below


def test_scripts_named_in_the_readme_can_be_run():
    for script in set(re.findall(r"scripts/\w+", (ROOT / "README.md").read_text())):
        path = ROOT / script
        assert path.is_file()
        if script != "scripts/environment":
            assert path.stat().st_mode & 0o111, f"{script} is not executable"


def test_changelog_knows_this_version():
    from hftd import __version__

    assert f"] {__version__}" in (ROOT / "CHANGELOG.md").read_text() or f"[{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
