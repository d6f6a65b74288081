"""The relay: hands committed messages to a sink and removes them from the outbox.

Promises

1.  At least once: a message leaves the outbox only after the sink has returned for it, or an operator dropped it.
    A relay that dies in between has delivered it without saying so, and it is delivered again under the same dedup key.
2.  A message is handed out only once the unit that published it is durable.
3.  Messages of one space with one key go out in the order of their commits, one at a time, by whichever relay. One that
    fails, or is parked, holds back the later ones of its key and nobody else. This holds among the topics that a relay
    serves, so relays that share the work serve the same topics.
4.  No lock is held while a sink works. Claims and acknowledgements are short transactions for many messages at once.
5.  Who has a message is decided by the ledger: a claim has a lease and an epoch. Where a relay does not come back its
    claims lapse, at once if its process is known to be gone; what it says later changes nothing.
6.  A message whose relay did not come back is tried alone, and that counts as a failed attempt: one that kills every
    relay is parked in the end, and takes no others with it.
"""

from __future__ import annotations

from memoryos_uow._relay.outbox import Outbox
from memoryos_uow._relay.relay import RelayOptions, run_relay

__all__ = ["Outbox", "RelayOptions", "run_relay"]
