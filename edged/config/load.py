"""All sources of the configuration, brought together: every value, where it is from, what is wrong.

``load`` is for those who need a configuration; ``examine`` for those who want to see all of it,
good or bad.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edged.config import consistency, document, folders, settings
from edged.config.document import Document
from edged.config.keys import Key
from edged.config.problem import Problem, sentence
from edged.config.setting import HIDDEN, Setting
from edged.config.settings import ALL, Config
from edged.errors import ConfigError


@dataclass
class Examined:
    """What the sources say.

    Attributes:
        file: that was read, if one was.
        settings: every setting by name, in the order of the shipped file.
        problems: what is wrong; the settings are not to be used if there is anything.
        config: None if there are problems.
    """

    file: Path | None
    settings: dict[str, Setting] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    config: Config | None = None


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ, file: Path | None = None
) -> Config:
    """Returns the configuration from all its sources.

    Args:
        flags: by key, with its table as in ``tls.cert_file``; None where a flag was not given.
        environ: read for ``EDGED_<KEY>``; empty values count as absent.
        file: must exist if given; else ``EDGED_CONFIG``, else the default one if there is one.

    Raises:
        ConfigError: names the source, the line and the key at fault, what is valid and what came;
            all that is wrong, not just the first.
    """
    examined = examine(flags, environ, file)
    if examined.config is None:
        raise ConfigError(sentence(examined.problems))
    return examined.config


def examine(
    flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ, file: Path | None = None
) -> Examined:
    """Returns every setting with its origin, and everything that is wrong.

    Raises:
        ConfigError: the file cannot be read.
    """
    default = folders.default(environ)
    path = _choose_file(file, environ, default.config / "edged.toml")
    read = Document() if path is None else document.read(path, Config)
    examined = Examined(path, problems=list(read.problems))
    places = {
        "state_dir": default.state,
        "run_dir": default.run,
        "keys_dir": default.config / "keys",
    }
    for name, key in ALL.items():
        examined.settings[name] = Setting(key, places.get(name, key.default))
    for key, value, base, setting in (
        *_from_file(read),
        *_from_variables(environ),
        *_from_flags(flags),
    ):
        _take(examined, key, value, base, setting)
    # By line; what comes from elsewhere goes last.
    examined.problems.sort(key=lambda each: (each.line is None, each.line or 0))
    if not examined.problems:
        config: Config = settings.build(_nested(examined.settings, read.tables))
        examined.problems += consistency.problems(config, examined.settings)
        examined.config = None if examined.problems else config
    return examined


_Given = tuple[Key, Any, Path, tuple[str, str, int | None]]  # the last: source, origin, line


def _from_file(read: Document) -> Iterator[_Given]:
    for found in read.found:
        source = str(read.path)
        place = source if found.line is None else f"{source}:{found.line}"
        folder = read.path.absolute().parent if read.path else Path()
        yield found.key, found.value, folder, (source, place, found.line)


def _from_variables(environ: Mapping[str, str]) -> Iterator[_Given]:
    for key in ALL.values():
        if text := environ.get(key.variable):
            yield key, text, Path(), (key.variable, f"variable {key.variable}", None)


def _from_flags(flags: Mapping[str, Any]) -> Iterator[_Given]:
    for name, value in flags.items():
        if value is None:
            continue
        flag = f"--set {name}" if "." in name else "--" + name.replace("_", "-")
        if name not in ALL:
            raise ConfigError(f"cannot use {flag}: there is no setting {name!r}")
        yield ALL[name], value, Path(), (flag, f"flag {flag}", None)


def _take(
    examined: Examined, key: Key, value: Any, base: Path, place: tuple[str, str, int | None]
) -> None:
    source, origin, line = place
    try:
        typed = key.kind.read(value, base)
    except (TypeError, ValueError):
        came = HIDDEN if key.secret else repr(value)
        message = f"expected {key.kind.expected}, got {came}"
        examined.problems.append(Problem(source, message, line, key.name))
    else:
        examined.settings[key.name] = Setting(key, typed, origin, line)


def _nested(found: Mapping[str, Setting], tables: list[tuple[str, ...]]) -> dict[str, Any]:
    """Returns the values as ``settings.build`` takes them."""
    values: dict[str, Any] = {}
    for path in tables:
        _inner(values, path)
    for each in found.values():
        _inner(values, each.key.path[:-1])[each.key.path[-1]] = each.value
    return values


def _inner(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        values = values.setdefault(name, {})
    return values


def _choose_file(given: Path | None, environ: Mapping[str, str], default: Path) -> Path | None:
    if given is not None:
        return given
    if environ.get("EDGED_CONFIG"):
        return Path(environ["EDGED_CONFIG"])
    try:
        return default if default.exists() else None
    except OSError as exc:  # a folder that one may not look into
        raise ConfigError(f"cannot read {default}: {exc.strerror}") from exc
