"""The tree hash of RFC 6962 and RFC 9162 against the classic reference tree."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from memoryos_uow._merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash, tree_root

REFERENCE = json.loads((Path(__file__).parent / "vectors/merkle/rfc6962_reference_roots.json").read_bytes())
LEAVES = [leaf_hash(bytes.fromhex(entry)) for entry in REFERENCE["leaves_hex"]]


@pytest.mark.parametrize("size", range(9))
def test_reference_roots(size: int) -> None:
    """The root over the first `size` reference leaves is the published one."""
    assert tree_root(LEAVES[:size]).hex() == REFERENCE["roots_hex_by_size"][size]


def test_a_growing_tree_passes_every_reference_root() -> None:
    """One tree that grows leaf by leaf has each published root on its way, and asking for it disturbs nothing."""
    frontier = Frontier()
    roots = [frontier.root().hex()]
    for leaf in LEAVES:
        frontier.append(leaf)
        assert frontier.root() == frontier.root()
        roots.append(frontier.root().hex())
    assert roots == REFERENCE["roots_hex_by_size"]
    assert frontier.size == len(LEAVES)


def test_hashes_are_told_apart_by_their_first_byte() -> None:
    """A leaf hashes 0x00 and its entry, a node 0x01 and its children: neither can stand for the other."""
    assert leaf_hash(b"entry") == hashlib.sha256(b"\x00entry").digest()
    assert node_hash(b"l" * 32, b"r" * 32) == hashlib.sha256(b"\x01" + b"l" * 32 + b"r" * 32).digest()
    assert leaf_hash(b"l" * 32 + b"r" * 32) != node_hash(b"l" * 32, b"r" * 32)
    assert hashlib.sha256(b"").digest() == EMPTY_ROOT


def test_memory_grows_with_the_logarithm() -> None:
    """A tree of 10,000 leaves keeps one hash per set bit of its size."""
    frontier = Frontier()
    for number in range(10_000):
        frontier.append(leaf_hash(b"%d" % number))
    assert len(frontier._peaks) == (10_000).bit_count()
