"""The tokens of a SQL text, as PostgreSQL's own lexer finds them, as far as telling them apart needs.

Promise: what stands in strings, quoted names and comments is never taken for anything else
(https://www.postgresql.org/docs/current/sql-syntax-lexical.html). A text that could be read in two ways is refused.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from memoryos_uow.errors import UsageError


class Kind(Enum):
    """What a token is."""

    WORD = "a keyword, or a name without quotes"
    NAME = "a name in double quotes"
    STRING = "a constant in quotes"
    MARK = "where a parameter goes"
    OTHER = "a number, an operator, a bracket"
    NOTHING = "space or a comment"


class Token(NamedTuple):
    """A piece of the text, as it stands there."""

    kind: Kind
    text: str

    @property
    def word(self) -> str:
        """The keyword that it may be, in capitals; "" for what is none."""
        return self.text.upper() if self.kind is Kind.WORD else ""

    @property
    def name(self) -> str:
        """The name that it may be; "" for what is none."""
        if self.kind is Kind.NAME:
            return self.text[1:-1].replace('""', '"')
        return self.text.lower() if self.kind is Kind.WORD else ""


_LETTER: Final = r"A-Za-z_\u0080-\U0010FFFF"
_TOKENS: Final = re.compile(
    rf"""
    (?P<space>[ \t\n\r\f\v]+|--[^\n\r]*)
  | (?P<comment>/\*)
  | (?P<escaped>[eE]'(?:[^'\\]|''|\\.)*')
  | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*')
  | (?P<dollar>\$(?P<tag>(?:[{_LETTER}][{_LETTER}0-9]*)?)\$.*?\$(?P=tag)\$)
  | (?P<coded>[uU]&")
  | (?P<name>"(?:[^"]|"")+")
  | (?P<word>[{_LETTER}][{_LETTER}0-9$]*)
  | (?P<number>[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)
  | (?P<mark>\?[0-9]*|(?<![:\])\w]):[{_LETTER}][{_LETTER}0-9]*)
  | (?P<cast>::)
  | (?P<numbered>\$[0-9]+)
  | (?P<open>['"$])
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS: Final = {
    "space": Kind.NOTHING,
    "escaped": Kind.STRING,
    "string": Kind.STRING,
    "dollar": Kind.STRING,
    "name": Kind.NAME,
    "word": Kind.WORD,
    "mark": Kind.MARK,
}
_REFUSED: Final = {
    "open": ("A quote in the SQL text is never closed", "Close it."),
    "coded": ('The SQL text has a name in U&"..."', "Write the name as it is."),
    "numbered": ("Parameters are marked with ? or :name here, not with $1", "Write ? instead."),
}


def tokens(sql: str) -> list[Token]:
    """Return every token of `sql`; their texts put together are `sql`.

    Raises:
        UsageError: a quote or comment is not closed; or what stands there could be read in two ways.
    """
    found: list[Token] = []
    place = 0
    while place < len(sql):
        match = _TOKENS.match(sql, place)
        assert match is not None  # noqa: S101 - the last alternative takes any character
        sort = match.lastgroup or ""
        sort = "dollar" if sort == "tag" else sort
        if sort in _REFUSED:
            raise refused(*_REFUSED[sort])
        end = _end_of_comment(sql, place) if sort == "comment" else match.end()
        kind = Kind.NOTHING if sort == "comment" else _KINDS.get(sort, Kind.OTHER)
        if kind is Kind.STRING:
            _refuse_continued(found)
        found.append(Token(kind, sql[place:end]))
        place = end
    return found


def refused(what: str, hint: str) -> UsageError:
    """Return the error for a text that is not run."""
    return UsageError(f"{what}.", hint=f"Nothing was written. {hint}")


def _end_of_comment(sql: str, begin: int) -> int:
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(sql, begin):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    raise refused("A comment in the SQL text is never closed", "Close it.")


def _refuse_continued(before: list[Token]) -> None:
    """Refuse a string that goes on with another one: whether backslashes count there, the first one says."""
    last = next((token for token in reversed(before) if token.kind is not Kind.NOTHING), None)
    if last is not None and last.kind is Kind.STRING:
        raise refused("A string constant of the SQL text goes on with another one", "Write it as one, or use ||.")
