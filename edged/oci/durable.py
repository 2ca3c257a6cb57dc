"""Files too large to be held in memory, written so that they appear complete or not at all.

The same order as ``osutil.atomic``: temporary name in the same folder, fsync, rename, fsync of the
folder. Here the content is a stream, and the name may depend on it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from edged.osutil import atomic


@contextlib.contextmanager
def new_file(folder: Path, name: Callable[[], str]) -> Iterator[BinaryIO]:
    """A file to write that becomes ``folder/name()`` when the block ends without an error."""
    fd, temporary = tempfile.mkstemp(prefix=".partial-", dir=folder)
    partial = Path(temporary)
    try:
        with os.fdopen(fd, "wb") as out:
            yield out
            out.flush()
            os.fchmod(fd, 0o644)
            os.fsync(fd)
        partial.rename(folder / name())
        atomic.sync_folder(folder)
    finally:
        partial.unlink(missing_ok=True)
