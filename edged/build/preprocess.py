"""Which preprocessing a model gets: from what the user wrote and what the graph takes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Union

from edged.errors import ConfigError, ModelError
from edged.manifest import PRESETS, Preprocess

PreprocessLike = Union[Preprocess, Mapping[str, Any], "str | os.PathLike[str]", None]
"""The settings, their JSON form, that as text, a file of it, or the name of a preset."""

_FILE_LIMIT = 64 << 10  # bytes


def read_preprocess(value: PreprocessLike, shape: tuple[int, ...]) -> Preprocess | None:
    """Returns the settings that ``value`` stands for.

    Args:
        value: None for a model that takes tensors.
        shape: of the graph's input, -1 for any; a preset takes the layout that this one has.

    Raises:
        ConfigError: there is no such preset or file, or it is not JSON.
        ModelError: the settings are wrong; see ``Preprocess``.
    """
    if value is None or isinstance(value, Preprocess):
        return value
    if isinstance(value, Mapping):
        return Preprocess.from_json(dict(value))
    text = os.fspath(value)
    if text in PRESETS:
        return replace(PRESETS[text], layout=_layout(shape))
    return Preprocess.from_json(_parse(text))


def _parse(text: str) -> object:
    what = "preprocess"
    if not text.lstrip().startswith("{"):
        path = Path(text)
        what = f"preprocess file {text}"
        try:
            with path.open("rb") as stream:
                text = stream.read(_FILE_LIMIT).decode()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(
                f"cannot read {what}: {exc}; expected JSON, a file of it, or one of the presets "
                f"{', '.join(PRESETS)}"
            ) from exc
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"cannot read {what}: it is not JSON: {exc}") from exc


def _layout(shape: tuple[int, ...]) -> str:
    return "nhwc" if len(shape) == 4 and shape[3] == 3 and shape[1] != 3 else "nchw"


def check_fits(preprocess: Preprocess, name: str, shape: tuple[int, ...]) -> None:
    """Checks that the graph takes what the image stage makes.

    Raises:
        ModelError: it does not; the text names both shapes.
    """
    made = preprocess.shape
    if len(shape) != 4 or any(
        want not in (-1, got) for want, got in zip(shape[1:], made[1:], strict=True)
    ):
        expected = ", ".join(["N", *map(str, shape[1:])])
        raise ModelError(
            f"cannot connect preprocess to the graph: input {name!r} expects ({expected}), "
            f"preprocess makes {made}; change its size or layout"
        )
