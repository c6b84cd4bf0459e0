"""The document as text for eyes: what came, what was done to it, what would be sent. Sans-IO.

Strategy. What stands in a line's first columns tells what it is without any colour: ``-`` lost, ``+`` gained, a space
kept; a name that stands on both sides has changed. Colours (red, green, yellow for what changed) say the same again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent.preview.difference import Part, difference, parts
from agent.preview.layout import (
    BOLD,
    CYAN,
    FAINT,
    GREEN,
    RED,
    YELLOW,
    Style,
    count,
    printable,
    share,
    shorten,
    size,
    table,
    wrapped,
)

MOST_ROWS = 8  # of each table; the document has all
MOST_NAMES = 2  # lines of names behind a doubtful rule
MOST_KEPT = 1  # lines of labels that stayed as they were
KEPT_WIDTH = 20  # of such a label's value
MOST_DROPPED = 2  # lines of a row that was dropped, or added
DOUBTFUL = {"suffix": "guessed by the name's ending", "none": "unknown, sent as gauges"}
WITHOUT_RESOURCE = "no resource"


def show(document: Mapping[str, Any], style: Style) -> str:
    """Return the document as lines of at most ``style.width`` columns."""
    title = "nothing was sent, nothing was written"
    source = document["page"] if document["page"] is not None else "one poll"
    lines = wrapped(style, "", f"{source} through {document['file']}: {title}".split(" "), BOLD)
    for name, receiver in document["receivers"].items():
        lines += ["", *_receiver(style, name, receiver)]
    for name, pipeline in document["pipelines"].items():
        lines += ["", *_pipeline(style, name, pipeline)]
    for name, exporter in document["exporters"].items():
        lines += ["", *_exporter(style, name, exporter)]
    return "\n".join(lines) + "\n"


def _section(style: Style, kind: str, name: str, about: str) -> str:
    room = style.width - len(kind) - len(name) - 3
    return style.paint("1;" + CYAN, f"{kind} {name}") + "  " + shorten(about, max(room, 1))


def _clauses(style: Style, head: str, clauses: Iterable[str]) -> list[str]:
    """Write clauses that are not empty as one sentence, which wraps."""
    return wrapped(style, head, ", ".join(filter(None, clauses)).split(" "), hang="    ")


def _reasons(verb: str, counts: Mapping[str, int]) -> str:
    """``300 dropped (filtered 280, collision 20)``; "" where there are none."""
    total = sum(counts.values())
    told = ", ".join(f"{reason} {count(number)}" for reason, number in counts.items())
    return f"{count(total)} {verb} ({told})" if total else ""


def _receiver(style: Style, name: str, receiver: Mapping[str, Any]) -> Iterator[str]:
    yield _section(style, "receiver", name, receiver["type"])
    clauses = (
        count(receiver["polls"], "poll"),
        f"{count(receiver['failed_polls'])} failed" if receiver["failed_polls"] else "",
        f"{count(receiver['samples'], 'sample')} read",
        _reasons("added", receiver["added"]),
        _reasons("dropped", receiver["dropped"]),
        f"{count(receiver['out'])} passed on",
    )
    yield from _clauses(style, "  ", clauses)
    if receiver["types"]:
        yield ""
        yield from _types(style, receiver["types"])


def _types(style: Style, types: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    total = sum(rule["series"] for rule in types)
    rows = [
        (f"by {rule['rule']}", count(rule["families"]), count(rule["series"]), share(rule["series"] / total))
        for rule in types
    ]
    yield from table(style, "  ", ("types decided", "metrics", "series", "share"), rows)
    for rule in types:
        if rule["rule"] in DOUBTFUL:
            yield f"  {rule['rule']}: {DOUBTFUL[rule['rule']]}"
            yield from wrapped(style, "    ", rule["names"], YELLOW, MOST_NAMES)


def _pipeline(style: Style, name: str, pipeline: Mapping[str, Any]) -> Iterator[str]:
    processors = [one["id"] for one in pipeline["processors"]]
    way = [", ".join(pipeline["receivers"]), *processors, ", ".join(pipeline["exporters"])]
    yield _section(style, "pipeline", name, " -> ".join(way))
    for position, processor in enumerate(pipeline["processors"]):
        if position and pipeline["processors"][position - 1]["pairs"]:
            yield ""
        yield from _processor(style, processor)
    if not pipeline["out"]:
        yield "  nothing is left to be sent"
        return
    for block in (_metrics, _labels, _resources):
        yield ""
        yield from block(style, pipeline)


def _processor(style: Style, processor: Mapping[str, Any]) -> Iterator[str]:
    type = "default" if processor["default"] else processor["type"]
    title = f"  {processor['id']}" + (f" ({type})" if type != processor["id"] else "") + ":"
    counted = [f"{count(processor[verb])} {verb}" if processor[verb] else "" for verb in ("merged", "added", "changed")]
    clauses = (
        f"{count(processor['in'])} in",
        f"{count(processor['out'])} out",
        _reasons("dropped", processor["dropped"]),
        *counted,
    )
    lines = _clauses(style, title + " ", clauses)
    yield style.paint(BOLD, title) + lines[0].removeprefix(title)
    yield from lines[1:]
    for pair in processor["pairs"]:
        yield from _pair(style, pair)


def _pair(style: Style, pair: Mapping[str, Any]) -> Iterator[str]:
    rows = count(pair["rows"], "row")
    if pair["outcome"] != "changed":
        sign, code, row = ("-", RED, pair["before"]) if pair["outcome"] == "dropped" else ("+", GREEN, pair["after"])
        about = pair["outcome"] + (f" as {pair['reason']}" if pair["reason"] else "")
        yield _headline(style, row["name"], f"{rows} {about}", code)
        yield from wrapped(style, f"    {sign} ", _texts(_telling(row)), code, MOST_DROPPED)
        return
    before, after = pair["before"], pair["after"]
    found = difference(before, after)
    changed = found.changed
    yield _headline(style, before["name"], f"{rows} changed like this", "")
    for sign, code, side in (("-", RED, found.lost), ("+", GREEN, found.gained)):
        plain = [part for part in side if (part.of, part.key) not in changed]
        both = [part for part in side if (part.of, part.key) in changed]
        for paint, chosen in ((YELLOW, both), (code, plain)):
            for scope, group in _by_place(chosen):
                yield from wrapped(style, f"    {sign} {scope}", _texts(group), paint)
    kept = [part for part in found.kept if part.of == "label"]
    yield from wrapped(style, "      ", _texts(kept, KEPT_WIDTH), FAINT, MOST_KEPT)


def _headline(style: Style, name: str, about: str, code: str) -> str:
    room = style.width - 4 - len(about) - 2
    shown = shorten(printable(name), room)
    return "    " + style.paint("1", shown) + "  " + style.paint(code, about)


def _telling(row: Mapping[str, Any]) -> list[Part]:
    """What tells a row from others: its labels, else its resource, else its value."""
    labels = [part for part in parts(row) if part.of == "label"]
    return (
        labels
        or [part for part in parts(row) if part.of == "resource"]
        or [part for part in parts(row) if part.of == "value"]
    )


def _by_place(chosen: Iterable[Part]) -> list[tuple[str, list[Part]]]:
    """Labels and the like stand for themselves; what is of the resource or scope says so."""
    places: dict[str, list[Part]] = {"": [], "resource: ": [], "scope: ": []}
    for part in chosen:
        places[f"{part.of}: " if part.of in ("resource", "scope") else ""].append(part)
    return [(place, group) for place, group in places.items() if group]


def _texts(chosen: Iterable[Part], width: int | None = None) -> list[str]:
    """Write parts as Prometheus writes labels; ``width``: of a text, whose middle is cut."""
    cut = [(part, part.text if width is None else shorten(part.text, width)) for part in chosen]
    return [f"{part.key}={text}" if part.of == "value" else f'{part.key}="{text}"' for part, text in cut]


def _metrics(style: Style, pipeline: Mapping[str, Any]) -> Iterator[str]:
    metrics = pipeline["metrics"]
    rows: list[Sequence[str]] = [
        (one["name"], one["type"], count(one["series"]), share(one["share"])) for one in metrics[:MOST_ROWS]
    ]
    if left := metrics[MOST_ROWS:]:
        series, part = sum(one["series"] for one in left), sum(one["share"] for one in left)
        rows.append((_more(left), "", count(series), share(part)))
    yield from table(style, "  ", ("metrics by series: what a filter would save", "type", "series", "share"), rows)
    words = ["without", "the", "first:", "filter,", f"drop = ['{metrics[0]['selector']}']"]
    yield from wrapped(style, "  ", words, FAINT, hang="    ")


def _labels(style: Style, pipeline: Mapping[str, Any]) -> Iterator[str]:
    labels = pipeline["labels"]
    rows: list[Sequence[str]] = [
        (one["name"], count(one["values"]), count(one["series"])) for one in labels[:MOST_ROWS]
    ]
    if left := labels[MOST_ROWS:]:
        rows.append((_more(left), "", ""))
    yield from table(style, "  ", ("labels by distinct values", "values", "series"), rows)


def _resources(style: Style, pipeline: Mapping[str, Any]) -> Iterator[str]:
    """Resources of one service are one line."""
    services: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    for resource in pipeline["resources"]:
        service = _service(resource["attributes"])
        services[service] += 1
        samples[service] += resource["samples"]
    found = samples.most_common()
    rows: list[Sequence[str]] = [(name, count(services[name]), count(number)) for name, number in found[:MOST_ROWS]]
    if left := found[MOST_ROWS:]:
        resources = sum(services[name] for name, _ in left)
        rows.append((_more(left), count(resources), count(sum(number for _, number in left))))
    title = f"resources found: {count(len(pipeline['resources']))}, by service"
    yield from table(style, "  ", (title, "resources", "samples"), rows)


def _more(left: Sequence[object]) -> str:
    return f"… and {count(len(left))} more"


def _service(attributes: Mapping[str, Any]) -> str:
    service, namespace = attributes.get("service.name"), attributes.get("service.namespace")
    if service is None:
        return "no service.name" if attributes else WITHOUT_RESOURCE
    return f"{namespace}/{service}" if namespace else str(service)


def _exporter(style: Style, name: str, exporter: Mapping[str, Any]) -> Iterator[str]:
    yield _section(style, "exporter", name, exporter["type"])
    points, requests = count(exporter["points"], "point"), count(exporter["requests"], "request")
    total, sealed = exporter["bytes"], exporter["sealed_bytes"]
    clauses = (
        f"would send {count(exporter['samples'], 'sample')} as {points} in {requests}: {size(total)}",
        f"{size(sealed)} as sent ({share(sealed / total)})" if sealed != total else "",
        f"the largest request {size(exporter['largest_request'])}" if exporter["requests"] > 1 else "",
        _reasons("dropped", exporter["dropped"]),
    )
    yield from _clauses(style, "  ", clauses)
