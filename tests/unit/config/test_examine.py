"""Everything that is wrong is said, by line; of everything that is right, where it is from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged.cli import main
from edged.config import ALL, Examined, examine, keys, load, shipped, variable
from edged.config.mqtt import SECRETS
from edged.config.settings import Config
from edged.errors import ConfigError
from tests.fakes.authority import Authority

ROOT = Path(__file__).resolve().parents[3]
BAD = """\
listne = "127.0.0.1:1"
threads = 0

[tls]
cert_fiel = "x"
client_cert = "maybe"

[registries."plant.example:5000"]
password = 5
"""


def examined(tmp_path: Path, text: str, **environ: str) -> Examined:
    file = tmp_path / "edged.toml"
    file.write_text(text)
    return examine({}, {"HOME": str(tmp_path), **environ}, file)


def test_all_that_is_wrong_is_said_with_line_key_and_nearest_name(tmp_path: Path) -> None:
    found = examined(tmp_path, BAD, EDGED_TLS_CLIENT_ROLE="king")
    assert found.config is None
    assert [(each.line, each.key, each.nearest) for each in found.problems] == [
        (1, "listne", "listen"),
        (2, "threads", ""),
        (5, "tls.cert_fiel", "cert_file"),
        (6, "tls.client_cert", ""),
        (9, 'registries."plant.example:5000".password', ""),
        (None, "tls.client_role", ""),
    ]
    assert str(found.problems[1]) == (
        f"{tmp_path}/edged.toml:2: threads: expected a number from 1 to 1024, got 0"
    )
    assert str(found.problems[-1]) == (
        "EDGED_TLS_CLIENT_ROLE: tls.client_role: expected one of predict, status, admin, got 'king'"
    )


def test_a_daemon_that_cannot_use_it_is_told_everything_too(tmp_path: Path) -> None:
    file = tmp_path / "edged.toml"
    file.write_text(BAD)
    with pytest.raises(ConfigError, match=r"edged\.toml:1: .*edged\.toml:9: "):
        load({}, {"HOME": str(tmp_path)}, file)


@pytest.mark.parametrize(
    ("text", "line"), [("a = 1\n\nb = = 2", 3), ('a = 1\nb = """x\n', 2), ("[t]\na=1\na=2\n", 3)]
)
def test_what_is_no_toml_has_a_line(tmp_path: Path, text: str, line: int) -> None:
    (problem,) = examined(tmp_path, text).problems
    assert (problem.line, "cannot read it as TOML" in problem.message) == (line, True)


def test_bytes_that_are_no_text_have_a_line(tmp_path: Path) -> None:
    file = tmp_path / "edged.toml"
    file.write_bytes(b"strict = true\n# \xff\n")
    with pytest.raises(ConfigError, match="line 2 is not UTF-8"):
        examine({}, {"HOME": "/"}, file)


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than"):
        examine({}, {"HOME": "/"}, Path("/dev/zero"))


def test_every_value_says_where_it_is_from(tmp_path: Path) -> None:
    text = 'log_level = "debug"\n\n[limits]\nconnections = 7\nidle = 5\n'
    file = tmp_path / "edged.toml"
    file.write_text(text)
    environ = {"HOME": str(tmp_path), "EDGED_LIMITS_IDLE": "6", "EDGED_AUTH_ON_LOOPBACK": "true"}
    found = examine({"threads": "3", "limits.body": "4"}, environ, file)
    assert found.config is not None
    expected = {
        "log_level": ("debug", f"{file}:1"),
        "limits.connections": (7, f"{file}:4"),
        "limits.idle": (6.0, "variable EDGED_LIMITS_IDLE"),
        "auth.on_loopback": (True, "variable EDGED_AUTH_ON_LOOPBACK"),
        "threads": (3, "flag --threads"),
        "limits.body": (4.0, "flag --set limits.body"),
        "limits.handshake": (10.0, "default"),
    }
    shown = found.settings
    assert {name: (shown[name].value, shown[name].origin) for name in expected} == expected
    assert (found.config.limits.connections, found.config.limits.idle) == (7, 6.0)


