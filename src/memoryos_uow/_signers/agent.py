"""Private keys that stay in an ssh-agent, and so perhaps in a hardware token: this process never sees them.

Protocol: draft-ietf-sshm-ssh-agent, sections 3.5 and 3.6: the messages that OpenSSH's agent has always spoken.

Promise: every answer is checked for its form, and every signature against the public key before it is used; an agent
that is gone, locked or refuses is an error. Each signature takes about a millisecond, or as long as a person needs to
confirm it.
"""

from __future__ import annotations

import base64
import binascii
import os
import socket
import struct
from typing import Final

from memoryos_uow import _ed25519, _notes
from memoryos_uow.errors import LedgerError, UsageError

_LIST_REQUEST: Final = 11
_LIST_ANSWER: Final = 12
_SIGN_REQUEST: Final = 13
_SIGN_ANSWER: Final = 14
_ANSWER_BYTES_MAX: Final = 262_144
_KIND: Final = b"ssh-ed25519"


class AgentSigner:
    """Signs with an Ed25519 key in the ssh-agent at ``$SSH_AUTH_SOCK``."""

    def __init__(
        self,
        public_key: str | None = None,
        *,
        name: str,
        address: str | os.PathLike[str] | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Find the key in the agent.

        Args:
            public_key: its line ``ssh-ed25519 AAAA...`` as in a .pub file; by default the agent's only Ed25519 key.
            name: the ledger's origin.
            address: the agent's socket; default ``$SSH_AUTH_SOCK``.
            timeout: seconds to wait for each answer: somebody may have to confirm.

        Raises:
            LedgerError: there is no agent, or it does not have the key.
            UsageError: `public_key` is not a line of that form, or `name` cannot be the name of a key.
        """
        if not isinstance(name, str) or not _notes.is_key_name(name):
            raise UsageError("The name of a key is one word without spaces and plus signs: the ledger's origin.")
        self.name: Final = name
        self._address = os.fspath(address) if address is not None else os.environ.get("SSH_AUTH_SOCK", "")
        self._timeout_s = timeout
        wanted = None if public_key is None else _key_of_line(public_key)
        held = [key for key in self._keys() if wanted in (None, key)]
        if len(held) != 1:
            raise LedgerError(
                f"The ssh-agent has {len(held) or 'no'} such Ed25519 key{'s' if len(held) > 1 else ''}.",
                hint="Nothing was written. ssh-add -L lists its keys; name one of them with public_key.",
            )
        self._public: Final = held[0]
        self._vkey: Final = _notes.VerifierKey(name, self._public).text()

    @property
    def vkey(self) -> str:
        """The public key under its name, for everybody who shall check signatures."""
        return self._vkey

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`.

        Raises:
            LedgerError: the agent is gone, or refused, or its answer is not a signature by this key.
        """
        request = _string(_string(_KIND) + _string(self._public)) + _string(message) + struct.pack(">I", 0)
        answer = _Parts(self._ask(_SIGN_REQUEST, request, _SIGN_ANSWER))
        signature = _Parts(answer.string())
        kind, content = signature.string(), signature.string()
        if kind != _KIND or not _ed25519.verify(self._public, message, content):
            raise _refused("its answer is not a signature by the key")
        return content

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_notes.shown_key(self._vkey)}>"

    def _keys(self) -> list[bytes]:
        """Return the Ed25519 keys that the agent has."""
        answer = _Parts(self._ask(_LIST_REQUEST, b"", _LIST_ANSWER))
        found = []
        for _ in range(answer.number()):
            blob, _comment = _Parts(answer.string()), answer.string()
            if blob.string() == _KIND:
                found.append(blob.string())
        return [key for key in found if _ed25519.is_sound_public(key)]

    def _ask(self, kind: int, content: bytes, wanted: int) -> bytes:
        """Send one request; return the content of its answer."""
        if not self._address:
            raise _refused("$SSH_AUTH_SOCK names none")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
                channel.settimeout(self._timeout_s)
                channel.connect(self._address)
                channel.sendall(_string(bytes([kind]) + content))
                with channel.makefile("rb") as stream:
                    answer = _read_answer(stream.read)
        except OSError as error:
            raise _refused(error.strerror or type(error).__name__) from error
        if answer[0] != wanted:
            raise _refused("it refused")
        return answer[1:]


def _read_answer(read: object) -> bytes:
    assert callable(read)  # noqa: S101 - for the type checker
    size = int.from_bytes(read(4))
    if not 0 < size <= _ANSWER_BYTES_MAX:
        raise _refused("its answer is not one")
    answer: bytes = read(size)
    if len(answer) != size:
        raise _refused("it hung up")
    return answer


def _refused(reason: str) -> LedgerError:
    return LedgerError(
        f"The ssh-agent cannot sign: {reason}.",
        hint="Nothing was written, and nothing will be without its signature. Is it running, and unlocked?",
    )


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


class _Parts:
    """Takes an answer apart."""

    def __init__(self, content: bytes) -> None:
        self._rest = content

    def number(self) -> int:
        if len(self._rest) < 4:  # noqa: PLR2004 - an uint32
            raise _refused("its answer is cut short")
        value, self._rest = int.from_bytes(self._rest[:4]), self._rest[4:]
        return value

    def string(self) -> bytes:
        size = self.number()
        if len(self._rest) < size:
            raise _refused("its answer is cut short")
        content, self._rest = self._rest[:size], self._rest[size:]
        return content


def _key_of_line(line: str) -> bytes:
    """Return the 32 bytes of the key in a line as of a .pub file."""
    words = line.split() if isinstance(line, str) else []
    try:
        if len(words) > 1 and words[0].encode() == _KIND:
            parts = _Parts(base64.b64decode(words[1], validate=True))
            if parts.string() == _KIND and _ed25519.is_sound_public(key := parts.string()):
                return key
    except (binascii.Error, ValueError, LedgerError):
        pass
    raise UsageError(
        "public_key is not the public line of an Ed25519 key.", hint="It has the form: ssh-ed25519 AAAA... comment."
    )
