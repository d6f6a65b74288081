"""SSH signatures over a file, as `ssh-keygen -Y sign` makes them, by whoever signs the ledger.

Format: PROTOCOL.sshsig of OpenSSH. What is signed begins with ``SSHSIG``, so that no such signature can be taken for
one of a checkpoint, nor the other way round: the origin of a ledger never begins a checkpoint like that.

Promise: pure but for the signer.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from memoryos_uow import _notes

if TYPE_CHECKING:
    from memoryos_uow.signing import Signer

NAMESPACE: Final = "memoryos-uow-checkpoint"
_MAGIC: Final = b"SSHSIG"
_KIND: Final = b"ssh-ed25519"
_HASH: Final = b"sha512"
_LINE: Final = 70


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content


def public_blob(public: bytes) -> bytes:
    """Return an Ed25519 public key as OpenSSH encodes it (RFC 8709)."""
    return _string(_KIND) + _string(public)


def public_line(key: _notes.VerifierKey) -> str:
    """Return the key as a line of a .pub file, without its end."""
    return f"ssh-ed25519 {base64.b64encode(public_blob(key.public)).decode()} {key.name}"


def ssh_signature(message: bytes, signer: Signer) -> str:
    """Return the signature file of `message`, in the namespace of checkpoints."""
    namespace = _string(NAMESPACE.encode()) + _string(b"") + _string(_HASH)
    signature = signer.sign(_MAGIC + namespace + _string(hashlib.sha512(message).digest()))
    blob = public_blob(_notes.parse_vkey(signer.vkey).public)
    version = (1).to_bytes(4)
    content = _MAGIC + version + _string(blob) + namespace + _string(_string(_KIND) + _string(signature))
    text = base64.b64encode(content).decode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])
