"""Which edged this is."""

from __future__ import annotations


def text() -> str:
    """Returns the version of the installed package, or says that it is not installed."""
    from importlib import metadata

    try:
        return metadata.version("edged")
    except metadata.PackageNotFoundError:
        return "0+uninstalled"
