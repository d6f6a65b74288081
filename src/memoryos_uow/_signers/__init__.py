"""The signers that come with the library, one file for each place where a private key can be."""

from __future__ import annotations

from memoryos_uow._signers.agent import AgentSigner
from memoryos_uow._signers.pem import EnvironmentSigner, KeyFileSigner, write_new_key

__all__ = ["AgentSigner", "EnvironmentSigner", "KeyFileSigner", "write_new_key"]
