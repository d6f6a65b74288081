"""The page: one HTML file of its parts, with a policy under which no browser fetches or runs anything."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from memoryos_uow._terminal import count, size
from memoryos_uow._version import __version__
from memoryos_uow.report import sections
from memoryos_uow.report.style import STYLE
from memoryos_uow.report.text import plain, shown

if TYPE_CHECKING:
    from memoryos_uow.report.facts import ReportFacts

PAGE_BYTES_MAX: Final = 500_000
"""No page is larger, whatever the ledger holds."""

_POLICY: Final = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; img-src data:; base-uri 'none'; form-action 'none'"
)
_PARTS: Final = (
    ("overview", "Overview", sections.overview),
    ("time", "Over time", sections.over_time),
    ("failures", "Failures", sections.failures),
    ("who", "Bands, stores, spaces", sections.groups),
    ("slowest", "Slowest units", sections.slowest),
    ("doubt", "In doubt", sections.in_doubt),
    ("proof", "Verification and validation", sections.proof),
    ("storage", "Storage", sections.storage),
)


def render(facts: ReportFacts) -> str:
    """Return the page as text, to be written as UTF-8."""
    parts = [(anchor, plain(title), written) for anchor, title, part in _PARTS if (written := part(facts))]
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, _ in parts)
    body = "\n".join(
        f'<section id="{anchor}" aria-label="{title}">{written}</section>' for anchor, title, written in parts
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{plain(_POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<title>Units of work in {_title(facts)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#overview">Go to the overview</a>
<header>
<h1>Units of work in {shown(facts.name)}</h1>
{_head(facts)}
<nav aria-label="Parts of this page"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
<footer><p>Made by memoryos-uow {plain(__version__)} at {shown(facts.made_ts)}. This page needs no network and runs no
script. RED and BLACK units are counted and never named by space, actor or store; BLACK ones have no durations
here.</p></footer>
</body>
</html>
"""


def _title(facts: ReportFacts) -> str:
    return shown(facts.name).removeprefix("<bdi>").removesuffix("</bdi>")


def _head(facts: ReportFacts) -> str:
    told = [f"Storage contract {plain(facts.contract_version)}"]
    if facts.layouts:
        told.append("schema " + ", ".join(shown(layout) for layout in facts.layouts))
    if facts.origin is not None:
        told.append(f"origin {shown(facts.origin)}")
    if facts.log_bytes is None:
        told.append(f"database {size(facts.file_bytes)}")
    else:
        told.append(f"file {size(facts.file_bytes)}, write-ahead log {size(facts.log_bytes)}")
    bounds = [f"{word} {shown(time)}" for word, time in (("since", facts.since), ("until", facts.until)) if time]
    if bounds:
        told.append(f"only units made {' and '.join(bounds)}")
    units = facts.statistics.total.units
    if facts.statistics.first_ts is not None:
        between = f"{facts.statistics.first_ts}:00Z to {facts.statistics.last_ts}:59Z"
        told.append(f"{count(units, 'unit')} from {plain(between)}")
    return f'<p class="facts">{" · ".join(told)}</p>'
