"""The configuration: examples load, and every mistake is one line with file, key, value and what would be right."""

import dataclasses
import os
from pathlib import Path

import pytest
import tomli

from hftd.control import config as module
from hftd.control.config import SECTIONS, Config, ConfigError, build, from_json, load, to_json
from hftd.control.reference import reference
from tests.support.data import ROOT

EXAMPLES = sorted((ROOT / "config").glob("*.toml"))
VARIABLES = (
    "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "LOGS_DIRECTORY", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "CREDENTIALS_DIRECTORY",
    "HFTD_PASSWORD",
)  # fmt: skip


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    """No directory or password of whoever runs the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def from_text(tmp_path: Path, text: str, mode: int = 0o600) -> Config:
    path = tmp_path / "c.toml"
    path.write_text(text)
    path.chmod(mode)
    return load(path)


def complaint(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    """Return what is said of a file, after checking that it is one line that names the file."""
    with pytest.raises(ConfigError) as raised:
        from_text(tmp_path, text, mode)
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith(f"{tmp_path}/c.toml: ")
    return said.removeprefix(f"{tmp_path}/c.toml: ")


# ------------------------------------------------------------ examples


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_loads(path):
    config = load(path)
    assert config.path == str(path)
    assert config.strategy


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_names_strategies_that_exist(path):
    for row in load(path).strategy:
        assert (ROOT / "strategies" / row.file).is_file(), row.file


def test_example_shows_every_section_or_leaves_it_to_defaults():
    assert {path.name for path in EXAMPLES} >= {"hftd.toml", "production.toml"}
    shown = tomli.loads((ROOT / "config/hftd.toml").read_text())
    assert set(shown) == set(SECTIONS) - {"rings"}


def test_production_refuses_to_give_up_independent_risk():
    config = load(ROOT / "config/production.toml")
    assert config.daemon.layout == "dedicated"
    assert not config.daemon.allow_fused
    assert config.daemon.lock_memory


def test_empty_file_is_a_whole_configuration(tmp_path):
    config = from_text(tmp_path, "")
    for name, kind in SECTIONS.items():
        assert getattr(config, name) == (() if name == "strategy" else kind())


def test_values_reach_their_fields(tmp_path):
    config = from_text(tmp_path, "[risk]\nloss_max = 7\n[[strategy]]\nfile = 'a.py'\n[[strategy]]\nfile = 'b.py'\nenabled = false")
    assert config.risk.loss_max == 7.0 and isinstance(config.risk.loss_max, float)
    assert [(row.file, row.enabled) for row in config.strategy] == [("a.py", True), ("b.py", False)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_json_and_back_is_the_same_configuration(path):
    config = load(path)
    assert from_json(to_json(config)) == config


def test_json_of_a_running_daemon_is_checked_again():
    text = to_json(build({}, "x")).replace('"order_qty_max": 1000', '"order_qty_max": 0')
    with pytest.raises(ConfigError, match=r"^x: risk.order_qty_max"):
        from_json(text)


# ------------------------------------------------------------ mistakes

MISTAKES = [
    ("daemon = 5", "daemon: must be a table of keys, was 5"),
    ("gateway = 5", "gateway: must be a table of keys, was 5"),
    ("[deamon]", "[deamon]: unknown section; did you mean daemon?"),
    ("[zzz]", "[zzz]: unknown section; known are daemon, placement, universe, feed, strategy, risk, gateway, recorder, rings"),
    ("[strategy]\nfile = 'a.py'", "[strategy]: must be written [[strategy]], one for each strategy"),
    ("strategy = [1]", "strategy[0]: must be a table of keys, was 1"),
    ("[risk]\norder_qty_maxx = 5", "risk.order_qty_maxx: unknown key; did you mean order_qty_max?"),
    ("[risk]\norder_qty_max = -5", "risk.order_qty_max: must be 1 to 999999 shares, was -5"),
    ("[risk]\norder_notional_max = 0", "risk.order_notional_max: must be at least 0.01 currency, was 0.0"),
    ("[risk]\nloss_max = nan", "risk.loss_max: must be a finite number, was nan"),
    ("[risk]\nloss_max = inf", "risk.loss_max: must be a finite number, was inf"),
    ("[risk]\norder_qty_max = '5'", "risk.order_qty_max: must be an integer, was '5'"),
    ("[risk]\norder_qty_max = 5.0", "risk.order_qty_max: must be an integer, was 5.0"),
    ("[risk]\norder_qty_max = true", "risk.order_qty_max: must be an integer, was True"),
    ("[daemon]\nrestart = 1", "daemon.restart: must be true or false, was 1"),
    ("[daemon]\nstop_timeout_s = true", "daemon.stop_timeout_s: must be a number, was True"),
    ("[daemon]\nname = 5", "daemon.name: must be a text, was 5"),
    ("[daemon]\nname = 'No'", "daemon.name: must match [a-z][a-z0-9_-]{0,23}, was 'No'"),
    ("[daemon]\nlayout = 'spread'", "daemon.layout: must be one of auto, dedicated, shared, fused, was 'spread'"),
    ("[daemon]\ncores = 1", "daemon.cores: must be a list, was 1"),
    ("[daemon]\ncores = ['a']", "daemon.cores: must hold integers only, held 'a'"),
    ("[daemon]\ncores = [true]", "daemon.cores: must hold integers only, held True"),
    ("[daemon]\ncores = [1, 1]", "daemon.cores: 1 stands twice"),
    ("[daemon]\nlayout = 'fused'\nallow_fused = false",
     "daemon.layout: fused is refused by daemon.allow_fused = false: risk would not be independent"),
    ("[rings]\nmd = 5000", "rings.md: must be a power of two, was 5000; try 8192"),
    ("[universe]\nsymbols = [1]", "universe.symbols: must hold texts only, held 1"),
    ("[universe]\nsymbols = ['A', 'A']", "universe.symbols: 'A' stands twice"),
    ("[universe]\nsymbols = ['A B']", "universe.symbols: 'A B' must be 1 to 8 characters without spaces"),
    ("[universe]\nsymbols = ['ABCDEFGHI']", "universe.symbols: 'ABCDEFGHI' must be 1 to 8 characters without spaces"),
    ("[[strategy]]\n", "strategy[0].file: must name a strategy file; `hftd strategy list` shows them"),
    ("[[strategy]]\nfile='a.py'\n[[strategy]]\nfile='a.py'",
     "strategy[1].name: two instances are called 'a'; give each a name of its own"),
    ("[universe]\nsymbols=['AAPL']\n[[strategy]]\nfile='a.py'\nsymbols=['AAPLE']",
     "strategy[0].symbols: AAPLE is not in universe.symbols; did you mean AAPL?"),
    ("[universe]\nsymbols=['AAPL']\n[risk.instrument.APPL]\norder_qty_max=1",
     "risk.instrument: APPL is not in universe.symbols; did you mean AAPL?"),
    ("[risk.instrument]\nAAPL = 1", "risk.instrument.AAPL: must be a table of limits, was 1"),
    ("[risk.instrument.AAPL]\norder_qty = 1", "risk.instrument.AAPL.order_qty: unknown limit; did you mean order_qty_max?"),
    ("[risk.instrument.AAPL]\norder_qty_max = 0", "risk.instrument.AAPL.order_qty_max: must be 1 to 999999 shares, was 0"),
    ("[feed]\nline_a = ''", "feed.line_a: must be host:port, was ''"),
    ("[feed]\nline_a = '239.0.0.1'", "feed.line_a: must be host:port, was '239.0.0.1'"),
    ("[feed]\nline_a = '239.0.0.1:0'", "feed.line_a: must be host:port, was '239.0.0.1:0'"),
    ("[feed]\nline_a = '239.0.0.1:²'", "feed.line_a: must be host:port, was '239.0.0.1:²'"),
    ("[feed]\nline_a = 'nasdaq:1'", "feed.line_a: must be an IPv4 address, was 'nasdaq'; `ip -4 address` shows the interfaces'"),
    ("[feed]\nline_a = '239.0.0.1:1'\nline_b = '239.0.0.1:1'",
     "feed.line_b: is line_a again (239.0.0.1:1); leave it empty where there is no second line"),
    ("[feed]\ninterface = 'eth0'", "feed.interface: must be an IPv4 address, was 'eth0'; `ip -4 address` shows the interfaces'"),
    ("[feed]\nrequest = ['a']", "feed.request: must be host:port, was 'a'"),
    ("[gateway]\naddress = ''", "gateway.address: must be host:port, was ''"),
    ("[gateway]\nusername = 'SEVENTH'", "gateway.username: must be 1 to 6 characters, was 'SEVENTH'"),
    ("[gateway]\nusername = ''", "gateway.username: must be 1 to 6 characters, was ''"),
    ('[daemon]\nrun_dir = "a\\u0000b"', "daemon.run_dir: must hold no control character, was 'a\\x00b'"),
    ('[risk]\npositions = "a\\nb"', "risk.positions: must hold no control character, was 'a\\nb'"),
    ('[feed]\nrequest = ["a\\tb:1"]', "feed.request: must hold no control character, held 'a\\tb:1'"),
    ("[feed]\nsession = 'ELEVENCHARS'", "feed.session: must match [!-~]{0,10}, was 'ELEVENCHARS'"),
    ("[gateway]\nsession = 'é'", "gateway.session: must match [!-~]{0,10}, was 'é'"),
    ("[feed]\nglimpse_user = 'SEVENTH'", "feed.glimpse_user: must match [ -~]{0,6}, was 'SEVENTH'"),
    (f"[daemon]\nstop_timeout_s = {'9' * 400}", "daemon.stop_timeout_s: must be a finite number, was inf"),
    ("[gateway]\npassword = 'x'", "gateway.password: unknown key; did you mean password_env?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[said.partition(";")[0][:60] for _, said in MISTAKES])
def test_mistake_is_named_with_what_would_be_right(tmp_path, text, said):
    assert complaint(tmp_path, text) == said


def test_account_limit_is_no_limit_of_one_instrument(tmp_path):
    said = complaint(tmp_path, "[risk.instrument.AAPL]\nloss_max = 5.0")
    assert said.startswith("risk.instrument.AAPL.loss_max: holds for the whole account; ")


def test_limit_of_an_instrument_has_the_type_of_the_account_s(tmp_path):
    config = from_text(tmp_path, "[risk.instrument.AAPL]\norder_notional_max = 5")
    assert isinstance(config.risk.instrument["AAPL"]["order_notional_max"], float)


def test_seventeen_strategies_are_one_too_many(tmp_path):
    assert complaint(tmp_path, "".join(f"[[strategy]]\nfile = 's{i}.py'\n" for i in range(17))) == (
        "strategy: at most 16 instances, were 17"
    )


def test_broken_toml_is_shown_with_its_place(tmp_path):
    said = complaint(tmp_path, "[daemon\nname = 1")
    assert said.startswith("not TOML: ") and "line 1" in said


def test_binary_file_is_not_text(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"c\.toml: is not UTF-8 text$"):
        load(tmp_path / "c.toml")


@pytest.mark.parametrize("text", ["a = " + "[" * 10_000, "a = " + "9" * 5_000], ids=["deep", "long number"])
def test_what_the_parser_cannot_take_is_not_toml(tmp_path, text):
    assert complaint(tmp_path, text).startswith("not TOML: ")


def test_mark_and_line_ends_of_other_editors_are_no_mistake(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf[daemon]\r\nname = 'bom'\r\n")
    assert load(tmp_path / "c.toml").daemon.name == "bom"


def test_configuration_without_end_is_not_read_to_its_end():
    with pytest.raises(ConfigError, match=r"^/dev/zero: is no configuration: it has more than 1,048,576 bytes$"):
        load("/dev/zero")


def test_no_name_of_a_file_is_no_directory():
    """A script's unset variable: `-c ""`."""
    with pytest.raises(ConfigError, match=r"^no configuration file is named: give one with -c FILE, or in \$HFTD_CONFIG$"):
        load("")


