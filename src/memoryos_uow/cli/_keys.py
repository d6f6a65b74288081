"""``memoryos-uow keys``: the keys that sign a ledger."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from memoryos_uow import _keys, _notes, _sshsig
from memoryos_uow._terminal import Column, printable, screen_width, table
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument
from memoryos_uow.cli._command import Command, Group
from memoryos_uow.cli._output import note, print_json
from memoryos_uow.cli._reading import reading
from memoryos_uow.errors import UsageError
from memoryos_uow.ledger import Ledger

if TYPE_CHECKING:
    from memoryos_uow.cli._arguments import LedgerPlace

_KEY_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_PEM_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410)."""
_COLUMNS: Final = (
    Column("VERIFIER KEY", least=40),
    Column("FROM", right=True),
    Column("TO", right=True),
    Column("STATE"),
)


@click.group(
    "keys",
    cls=Group,
    short_help="Make, show and change the keys that sign a ledger.",
    examples=("memoryos-uow keys new ledger-key.pem", "memoryos-uow keys show memory.db"),
)
def keys() -> None:
    """Make, show and change the keys that sign a ledger (Ed25519, as PKCS #8 PEM files)."""


@keys.command(
    cls=Command,
    short_help="Make a key file.",
    examples=("memoryos-uow keys new ledger-key.pem", "memoryos-uow keys new ledger-key.pem --name example.com/home"),
)
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--name", metavar="ORIGIN", help="Print the verifier key for the ledger of this origin.")
def new(file: Path, *, name: str | None) -> None:
    """Make a new private key at FILE, which must not exist, readable by you alone.

    Ledger.open(..., signer="FILE") signs with it from then on. Back it up: a ledger takes no units without its key.
    """
    from memoryos_uow.signing import KeyFileSigner, write_new_key  # noqa: PLC0415 - needs the extra [sign]

    write_new_key(file)
    note(f"A new private key is in {printable(str(file))}. Back it up, and keep it from everybody else.")
    if name is not None:
        click.echo(KeyFileSigner(file, name=name).vkey)


@keys.command(
    cls=Command,
    short_help="Show the verifier keys of a ledger.",
    examples=("memoryos-uow keys show memory.db", "memoryos-uow keys show memory.db --format pem > ledger.pub.pem"),
)
@ledger_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["vkey", "pem", "ssh"]),
    metavar="FORM",
    help="Print only the key in use: as a verifier key (vkey), for openssl (pem) or for ssh-keygen (ssh).",
)
@json_option
@busy_timeout_option
def show(ledger: LedgerPlace, *, form: str | None, as_json: bool, busy_timeout: float) -> None:
    """Show which keys have signed LEDGER, each from one unit's number in the log to another's.

    Hand the verifier key to whoever shall check this ledger's checkpoints and proofs.
    """
    with reading(ledger, busy_timeout_s=busy_timeout) as opened:
        found = [] if opened.basic else _keys.keys(opened.reader)
    if form is not None:
        in_use = [key for key in found if key.until_seq is None]
        if not in_use:
            raise UsageError("Nobody signs this ledger.", hint='Ledger.open(..., signer="key.pem") begins to.')
        click.echo(_formed(_notes.parse_vkey(in_use[0].vkey), form), nl=False)
    elif as_json:
        print_json([key._asdict() for key in found])
    elif not found:
        note('Nobody signs this ledger. Ledger.open(..., signer="key.pem") begins to.')
    else:
        rows = [(printable(k.vkey), str(k.since_seq), str(k.until_seq or ""), _state(k)) for k in found]
        for line in table(_COLUMNS, rows, screen_width()):
            click.echo(line)


def _state(key: _keys.KeyRecord) -> str:
    return "revoked" if key.revoked_ts else "in use" if key.until_seq is None else "put aside"


def _formed(key: _notes.VerifierKey, form: str) -> str:
    if form == "pem":
        encoded = base64.b64encode(_PEM_PREFIX + key.public).decode()
        return f"-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n"
    if form == "ssh":
        return _sshsig.public_line(key) + "\n"
    return key.text() + "\n"


def _hand_over(
    ledger: LedgerPlace, old: Path | None, new: Path | None, *, old_key_lost: bool, busy_timeout: float
) -> None:
    """Have the key `new`, or nobody, sign `ledger` from the next unit on."""
    if (old is None) != old_key_lost:
        raise click.UsageError("Give --old FILE, the key in use; or --old-key-lost if nobody has it any more.")
    with Ledger.open(
        ledger.given, migrate=False, recover=False, busy_timeout=busy_timeout, signer=old, stores="recorded"
    ) as opened:
        opened.change_signer(new, old_key_lost=old_key_lost)


@keys.command(
    cls=Command,
    short_help="Have another key sign from now on.",
    examples=("memoryos-uow keys rotate memory.db --old ledger-key.pem --new ledger-key-2.pem",),
)
@ledger_argument
@click.option("--new", "new_key", required=True, type=_KEY_FILE, metavar="FILE", help="The key that takes over.")
@click.option("--old", "old_key", type=_KEY_FILE, metavar="FILE", help="The key in use; both sign the handing over.")
@click.option("--old-key-lost", is_flag=True, help="Go on without the key in use.")
@busy_timeout_option
def rotate(
    ledger: LedgerPlace, *, new_key: Path, old_key: Path | None, old_key_lost: bool, busy_timeout: float
) -> None:
    """Have the key in --new sign LEDGER from the next unit on.

    What the old key has signed can still be checked with its verifier key, which the ledger keeps. Programs that have
    the ledger open with the old key are refused from then on, and have to open it with the new one.
    """
    _hand_over(ledger, old_key, new_key, old_key_lost=old_key_lost, busy_timeout=busy_timeout)
    note("The new key signs from the next unit on.")


@keys.command(
    cls=Command,
    short_help="Sign no more.",
    examples=("memoryos-uow keys retire memory.db --old ledger-key.pem",),
)
@ledger_argument
@click.option("--old", "old_key", type=_KEY_FILE, metavar="FILE", help="The key in use.")
@click.option("--old-key-lost", is_flag=True, help="Nobody has the key in use any more.")
@busy_timeout_option
def retire(ledger: LedgerPlace, *, old_key: Path | None, old_key_lost: bool, busy_timeout: float) -> None:
    """Have nobody sign LEDGER from the next unit on: units are then taken without a signature."""
    _hand_over(ledger, old_key, None, old_key_lost=old_key_lost, busy_timeout=busy_timeout)
    note("From the next unit on nobody signs this ledger.")


@keys.command(
    cls=Command,
    short_help="Say that a key's signatures count for nothing.",
    examples=("memoryos-uow keys revoke memory.db example.com/home+f81d4fae",),
)
@ledger_argument
@click.argument("key", metavar="KEY")
@busy_timeout_option
def revoke(ledger: LedgerPlace, key: str, *, busy_timeout: float) -> None:
    """Say that signatures of KEY count for nothing, because somebody else may have it: its name and id, or all of it.

    The key in use has to be rotated first. Checkpoints of its successor cover everything from before, too.
    """
    with Ledger.open(
        ledger.given, migrate=False, recover=False, busy_timeout=busy_timeout, stores="recorded"
    ) as opened:
        opened.revoke_key(key)
    note("Signatures of this key count for nothing from now on.")
