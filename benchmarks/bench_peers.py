"""One unit of three documents beside the same rows written through other libraries, which keep no ledger.

`python -m benchmarks.bench_peers` prints the ratios; the write-ahead logs are grown first. A library that is not
installed is left out: `pip install --group bench` brings them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from benchmarks._command import options, section, workplace
from benchmarks._peers import PEERS, is_installed
from benchmarks._ratios import ratio_table
from benchmarks._work import WRITES, ByHand, ByLibrary, race_on_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks._peers import Peer
    from benchmarks._ratios import Result
    from benchmarks._work import Durability

FLOOR = "by hand"
OURS = "unit of work"


def compare(
    folder: Path, durability: Durability, *, rounds: int, warmup: int, seed: int, apart: bool = False
) -> list[Result]:
    """Race the floor, the library and every peer that is installed, each on a file of its own in `folder`.

    Those that are measured `apart` have a race of their own, of a tenth of the rounds.
    """
    kinds: dict[str, type[ByHand | ByLibrary | Peer]] = {FLOOR: ByHand, OURS: ByLibrary}
    kinds.update({name: peer for name, peer in PEERS.items() if is_installed(peer) and peer.apart is apart})
    on_file = {name: partial(kind, durability=durability) for name, kind in kinds.items()}
    if apart:
        rounds, warmup = max(rounds // 10, 2), warmup // 30
    name = f"peers-{durability}-{apart}"
    return race_on_files(on_file, folder, name=name, rounds=rounds, warmup=warmup, seed=seed)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_does_the_same_work(tmp_path: Path, name: str) -> None:
    """Every peer that is installed has written three records for each unit."""
    if not is_installed(PEERS[name]):
        pytest.skip(f"{' and '.join(PEERS[name].needs)} not installed: dependency group bench")
    with PEERS[name](tmp_path / "peer.db", "full") as peer:
        for _ in range(3):
            peer()
        assert peer.rows() == 3 * WRITES


def test_the_comparison_runs(tmp_path: Path) -> None:
    """The floor comes first and the library second, whatever else is installed."""
    results = compare(tmp_path, "normal", rounds=2, warmup=1, seed=1)
    assert [result.name for result in results][:2] == [FLOOR, OURS]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table of each durability."""
    given = options(__doc__, arguments, rounds=600, warmup=1500, seed=1)
    with workplace("One unit of three documents, beside other libraries") as folder:
        durabilities: tuple[Durability, ...] = ("full", "normal")
        for durability in durabilities:
            results = compare(folder, durability, rounds=given.rounds, warmup=given.warmup, seed=given.seed)
            section(f'durability="{durability}"', ratio_table(results))
            if any(peer.apart and is_installed(peer) for peer in PEERS.values()):
                results = compare(
                    folder, durability, rounds=given.rounds, warmup=given.warmup, seed=given.seed, apart=True
                )
                section(f'durability="{durability}", with threads of their own', ratio_table(results))


if __name__ == "__main__":
    main()
