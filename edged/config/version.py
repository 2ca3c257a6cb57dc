"""Which edged this is."""

from __future__ import annotations

# Seconds since 1970 that no right clock is before: 2026-11-01. To be raised with each release.
BUILT_UNIX = 1_793_491_200


def text() -> str:
    """Returns the version of the installed package, or says that it is not installed."""
    from importlib import metadata

    try:
        return metadata.version("edged")
    except metadata.PackageNotFoundError:
        return "0+uninstalled"
