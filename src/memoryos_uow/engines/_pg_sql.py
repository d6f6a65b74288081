"""From the SQL that the library writes to what PostgreSQL understands, and psycopg takes.

Promise: text inside quotes and comments is never touched, and each statement is translated once. Of the application's
own statements only the marks of parameters are rewritten. What the two databases say differently and is not listed
here, whoever writes the statement says twice (`Reader.dialect`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow.engines._pg_lexer import Kind, tokens

if TYPE_CHECKING:
    from memoryos_uow.abc import Parameters

_QUOTED: Final = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\2\$)""", re.DOTALL)
_MARK: Final = re.compile(r"\?(\d+)|\?|(?<![:\w]):([A-Za-z_]\w*)")

# What SQLite says, and PostgreSQL. A unit's row number exists in SQLite only: in PostgreSQL its id stands for it.
_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\browid\b", "uow_id"),
        (r"\blower\(hex\(([\w.]+)\)\)", r"encode(\1, 'hex')"),
        (r"\bIS NOT (?!NULL\b|DISTINCT\b)", "IS DISTINCT FROM "),
        (r"\bIS (?!NOT\b|NULL\b|DISTINCT\b|TRUE\b|FALSE\b)", "IS NOT DISTINCT FROM "),
        (
            r"\bSELECT value FROM json_each\(([^()]+)\)",
            r"SELECT json_array_elements_text(CAST(CAST(\1 AS TEXT) AS JSON))",
        ),
        (r"(?<=[ (])\+(?=[a-z])", ""),  # keeps SQLite from using an index
        (r"\bAS BLOB\)", "AS BYTEA)"),
        (r"\bCROSS JOIN (\w+ AS \w+) ON\b", r"JOIN \1 ON"),
    )
)
_OR_IGNORE: Final = re.compile(r"^\s*INSERT OR IGNORE ", re.IGNORECASE)
_INTO: Final = re.compile(r"^\s*INSERT INTO (\w+)", re.IGNORECASE)


class Translated(NamedTuple):
    """A statement as psycopg takes it."""

    text: str
    numbered: bool
    """Its marks have numbers, so that psycopg has to be given names."""
    table: str | None
    """Which table an INSERT is for."""

    def bind(self, parameters: Parameters) -> Any:
        """Return `parameters` as psycopg wants them for this text."""
        if isinstance(parameters, Mapping):
            return parameters
        if self.numbered:
            return {f"p{number}": value for number, value in enumerate(parameters, 1)}
        return parameters if isinstance(parameters, Sequence) else tuple(parameters)


@lru_cache(maxsize=1024)
def own(sql: str) -> Translated:
    """Translate a statement of the library's."""
    ignoring = _OR_IGNORE.match(sql)
    if ignoring:
        sql = f"INSERT {sql[ignoring.end() :]} ON CONFLICT DO NOTHING"
    return _translated(sql)


@lru_cache(maxsize=1024)
def foreign(sql: str) -> Translated:
    """Translate a statement of the application's: the marks of its parameters, nothing else.

    Raises:
        UsageError: it cannot be read.
    """
    found = tokens(sql)
    marked = (_MARK.sub(_psycopg_mark, one.text) if one.kind is Kind.MARK else _doubled(one.text) for one in found)
    numbered = any(one.kind is Kind.MARK and one.text[1:].isdigit() for one in found)
    return Translated("".join(marked), numbered, None)


def _doubled(text: str) -> str:
    return text.replace("%", "%%")


def _translated(sql: str) -> Translated:
    marked, numbered = [], False
    for place, piece in enumerate(_pieces(sql)):
        if place % 2:
            marked.append(_doubled(piece))
        else:
            numbered = numbered or re.search(r"\?\d", piece) is not None
            marked.append(_MARK.sub(_psycopg_mark, _doubled(_rewritten(piece))))
    text = "".join(marked)
    into = _INTO.match(text)
    return Translated(text, numbered, into[1] if into else None)


def _pieces(sql: str) -> list[str]:
    """Return what stands outside quotes and comments at even places, and what stands inside at odd ones."""
    found, begin = [], 0
    for quoted in _QUOTED.finditer(sql):
        found += [sql[begin : quoted.start()], quoted[0]]
        begin = quoted.end()
    return [*found, sql[begin:]]


def _rewritten(code: str) -> str:
    for pattern, replacement in _RULES:
        code = pattern.sub(replacement, code)
    return code


def _psycopg_mark(mark: re.Match[str]) -> str:
    if mark[1]:
        return f"%(p{mark[1]})s"
    return f"%({mark[2]})s" if mark[2] else "%s"
