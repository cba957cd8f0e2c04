"""How unlikely chance must be to raise an alarm, by how often people let themselves be called for nothing."""

from __future__ import annotations

from streamer.core.health.fold import DAY_MS

MONTH_MS = 30 * DAY_MS


def alpha_of(false_alarms_per_month: float, monitors: int, window_ms: int) -> float:
    """The probability below which a move is no chance, for a pipeline that may raise so many alarms a month although
    nothing has changed, while so many monitors look once a window.

    The looks of a month share that budget. That each window of a row must show the move saves nothing here, since
    windows next to each other are not independent. A second baseline that looks, too, is not counted: where nothing
    but the hour of the day changes, floors leave more of the budget unused than it takes. Where shares also wander at
    random from hour to hour, `streamer bench drift --wander` says what becomes of the budget.
    """
    looks = MONTH_MS / window_ms
    return min(0.5, false_alarms_per_month / (max(monitors, 1) * looks))
