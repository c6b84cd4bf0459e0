"""Kubernetes' label selectors, looked at before they are sent: a mistake is told when the file is checked.

Source: kubernetes/apimachinery, pkg/labels/selector.go (Parse, NewRequirement) and pkg/util/validation.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = rf"(?:[a-z0-9][-a-z0-9.]{{0,252}}/)?{_WORD}"
_VALUES = rf"\(\s*(?:{_WORD})?\s*(?:,\s*(?:{_WORD})?\s*)*\)"
_REQUIREMENT = re.compile(
    rf"!\s*{_KEY} | {_KEY} (?: \s*(?:==?|!=)\s*(?:{_WORD})? | \s+(?:in|notin)\s*{_VALUES} | \s*[<>]\s*[0-9]{{1,18}} )?",
    re.VERBOSE | re.ASCII,
)
_OUTSIDE_BRACKETS = re.compile(r",(?![^(]*\))")


def is_selector(text: str) -> bool:
    """Tell whether an API server would take the text as a label selector; ``""`` selects everything."""
    return not text or all(_REQUIREMENT.fullmatch(part.strip()) for part in _OUTSIDE_BRACKETS.split(text))


def _a_selector(text: str) -> str:
    if not is_selector(text):
        raise ValueError('not a label selector; write one such as "app=web,tier in (front,back)"')
    return text


LabelSelector = Annotated[str, AfterValidator(_a_selector)]
"""An option that holds a label selector."""
