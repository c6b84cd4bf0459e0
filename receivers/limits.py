"""Prometheus' limits of one scrape: what exceeds one refuses the whole answer (prometheus/prometheus, scrape/scrape.go)."""

from __future__ import annotations

from dataclasses import dataclass

from receivers.text import Sample


class TooMuch(Exception):
    """A limit of the operator's is exceeded: the whole answer is refused, as in Prometheus."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Prometheus' limits of one scrape; 0 = off."""

    samples: int = 0
    labels: int = 0
    label_name_length: int = 0
    label_value_length: int = 0

    @property
    def apply(self) -> bool:
        """Whether any limit applies to single series."""
        return bool(self.labels or self.label_name_length or self.label_value_length)

    def check(self, sample: Sample) -> None:
        """Raise TooMuch where one series exceeds a limit."""
        names, values = sample.labels[::2], sample.labels[1::2]
        if self.labels and len(names) + 1 > self.labels:  # the name is a label too
            raise TooMuch(f"{sample.name[:80]} has {len(names) + 1} labels, label_limit is {self.labels}")
        for limit, option, words in (
            (self.label_name_length, "label_name_length_limit", names),
            (self.label_value_length, "label_value_length_limit", values),
        ):
            longest = max(map(len, words), default=0)
            if limit and longest > limit:
                raise TooMuch(f"{sample.name[:80]} has one of {longest} characters, {option} is {limit}")
