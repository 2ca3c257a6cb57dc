"""Which edged this is; both are to be raised with each release.

Said here, as to ask what is installed takes as long as a tenth of a start.
"""

from __future__ import annotations

VERSION = "0.1.0"
BUILT_UNIX = 1_793_491_200  # seconds since 1970 that no right clock is before: 2026-11-01
