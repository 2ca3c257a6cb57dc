"""The extra that graphs need and devices do not."""

from __future__ import annotations

from edged.errors import ConfigError


def need_onnx() -> None:
    """Checks that graphs can be read and made here.

    Raises:
        ConfigError: onnx is not installed.
    """
    try:
        import onnx  # noqa: F401 - whether it is there
    except ImportError as exc:
        raise ConfigError(
            "cannot read or make graphs: onnx is not installed; pip install 'edged[build]'"
        ) from exc
