"""``python -m edged.worker``: sets what libraries read at their import, then runs the worker."""

from __future__ import annotations

import gc
import os
import sys

if __name__ == "__main__":
    # Until the model is loaded everything is there to stay: looking for garbage among it takes a
    # tenth of the start.
    gc.disable()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Pictures up to the image stage's limit in one piece of memory, so that they are never copied.
    os.environ.setdefault("PILLOW_BLOCK_SIZE", "192m")
    # Nothing here multiplies matrices in NumPy; its threads would only take memory.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from edged.worker.main import main

    sys.exit(main())
