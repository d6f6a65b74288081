"""Ledgers in Datasette, 0.65 and 1.0: a page for each unit, badges for bands, and queries that are ready to ask.

Promise: databases without a ledger are left alone. The page shows no more of a unit than its band allows, to those only
who may see the table; it reads and changes nothing. Datasette's own tables show whatever is in the file: whom that is
shown to is for its permissions to say.
"""

from __future__ import annotations

import asyncio
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from datasette import Forbidden, Response, hookimpl
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable

_TABLE: Final = "unit_of_work"
_COLOURS: Final = {"GREEN": "#1b5e20", "AMBER": "#7a4100", "RED": "#9b1c1c", "BLACK": "#111111"}
"""Each with white text on it has a contrast of at least 7 to 1."""

QUERIES: Final[dict[str, tuple[str, str]]] = {
    "uow_failed": (
        "Failed units, the newest first",
        (
            "SELECT uow_id, created_ts, band, error_type,"
            " iif(band IN ('RED', 'BLACK'), NULL, failed_store) AS failed_store"
            " FROM unit_of_work WHERE status = 'failed' ORDER BY rowid DESC LIMIT 100"
        ),
    ),
    "uow_in_doubt": (
        "Committed units of which a store has not shown its part yet",
        (
            "SELECT u.uow_id, u.committed_ts, u.band, u.error_type,"
            " iif(u.band IN ('RED', 'BLACK'), NULL, u.failed_store) AS failed_store FROM unit_of_work u"
            " JOIN uow_coordination c USING (uow_id) WHERE u.failed_store IS NOT NULL ORDER BY u.rowid DESC LIMIT 100"
        ),
    ),
    "uow_slowest": (
        "The slowest of the newest 10,000 units",
        (
            "SELECT uow_id, created_ts, band, status, total_execution_time_ms, commit_time_ms FROM"
            " (SELECT * FROM unit_of_work ORDER BY rowid DESC LIMIT 10000) WHERE band IS NOT 'BLACK'"
            " ORDER BY total_execution_time_ms DESC LIMIT 50"
        ),
    ),
    "uow_by_day": (
        "Units by day and status",
        (
            "SELECT substr(created_ts, 1, 10) AS day, status, count(*) AS units FROM unit_of_work"
            " GROUP BY day, status ORDER BY day DESC, status LIMIT 400"
        ),
    ),
}
"""By name: title and SQL."""


async def _is_ledger(datasette: Any, database: str) -> bool:
    tables = await datasette.get_database(database).table_names()
    return _TABLE in tables and "uow_coordination" in tables


@hookimpl(optionalhook=True)
def canned_queries(datasette: Any, database: str) -> Callable[[], Any]:
    """Offer the queries on each database that is a ledger (Datasette before 1.0)."""

    async def offer() -> dict[str, dict[str, str]]:
        if not await _is_ledger(datasette, database):
            return {}
        return {name: {"title": title, "sql": sql} for name, (title, sql) in QUERIES.items()}

    return offer


@hookimpl
def startup(datasette: Any) -> Callable[[], Any]:
    """Do the same where queries are stored (Datasette 1.0)."""

    async def store() -> None:
        if not hasattr(datasette, "add_query"):
            return
        for database in list(datasette.databases):
            if await _is_ledger(datasette, database):
                for name, (title, sql) in QUERIES.items():
                    await datasette.add_query(database, name, sql, title=title, source="memoryos-uow")

    return store


@hookimpl
def render_cell(row: Any, column: str, table: str | None, database: str, datasette: Any) -> Markup | None:
    """Show a unit's band as a badge, and its status as a link to its page: its id is the row's own link already."""
    if table != _TABLE or column not in {"band", "status"}:
        return None
    value = str(row[column] or "")
    if column == "band":
        return Markup(_badge(value))  # noqa: S704 - escaped there
    path = datasette.urls.path(f"/-/uow/{quote(database, safe='')}/{quote(str(row['uow_id']), safe='')}")
    return Markup(f'<a href="{escape(str(path))}">{escape(value)}</a>')  # noqa: S704 - escaped here


