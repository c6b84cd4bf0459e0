"""The processor "round": options, and numbers by the column."""

from __future__ import annotations

import numpy as np

from ebbtide import Floats, Ints, Series, Settings, ValueProcessor, option


class RoundSettings(Settings):
    """Options of the processor "round"."""

    digits: int = option(3, "How many digits stay behind the decimal point.", ge=0, le=15)
    names: list[str] = option([], "Names of the gauges to round; none: all of them.")


class Round(ValueProcessor[RoundSettings]):
    """Rounds gauges, so that they compress better."""

    Settings = RoundSettings

    def wants(self, series: Series) -> bool:
        """Choose the rows; asked once for each form, not once for each poll."""
        names = self.settings.names
        return series.family.kind == "gauge" and (not names or series.name in names)

    def map_values(self, values: Floats, times: Ints) -> Floats:
        """Round a whole column. Numbers too large to have such digits stay as they are."""
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = np.round(values, self.settings.digits)
        return np.where(np.isfinite(rounded), rounded, values)
