"""Prometheus' limits of one scrape: what exceeds one refuses the whole answer (prometheus/prometheus, scrape/scrape.go)."""

from __future__ import annotations

from dataclasses import dataclass

from receivers.text import Sample

_NAME = "__name__"


class TooMuch(Exception):
    """A limit of the operator's is exceeded: the whole answer is refused, as in Prometheus."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Prometheus' limits of one scrape; 0 = off. Lengths in bytes; the name is the value of a label ``__name__``."""

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
        names, values = (_NAME, *sample.labels[::2]), (sample.name, *sample.labels[1::2])
        if self.labels and len(names) > self.labels:
            raise TooMuch(f"{sample.name[:80]} has {len(names)} labels, label_limit is {self.labels}")
        for limit, option, words in (
            (self.label_name_length, "label_name_length_limit", names),
            (self.label_value_length, "label_value_length_limit", values),
        ):
            longest = max(len(word.encode(errors="surrogateescape")) for word in words) if limit else 0
            if longest > limit:
                raise TooMuch(f"{sample.name[:80]} has one of {longest} bytes, {option} is {limit}")
