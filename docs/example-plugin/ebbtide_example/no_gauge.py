"""The processor "no_gauge": the smallest plugin there is."""

from ebbtide import SeriesProcessor


class NoGauge(SeriesProcessor):
    """Drops every gauge."""

    def map_series(self, series):
        return None if series.family.kind == "gauge" else series
