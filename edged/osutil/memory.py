"""How the C library keeps memory for this process."""

from __future__ import annotations

import ctypes

ARENAS = 2  # heaps: the main thread's, and one for all others
_M_ARENA_MAX = -8  # mallopt(3)


def share_heaps() -> None:
    """Has all threads but the first share one heap. To be called before any thread is started.

    Otherwise glibc gives each a heap of its own, up to eight a processor, and each keeps what its
    thread once needed: a few MiB of whatever was read from a disk, ten times over. Where there is
    no glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