def test_missing_file_and_directory_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: no such file; copy config/hftd\.toml and edit it$"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r": Is a directory; give a file that you may read$"):
        load(tmp_path)


def test_every_key_has_documentation():
    for section, kind in SECTIONS.items():
        for item in dataclasses.fields(kind):
            assert item.metadata.get("doc"), f"{section}.{item.name}"


# ------------------------------------------------------------ secrets


def test_password_in_a_readable_file_is_a_secret_given_away(tmp_path):
    said = complaint(tmp_path, "[gateway]\npassword = 'geheim'", mode=0o644)
    assert said == "gateway.password: secrets do not belong in a readable file; use gateway.password_env"
    assert "geheim" not in said


def test_password_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("HFTD_PASSWORD", "from-there")
    assert module.password(build({})) == "from-there"
    monkeypatch.setenv("OTHER", "elsewhere")
    assert module.password(build({"gateway": {"password_env": "OTHER"}})) == "elsewhere"
    monkeypatch.delenv("OTHER")
    assert module.password(build({"gateway": {"password_env": "OTHER"}})) == ""


@pytest.mark.parametrize("text", ["elevenchars", "pässword", "two\nlines"])
def test_password_that_cannot_be_sent_is_told_and_not_shown(tmp_path, monkeypatch, text):
    monkeypatch.setenv("HFTD_PASSWORD", text)
    for config, what in ((build({}, "c.toml"), "gateway.password_env: what HFTD_PASSWORD holds"),
                         (with_file(tmp_path, secret(tmp_path, text=text)), "gateway.password_file: what")):  # fmt: skip
        with pytest.raises(ConfigError, match="must be 10 plain ASCII characters at most") as raised:
            module.password(config)
        assert what in str(raised.value) and text not in str(raised.value)


