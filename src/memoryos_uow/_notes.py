"""Signed notes and checkpoints: the text forms in which the log's head leaves the ledger.

Formats: https://c2sp.org/signed-note (key type 0x01, Ed25519) and https://c2sp.org/tlog-checkpoint.

Promise: pure. What is written here can be read by every program that keeps to these formats; what is read is accepted
only in the one form in which it would be written: no other base64, no leading zeros, no control characters. Whatever a
text holds, reading it raises nothing but VerificationError.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow._merkle import HASH_BYTES
from memoryos_uow.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from memoryos_uow.signing import Signer

ED25519: Final = 1
"""The type byte of plain Ed25519 signatures in a verifier key."""

SIGNATURES_MAX: Final = 100
NOTE_CHARACTERS_MAX: Final = 1_000_000

_KEY_ID_BYTES: Final = 4
_PUBLIC_BYTES: Final = 32
_DASH: Final = "— "
UNSIGNED: Final = "(unsigned: this shows accident, not malice)"
"""The line that stands for the signatures where nobody signs."""

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")


class VerifierKey(NamedTuple):
    """A public key under its name: what is handed to whoever shall check signatures."""

    name: str
    public: bytes
    """32 bytes, RFC 8032."""

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256(name, line feed, type, public key)."""
        return hashlib.sha256(b"%s\n%c%s" % (self.name.encode(), ED25519, self.public)).digest()[:_KEY_ID_BYTES]

    def text(self) -> str:
        """Return ``name+keyid+base64``, as `parse_vkey` reads it."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([ED25519]) + self.public).decode()}"


class Signature(NamedTuple):
    """One signature line of a note."""

    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    """A text and the signatures below it; nothing is known yet of whether they hold."""

    text: str
    """With its final line feed."""
    signatures: tuple[Signature, ...]


class Head(NamedTuple):
    """What a checkpoint says: the log's name, its number of leaves, and its root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


# Names and keys


def is_key_name(name: str) -> bool:
    """Say whether `name` can name a key: not empty, no spaces, no plus sign, no control characters."""
    return bool(name) and not any(c.isspace() or c == "+" or not c.isprintable() for c in name)


def parse_vkey(text: str) -> VerifierKey:
    """Return the key that ``name+keyid+base64`` stands for.

    Raises:
        VerificationError: it is not in that form, its id is not its own, or it is not an Ed25519 key.
    """
    parts = text.strip().split("+", 2)
    if len(parts) == 3:  # noqa: PLR2004 - name, id and key
        name, key_id, encoded = parts
        key = _decoded(encoded)
        if key is not None and len(key) == 1 + _PUBLIC_BYTES and key[0] == ED25519 and is_key_name(name):
            found = VerifierKey(name, key[1:])
            if key_id == found.key_id.hex():
                return found
    raise VerificationError(
        "This is not an Ed25519 verifier key.", hint="It has the form name+keyid+base64; `keys show` prints it."
    )


def shown_key(vkey: str) -> str:
    """Return name and id of a verifier key, for people."""
    return "+".join(vkey.split("+", 2)[:2])


# Writing


def sign(text: str, signer: Signer) -> str:
    """Return `text` as a note signed by `signer`."""
    return signed(text, [signer])


def signed(text: str, signers: Iterable[Signer]) -> str:
    """Return `text`, which ends with a line feed, as a note signed by each of `signers`."""
    body = text.encode()
    return text + "\n" + "".join(signature_line(_known_key(signer.vkey), signer.sign(body)) for signer in signers)


@lru_cache(maxsize=16)
def _known_key(vkey: str) -> tuple[str, bytes]:
    """Return name and id of a key; reading it takes half as long as signing."""
    key = parse_vkey(vkey)
    return key.name, key.key_id


def signature_line(key: tuple[str, bytes], signature: bytes) -> str:
    """Return the line of one signature; `key` is the name and the id of the key."""
    name, key_id = key
    return f"{_DASH}{name} {base64.b64encode(key_id + signature).decode()}\n"


def unsigned(text: str) -> str:
    """Return `text` in the place of a note that nobody signed."""
    return f"{text}\n{UNSIGNED}\n"


# Reading


def _decoded(text: str) -> bytes | None:
    """Return what `text` is the base64 of, in its only form; None if it is not."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if base64.b64encode(content).decode() == text else None


def decode_hash(line: str) -> bytes:
    """Return the 32 bytes that a line in base64 stands for.

    Raises:
        VerificationError: it stands for something else.
    """
    content = _decoded(line)
    if content is None or len(content) != HASH_BYTES:
        raise VerificationError("A line that should be a SHA-256 in base64 is not.")
    return content


def decode_number(text: str) -> int:
    """Return a decimal number without leading zeros, below 2**63.

    Raises:
        VerificationError: it is not one.
    """
    if not _NUMBER.fullmatch(text) or int(text) >= 2**63:
        raise VerificationError("A number in a checkpoint or proof is not a decimal one, or is too large.")
    return int(text)


def parse(note: str) -> Note:
    """Return the text and the signatures of `note`; of one that is marked as unsigned, no signatures.

    Raises:
        VerificationError: it is not a note.
    """
    text, blank, block = note.rpartition("\n\n")
    if len(note) > NOTE_CHARACTERS_MAX or _CONTROL.search(note) or not blank or not text or not _is_utf8(note):
        raise VerificationError("This is not a signed note: text, an empty line, and lines of signatures.")
    if block == f"{UNSIGNED}\n":
        return Note(text + "\n", ())
    lines = block.split("\n")
    if lines.pop() != "" or not 0 < len(lines) <= SIGNATURES_MAX:
        raise VerificationError("The signatures of a note are lines, one for each, each ended by a line feed.")
    return Note(text + "\n", tuple(map(_parse_signature, lines)))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse_signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    content = _decoded(encoded)
    if not line.startswith(_DASH) or not space or not is_key_name(name) or not content or len(content) <= _KEY_ID_BYTES:
        raise VerificationError("A signature line of a note is not a dash, a name and base64.")
    return Signature(name, content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:])


def parse_head(text: str) -> Head:
    """Return what the text of a checkpoint says; lines behind the third are allowed and left aside.

    Raises:
        VerificationError: it is no checkpoint.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] != "" or not all(lines[:-1]):  # noqa: PLR2004 - three lines and the last one's end
        raise VerificationError("A checkpoint has at least three lines: origin, size and root.")
    return Head(lines[0], decode_number(lines[1]), decode_hash(lines[2]))


def trusted_by(
    note: Note, keys: Iterable[VerifierKey], verify: Callable[[bytes, bytes, bytes], bool]
) -> list[VerifierKey]:
    """Return those of `keys` that have signed `note`; none if nobody known has.

    `verify` says of a public key, a message and a signature whether they belong together.
    Signatures of unknown keys are ignored, as the format demands. One that carries name and id of a known key and does
    not hold makes the whole note worthless.

    Raises:
        VerificationError: there is such a one.
    """
    known: Mapping[tuple[str, bytes], VerifierKey] = {(key.name, key.key_id): key for key in keys}
    found: dict[VerifierKey, None] = {}
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        if not verify(key.public, note.text.encode(), line.signature):
            raise VerificationError(f"The signature of {shown_key(key.text())} does not hold.")
        found[key] = None
    return list(found)
