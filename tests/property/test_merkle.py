"""The streaming tree hash against the recursive definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow._merkle import EMPTY_ROOT, leaf_hash, node_hash, tree_root

ENTRIES = st.lists(st.binary(max_size=8), max_size=70)


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, read literally: split at the largest power of two below the size."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


@given(ENTRIES)
def test_streaming_is_the_definition(entries: list[bytes]) -> None:
    """The root of leaves that come one by one equals the recursive definition over all of them."""
    leaves = [leaf_hash(entry) for entry in entries]
    assert tree_root(iter(leaves)) == by_definition(leaves)


@given(ENTRIES.filter(bool), st.data())
def test_any_change_changes_the_root(entries: list[bytes], data: st.DataObject) -> None:
    """A changed, removed, added or moved entry changes the root."""
    at = data.draw(st.integers(0, len(entries) - 1))
    twins = [
        [*entries[:at], entries[at] + b"x", *entries[at + 1 :]],
        entries[:at] + entries[at + 1 :],
        [*entries[:at], b"new", *entries[at:]],
    ]
    if entries != entries[::-1]:
        twins.append(entries[::-1])
    root = tree_root(map(leaf_hash, entries))
    assert all(tree_root(map(leaf_hash, twin)) != root for twin in twins)
