"""The tree hash of RFC 6962 and RFC 9162 against the classic reference tree."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow._merkle import (
    EMPTY_ROOT,
    Frontier,
    check_consistency,
    check_inclusion,
    complete_subtrees,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    tree_root,
)

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


# Proofs

INCLUSION = json.loads((Path(__file__).parent / "vectors/merkle/inclusion.json").read_bytes())
CONSISTENCY = json.loads((Path(__file__).parent / "vectors/merkle/consistency.json").read_bytes())


def _bytes(text: str | None) -> bytes:
    return base64.b64decode(text or "")


@pytest.mark.parametrize("case", INCLUSION, ids=lambda case: case["file"].removeprefix("testdata/inclusion/"))
def test_published_inclusion_proofs(case: dict[str, Any]) -> None:
    """Each of the 98 published proofs is accepted or refused as it says."""
    path = [_bytes(value) for value in case["proof"] or []]
    leaf, root = _bytes(case["leafHash"]), _bytes(case["root"])
    assert check_inclusion(case["leafIdx"], case["treeSize"], leaf, path, root) is not case["wantErr"]


@pytest.mark.parametrize("case", CONSISTENCY, ids=lambda case: case["file"].removeprefix("testdata/consistency/"))
def test_published_consistency_proofs(case: dict[str, Any]) -> None:
    """Each of the 98 published proofs is accepted or refused as it says."""
    path = [_bytes(value) for value in case["proof"] or []]
    roots = _bytes(case["root1"]), _bytes(case["root2"])
    assert check_consistency(case["size1"], case["size2"], *roots, path) is not case["wantErr"]


def test_of_all_published_proofs_twelve_hold() -> None:
    """The 184 others are refused: none of them was lost on the way into this folder."""
    assert [case["wantErr"] for case in INCLUSION + CONSISTENCY].count(False) == 12
    assert len(INCLUSION + CONSISTENCY) == 196


@given(st.integers(1, 300), st.data())
def test_proofs_made_here_hold_and_only_where_they_belong(size: int, data: st.DataObject) -> None:
    """Both kinds of proof, for any two sizes and any leaf; a changed, missing or added hash makes them worthless."""
    leaves = [leaf_hash(b"%d" % number) for number in range(size)]
    asked: list[tuple[int, int]] = []

    def lookup(first: int, count: int) -> bytes:
        asked.append((first, count))
        return tree_root(leaves[first : first + count])

    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    root, old_root = tree_root(leaves), tree_root(leaves[:old])
    path = inclusion_path(index, size, lookup)
    assert check_inclusion(index, size, leaves[index], path, root)
    assert not check_inclusion(index, size, leaves[index], [*path, bytes(32)], root)
    assert not check_inclusion(index, size, leaf_hash(b"other"), path, root)
    proof = consistency_path(old, size, lookup)
    assert check_consistency(old, size, old_root, root, proof)
    assert not check_consistency(old, size, old_root, root, [*proof, bytes(32)])
    assert not proof or not check_consistency(old, size, old_root, root, proof[:-1])
    assert old == size or not check_consistency(old, size, leaf_hash(b"other"), root, proof)
    assert all(first % count == 0 and count.bit_count() == 1 for first, count in asked)
    assert len(asked) <= 2 * (size.bit_length() + 1) ** 2


def test_appending_tells_which_subtrees_are_complete() -> None:
    """The leaf itself, then each complete subtree that ends with it; a frontier can be begun anew from its peaks."""
    frontier = Frontier()
    made = [frontier.append(leaf) for leaf in LEAVES]
    assert [len(nodes) for nodes in made] == [1, 2, 1, 3, 1, 2, 1, 4]
    assert made[7][3].hex() == REFERENCE["roots_hex_by_size"][8]
    begun = Frontier(6, [tree_root(LEAVES[first : first + count]) for first, count in complete_subtrees(0, 6)])
    copy = begun.copy()
    copy.append(LEAVES[6])
    assert (begun.root().hex(), copy.root().hex()) == tuple(REFERENCE["roots_hex_by_size"][6:8])
