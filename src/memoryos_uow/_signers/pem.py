"""Private keys in PKCS #8 PEM: in a file that only its owner can read, or in an environment variable.

Promise: the key is read once, when the signer is made; whatever is wrong with it is said then. It never appears in an
error, a log or a ``repr``. A file that others could read is refused, however it came to be so.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ed25519, _notes
from memoryos_uow.errors import LedgerError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KEY_BYTES_MAX: Final = 16_384
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class PemSigner:
    """Signs with a private key that is in this process's memory."""

    def __init__(self, key: Ed25519PrivateKey, name: str) -> None:
        """Sign with `key` under `name`, the ledger's origin.

        Raises:
            UsageError: `name` cannot be the name of a key.
        """
        if not isinstance(name, str) or not _notes.is_key_name(name):
            raise UsageError(
                "The name of a key is one word without spaces and plus signs: the ledger's origin.",
                hint="Nothing was written. memoryos-uow keys show prints the origin of a ledger.",
            )
        self._key = key
        self._vkey = _notes.VerifierKey(name, _ed25519.public_bytes(key)).text()
        self.name: Final = name

    @property
    def vkey(self) -> str:
        """The public key under its name, for everybody who shall check signatures."""
        return self._vkey

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_notes.shown_key(self._vkey)}>"


class KeyFileSigner(PemSigner):
    """Signs with the Ed25519 key in a PKCS #8 PEM file, as `memoryos-uow keys new` and openssl genpkey write it.

    The file has to belong to this process's user, and nobody else may read or write it (mode 0600 or 0400).
    """

    def __init__(self, path: str | os.PathLike[str], *, name: str) -> None:
        """Read the key at `path`, to sign under `name`, the ledger's origin.

        Raises:
            LedgerError: there is no such file, others can read it, or it holds no Ed25519 key without a passphrase.
            UsageError: `name` cannot be the name of a key, or the extra ``[sign]`` is not installed.
        """
        self.path: Final = Path(path)
        key = _ed25519.private_from_pem(_read_private(self.path))
        if key is None:
            raise _unusable(f"The key file {self.path} holds no Ed25519 key in PKCS #8 PEM without a passphrase.")
        super().__init__(key, name)


class EnvironmentSigner(PemSigner):
    """Signs with the Ed25519 key that an environment variable holds in PKCS #8 PEM."""

    def __init__(self, variable: str = "MEMORYOS_UOW_KEY", *, name: str) -> None:
        """Read the key in `variable`, to sign under `name`, the ledger's origin.

        Raises:
            LedgerError: the variable is not set, or holds no Ed25519 key without a passphrase.
            UsageError: `name` cannot be the name of a key, or the extra ``[sign]`` is not installed.
        """
        pem = os.environ.get(variable)
        if not pem:
            raise _unusable(f"The environment variable {variable}, which should hold the key, is not set.")
        key = _ed25519.private_from_pem(os.fsencode(pem))
        if key is None:
            raise _unusable(f"The environment variable {variable} holds no Ed25519 key in PKCS #8 PEM.")
        super().__init__(key, name)


def _unusable(sentence: str) -> LedgerError:
    return LedgerError(sentence, hint="Nothing was written, and nothing will be without its signature.")


def _read_private(path: Path) -> bytes:
    """Return the content of a file that is its owner's alone.

    Raises:
        LedgerError: it cannot be read, or others can read it.
    """
    try:
        # Not blocking: a named pipe must not hold up the opening of a ledger.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise _unusable(f"The key file {path} cannot be read: {reason}.") from error
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            raise _unusable(f"The key file {path} is not a regular file.")
        if facts.st_uid != os.geteuid() or facts.st_mode & _OTHERS:
            raise LedgerError(
                f"The key file {path} is not private: others can read or change it, or it is another user's.",
                hint=f"Nothing was written. Make it yours alone: chmod 600 {path}. If others could read it, rotate it.",
            )
        return os.read(file, _KEY_BYTES_MAX)
    except OSError as error:
        raise _unusable(f"The key file {path} cannot be read: {error.strerror}.") from error
    finally:
        os.close(file)


def write_new_key(path: str | os.PathLike[str]) -> None:
    """Make a new Ed25519 key and write it to a file at `path`, which must not exist, for its owner alone.

    On return it is on the disk, name and all: what it signs must never outlive it.

    Raises:
        LedgerError: there is something at `path` already, or it cannot be written.
        UsageError: the extra ``[sign]`` is not installed.
    """
    pem = _ed25519.private_pem(_ed25519.new_private())
    target = Path(path)
    try:
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, pem)
            os.fsync(file)
        finally:
            os.close(file)
        folder = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise LedgerError(
            f"The key file {target} cannot be made: {error.strerror}.",
            hint="Nothing was overwritten. Give a path at which there is no file yet, in a directory of yours.",
        ) from error
