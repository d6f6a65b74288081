"""``memoryos-uow check-proof``: check a proof without the ledger it is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from memoryos_uow import _ed25519, _notes, _proofs
from memoryos_uow._canonical import sha256_hex
from memoryos_uow._terminal import pairs, screen_width
from memoryos_uow.cli._arguments import json_option
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note, print_json
from memoryos_uow.cli._prove import beside
from memoryos_uow.errors import VerificationError

if TYPE_CHECKING:
    from memoryos_uow._proofs import Proved

_FILE_BYTES_MAX: Final = 1_000_000
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    "check-proof",
    cls=Command,
    short_help="Check a proof without the ledger.",
    examples=("memoryos-uow check-proof n1.tlog-proof --entry n1.json --vkey example.com/home+f81d4fae+AU...",),
)
@click.argument("file", type=_FILE, metavar="FILE")
@click.option("--entry", required=True, type=_FILE, metavar="FILE", help="The receipt that is to be in the log.")
@click.option("--vkey", "vkeys", multiple=True, metavar="KEY", help="A verifier key that you trust; may be repeated.")
@click.option("--write", type=click.IntRange(min=0), metavar="N", help="Check the files of write N beside them too.")
@json_option
def check_proof(file: Path, *, entry: Path, vkeys: tuple[str, ...], write: int | None, as_json: bool) -> None:
    """Check the tlog-proof FILE: that the receipt in --entry stands in the log whose checkpoint the proof holds.

    With --vkey that checkpoint has to be signed by a key that you trust; get it from somewhere else than the proof.
    Without, the proof shows only that receipt and checkpoint fit together. The exit code is 1 if it does not hold.
    """
    keys = [_notes.parse_vkey(vkey) for vkey in vkeys]
    # A line feed that an editor or a shell has put at the end is no part of the receipt.
    receipt = _bytes(entry).removesuffix(b"\n")
    fields = _proofs.parse_receipt(receipt)
    proved = _proofs.check_log_proof(_proofs.parse_proof(_text(file)), receipt, keys, _ed25519.verify)
    if write is not None:
        proof = _proofs.parse_proof(_text(beside(file, write)))
        if proof.index != write:
            raise VerificationError(f"The proof of write {write} is about write {proof.index}.")
        _proofs.check_write_proof(proof, _bytes(beside(entry, write)).removesuffix(b"\n"), fields)
    _print(proved, fields, sha256_hex(receipt), as_json=as_json)
    if not proved.keys:
        note("Nobody's signature was checked: this shows that receipt and checkpoint fit, not whose they are.")


def _print(proved: Proved, fields: dict[str, object], digest: str, *, as_json: bool) -> None:
    facts = {
        "uow_id": fields["uow_id"],
        "receipt_hash": digest,
        "origin": proved.head.origin,
        "size": proved.head.size,
        "signed_by": [_notes.shown_key(key.text()) for key in proved.keys],
    }
    if as_json:
        print_json({"ok": True, **facts})
        return
    click.echo("The proof holds.")
    shown = {**facts, "signed_by": ", ".join(facts["signed_by"]) or "nobody"}  # type: ignore[arg-type]
    for line in pairs(((name, str(value)) for name, value in shown.items()), screen_width(), indent="  "):
        click.echo(line)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise VerificationError("A file is far too large to be a proof or a receipt.")
    return content


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError as error:
        raise VerificationError("The proof is not a text in UTF-8.") from error
