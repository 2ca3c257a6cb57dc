"""The number formats of the NPU (NPU.md 1.2): block floating point."""

from __future__ import annotations

from dataclasses import dataclass

from edged.errors import ModelError

NATIVE_DIMENSION = 128
"""Elements of a native vector, and of a block: 128 consecutive channels of one pixel."""


@dataclass(frozen=True)
class Format:
    """One block floating point format.

    An element is ``(-1)^s * q * 2^(E - 15 - (m - 1))`` with ``0 <= q < 2^m`` and one exponent
    ``1 <= E <= 30`` for the block.

    Attributes:
        name: as users write it, such as ``"ms-fp13"``.
        mantissa_bits: ``m``, explicit magnitude bits of an element; there is no hidden bit.
    """

    name: str
    mantissa_bits: int

    @property
    def largest(self) -> int:
        """The largest magnitude ``q`` of an element."""
        return (1 << self.mantissa_bits) - 1


_ALL = (Format("ms-fp8", 2), Format("ms-fp9", 3), Format("ms-fp11", 5), Format("ms-fp13", 7))
FORMATS: tuple[str, ...] = tuple(each.name for each in _ALL)
"""Names of all formats, narrowest first."""

DEFAULT_FORMAT = "ms-fp13"


def format_named(name: str) -> Format:
    """Returns the format of that name.

    Raises:
        ModelError: there is none; the text lists those there are.
    """
    for each in _ALL:
        if each.name == name:
            return each
    raise ModelError(f"cannot use format {name!r}: expected one of {', '.join(FORMATS)}")
