"""Budget: how often people let themselves be called for nothing."""

from __future__ import annotations

import msgspec

from streamer.core.health.fold import DAY_MS

MONTH_MS = 30 * DAY_MS


class Budget(msgspec.Struct, frozen=True):
    """`false_alarms_per_month` is what a pipeline may raise although nothing has changed; `monitors` is how many look
    once a window of `window_ms`. An alarm needs `windows` in a row."""

    false_alarms_per_month: float
    monitors: int
    window_ms: int
    windows: int = 2

    @property
    def alpha(self) -> float:
        """How unlikely chance must be to raise an alarm at one look.

        The looks of a month share the budget. That each window of a row must show the move saves nothing here, since
        windows next to each other are not independent. A second baseline that looks, too, is not counted: where
        nothing but the hour of the day changes, floors leave more of the budget unused than it takes. Where shares also
        wander at random from hour to hour, `streamer bench drift --wander` says what becomes of the budget.
        """
        looks = MONTH_MS / self.window_ms
        return min(0.5, self.false_alarms_per_month / (max(self.monitors, 1) * looks))
