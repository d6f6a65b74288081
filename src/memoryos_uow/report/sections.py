"""The parts of a page, each a function of what was gathered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow._names import Band
from memoryos_uow._terminal import count, size
from memoryos_uow.report import charts
from memoryos_uow.report.tables import Column, table
from memoryos_uow.report.text import NOTHING, duration, plain, share, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow.report.facts import ReportFacts
    from memoryos_uow.statistics import StatisticsGroup
    from memoryos_uow.verification import Verification

_GROUPS_SHOWN: Final = 12
_FAILURES_SHOWN: Final = 20
_PROBLEMS_SHOWN: Final = 10
_STORAGE_SHOWN: Final = 10


def overview(facts: ReportFacts) -> str:
    """How much, how well, how fast, and whether it can be trusted."""
    total, found = facts.statistics.total, facts.statistics
    wrong = total.failed + total.rolled_back
    doubt = f'<span class="mark doubt">{found.in_doubt:,}</span>' if found.in_doubt else "0"
    tiles = [
        ("Units", f"{total.units:,}", f"{total.committed:,} committed"),
        (
            "Did not commit",
            f"{wrong:,}",
            f"{share(wrong, total.units)}: failed {total.failed:,}, rolled back {total.rolled_back:,}",
        ),
        (
            "Execution, p95",
            duration(total.execution.p95_us),
            f"median {duration(total.execution.p50_us)}, longest {duration(total.execution.max_us)}",
        ),
        (
            "Commit, p95",
            duration(total.commit.p95_us),
            f"median {duration(total.commit.p50_us)}, longest {duration(total.commit.max_us)}",
        ),
        ("Written", size(total.bytes), f"{total.writes:,} writes, {total.retries:,} retries"),
        ("In doubt", doubt, "not settled in every store"),
        ("Verification", _level(facts), "see below what it proves"),
        ("Validation", _validity(facts), "the contract's five rules"),
    ]
    cells = "".join(
        f'<div class="tile"><dt>{plain(name)}</dt><dd>{value}</dd><dd class="small">{plain(more)}</dd></div>'
        for name, value, more in tiles
    )
    empty = "" if total.units else "<p>No unit of work is recorded here, so there is little to see yet.</p>"
    return f'{empty}<dl class="tiles">{cells}</dl>'


def _level(facts: ReportFacts) -> str:
    if facts.verification is None:
        return '<span class="mark doubt">not verified</span>'
    sort = "good" if facts.verification.ok else "bad"
    return f'<span class="mark {sort}">{plain(facts.verification.level.value)}</span>'


def _validity(facts: ReportFacts) -> str:
    if facts.violations is None:
        return NOTHING
    broken = sum(facts.violations.values())
    return f'<span class="mark bad">{broken:,} rows</span>' if broken else '<span class="mark good">holds</span>'


def over_time(facts: ReportFacts) -> str:
    """Two charts, and their numbers."""
    groups, step = facts.over_time, facts.step.value
    if not groups:
        return ""
    most = max(groups, key=lambda group: group.units)
    wrong = sum(group.failed + group.rolled_back for group in groups)
    label = (
        f"Bar chart of units per {step} from {groups[0].name} to {groups[-1].name}. Most units: {most.units:,} at"
        f" {most.name}. {wrong:,} failed or were rolled back. The numbers are in the table below."
    )
    drawn = _card(
        f"Units per {step}",
        charts.throughput(groups, label)
        + charts.legend([("all", "committed"), ("wrong", "failed or rolled back")])
        + _details(_counts_over_time(groups, step)),
    )
    if not any(group.execution.count for group in groups):
        return drawn
    slow = max(groups, key=lambda group: group.execution.p95_us or 0)
    label = (
        f"Line chart of how long units took per {step}, with a logarithmic scale: median, 95th and 99th percentile. The"
        f" highest 95th percentile is {duration(slow.execution.p95_us)} at {slow.name}. The numbers are in the table"
        " below."
    )
    return drawn + _card(
        f"How long units took, per {step}",
        charts.latency(groups, label)
        + charts.legend([("p50", "p50, the median"), ("p95", "p95"), ("p99", "p99")])
        + _details(_durations_over_time(groups, step)),
    )


def _counts_over_time(groups: Sequence[StatisticsGroup], step: str) -> str:
    columns = (
        Column(step),
        Column("units", number=True),
        Column("failed", number=True),
        Column("rolled back", number=True),
    )
    rows = [
        [plain(group.name or ""), f"{group.units:,}", f"{group.failed:,}", f"{group.rolled_back:,}"] for group in groups
    ]
    return table(f"Units per {step}", columns, rows)


def _durations_over_time(groups: Sequence[StatisticsGroup], step: str) -> str:
    columns = (Column(step), *(Column(name, number=True) for name in ("p50", "p95", "p99", "max", "commit p95")))
    rows = [[plain(group.name or ""), *_durations(group)] for group in groups]
    return table(f"How long units took, per {step}", columns, rows)


def _durations(group: StatisticsGroup) -> list[str]:
    took = group.execution
    return [duration(us) for us in (took.p50_us, took.p95_us, took.p99_us, took.max_us, group.commit.p95_us)]


def failures(facts: ReportFacts) -> str:
    """What went wrong, by type and store."""
    found = facts.statistics.failures
    if not found:
        return _card("Failures", "<p>No unit failed.</p>")
    failed = sum(one.units for one in found)
    columns = (Column("error"), Column("store"), Column("units", number=True), Column("", bar=True))
    rows = [
        [shown(one.error_type), shown(one.failed_store), f"{one.units:,}", charts.bar(one.units, found[0].units)]
        for one in found[:_FAILURES_SHOWN]
    ]
    return _card(
        "Failures",
        f"<p>{failed:,} of {facts.statistics.total.units:,} units failed"
        f" ({share(failed, facts.statistics.total.units)}).</p>"
        + table("Failures by type and store", columns, rows)
        + _more(len(found), _FAILURES_SHOWN, "kinds of failure"),
    )


def groups(facts: ReportFacts) -> str:
    """Who wrote where."""
    parts = [("Bands", "band", facts.bands), ("Stores", "store", facts.stores), ("Spaces", "space", facts.spaces)]
    return "".join(_grouped(title, what, found) for title, what, found in parts if found)


def _grouped(title: str, what: str, found: Sequence[StatisticsGroup]) -> str:
    most = max(group.units for group in found)
    columns = (
        Column(what),
        Column("units", number=True),
        Column("", bar=True),
        Column("failed", number=True),
        Column("bytes", number=True),
        Column("p50", number=True),
        Column("p95", number=True),
        Column("max", number=True),
    )
    rows = [
        [
            "(withheld by band)" if group.withheld else shown(group.name),
            f"{group.units:,}",
            charts.bar(group.units, most),
            f"{group.failed:,}",
            NOTHING if _sums_withheld(group, what) else size(group.bytes),
            *(duration(us) for us in (group.execution.p50_us, group.execution.p95_us, group.execution.max_us)),
        ]
        for group in found[:_GROUPS_SHOWN]
    ]
    return _card(title, table(f"Units by {what}", columns, rows) + _more(len(found), _GROUPS_SHOWN, f"{what}s"))


def _sums_withheld(group: StatisticsGroup, what: str) -> bool:
    """Say whether sizes are withheld of all units in a group."""
    return group.withheld or (what == "band" and group.name not in (Band.GREEN, Band.AMBER, None))


def slowest(facts: ReportFacts) -> str:
    """The units that took longest."""
    found = facts.statistics.slowest
    if not found:
        return ""
    columns = (
        Column("unit", ident=True),
        Column("took", number=True),
        Column("commit", number=True),
        Column("band"),
        Column("space"),
        Column("created"),
    )
    rows = [
        [
            shown(one.uow_id),
            duration(one.execution_us),
            duration(one.commit_us),
            shown(one.band),
            shown(one.space_id, at_most=60),
            shown(one.created_ts[:19]),
        ]
        for one in found
    ]
    return _card("Slowest units", table("Slowest units", columns, rows))


def in_doubt(facts: ReportFacts) -> str:
    """Units that are not settled everywhere."""
    there = facts.statistics.in_doubt
    if not there:
        return _card("In doubt", "<p>Every unit is settled in every store.</p>")
    columns = (Column("unit", ident=True), Column("state"))
    states = (
        "not decided: under way, or left by a process that died",
        "committed: a store has still to publish its part",
    )
    rows = [[shown(one.uow_id), plain(states[one.decided])] for one in facts.in_doubt]
    return _card(
        "In doubt",
        f"<p>{there:,} are not settled, or were still under way. <code>memoryos-uow recover</code> settles what dead"
        " processes left.</p>" + table("Units in doubt", columns, rows) + _more(there, len(rows), "units"),
    )


def proof(facts: ReportFacts) -> str:
    """What verification and validation found, and what they do not prove."""
    return f'<div class="pair">{_verification(facts)}{_validation(facts)}</div>'


def _verification(facts: ReportFacts) -> str:
    report = facts.verification
    if report is None:
        return _card(
            "Verification", f"<p>{_level(facts)}</p><p>{plain(facts.not_verified or 'It was not asked for.')}</p>"
        )
    said = [
        f"<p>Level {_level(facts)}</p>",
        f"<p>{report.units:,} units and {report.writes:,} writes of {report.spaces:,} spaces recomputed.</p>",
        f"<p>{report.signed_units:,} units signed; {report.erased:,} writes erased.</p>",
        _live(report),
        f'<p class="soft">Not proved: {plain(report.not_proved)}</p>',
    ]
    if report.problems:
        rows = [
            [shown(one.rule), shown(one.detail, at_most=300), shown(one.uow_id)]
            for one in report.problems[:_PROBLEMS_SHOWN]
        ]
        columns = (Column("rule"), Column("what does not hold"), Column("unit", ident=True))
        said.append(table("Problems", columns, rows) + _more(report.problems_total, _PROBLEMS_SHOWN, "problems"))
    return _card("Verification", "".join(said))


def _live(report: Verification) -> str:
    if report.stores is None:
        return '<p class="soft">What the stores hold was not compared; the option --live does.</p>'
    names = ("records", "matched", "uncheckable")
    held, matched, silent = (sum(getattr(one, name) for one in report.stores) for name in names)
    said = f"{count(len(report.stores), 'store')} compared: {matched:,} of {held:,} records as their receipts say"
    return f"<p>{said}{f'; the receipts of {silent:,} do not tell enough' if silent else ''}.</p>"


def _validation(facts: ReportFacts) -> str:
    if facts.violations is None:
        return _card("Validation", "<p>Contract 1.0.0 has nothing to validate.</p>")
    if not facts.violations:
        return _card("Validation", f"<p>{_validity(facts)} Every row keeps the contract's five rules.</p>")
    rows = [[shown(rule), f"{number:,}"] for rule, number in facts.violations.items()]
    columns = (Column("rule"), Column("rows that break it", number=True))
    return _card("Validation", f"<p>{_validity(facts)}</p>" + table("Broken rules", columns, rows))


def storage(facts: ReportFacts) -> str:
    """What takes how much of the file."""
    whole = sum(one.n_bytes for one in facts.storage)
    if not whole:
        return ""
    columns = (
        Column("table, with its indexes"),
        Column("bytes", number=True),
        Column("", bar=True),
        Column("share", number=True),
    )
    rows = [
        [shown(one.name), size(one.n_bytes), charts.bar(one.n_bytes, whole), share(one.n_bytes, whole)]
        for one in facts.storage[:_STORAGE_SHOWN]
    ]
    rest = facts.storage[_STORAGE_SHOWN:]
    more = f"{count(len(rest), 'more table')}, {size(sum(one.n_bytes for one in rest))}"
    return _card(
        "Storage",
        table("Storage by table", columns, rows) + (f'<p class="soft">and {plain(more)}</p>' if rest else ""),
    )


def _card(title: str, body: str) -> str:
    return f'<div class="card"><h2>{plain(title)}</h2>{body}</div>'


def _details(body: str) -> str:
    return f"<details><summary>The numbers as a table</summary>{body}</details>"


def _more(there: int, shown_max: int, what: str) -> str:
    return f'<p class="soft">and {there - shown_max:,} more {plain(what)}</p>' if there > shown_max else ""