def secret(tmp_path: Path, name: str = "secret", text: str = "geheim\n", mode: int = 0o600) -> Path:
    path = tmp_path / name
    path.write_text(text)
    path.chmod(mode)
    return path


def with_file(tmp_path: Path, name) -> Config:
    return build({"gateway": {"password_file": str(name)}}, str(tmp_path / "c.toml"))


def test_password_file_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HFTD_PASSWORD", "not-this")
    assert module.password(with_file(tmp_path, secret(tmp_path))) == "geheim"
    assert module.password(with_file(tmp_path, "secret")) == "geheim"  # beside the configuration


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_password_file_that_others_may_open_is_refused(tmp_path, mode):
    path = secret(tmp_path, mode=mode)
    with pytest.raises(ConfigError) as raised:
        module.password(with_file(tmp_path, path))
    assert str(raised.value) == f"{tmp_path}/c.toml: gateway.password_file: others may read {path}; run: chmod 600 {path}"


def test_password_file_must_exist_and_hold_text(tmp_path):
    with pytest.raises(ConfigError, match=r"c\.toml: gateway\.password_file: .*/none: No such file or directory$"):
        module.password(with_file(tmp_path, "none"))
    with pytest.raises(ConfigError, match=r"empty is empty; it must hold the password$"):
        module.password(with_file(tmp_path, secret(tmp_path, "empty", "\n")))
    secret(tmp_path, "binary").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"binary: is not text$"):
        module.password(with_file(tmp_path, "binary"))