def test_a_flag_for_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set tls\.cert: there is no setting"):
        load({"tls.cert": "x"}, {"HOME": "/"})


def test_files_are_looked_for_beside_the_file_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/tmp")
    text = '[tls]\ncert_file = "tls/a.pem"\nkey_file = "/k.pem"\n'
    config = examined(tmp_path, text, EDGED_TLS_DENY_FILE="denied").config
    assert config is not None
    assert config.tls.cert_file == tmp_path / "tls/a.pem"
    assert (config.tls.key_file, config.tls.deny_file) == (Path("/k.pem"), Path("/tmp/denied"))


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ('\n[tls]\ncert_file = "x"', 3, "it needs tls.key_file too"),
        ('[tls]\nclient_cert = "required"', 2, "it needs tls.cert_file, tls.key_file"),
        ('listen = "0.0.0.0:5"', 1, "needs TLS and callers' tokens"),
        ("tls = 3", 1, "expected a table [tls], got 3"),
        ('[sockets]\ngrpc_mode = "999"', 2, "octal digits"),
        ('[tls]\nclient_roles = { a = "king" }', 2, "each one of predict, status, admin"),
    ],
)
def test_what_does_not_fit_is_said_where_it_stands(
    tmp_path: Path, text: str, line: int, why: str
) -> None:
    (problem,) = examined(tmp_path, text).problems
    assert problem.line == line
    assert why in problem.message


def test_roles_of_certificates_come_from_the_file_or_a_variable(tmp_path: Path) -> None:
    config = examined(tmp_path, '[tls]\nclient_roles = { "line 4" = "admin" }').config
    assert config is not None
    assert config.tls.client_roles == {"line 4": "admin"}
    config = examined(tmp_path, "", EDGED_TLS_CLIENT_ROLES="a=admin, b = status").config
    assert config is not None
    assert config.tls.client_roles == {"a": "admin", "b": "status"}


# -- the shipped file


def test_the_shipped_file_is_what_the_code_has() -> None:
    file = ROOT / "packaging/config/edged.toml"
    assert file.read_text() == shipped.text(), "edged config template > packaging/config/edged.toml"


def test_the_shipped_file_has_every_setting_and_sets_none(tmp_path: Path) -> None:
    text = (ROOT / "packaging/config/edged.toml").read_text()
    untouched = examined(tmp_path, text)
    assert {each.origin for each in untouched.settings.values()} == {"default"}
    everything = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in text.split("\n")
        if line != "#"
    ).replace("; for a user", "")
    found = examined(tmp_path, everything)
    set_there = {name for name, each in found.settings.items() if each.origin != "default"}
    registry = {f"registries.HOST.{name}" for name in keys.own(keys.free(Config)["registries"])}
    assert set_there == {*ALL, *registry}
    # A secret and the file with it exclude each other; nothing else does.
    assert [each.key for each in found.problems] == [f"mqtt.{name}" for name in SECRETS]
    for name, key in ALL.items():
        if not key.example and "dir" not in name:
            assert found.settings[name].value == key.default, name


def test_no_two_settings_share_a_variable() -> None:
    names = [variable(name) for name in ALL]
    assert len({*names, "EDGED_CONFIG"}) == len(names) + 1


# -- the commands


