#!/usr/lib/edged/bin/python3 -I
"""The edged command, in the package's own environment whatever the caller's is."""

import sys

from edged.__main__ import main

sys.exit(main())
