"""Signing the receipt log: who signs, and where the private key is.

A signed ledger's every unit carries a checkpoint of the log, signed with Ed25519: proof to everybody who has the public
key that this receipt, and every one before it, is as it was. Needs the extra ``[sign]``.

| class | where the key is |
|---|---|
| `KeyFileSigner` | a PKCS #8 PEM file that only its owner can read; what ``Ledger.open(signer="key.pem")`` makes |
| `EnvironmentSigner` | an environment variable with the same text |
| `AgentSigner` | an ssh-agent, and so perhaps a hardware token: this process never sees it |

Anything else with the three members of `Signer` does as well: a key management service, for example.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from memoryos_uow._signers import AgentSigner, EnvironmentSigner, KeyFileSigner, write_new_key

__all__ = ["AgentSigner", "EnvironmentSigner", "KeyFileSigner", "Signer", "write_new_key"]


@runtime_checkable
class Signer(Protocol):
    """What a ledger needs of whoever signs for it. Threads may call it at the same time."""

    @property
    def name(self) -> str:
        """The name of the key: the ledger's origin."""

    @property
    def vkey(self) -> str:
        """The C2SP verifier key, ``name+keyid+base64``: what is handed to whoever shall check signatures."""

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature of `message`, 64 bytes (RFC 8032); raise if that cannot be done.

        Called once per transaction, inside it, while others wait: the quicker the better.
        """