def test_check_config_prints_the_lines_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "edged.toml"
    file.write_text(BAD)
    assert main(["check-config", str(file)]) == 2
    out = capsys.readouterr().out
    assert f"{file}:1: listne: unknown key 'listne'; the nearest is 'listen'\n" in out
    assert out.endswith(f"{file}: 5 problems\n")
    assert main(["check-config", "--json", str(file)]) == 2
    facts = json.loads(capsys.readouterr().out)
    assert facts["problems"][0] == {
        "source": str(file),
        "line": 1,
        "key": "listne",
        "message": "unknown key 'listne'; the nearest is 'listen'",
        "nearest": "listen",
    }
    file.write_text("strict = true\n")
    assert main(["check-config", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: nothing is wrong\n"


def test_config_show_hides_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGED_SOCKETS_CONTROL_MODE", "0600")
    file = tmp_path / "edged.toml"
    file.write_text('[registries."r.example"]\nusername = "u"\npassword = "hunter2"\n')
    assert main(["config", "show", "--config", str(file)]) == 0
    text = capsys.readouterr().out
    assert main(["config", "show", "--json", "--config", str(file)]) == 0
    facts = json.loads(text_json := capsys.readouterr().out)
    assert "hunter2" not in text + text_json
    assert facts["settings"]['registries."r.example".password'] == {
        "value": "(hidden)",
        "origin": f"{file}:3",
    }
    assert facts["settings"]["sockets.control_mode"] == {
        "value": "0600",
        "origin": "variable EDGED_SOCKETS_CONTROL_MODE",
    }
    assert facts["settings"]["listen"] == {"value": "127.0.0.1:50051", "origin": "default"}


def test_a_secret_that_cannot_be_used_is_not_shown_either(tmp_path: Path) -> None:
    (problem,) = examined(tmp_path, '[registries."r"]\npassword = 12345').problems
    assert "12345" not in str(problem)


# -- files that settings name


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def checked(file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    main(["check-config", str(file)])
    return capsys.readouterr().out


def test_check_config_looks_into_the_files_too(
    tmp_path: Path,
    authority: Authority,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file, state = tmp_path / "edged.toml", tmp_path / "state"
    state.mkdir()
    text = f'state_dir = "{state}"\nlisten = "0.0.0.0:5"\n[tls]\ncert_file = "ca/server.pem"\n'
    file.write_text(text + 'key_file = "ca/none"\n')
    assert f"{file}:4: tls.cert_file: cannot read {tmp_path}/ca/none" in checked(file, capsys)
    file.write_text(text + 'key_file = "ca/server.key"\n')
    assert f"{file}:2: listen: cannot listen on 0.0.0.0:5: nobody could" in checked(file, capsys)
    main(["tokens", "create", "line4", "--role", "predict", "--config", str(file)])
    assert (state / "tokens.json").exists(), "in the folder that the file names"
    capsys.readouterr()
    assert checked(file, capsys) == f"{file}: nothing is wrong\n"
    file.write_text(text + 'key_file = "ca/server.key"\ndeny_file = "edged.toml"\n')
    assert f"{file}:6: tls.deny_file: cannot use {file}: line 1" in checked(file, capsys)


def test_check_config_knows_what_a_registrys_name_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "edged.toml"
    file.write_text('[registries."http://x/"]\nusername = "u"\nmirror = "m"\n')
    said = checked(file, capsys).splitlines()
    assert said[0].startswith(f'{file}:2: registries."http://x/".username: cannot use ')
    assert said[1:] == [f"{file}: 1 problem"]
    file.write_text('[registries."x:5000"]\nusername = "u"\n')
    assert checked(file, capsys) == f"{file}: nothing is wrong\n"


def test_a_credential_is_where_the_service_manager_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[tls]\ncert_file = "credential:tls.pem"\nkey_file = "credential:tls.key"\n'
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x.service")
    config = examined(tmp_path, text).config
    assert config is not None
    assert config.tls.cert_file == Path("/run/credentials/x.service/edged_tls.pem")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    config = examined(tmp_path, text).config
    assert config is not None
    assert config.tls.key_file == Path("/run/credentials/edged.service/edged_tls.key")
    (problem,) = examined(tmp_path, '[tls]\ndeny_file = "credential:../x"\n').problems
    assert "a path, or credential:NAME" in problem.message
