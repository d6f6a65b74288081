"""Ed25519 (RFC 8032): the only place that knows the library that computes it, the extra ``[sign]``.

Promise: verification is strict, so that no two programs disagree about a signature: a public key or a commitment in
another than its canonical encoding, a public key of small order, and a scalar beyond the group's order are refused
(RFC 8032, section 5.1.7; C2SP/CCTV lists what goes wrong otherwise). Nothing is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_PRIME: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_SIGN_BIT: Final = 1 << 255
# The y coordinates of the eight points whose order divides 8. Whoever has such a "public key" needs no private one.
_SMALL_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)


def _library(name: str) -> Any:
    """Return one module of the library that computes.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(f"cryptography.{name}")
    except ImportError as error:
        raise UsageError(
            "Signing, and checking signatures, needs the package cryptography, which is not installed.",
            hint="Install it with: pip install 'memoryos-uow[sign]'. Nothing was written.",
        ) from error


def is_sound_public(public: bytes) -> bool:
    """Say whether these are the 32 canonical bytes of a public key that is not of small order."""
    if len(public) != PUBLIC_BYTES:
        return False
    y = int.from_bytes(public, "little") & (_SIGN_BIT - 1)
    return y < _PRIME and y not in _SMALL_ORDER_Y


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether `signature` is that of `message` by the key `public`.

    Raises:
        UsageError: the extra ``[sign]`` is not installed.
    """
    ed25519 = _library("hazmat.primitives.asymmetric.ed25519")
    invalid = _library("exceptions").InvalidSignature
    if len(signature) != SIGNATURE_BYTES or not is_sound_public(public):
        return False
    if int.from_bytes(signature[32:], "little") >= _ORDER:
        return False
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (invalid, ValueError):
        return False
    return True


def new_private() -> Ed25519PrivateKey:
    """Return a new private key."""
    key: Ed25519PrivateKey = _library("hazmat.primitives.asymmetric.ed25519").Ed25519PrivateKey.generate()
    return key


def private_from_pem(pem: bytes) -> Ed25519PrivateKey | None:
    """Return the private key in PKCS #8 PEM, without a passphrase; None if that is not what `pem` holds."""
    serialization = _library("hazmat.primitives.serialization")
    kind = _library("hazmat.primitives.asymmetric.ed25519").Ed25519PrivateKey
    unsupported = _library("exceptions").UnsupportedAlgorithm
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, unsupported):
        return None
    return key if isinstance(key, kind) else None


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """Return the private key in PKCS #8 PEM, without a passphrase."""
    serialization = _library("hazmat.primitives.serialization")
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public key."""
    return key.public_key().public_bytes_raw()
