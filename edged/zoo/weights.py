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
from edged.zoo import network, seeded
from edged.zoo.npz import Archive

Array = npt.NDArray[np.float32]

CLASSES = 1000
"""Of a drawn classifier, unless said otherwise: ImageNet's."""
CLASS_LIMIT = 32_768

_SEED_DIGITS = 18
_LISTED = 8  # names in a text
_BESIDE = frozenset({"global_step", "beta1_power", "beta2_power", f"{network.SCOPE}/mean_rgb"})


@dataclass(frozen=True, eq=False)
class Weights:
    """A network's variables.

    Attributes:
        variables: by TensorFlow's name, in its layouts, all that ``network.variables`` lists.
        notes: what whoever builds with them should know, in sentences.
    """

    variables: Mapping[str, Array]
    notes: tuple[str, ...]


def read(source: str | os.PathLike[str], classes: int | None = None) -> Weights:
    """Returns the variables of ResNet-50.

    Args:
        source: ``random:SEED``, or the path of an .npz file.
        classes: of the classifier; None for as many as the file has, or a thousand.

    Raises:
        ConfigError: there is no such source.
        ModelError: the file is damaged, or its variables are not this network's; the text names
            file, variable, what was expected and what is there.
    """
    text = os.fspath(source)
    kind, colon, seed = text.partition(":")
    if kind == "random" and (colon or not Path(text).exists()):
        return _drawn(text, seed, CLASSES if classes is None else classes)
    if not text:
        raise ConfigError("cannot use weights '': expected random:SEED or an .npz file")
    with Archive(text) as archive:
        return _read(archive, classes)


def _drawn(text: str, seed: str, classes: int) -> Weights:
    if not (seed.isascii() and seed.isdigit() and len(seed) <= _SEED_DIGITS):
        raise ConfigError(
            f"cannot use weights {text!r}: the seed must be an integer, such as random:0"
        )
    note = (
        f"the weights are random ({text}): the answers mean nothing, only the time they take; "
        "give trained ones as an .npz file"
    )
    return Weights(seeded.draw(int(seed), classes), (note,))


def _read(archive: Archive, classes: int | None) -> Weights:
    shapes = network.variables()
    beside = _check_names(archive, shapes)
    if classes is None:
        classes = _classes(archive)
    found: dict[str, Array] = {}
    for name, sizes in shapes.items():
        shape = tuple(classes if isinstance(size, str) else size for size in sizes)
        found[name] = archive.array(name, shape)
        if name.endswith("/moving_variance") and found[name].min() < 0:
            raise archive.error(
                f"variable {name!r}: expected variances, got {found[name].min()}, less than 0"
            )
    return Weights(found, _notes(len(found), beside))


def _check_names(archive: Archive, shapes: Iterable[str]) -> list[str]:
    """Returns what the file has beside the network's variables, all of it harmless."""
    wanted = dict.fromkeys(shapes)
    there = set(archive.names)
    beside = [name for name in archive.names if name not in wanted]
    missing = [name for name in wanted if name not in there]
    extra = [name for name in beside if name not in _BESIDE and not _is_slot(name, wanted)]
    causes = []
    if missing:
        causes.append(f"{len(missing)} of {len(wanted)} variables are missing: {_list(missing)}")
    if extra:
        causes.append(f"{len(extra)} are not {network.SCOPE}'s: {_list(extra)}")
    if causes:
        raise archive.error("; ".join(causes))
    return beside


def _is_slot(name: str, wanted: Mapping[str, None]) -> bool:
    parts = name.split("/")
    return any("/".join(parts[:end]) in wanted for end in range(1, len(parts)))


def _classes(archive: Archive) -> int:
    name = network.LOGITS[1]
    shape = archive.header(name).shape
    if len(shape) != 1 or not 1 <= shape[0] <= CLASS_LIMIT:
        raise archive.error(
            f"variable {name!r}: expected shape [classes] with 1 to {CLASS_LIMIT} of them, "
            f"got {list(shape)}"
        )
    return shape[0]


def _notes(count: int, beside: list[str]) -> tuple[str, ...]:
    if not beside:
        return ()
    return (f"{count} variables read; {len(beside)} of training passed over: {_list(beside)}",)


def _list(names: list[str]) -> str:
    listed = ", ".join(repr(name[:100]) for name in names[:_LISTED])
    more = len(names) - _LISTED
    return f"{listed} and {more} more" if more > 0 else listed
