"""What a look raises where there is nothing to look at."""

from __future__ import annotations


class SkipError(Exception):
    """There is nothing to look at here; the text says why."""
