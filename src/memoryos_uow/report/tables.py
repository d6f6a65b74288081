"""Tables that a reader of the page can hear as well as see, and that scroll by themselves where they are too wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memoryos_uow.report.text import plain

if TYPE_CHECKING:
    from collections.abc import Sequence


class Column(NamedTuple):
    """One column."""

    heading: str
    number: bool = False
    """Numbers stand to the right."""
    bar: bool = False
    """Bars repeat a number, for the eye."""
    ident: bool = False
    """Ids are set in a fixed width."""

    @property
    def kind(self) -> str:
        """The class of its cells, as an attribute."""
        name = "n" if self.number else "part" if self.bar else "id" if self.ident else ""
        return f' class="{name}"' if name else ""


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its cells are HTML, and the first of each row names the row."""
    head = "".join(
        f'<td aria-hidden="true"{one.kind}></td>' if one.bar else f'<th scope="col"{one.kind}>{plain(one.heading)}</th>'
        for one in columns
    )
    lines = []
    for first, *others in rows:
        cells = "".join(
            f"<td{one.kind}{' aria-hidden=true' if one.bar else ''}>{cell}</td>"
            for one, cell in zip(columns[1:], others, strict=True)
        )
        lines.append(f'<tr><th scope="row"{columns[0].kind}>{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{plain(caption)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