def _badge(band: str) -> str:
    colour = _COLOURS.get(band)
    if colour is None:
        return escape(band)
    style = f"background:{colour};color:#fff;padding:0 .5em;border-radius:.3em"
    return f'<span style="{style}">{band}</span>'


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """Add the page of a unit."""
    return [(r"^/-/uow/(?P<database>[^/]+)/(?P<uow_id>[^/]+)$", unit_page)]


async def unit_page(datasette: Any, request: Any) -> Any:
    """Show one unit: its row, what there is to explain, its writes and its receipt."""
    name, uow_id = (unquote(request.url_vars[part]) for part in ("database", "uow_id"))
    database = datasette.databases.get(name)
    if database is None or not database.path:
        return Response.text("There is no such ledger.", status=404)
    if not await _may_see(datasette, request.actor, name):
        raise Forbidden("You may not see units of this database.")
    body = await asyncio.to_thread(_body, Path(database.path), uow_id)
    if body is None:
        return Response.text("There is no such unit.", status=404)
    return Response.html(body)


async def _may_see(datasette: Any, actor: Any, database: str) -> bool:
    if hasattr(datasette, "allowed"):
        from datasette.resources import TableResource  # noqa: PLC0415 - 1.0 only

        return bool(await datasette.allowed(action="view-table", resource=TableResource(database, _TABLE), actor=actor))
    try:
        await datasette.ensure_permissions(
            actor, [("view-table", (database, _TABLE)), ("view-database", database), "view-instance"]
        )
    except Forbidden:
        return False
    return True


def _body(path: Path, uow_id: str) -> str | None:
    """Return the page of a unit, None if there is none."""
    from memoryos_uow.cli._arguments import LedgerPlace  # noqa: PLC0415 - Datasette loads plugins at every start
    from memoryos_uow.cli._explain import explain  # noqa: PLC0415
    from memoryos_uow.cli._reading import reading  # noqa: PLC0415
    from memoryos_uow.cli._withheld import shown  # noqa: PLC0415
    from memoryos_uow.errors import UnitOfWorkError  # noqa: PLC0415

    try:
        with reading(LedgerPlace(path), busy_timeout_s=5.0) as ledger:
            record = ledger.unit(uow_id)
            seen = shown(record)
            why = None if ledger.basic else explain(ledger.reader, seen.record)
            # A receipt names the space: it is shown where everything else about the unit is.
            receipt = ledger.receipt(uow_id)[1] if record.receipt_hash and record.band == "GREEN" else None
    except UnitOfWorkError:
        return None
    columns = {key: value for key, value in seen.record.as_dict().items() if key != "writes"}
    cells = {key: _badge(str(value)) if key == "band" and value else _cell(value) for key, value in columns.items()}
    cells |= dict.fromkeys(seen.withheld & cells.keys(), "<em>withheld by its band</em>")
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{cell}</td></tr>" for key, cell in cells.items())
    parts = [f"<table>{rows}</table>"]
    if why is not None:
        questions = zip(("What happened", "The stores", "What to do"), why, strict=True)
        parts.insert(0, "".join(f"<p><strong>{question}:</strong> {escape(text)}</p>" for question, text in questions))
    if seen.record.writes:
        heads = ("store_name", "record_id", "operation_type", "bytes_written", "checksum")
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(getattr(write, head))}</td>" for head in heads) + "</tr>"
            for write in seen.record.writes
        )
        head = "".join(f"<th>{one}</th>" for one in heads)
        parts.append(f"<h2>Writes</h2><table><tr>{head}</tr>{body}</table>")
    if receipt is not None:
        text = json.dumps(json.loads(receipt), indent=2, ensure_ascii=False)
        parts.append(f"<h2>Receipt</h2><pre>{escape(text)}</pre>")
    title = f"Unit {escape(record.uow_id)}"
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><style>:root{color-scheme:light dark;'
        "font-family:system-ui,sans-serif}body{margin:2em auto;max-width:60em;padding:0 1em}th{text-align:left;"
        "padding-right:1em}td{overflow-wrap:anywhere}</style></head>"
        f"<body><h1>{title}</h1>{''.join(parts)}</body></html>"
    )


def _cell(value: object) -> str:
    from memoryos_uow._terminal import printable  # noqa: PLC0415

    return "" if value is None else escape(printable(str(value)))
