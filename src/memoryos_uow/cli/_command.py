"""Commands whose help ends with examples that are never wrapped, so that they can be copied."""

from __future__ import annotations

from typing import Any

import click


def write_examples(formatter: click.HelpFormatter, examples: tuple[str, ...]) -> None:
    """Write the section of examples."""
    with formatter.section("Examples"):
        for line in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Command(click.Command):
    """A command with examples."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self._examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's call
        """Write the examples below everything else."""
        write_examples(formatter, self._examples)
