"""What may leave the ledger about a unit of a given band: error texts and identifiers (design, section on bands).

Promise: payloads pass through here never, and identifiers only for GREEN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow._names import Band
from memoryos_uow.errors import UnitOfWorkError

if TYPE_CHECKING:
    from memoryos_uow._band_keys import ContentKey

MAX_MESSAGE_CHARACTERS: Final = 1000
"""A recorded error text is cut here."""


def error_text(error: BaseException, band: Band) -> str | None:
    """Return what ``unit_of_work.error_message`` may say of `error`, or None where only its type may be kept.

    GREEN keeps the text as raised (cut, made storable), nothing where the exception cannot give one; AMBER our own
    constant sentence and nothing of foreign errors; RED and BLACK nothing.
    """
    if band is Band.GREEN:
        try:
            text = str(error)
        except Exception:  # noqa: BLE001 - a caller's exception whose text fails must not take the place of itself
            return None
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
        return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    if band is Band.AMBER and isinstance(error, UnitOfWorkError):
        return error.summary
    return None


def shown_key(key: str, band: Band) -> str:
    """Return how an error may speak of a record: by its key for GREEN, otherwise without."""
    if band is not Band.GREEN:
        return "(key withheld by band)"
    return repr(key) if len(key) <= 80 else f"{key[:77]!r}..."  # noqa: PLR2004 - a line's worth


def wants_nonces(band: Band) -> bool:
    """Say whether receipts of this band carry random nonces, so that digests cannot be guessed from likely contents."""
    return band is not Band.GREEN


def checksum_text(sha256: str, band: Band, space_id: str, key: ContentKey | None) -> str | None:
    """Return ``uow_writes.checksum`` for content with this digest.

    ``sha256:<hex>`` for GREEN and AMBER. A plain digest of guessable content gives the content away, so RED and BLACK
    have ``hmac-sha256:<hex>`` under the content key, which is kept outside the database, and None without one.
    """
    if band in (Band.GREEN, Band.AMBER):
        return f"sha256:{sha256}"
    return key.checksum(space_id, sha256) if key else None


def recorded_key(
    record: str | None, band: Band, space_id: str = "", store: str = "", key: ContentKey | None = None
) -> str | None:
    """Return ``uow_writes.record_id``: the record's key; for BLACK its pseudonym, and None without a content key."""
    if band is not Band.BLACK or record is None:
        return record
    return key.pseudonym(space_id, store, record) if key else None
