"""Merkle trees over an ordered list of entries: hashes, growth, and both kinds of proof (RFC 9162, section 2.1).

Promise: pure and exact. A growing tree takes memory that grows with the logarithm of its leaves. A proof is accepted
only if every hash of it is used and every hash is 32 bytes; nothing that a proof holds makes a check raise.

A *subtree* here is a pair (first leaf, number of leaves). The complete ones, whose number is a power of two and divides
the first leaf, are what a log keeps; whoever asks for a proof gives a function that looks them up.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Lookup = Callable[[int, int], bytes]
    """From the first leaf and the number of leaves of a complete subtree to its 32-byte hash."""

HASH_BYTES: Final = 32

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

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """Begin with nothing, or where a tree of `size` leaves stood: `peaks` are its `complete_subtrees`, in order."""
        self._peaks = list(peaks)
        self.size = size

    def append(self, leaf: bytes) -> list[bytes]:
        """Add one leaf, given as its 32-byte hash; return it and every complete subtree that it ends, lowest first."""
        nodes = [leaf]
        position = self.size
        while position & 1:  # a full pair to our left: merge upwards, as binary addition carries
            nodes.append(node_hash(self._peaks.pop(), nodes[-1]))
            position >>= 1
        self._peaks.append(nodes[-1])
        self.size += 1
        return nodes

    def root(self) -> bytes:
        """Return the 32-byte tree hash over everything appended so far."""
        return _fold(self._peaks) if self._peaks else EMPTY_ROOT

    def copy(self) -> Frontier:
        """Return another that grows apart from this one."""
        return Frontier(self.size, self._peaks)


def _fold(peaks: Sequence[bytes]) -> bytes:
    """Return the hash over complete subtrees that stand side by side, the largest first."""
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the 32-byte tree hash over `leaves`, each a 32-byte leaf hash, in order."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


# Making proofs


def complete_subtrees(first: int, count: int) -> list[tuple[int, int]]:
    """Return the complete subtrees, the largest first, that `count` leaves from leaf `first` on consist of.

    `first` is a multiple of the largest power of two in `count`, as it is for every subtree of a tree.
    """
    found = []
    while count:
        width = 1 << count.bit_length() - 1
        found.append((first, width))
        first, count = first + width, count - width
    return found


def subtree_root(first: int, count: int, lookup: Lookup) -> bytes:
    """Return the hash over `count` leaves from leaf `first` on, complete or not."""
    return _fold([lookup(*subtree) for subtree in complete_subtrees(first, count)]) if count else EMPTY_ROOT


def _split(count: int) -> int:
    """Return the largest power of two below `count`, which is at least 2 (RFC 9162: k)."""
    return 1 << (count - 1).bit_length() - 1


def inclusion_path(index: int, size: int, lookup: Lookup) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of the first `size` leaves (RFC 9162, section 2.1.3.1)."""
    path: list[bytes] = []
    first, count = 0, size
    while count > 1:
        left = _split(count)
        if index < first + left:
            path.append(subtree_root(first + left, count - left, lookup))
            count = left
        else:
            path.append(subtree_root(first, left, lookup))
            first, count = first + left, count - left
    return path[::-1]


def consistency_path(old: int, new: int, lookup: Lookup) -> list[bytes]:
    """Return the proof that the first `old` of `new` leaves are unchanged (RFC 9162, section 2.1.4.1).

    Empty if there is nothing to prove: `old` is 0 or `new`.
    """
    path: list[bytes] = []
    first, count, kept = 0, new, old
    inside = True  # the old tree's root is still a subtree that the verifier knows
    while 0 < kept < count:
        left = _split(count)
        if kept <= left:
            path.append(subtree_root(first + left, count - left, lookup))
            count = left
        else:
            path.append(subtree_root(first, left, lookup))
            first, count, kept, inside = first + left, count - left, kept - left, False
    if not inside:
        path.append(subtree_root(first, count, lookup))
    return path[::-1]


# Checking proofs


def _are_hashes(values: Iterable[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in values)


def root_from_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes | None:
    """Return the root that `path` leads to from `leaf` (RFC 9162, section 2.1.3.2); None if it cannot be a path."""
    if not 0 <= index < size or not _are_hashes((leaf, *path)):
        return None
    node, last, root = index, size - 1, leaf
    for step in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            root = node_hash(step, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, step)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def check_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> bool:
    """Say whether `path` proves that leaf `index` of the tree with `size` leaves and `root` is `leaf`."""
    return root_from_inclusion(index, size, leaf, path) == root


def check_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Say whether `path` proves that the tree with `new` leaves extends the one with `old` (RFC 9162, 2.1.4.2).

    Between trees of one size an empty path proves that their roots are the same. From an empty tree to a larger one
    nothing can be proved, so no path is accepted.
    """
    if old == new:
        return not path and old_root == new_root and (old > 0 or old_root == EMPTY_ROOT)
    if not 0 < old < new or not path or not _are_hashes((old_root, new_root, *path)):
        return False
    steps = list(path) if old & (old - 1) else [old_root, *path]
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    from_old = from_new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            from_old, from_new = node_hash(step, from_old), node_hash(step, from_new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            from_new = node_hash(from_new, step)
        node, last = node >> 1, last >> 1
    return last == 0 and from_old == old_root and from_new == new_root
