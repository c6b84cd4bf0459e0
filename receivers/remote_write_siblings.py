"""New series whose labels another one of the same request has already shown: read without reading them again. Sans-IO.

Strategy. New series come in families: a new target's metrics share all labels but the name, a histogram's buckets all but
``le`` as well. So what a series has beside its name and its own label (``split_own``) is kept by how it is written, for as
long as the request is read; the next one that is written the same way is its sibling, and only its name and own label are
looked at. In 1.0 that is the labels' bytes, in 2.0 their symbols' numbers. Whatever is not plainly a sibling is read with
care.

Where an own label is cut out of bytes, it must begin where a label begins: then what stands before it is read as it was read
before, so is what follows it, and nothing that a value holds can pass for a label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from ebbtide import split_own
from receivers.remote_write_labels import NAME, Flat

Split = tuple[str, Flat, Flat]
"""A series' name, its flat labels but for its own, and its own; equal ones of a request are the same object."""

_SMALL = 0x80  # lengths below take one byte
_FIELD = 0x0A  # tag of a label in a series
_NAME_HEAD = b"\x0a\x08" + NAME.encode() + b"\x12"  # what a label begins with that is the name, its length apart
_NAME_AT = 2 + len(_NAME_HEAD) + 1  # where in its field the name itself begins
_OWN_HEADS = {label: bytes((_FIELD, len(label))) + label.encode() + b"\x12" for label in ("le", "quantile")}


class _Shared(NamedTuple):
    """Labels that series share: flat, those among them that other series have of their own, where in bytes one may begin."""

    flat: Flat
    owns: frozenset[str]
    begins: frozenset[int] = frozenset()


def _own_label(name: str) -> str:
    """Return the label that a sample of this name may have of its own, "" for none (``split_own``)."""
    if name.endswith(("_count", "_sum")):
        return ""
    return "le" if name.endswith("_bucket") else "quantile"


class _Names:
    """The names of one request's series, and their own labels; each text decoded once."""

    def __init__(self) -> None:
        self._names: dict[bytes, tuple[str, str]] = {}
        self._own: dict[Flat, Flat] = {}

    def name(self, text: bytes) -> tuple[str, str]:
        """Return a series' name and the label that it may have of its own. Raises UnicodeDecodeError."""
        found = self._names.get(text)
        if found is None:
            name = text.decode()
            found = self._names[text] = name, _own_label(name)
        return found

    def own(self, label: str, value: bytes) -> Flat:
        """Return an own label, flat. Raises UnicodeDecodeError."""
        flat = label, value.decode()
        return self._own.setdefault(flat, flat)


class ByteSiblings:
    """Those of one request of 1.0, by the bytes of their labels."""

    def __init__(self) -> None:
        self._names = _Names()
        self._shared: dict[bytes, _Shared] = {}

    def find(self, data: bytes, begin: int, end: int) -> Split | None:
        """Return what the labels say that lie there, None where they must be read."""
        rest_at = self._after_name(data, begin, end)
        if not rest_at:
            return None
        try:
            name, label = self._names.name(data[begin + _NAME_AT : rest_at])
            at = data.find(_OWN_HEADS[label], rest_at, end) - 2 if label else -3
            if at < 0:
                shared = self._shared.get(data[rest_at:end])
                return None if shared is None or label in shared.owns else (name, shared.flat, ())
            value_at = at + 3 + len(_OWN_HEADS[label])
            after = _end_of_text(data, at, value_at, end)
            shared = self._shared.get(data[rest_at:at] + data[after:end]) if after else None
            if shared is None or label in shared.owns or at - rest_at not in shared.begins:
                return None
            return name, shared.flat, self._names.own(label, data[value_at:after])
        except UnicodeDecodeError:
            return None

    def keep(self, data: bytes, begins: Sequence[int], name: str, flat: Flat) -> Split:
        """Split labels that were read and lie from one of ``begins`` to the next; keep them where siblings can be told."""
        rest, own = split_own(name, flat)
        own = own and self._names.own(own[0], own[1].encode())
        if len(begins) - 2 != len(flat) // 2 or self._after_name(data, begins[0], begins[-1]) != begins[1]:
            return name, rest, own  # with empty labels, or with the name elsewhere
        pieces = [data[first:last] for first, last in pairwise(begins[1:])]
        if own:
            head = _OWN_HEADS[own[0]]
            pieces = [piece for piece in pieces if not piece[2:].startswith(head)]
            if len(pieces) != len(rest) // 2:
                return name, rest, own
        at, places = 0, [0]
        for piece in pieces:
            at += len(piece)
            places.append(at)
        shared = self._shared.setdefault(b"".join(pieces), _Shared(rest, _owns(rest), frozenset(places)))
        return name, shared.flat, own

    def _after_name(self, data: bytes, begin: int, end: int) -> int:
        """Return where a first label ends that is the name, 0 where it is none."""
        name_at = begin + _NAME_AT
        if data[begin + 2 : name_at - 1] != _NAME_HEAD:
            return 0
        return _end_of_text(data, begin, name_at, end)


def _owns(flat: Flat) -> frozenset[str]:
    return frozenset(flat[::2]) & _OWN_HEADS.keys()


def _end_of_text(data: bytes, begin: int, text_at: int, end: int) -> int:
    """Return where a label's field that begins there, and its value at ``text_at``, both end; 0 where they do not."""
    if text_at >= end or data[begin] != _FIELD or not data[begin + 1] < _SMALL > data[text_at - 1] > 0:
        return 0
    after = begin + 2 + data[begin + 1]
    return after if after == text_at + data[text_at - 1] <= end else 0


class NumberSiblings:
    """Those of one request of 2.0, by the numbers of their labels' symbols, four bytes each."""

    def __init__(self, number: Callable[[bytes], bytes], text: Callable[[bytes], bytes]):
        self._text = text
        self._names = _Names()
        self._name = number(NAME.encode())
        self._labels = {label: number(label.encode()) for label in _OWN_HEADS}
        self._shared: dict[bytes, _Shared] = {}

    def find(self, key: bytes) -> Split | None:
        """Return what the labels of these numbers say, None where they must be read."""
        if key[:4] != self._name or len(key) % 8:
            return None
        try:
            name, label = self._names.name(self._text(key[4:8]))
            if not name:
                return None
            at = self._place(key, label)
            if at < 0:
                shared = self._shared.get(key[8:])
                return None if shared is None else (name, shared.flat, ())
            shared = self._shared.get(key[8:at] + key[at + 8 :])
            value = self._text(key[at + 4 : at + 8])
            if shared is None or not value or label in shared.owns:
                return None
            return name, shared.flat, self._names.own(label, value)
        except UnicodeDecodeError:
            return None

    def keep(self, key: bytes, name: str, flat: Flat) -> Split:
        """Split labels that were read and have these numbers; keep them where siblings can be told."""
        rest, own = split_own(name, flat)
        own = own and self._names.own(own[0], own[1].encode())
        if key[:4] != self._name or len(key) != 4 * len(flat) + 8:  # with empty labels, or with the name elsewhere
            return name, rest, own
        at = self._place(key, own[0]) if own else -1
        shared = key[8:at] + key[at + 8 :] if own else key[8:]
        return name, self._shared.setdefault(shared, _Shared(rest, _owns(rest))).flat, own

    def _place(self, key: bytes, label: str) -> int:
        """Return where a label's numbers begin, -1 where it is not among them."""
        number = self._labels[label] if label else b""
        at = key.find(number, 8) if number else -1
        while at >= 0 and at % 8:
            at = key.find(number, at + 1)
        return at
