"""The receiver "loadavg": polls a file, counts what it does, and says what fails."""

from __future__ import annotations

import numpy as np
import trio

from ebbtide import Batch, Emit, Family, PositiveDuration, Receiver, Series, SeriesTable, Settings, option

LOAD = Family("system_load", "gauge", "1", "Average number of processes that run or want to.")
TABLE = SeriesTable(Series.of("system_load", {"window": window}, LOAD) for window in ("1m", "5m", "15m"))


class LoadAverageSettings(Settings):
    """Options of the receiver "loadavg"."""

    path: str = option("/proc/loadavg", "File to read.")
    interval: PositiveDuration = option("10s", "How often to read it.")


class LoadAverage(Receiver[LoadAverageSettings]):
    """Reads the load averages of a Linux machine."""

    Settings = LoadAverageSettings

    async def run(self, emit: Emit) -> None:
        """Poll until cancelled."""
        while True:
            await self.once(emit)
            await trio.sleep(self.settings.interval)

    async def once(self, emit: Emit) -> None:
        """Poll once. Each sample is counted before it is emitted; a failure is counted and said, never raised."""
        self.counts.polls += 1
        try:
            text = await trio.Path(self.settings.path).read_text()
            values = np.array([float(word) for word in text.split()[:3]])
            if len(values) != 3:
                raise ValueError("it has fewer than three numbers")
        except (OSError, ValueError) as error:
            self.counts.failed_polls += 1
            self.context.log.warning("%s: cannot read %s: %s", self.context.id, self.settings.path, error)
            return
        self.counts.samples += len(values)
        await emit(Batch(TABLE, values, np.full(3, self.context.now(), np.int64)))
