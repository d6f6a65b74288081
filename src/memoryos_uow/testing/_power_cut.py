"""The states of the disk that are tried for a power cut: a bounded, seeded and documented choice.

At each moment (after each change, sync and acknowledgement) the certain changes survive, and of the uncertain ones:

1. none;
2. all;
3. each beginning of them, in the order in which they were made (at most `PREFIXES_MAX`, evenly spaced);
4. all but one, for each (at most `SINGLES_MAX`);
5. only one, for each (at most `SINGLES_MAX`);
6. `RANDOM_SUBSETS` subsets drawn from a random generator with a fixed seed.

With the model `ordered` each choice is cut to what that file system could show: of the changes of names, the longest
beginning that is wholly in the choice. States that hold the same bytes and acknowledgements are tried once.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoryos_uow.testing._disk import ROOT
from memoryos_uow.testing._points import spaced

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from memoryos_uow.testing._disk import Change, Disk
    from memoryos_uow.testing._replay import Replay

PREFIXES_MAX: Final = 16
SINGLES_MAX: Final = 32
RANDOM_SUBSETS: Final = 8
_LOOKED_AT: Final = 4


@dataclass(frozen=True, slots=True)
class CutState:
    """One state of the disk after a power cut."""

    moment: int
    surviving: frozenset[int]
    """Places in the disk's changes of those that reached it."""
    acknowledged: tuple[str, ...]
    lost: int
    """How many changes that had been made did not."""


def choose(states: Sequence[CutState], disk: Disk, places: Sequence[int], limit: int | None) -> list[int]:
    """Return at most `limit` of `places` in `states`, evenly spaced, and of those that hold the same only one.

    Comparing takes longer than choosing, so with a limit only a few times as many are looked at.
    """
    some = [places[place] for place in spaced(len(places), None if limit is None else limit * _LOOKED_AT)]
    fingerprints = _Fingerprints(disk)
    distinct = {fingerprints.of(states[place]): place for place in reversed(some)}
    found = sorted(distinct.values())
    return [found[place] for place in spaced(len(found), limit)]


class _Fingerprints:
    """Digests of whole states; what a set of changes leaves of one file, or of the names, is worked out once."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._naming = frozenset(place for place, change in enumerate(disk.changes) if change.names)
        self._writing: dict[int, set[int]] = {file: set() for file in disk.contents}
        for place, change in enumerate(disk.changes):
            if change.file is not None:
                self._writing[change.file].add(place)
        self._trees: dict[frozenset[int], list[tuple[str, int]]] = {}
        self._contents: dict[tuple[int, frozenset[int]], bytes] = {}

    def of(self, state: CutState) -> bytes:
        digest = hashlib.sha256(repr(state.acknowledged).encode())
        for path, node in self._tree(state.surviving & self._naming):
            digest.update(f"\0{path}\0{node in self._disk.names}\0".encode())
            if node in self._writing:
                digest.update(self._content(node, state.surviving & self._writing[node]))
        return digest.digest()

    def _tree(self, surviving: frozenset[int]) -> list[tuple[str, int]]:
        if surviving not in self._trees:
            self._trees[surviving] = list(self._disk.tree(surviving))
        return self._trees[surviving]

    def _content(self, file: int, surviving: frozenset[int]) -> bytes:
        key = (file, surviving)
        if key not in self._contents:
            self._contents[key] = hashlib.sha256(self._disk.content(file, surviving)).digest()
        return self._contents[key]


def cut_states(replay: Replay, seed: int) -> Iterator[CutState]:
    """Yield every choice of changes that is to be tried, in the order of the moments, each once."""
    disk, tried = replay.disk, set()
    for moment in [replay.first_moment, *replay.moments]:
        made = [place for place, change in enumerate(disk.changes) if change.moment <= moment]
        certain = frozenset(place for place in made if _is_certain(disk.changes[place], moment))
        open_ones = [place for place in made if place not in certain]
        acknowledged = tuple(text for when, text in replay.acknowledged if when <= moment)
        for choice in _choices(open_ones, random.Random(f"{seed}:{moment}")):  # noqa: S311 - states, not secrets
            kept = _as_ordered(disk, open_ones, choice) if disk.ordered else choice
            surviving = certain | kept
            if (surviving, len(acknowledged)) not in tried:
                tried.add((surviving, len(acknowledged)))
                yield CutState(moment, surviving, acknowledged, len(made) - len(surviving))


def _is_certain(change: Change, moment: int) -> bool:
    return change.certain_from is not None and change.certain_from <= moment


def _choices(places: Sequence[int], chance: random.Random) -> Iterator[frozenset[int]]:
    every = frozenset(places)
    yield frozenset()
    yield every
    for length in spaced(len(places), PREFIXES_MAX):
        yield frozenset(places[:length])
    singles = [places[place] for place in spaced(len(places), SINGLES_MAX)]
    for single in singles:
        yield every - {single}
    for single in singles:
        yield frozenset({single})
    for _ in range(RANDOM_SUBSETS if len(places) > 1 else 0):
        yield frozenset(place for place in places if chance.random() < 0.5)  # noqa: PLR2004 - a coin


def _as_ordered(disk: Disk, places: Sequence[int], choice: frozenset[int]) -> frozenset[int]:
    kept, broken = set(), False
    for place in places:
        if disk.changes[place].names:
            broken = broken or place not in choice
            if not broken:
                kept.add(place)
        elif place in choice:
            kept.add(place)
    return frozenset(kept)


def lay_down(disk: Disk, state: CutState, world: Path) -> None:
    """Make the directory `world` hold exactly what the disk holds in `state`."""
    shutil.rmtree(world, ignore_errors=True)
    world.mkdir()
    world.chmod(disk.modes[ROOT])
    for path, node in disk.tree(state.surviving):
        place = world / path
        if node in disk.contents:
            place.write_bytes(disk.content(node, state.surviving))
            place.chmod(disk.modes[node])
        elif node in disk.links:
            place.symlink_to(disk.links[node])
        else:
            place.mkdir(mode=disk.modes[node])
