"""Every setting comes from where it should, and what cannot be used is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edged.config import Config, default_run_dir, load, split_address, unknown_variables
from edged.errors import ConfigError


def loaded(
    tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, **flags: Any
) -> Config:
    file = tmp_path / "edged.toml"
    file.write_text(text)
    return load(flags, {"HOME": str(tmp_path), **(environ or {})}, file)


def test_defaults_are_complete(tmp_path: Path) -> None:
    config = load({}, {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)})
    assert config.listen == "127.0.0.1:50051"
    assert (config.runtime, config.threads, config.isa) == ("process", None, None)
    assert (config.log_level, config.strict) == ("info", False)
    assert config.state_dir.is_absolute()
    assert config.grpc_socket == config.run_dir / "grpc.sock"


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    text = 'listen = "127.0.0.1:1"\nthreads = 1\nlog_level = "debug"'
    environ = {"EDGED_LISTEN": "127.0.0.1:2", "EDGED_THREADS": "2", "EDGED_ISA": ""}
    config = loaded(tmp_path, text, environ, listen="127.0.0.1:3", runtime=None)
    assert (config.listen, config.threads, config.log_level) == ("127.0.0.1:3", 2, "debug")
    assert config.isa is None, "an empty variable is none"


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    file.write_text("strict = true")
    assert load({}, {"EDGED_CONFIG": str(file), "HOME": "/"}).strict is True


def test_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    assert loaded(tmp_path, state_dir="x").state_dir == Path("/tmp/x")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('listne = "127.0.0.1:1"', "unknown key 'listne'; the nearest is 'listen'"),
        ("qqq = 1", "the nearest is"),
        ("threads = 0", "from 1 to 1024, got 0"),
        ("threads = true", "from 1 to 1024, got True"),
        ('threads = "many"', "got 'many'"),
        ("memory_limit = 1", "from 64 to 16777216, got 1"),
        ("process_limit = 1.5", "from 16 to 32768, got 1.5"),
        ("cpu_limit = true", "from 0.01 to 1024, got True"),
        ('cpu_limit = "nan"', "got 'nan'"),
        ('cpu_limit = "two"', "got 'two'"),
        ("listen = 50051", "expected HOST:PORT, got 50051"),
        ('strict = "yes"', "expected true or false, got 'yes'"),
        ('runtime = "docker"', "expected one of process, runc, runc-root"),
        ('isa = "sse"', "expected one of portable, avx2"),
        ('log_level = "loud"', "expected one of debug"),
        ('state_dir = ""', "expected a text"),
        ("this is not toml", "cannot read"),
        (f'run_dir = "/{"x" * 100}"', "at most 107 bytes"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert why in str(caught.value)


def test_the_source_of_a_bad_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="EDGED_THREADS"):
        loaded(tmp_path, environ={"EDGED_THREADS": "x"})
    with pytest.raises(ConfigError, match="--threads"):
        loaded(tmp_path, threads="x")


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load({}, {}, tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:50051", ("127.0.0.1", 50051)),
        ("127.9.9.9:0", ("127.9.9.9", 0)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_loopback_addresses_are_taken(listen: str, address: tuple[str, int]) -> None:
    assert split_address(listen) == address


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.168.1.1:1", "example.com:1"])
def test_addresses_that_others_can_reach_need_tls(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigError, match=r"needs TLS and callers' tokens.*use 127\.0\.0\.1"):
        loaded(tmp_path, listen=listen)
    config = loaded(tmp_path, '[tls]\ncert_file = "c"\nkey_file = "k"', listen=listen)
    assert (config.tls.cert_file, config.tls.key_file) == (tmp_path / "c", tmp_path / "k")


@pytest.mark.parametrize("listen", ["", "127.0.0.1", ":1", "127.0.0.1:x", "127.0.0.1:65536"])
def test_what_is_no_address_is_refused(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        loaded(tmp_path, listen=listen)


def test_a_variable_that_is_nearly_a_key_is_pointed_out() -> None:
    environ = {"EDGED_LISTN": "x", "EDGED_LISTEN": "x", "EDGED_SERVICE_HOST": "x", "PATH": "x"}
    assert unknown_variables(environ) == ["EDGED_LISTN is not used; did you mean EDGED_LISTEN?"]


def test_callers_look_where_the_environment_says() -> None:
    assert default_run_dir({"EDGED_RUN_DIR": "/r"}) == Path("/r")
    assert default_run_dir({"RUNTIME_DIRECTORY": "/q"}) == Path("/q")


def test_the_limits_of_a_models_process_are_numbers(tmp_path: Path) -> None:
    config = loaded(tmp_path, "memory_limit = 512\ncpu_limit = 2", process_limit="64")
    assert (config.memory_limit, config.cpu_limit, config.process_limit) == (512, 2.0, 64)


def test_registries_are_tables_of_the_file(tmp_path: Path) -> None:
    text = """
        [registries."plant.example:5000"]
        username = "line4"
        password_file = "secret"
        plain_http = true
    """
    config = loaded(tmp_path, text)
    assert config.registries == {
        "plant.example:5000": {
            "username": "line4",
            "password_file": tmp_path / "secret",
            "plain_http": True,
        }
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("registries = 3", r"expected tables \[registries"),
        ("[registries]\nx = 3", r"expected tables \[registries"),
        ('[registries."h"]\nuser = "x"', "unknown key 'user'; the nearest is 'username'"),
        ('[registries."h"]\nplain_http = "yes"', "plain_http: expected true or false, got 'yes'"),
        ('[registries."h"]\nusername = 3', "username: expected a text, got 3"),
    ],
)
def test_a_registry_that_makes_no_sense_is_said(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        loaded(tmp_path, text)


def test_signatures_are_required_and_the_window_is_a_minute(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert (config.verify, config.window) == ("required", 60.0)
    assert config.keys_dir == tmp_path / ".config" / "edged" / "keys" or config.keys_dir == Path(
        "/etc/edged/keys"
    )
    assert loaded(tmp_path, environ={"EDGED_WINDOW": "0", "EDGED_VERIFY": "off"}).window == 0
    for wrong in ("-1", "x", "nan", "1e9"):
        with pytest.raises(ConfigError, match="expected seconds"):
            loaded(tmp_path, environ={"EDGED_WINDOW": wrong})
    with pytest.raises(ConfigError, match="expected one of required, off"):
        loaded(tmp_path, verify="maybe")
