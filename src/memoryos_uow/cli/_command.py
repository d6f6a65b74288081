"""Commands whose help ends with examples that are never wrapped, so that they can be copied."""

from __future__ import annotations

from typing import Any

import click


def write_examples(formatter: click.HelpFormatter, examples: tuple[str, ...]) -> None:
    """Write the section of examples."""
    with formatter.section("Examples"):
        for line in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class _WithExamples:
    """What commands and groups of commands with examples have in common."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self._examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's call
        """Write the examples below everything else."""
        write_examples(formatter, self._examples)


class Command(_WithExamples, click.Command):
    """A command with examples."""


class Group(_WithExamples, click.Group):
    """A group of commands with examples."""
