"""Changes of what is in service, on behalf of somebody: done by the reconciler, and recorded.

Operators and controllers far away ask for the same; who it was is all that differs.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from edged.access.recorder import Outcome, Recorder
from edged.access.roles import Caller
from edged.deploy.reconciler import Reconciler
from edged.deploy.types import Options, Progress
from edged.model.process import ModelProcess


class Changes:
    """What whoever may can ask for; operators and controllers each have more, on top of it.

    Args:
        reconciler: that does it.
        recorder: of administrative acts.
        who: returns whose the present call is.
    """

    def __init__(
        self, reconciler: Reconciler[ModelProcess], recorder: Recorder, who: Callable[[], Caller]
    ) -> None:
        self._reconciler = reconciler
        self._recorder = recorder
        self._who = who

    async def deploy(self, reference: str, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment and yields its progress to the end.

        Raises:
            RequestError: the device is held, or edged is stopping.
        """
        with self._act("deploy", options, options.origin or reference) as outcome:
            async for progress in self._reconciler.deploy(reference, options).watch():
                outcome.text = _told(progress)
                yield progress

    async def rollback(self, options: Options) -> AsyncIterator[Progress]:
        """Queues a deployment of the previous model and yields its progress to the end.

        Raises:
            RequestError: there is none, the device is held, or edged is stopping.
        """
        with self._act("rollback", options) as outcome:
            async for progress in self._reconciler.rollback(options).watch():
                outcome.text = _told(progress)
                yield progress

    async def undeploy(self, options: Options) -> str:
        """Takes the model out of service; returns its digest, empty if there was none.

        Raises:
            RequestError: the device is held, edged is stopping, or a newer target came.
            StoreError: the disk failed, and the model serves on.
        """
        with self._act("undeploy", options) as outcome:
            digest = await self._reconciler.undeploy(options)
            outcome.text = digest or "there was no model"
            return digest

    def _act(
        self, what: str, options: Options, subject: str = ""
    ) -> contextlib.AbstractContextManager[Outcome]:
        if options.again:  # nobody asked for it anew: the first attempt has its record
            return contextlib.nullcontext(Outcome())
        return self._recorder.act(self._who(), what, subject + _insisting(options))


def _insisting(options: Options) -> str:
    said = [(options.force, "forced"), (options.allow_downgrade, "downgrade allowed")]
    return "".join(f" ({words})" for is_so, words in said if is_so)


def _told(progress: Progress) -> str:
    return progress.state.value + (f": {progress.error}" if progress.error else "")
