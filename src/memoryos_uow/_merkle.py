"""Merkle tree hash over an ordered list of entries (RFC 9162, section 2.1.1; the same as RFC 6962, section 2.1).

Promise: pure and streaming; memory grows with the logarithm of the number of leaves.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of a tree without leaves: SHA-256 of nothing."""


def leaf_hash(entry: bytes) -> bytes:
    """Return SHA-256(0x00 || entry), 32 bytes: the hash of one leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right), 32 bytes: the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the complete subtrees of a growing tree: enough to append leaves and to give the root."""

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self._peaks: list[bytes] = []
        self.size = 0

    def append(self, leaf: bytes) -> None:
        """Add one leaf, given as its 32-byte hash."""
        node, position = leaf, self.size
        while position & 1:  # a full pair to our left: merge upwards, as binary addition carries
            node = node_hash(self._peaks.pop(), node)
            position >>= 1
        self._peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the 32-byte tree hash over everything appended so far."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the 32-byte tree hash over `leaves`, each a 32-byte leaf hash, in order."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()