def test_systemd_credential_is_found_by_name_and_may_carry_an_acl(tmp_path, monkeypatch):
    given = tmp_path / "credentials"
    given.mkdir()
    secret(given, "password", "theirs", mode=0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    assert module.password(with_file(tmp_path, "password")) == "theirs"
    assert module.password(with_file(tmp_path, given / "password")) == "theirs"
    (given / "password").chmod(0o444)
    with pytest.raises(ConfigError, match="others may read"):
        module.password(with_file(tmp_path, "password"))


# ------------------------------------------------------------ directories


def test_directories_come_from_configuration_then_service_manager_then_home(tmp_path, monkeypatch):
    plain = build({"daemon": {"name": "one"}})
    assert module.run_dir(plain) == tmp_path / "home/.hftd/one"
    assert module.state_dir(plain) == tmp_path / "home/.local/state/hftd/one"
    assert module.log_dir(plain) == tmp_path / "home/.hftd/one/log"
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/run:{tmp_path}/other")
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/state")
    monkeypatch.setenv("LOGS_DIRECTORY", f"{tmp_path}/logs")
    assert module.run_dir(plain) == tmp_path / "run/one"
    assert module.state_dir(plain) == tmp_path / "state/one"
    assert module.log_dir(plain) == tmp_path / "logs"
    chosen = build({"daemon": {"name": "one", "run_dir": f"{tmp_path}/mine"}})
    assert module.run_dir(chosen) == module.state_dir(chosen) == tmp_path / "mine/one"
    assert (tmp_path / "mine/one").stat().st_mode & 0o777 == 0o700


def test_resolved_configuration_means_the_same_places_in_another_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/run")
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/state")
    config = build({"daemon": {"name": "one"}})
    before = module.run_dir(config), module.state_dir(config), module.log_dir(config)
    fixed = module.resolved(config)
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert (module.run_dir(fixed), module.state_dir(fixed), module.log_dir(fixed)) == before
    assert from_json(to_json(fixed)) == fixed


def test_directory_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one").chmod(0o777)
    config = build({"daemon": {"name": "one", "run_dir": str(tmp_path)}}, "c.toml")
    with pytest.raises(ConfigError) as raised:
        module.run_dir(config)
    assert str(raised.value) == f"c.toml: daemon.run_dir: {tmp_path}/one: others may write to it; run: chmod 700 {tmp_path}/one"


def test_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    config = build({"daemon": {"name": "one", "run_dir": str(tmp_path)}}, "c.toml")
    with pytest.raises(ConfigError, match=r"daemon\.run_dir: .*/one: belongs to uid \d+; choose a directory of your own$"):
        module.run_dir(config)


def test_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    config = build({"daemon": {"name": "one", "run_dir": f"{tmp_path}/file"}}, "c.toml")
    with pytest.raises(ConfigError, match=r"^c\.toml: daemon\.run_dir: .*/file/one: Not a directory$"):
        module.run_dir(config)


# ------------------------------------------------------------ documentation


def test_reference_page_is_current():
    page = (ROOT / "config/README.md").read_text()
    assert page == reference(), "run: .venv/bin/python -m hftd.control.reference > config/README.md"


def test_reference_page_names_every_key():
    page = reference()
    for kind in SECTIONS.values():
        for item in dataclasses.fields(kind):
            assert f"| `{item.name}` |" in page
