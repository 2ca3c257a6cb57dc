"""Whether the one model serves, in words, and when a process that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass

BACKOFF = 10.0
BACKOFF_LIMIT = 300.0
DEATHS_AT_ONCE = 2
NO_MODEL = "Servable not found for request: no model is deployed; use 'edged deploy REF'"
LOADING = "the model is being loaded; try again"
REVERTING = "the model before is coming back; try again"
RESTARTING = "the model is being started anew; try again"


def restart_delay(deaths: int) -> float:
    """Returns the seconds to wait before the restart after this many deaths without a success."""
    if deaths <= DEATHS_AT_ONCE:
        return 0.0
    return min(BACKOFF_LIMIT, BACKOFF * 2.0 ** min(deaths - DEATHS_AT_ONCE - 1, 16))


@dataclass(frozen=True)
class Condition:
    """Whether requests are answered. ``state``: serving, starting, swapping or not_serving."""

    state: str
    reason: str = ""

    @property
    def serving(self) -> bool:
        """Whether a request is answered: at once, or after the swap that is under way."""
        return self.state in ("serving", "swapping")
