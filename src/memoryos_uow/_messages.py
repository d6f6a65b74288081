"""Messages of the outbox: as a sink gets them, as CloudEvents, and as the outbox lists them.

Promise: data only; nothing here shows payload, key or topic in a ``repr``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_NO_NAME: Final = "memoryos-uow"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a committed unit, as `Ledger.relay` hands it to a sink."""

    uow_id: str
    """The unit that published it."""
    seq: int
    """Its number among that unit's messages, from 0."""
    attempt: int
    """From 1: greater than 1 where a delivery of it is known to have failed before."""
    space_id: str = field(repr=False)
    band: str
    topic: str = field(repr=False)
    key: str | None = field(repr=False)
    """Messages of one space with the same key are delivered in the order of their commits."""
    payload_json: str = field(repr=False)
    """The payload as it was stored."""
    created_ts: str
    """When `publish` was called: RFC 3339 UTC text."""
    origin: str | None = field(repr=False)
    """The ledger's name, as in its receipts; None in basic mode."""

    @property
    def dedup_key(self) -> str:
        """``uow_id:seq``: the same for every delivery of this message, and for no other message anywhere."""
        return f"{self.uow_id}:{self.seq}"

    @property
    def payload(self) -> Any:
        """What was published, as new objects each time."""
        return json.loads(self.payload_json)

    def cloud_event(self) -> str:
        """Return the message as a CloudEvent 1.0 in JSON, on one line of ASCII.

        ``id`` is the dedup key, ``source`` the ledger's origin, ``type`` the topic, ``partitionkey`` the key, ``data``
        the payload; the extensions ``uowspace`` and ``uowband`` hold space and band.
        """
        # https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
        attributes = {
            "specversion": "1.0",
            "id": self.dedup_key,
            "source": quote(self.origin or _NO_NAME, safe="/:@!$&'()*,;=~"),  # a URI reference
            "type": self.topic,
            "time": self.created_ts,
            "datacontenttype": "application/json",
            "uowspace": self.space_id,
            "uowband": self.band,
        }
        if self.key is not None:
            attributes["partitionkey"] = self.key
        # The payload as it was stored, digit by digit: it is not parsed on the way.
        return f'{json.dumps(attributes)[:-1]}, "data": {_NOT_ASCII.sub(_escaped, self.payload_json)}}}'


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One message that is still in the outbox: everything but its payload."""

    message_id: str
    """``uow_id:seq``, its dedup key."""
    state: str
    """``waiting`` (due, or behind another message of its key), ``delayed``, ``in flight`` or ``parked``."""
    band: str
    space_id: str | None = field(repr=False)
    topic: str | None = field(repr=False)
    key: str | None = field(repr=False)
    payload_bytes: int | None
    created_ts: str
    attempts: int
    """How often delivering it failed."""
    error_type: str | None
    error_message: str | None = field(repr=False)
    """As far as the band of its unit allows."""
    error_ts: str | None


@dataclass(frozen=True, slots=True)
class RelayReport:
    """What one call of `Ledger.relay` did, in messages."""

    delivered: int = 0
    """Taken by the sink, and removed from the outbox."""
    retried: int = 0
    """Deliveries that failed and will be tried again."""
    parked: int = 0
    """Refused by the sink, or failed too often: kept, and not tried again until somebody says so."""
    left: int = 0
    """Still in the outbox at the end, of the topics relayed: parked, put off, or in another relay's hands."""
