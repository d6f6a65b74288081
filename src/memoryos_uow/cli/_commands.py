"""The commands by what they are for: where each one is, and what the help says of it.

Promise: a command is loaded when it is run, so that none has to wait for what the others need.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Place(NamedTuple):
    """A command that is not loaded yet."""

    module: str
    attribute: str
    summary: str
    """What the list of commands says of it: its ``short_help``."""


SECTIONS: Final[dict[str, dict[str, Place]]] = {
    "See it work": {
        "demo": Place("_demo", "demo", "Write real text, kill it in mid-work, prove that nothing is half."),
    },
    "Look at a ledger": {
        "list": Place("_list", "list_units", "List the newest units."),
        "show": Place("_show", "show", "Show one unit with its writes."),
        "stats": Place("_stats", "stats", "Count units and failures, and say how long units took."),
        "watch": Place("_watch", "watch", "Watch what happens in a ledger."),
        "report": Place("_report", "report_command", "Write a page about a ledger that opens in any browser."),
        "validate": Place("_validate", "validate", "Check every row against the contract."),
        "verify": Place("_verify", "verify", "Recompute every receipt, and compare the stores."),
    },
    "Deliver what was published": {
        "relay": Place("_relay", "relay", "Deliver what units have published."),
        "outbox": Place("_outbox", "outbox", "See, try again or drop what is not delivered."),
    },
    "After a crash": {
        "recover": Place("_recover", "recover", "Finish what dead processes left unfinished."),
    },
    "Prove it to others": {
        "keys": Place("_keys", "keys", "Make, show and change the keys that sign a ledger."),
        "checkpoint": Place("_checkpoint", "checkpoint", "Print the head of the receipt log, to be kept elsewhere."),
        "prove": Place("_prove", "prove", "Write a proof of one unit, to be checked without the ledger."),
        "check-proof": Place("_check_proof", "check_proof", "Check a proof without the ledger."),
        "export": Place("_export", "export", "Write a space's history, to be checked without the ledger."),
        "check-export": Place("_export", "check_export", "Check an exported history without the ledger."),
    },
    "Forget a record": {
        "erase": Place("_erase", "erase", "Erase a record, and what receipts say of it."),
    },
    "Change its schema or its place": {
        "migrate": Place("_migrate", "migrate", "Bring a ledger to 1.1.0, or back to 1.0.0."),
        "copy": Place("_copy", "copy", "Copy a ledger from a file to a PostgreSQL database."),
    },
}

COMMANDS: Final = {name: place for places in SECTIONS.values() for name, place in places.items()}
