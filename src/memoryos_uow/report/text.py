"""Text in a page: escaped, made visible, and never longer than it may be."""

from __future__ import annotations

import html
from typing import Final

TEXT_CHARACTERS_MAX: Final = 120
NOTHING: Final = "\N{EN DASH}"
"""Stands for what is not there."""


def shown(text: str | None, *, at_most: int = TEXT_CHARACTERS_MAX) -> str:
    r"""Return `text` from a ledger as HTML that shows it and does nothing else.

    Markup is escaped; what cannot be seen, or turns the writing direction, is shown as ``\x1b`` or ``\u202e``; letters
    that are written from right to left do not change what stands beside them.
    """
    if text is None:
        return NOTHING
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: at_most + 1])
    if len(visible) > at_most:
        visible = visible[: at_most - 1] + "…"
    return f"<bdi>{html.escape(visible)}</bdi>"


def plain(text: str) -> str:
    """Return text of ours as HTML."""
    return html.escape(text)


def duration(us: float | None) -> str:
    """Return a duration for people: ``512 µs``, ``1.23 ms``, ``45.6 s``."""
    if us is None:
        return NOTHING
    if us < 999.5:  # noqa: PLR2004 - what rounds to a millisecond
        return f"{us:.0f} µs"
    number, unit = (us / 1e3, "ms") if us < 999_500 else (us / 1e6, "s")  # noqa: PLR2004 - the same for a second
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0  # noqa: PLR2004 - three digits
    return f"{number:,.{digits}f} {unit}"


def share(part: int, whole: int) -> str:
    """Return a part in percent: ``0 %``, ``<0.1 %``, ``12.3 %``."""
    if not part or not whole:
        return "0 %"
    percent = 100 * part / whole
    return "<0.1 %" if percent < 0.05 else f"{percent:.1f} %"  # noqa: PLR2004 - what rounds to 0.0
