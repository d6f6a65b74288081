"""The content key: 256 secret bits, kept outside the ledger, under which RED and BLACK writes are fingerprinted.

A plain digest of something that can be guessed gives it away; a digest under a key does so only to whoever has the key.
With one, `uow_writes` holds for RED and BLACK ``hmac-sha256:<hex>`` as the checksum, and for BLACK a pseudonym
``p:<hex>`` as the record id. Both are HMAC-SHA256 (RFC 2104) over RFC 8785 JSON, whose first element says what for::

    checksum    ["memoryos-uow/content/1", space_id, SHA-256 of the content in hex]
    record id   ["memoryos-uow/record/1", space_id, store, key]
    key id      ["memoryos-uow/key-id/1"], its first 16 hex digits

Promise: the key is in no row, log, error text or repr; the ledger knows its id only, so that a wrong key is noticed. A
key file that others could read is refused, and no key is ever made up or left out silently.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from memoryos_uow._canonical import canonical
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES: Final = 32
ENVIRONMENT: Final = "MEMORYOS_UOW_CONTENT_KEY_FILE"

_HEX: Final = re.compile(rb"[0-9A-Fa-f]{64}")
_MORE_THAN_A_KEY: Final = 2 * KEY_BYTES + 16
_HOW_TO_MAKE_ONE: Final = "Make one with: (umask 077; openssl rand -hex 32 > content.key)"


class ContentKey:
    """A key ready for use; it shows its id and nothing else."""

    __slots__ = ("_secret", "id")

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id: Final = self._digest("memoryos-uow/key-id/1")[:16]

    def __repr__(self) -> str:
        return f"<ContentKey {self.id}>"

    def __reduce__(self) -> str:
        raise UsageError("A content key cannot be copied out of its process.", hint="Pass the path of its file.")

    def checksum(self, space_id: str, sha256: str) -> str:
        """Return ``hmac-sha256:<hex>`` for content with this SHA-256, written in this space."""
        return f"hmac-sha256:{self._digest('memoryos-uow/content/1', space_id, sha256)}"

    def pseudonym(self, space_id: str, store: str, key: str) -> str:
        """Return ``p:<hex>``, which stands for a record where its key may not."""
        return f"p:{self._digest('memoryos-uow/record/1', space_id, store, key)}"

    def _digest(self, *parts: str) -> str:
        return hmac.digest(self._secret, canonical(list(parts)), "sha256").hex()


def content_key(given: object, environment: Mapping[str, str] = os.environ) -> ContentKey | None:
    """Return the key that `given` is (32 bytes) or names (the path of its file), else that of the environment, or None.

    Raises:
        UsageError: there is no such file, others than its owner may read or write it, or it holds no key.
    """
    if given is None:
        given = environment.get(ENVIRONMENT) or None
    if given is None:
        return None
    if isinstance(given, (bytes, bytearray)):
        if len(given) != KEY_BYTES:
            raise UsageError(f"A content key has {KEY_BYTES} bytes, not {len(given)}.", hint=_HOW_TO_MAKE_ONE)
        return ContentKey(bytes(given))
    if not isinstance(given, (str, os.PathLike)):
        raise UsageError(
            f"content_key is {KEY_BYTES} bytes or the path of a file with them, not a {type(given).__name__}.",
            hint="Nothing was opened.",
        )
    return ContentKey(_read(os.fspath(given)))


def _read(path: str | bytes) -> bytes:
    """Return the key in the file at `path`: 32 raw bytes, or 64 hex digits and perhaps a line end."""
    try:
        # Not blocking: whoever named a pipe would wait for ever.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            problem = _problem(os.fstat(fd))
            content = b"" if problem else os.read(fd, _MORE_THAN_A_KEY)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path"
        raise _refusal(path, f"cannot be read ({why})", _HOW_TO_MAKE_ONE) from error
    if problem:
        raise _refusal(path, problem, f"Make it private: chmod 600 {os.fsdecode(path)}")
    if _HEX.fullmatch(content.rstrip(b"\r\n")):
        return bytes.fromhex(content.rstrip(b"\r\n").decode("ascii"))
    if len(content) != KEY_BYTES:
        raise _refusal(path, f"holds neither {KEY_BYTES} bytes nor {2 * KEY_BYTES} hex digits", _HOW_TO_MAKE_ONE)
    return content


def _problem(found: os.stat_result) -> str | None:
    """Say why a file with these attributes cannot be trusted to be a secret, or None."""
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if os.name != "posix":  # pragma: no cover - permissions of other systems cannot be read off a mode
        return None
    if found.st_uid not in (os.geteuid(), 0):
        return "belongs to somebody else"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"may be used by others than its owner (mode {stat.S_IMODE(found.st_mode):04o})"
    return None


def _refusal(path: str | bytes, problem: str, hint: str) -> UsageError:
    return UsageError(f"The content key file {os.fsdecode(path)} {problem}.", hint=f"Nothing was opened. {hint}")
