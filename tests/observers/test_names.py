"""The reference page lists exactly the signals of the code, and the dashboard asks only for metrics that exist."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.observers import _names as names
from memoryos_uow.observers import _telemetry, _worker
from memoryos_uow.observers._names import SIGNALS
from tests.docs.pages import DOCS, REFERENCE, code, rows, section

if TYPE_CHECKING:
    from memoryos_uow.observers._names import Signal

PAGE: Final = REFERENCE / "telemetry.md"
DASHBOARD: Final = DOCS / "dashboards" / "memoryos-uow.json"
METRICS: Final = {"histogram", "counter", "updowncounter"}


def prometheus_name(signal: Signal) -> str:
    """The name that Prometheus gives to a metric that it gets by OTLP: unit and ``_total`` become suffixes."""
    name = signal.name.replace(".", "_")
    unit = {"s": "_seconds", "By": "_bytes"}.get(signal.unit, "")  # a unit in braces is only a remark
    return name.removesuffix(unit) + unit + ("_total" if signal.kind == "counter" else "")


def series() -> set[str]:
    """Every series of every metric."""
    found: set[str] = set()
    for signal in SIGNALS:
        if signal.kind in METRICS:
            ends = ("_bucket", "_sum", "_count") if signal.kind == "histogram" else ("",)
            found |= {prometheus_name(signal) + end for end in ends}
    return found


def listed(heading: str) -> list[list[str]]:
    """The rows of a section's first table, without the marks of code."""
    return [[cell.replace("`", "") for cell in row] for row in rows(PAGE, heading)]


def test_the_page_lists_every_signal_as_it_is() -> None:
    """Spans, attributes, metrics and events, with unit and meaning, in the order of the code."""
    assert listed("Spans") == [[s.name, s.meaning] for s in SIGNALS if s.kind == "span"]
    assert listed("Attributes") == [[s.name, s.unit, s.meaning] for s in SIGNALS if s.kind == "attribute"]
    assert listed("Metrics") == [
        [s.name, s.kind, s.unit, prometheus_name(s), s.meaning] for s in SIGNALS if s.kind in METRICS
    ]
    assert listed("Log events") == [[s.name, s.unit, s.meaning] for s in SIGNALS if s.kind == "event"]


def test_the_page_lists_every_mode_and_number() -> None:
    """The values of telemetry=, the size of the queue and the times are those of the code."""
    text = section(PAGE, "When it is told, and what can be lost")
    modes = [code(row[0])[0].strip('"') for row in rows(PAGE, "When it is told, and what can be lost")]
    assert modes == [mode.value for mode in _telemetry.TelemetryMode]
    assert f"{_worker.CAPACITY:,} units" in text
    assert f"within {_worker.GATHER_S} s" in text
    assert f"at most {_worker.EXIT_WAIT_S:g} s" in text


def test_every_name_is_in_the_table() -> None:
    """No constant of the module is missing in what the page is compared with."""
    constants = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    assert constants - {names.SCOPE} == {signal.name for signal in SIGNALS}


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    """Each query is about series and labels that the library makes, and each metric is on some panel."""
    board: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    words = {word for query in queries for word in re.findall(r"[a-z_]+", query)}
    labels = {names.OUTCOME.replace(".", "_"), names.BAND.replace(".", "_")}
    asked = {word for word in words if word.startswith("memoryos")}
    assert asked - labels <= series()
    for signal in SIGNALS:
        if signal.kind in METRICS:
            assert any(word.startswith(prometheus_name(signal)) for word in asked), signal.name


def test_the_dashboard_is_laid_out() -> None:
    """Panels have ids of their own, titles, explanations and places that do not overlap."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["description"] for panel in panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
