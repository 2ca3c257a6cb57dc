"""Where a network's variables come from: drawn from a seed, or a file of trained ones.

A file is an .npz keyed by TensorFlow's names of the variables. What a training run leaves beside
them is passed over and said: an optimiser's slots, whose names begin with a variable's
(``.../weights/Momentum``), counters such as ``global_step``, and the mean that the preprocessing
subtracts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edged.errors import ConfigError
from edged.zoo import seeded
from edged.zoo.layers import Network, PerClass, Shape, sized
from edged.zoo.npz import Archive

Array = npt.NDArray[np.float32]

CLASS_LIMIT = 32_768

_SEED_DIGITS = 18
_LISTED = 8  # names in a text
_BESIDE = ("global_step", "beta1_power", "beta2_power")


@dataclass(frozen=True, eq=False)
class Weights:
    """A network's variables.

    Attributes:
        variables: by TensorFlow's name, in its layouts, all that ``Network.variables`` lists.
        classes: that they tell apart.
        notes: what whoever builds with them should know, in sentences.
    """

    variables: Mapping[str, Array]
    classes: int
    notes: tuple[str, ...]


def read(network: Network, source: str | os.PathLike[str], classes: int | None = None) -> Weights:
    """Returns the variables of a network.

    Args:
        network: whose.
        source: ``random:SEED``, or the path of an .npz file.
        classes: that it tells apart; None for as many as the file has, or the network's usual.

    Raises:
        ConfigError: there is no such source.
        ModelError: the file is damaged, or its variables are not this network's; the text names
            file, variable, what was expected and what is there.
    """
    text = os.fspath(source)
    kind, colon, seed = text.partition(":")
    if kind == "random" and (colon or not Path(text).exists()):
        return _drawn(network, text, seed, network.classes if classes is None else classes)
    if not text:
        raise ConfigError("cannot use weights '': expected random:SEED or an .npz file")
    with Archive(text) as archive:
        return _read(network, archive, classes)


def _drawn(network: Network, text: str, seed: str, classes: int) -> Weights:
    if not (seed.isascii() and seed.isdigit() and len(seed) <= _SEED_DIGITS):
        raise ConfigError(
            f"cannot use weights {text!r}: the seed must be an integer, such as random:0"
        )
    note = (
        f"the weights are random ({text}): the answers mean nothing, only the time they take; "
        "give trained ones as an .npz file"
    )
    return Weights(seeded.draw(network, int(seed), classes), classes, (note,))


def _read(network: Network, archive: Archive, classes: int | None) -> Weights:
    shapes = network.variables()
    beside = _check_names(network, archive, shapes)
    if classes is None:
        classes = _classes(archive, shapes)
    found: dict[str, Array] = {}
    for name, shape in shapes.items():
        found[name] = archive.array(name, sized(shape, classes))
        if name.endswith("/moving_variance") and found[name].min() < 0:
            raise archive.error(
                f"variable {name!r}: expected variances, got {found[name].min()}, less than 0"
            )
    return Weights(found, classes, _notes(len(found), beside))


def _check_names(network: Network, archive: Archive, shapes: Iterable[str]) -> list[str]:
    """Returns what the file has beside the network's variables, all of it harmless."""
    wanted = dict.fromkeys(shapes)
    there = set(archive.names)
    beside = [name for name in archive.names if name not in wanted]
    missing = [name for name in wanted if name not in there]
    harmless = {*_BESIDE, f"{network.scope}/mean_rgb"}
    extra = [name for name in beside if name not in harmless and not _is_slot(name, wanted)]
    causes = []
    if missing:
        causes.append(f"{len(missing)} of {len(wanted)} variables are missing: {_list(missing)}")
    if extra:
        causes.append(f"{len(extra)} are not {network.scope}'s: {_list(extra)}")
    if causes:
        raise archive.error("; ".join(causes))
    return beside


def _is_slot(name: str, wanted: Mapping[str, None]) -> bool:
    parts = name.split("/")
    return any("/".join(parts[:end]) in wanted for end in range(1, len(parts)))


def _classes(archive: Archive, shapes: Mapping[str, Shape]) -> int:
    """Returns how many the file has, by the first bias of which there is one for each class."""
    name, size = next(
        (name, shape[0])
        for name, shape in shapes.items()
        if len(shape) == 1 and isinstance(shape[0], PerClass)
    )
    shape = archive.header(name).shape
    limit, times = CLASS_LIMIT * size.times, size.times
    if len(shape) != 1 or not times <= shape[0] <= limit or shape[0] % times:
        each = "[classes]" if times == 1 else f"[{times} * classes]"
        raise archive.error(
            f"variable {name!r}: expected shape {each} with 1 to {CLASS_LIMIT} of them, "
            f"got {list(shape)}"
        )
    return shape[0] // times


def _notes(count: int, beside: list[str]) -> tuple[str, ...]:
    if not beside:
        return ()
    return (f"{count} variables read; {len(beside)} of training passed over: {_list(beside)}",)


def _list(names: list[str]) -> str:
    listed = ", ".join(repr(name[:100]) for name in names[:_LISTED])
    more = len(names) - _LISTED
    return f"{listed} and {more} more" if more > 0 else listed
