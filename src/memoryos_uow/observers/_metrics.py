"""What units add to the metrics of a meter provider that the application has set up.

Promise: a duration or a size is recorded for itself, in the context of who waited for the unit, so that exemplars lead
to traces. What is only counted is owed until `settle`: one addition for all units of a batch that count alike.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from memoryos_uow._names import Band
from memoryos_uow._version import __version__
from memoryos_uow.observers import _names as names
from memoryos_uow.observers._facts import UnitRecovered

if TYPE_CHECKING:
    from memoryos_uow.observers._facts import UnitEnded

_US_PER_S: Final = 1_000_000
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BYTES: Final = (256, 1024, 4096, 16384, 65536, 262144, 1048576, 16777216)
_KEPT_MAX: Final = 1000

_Series: TypeAlias = tuple[str, Band, str | None] | None
"""Outcome, band and type of error of what is counted together; None where nothing is told apart."""
Owed: TypeAlias = "defaultdict[tuple[Instruments, str, _Series], int]"


class Instruments:
    """The instruments of one meter provider."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider  # held, so that its identity is not given to another
        meter = provider.get_meter(names.SCOPE, __version__)
        made: dict[str, Any] = {}
        for signal in names.SIGNALS:
            about = {"unit": signal.unit, "description": signal.meaning}
            if signal.kind == "histogram":
                bounds = _BYTES if signal.unit == "By" else _SECONDS
                made[signal.name] = meter.create_histogram(
                    signal.name, explicit_bucket_boundaries_advisory=bounds, **about
                )
            elif signal.kind == "counter":
                made[signal.name] = meter.create_counter(signal.name, **about)
            elif signal.kind == "updowncounter":
                made[signal.name] = meter.create_up_down_counter(signal.name, **about)
        self._made = made
        self._attributes: dict[_Series, dict[str, str]] = {}

    def record(self, fact: UnitEnded | UnitRecovered, owed: Owed, context: Any = None) -> None:
        """Record what `fact`, of the caller's `context`, adds as far as its band lets it; counts are only owed."""
        if isinstance(fact, UnitRecovered):
            owed[self, names.RECOVERIES, (fact.outcome, fact.band, None)] += 1
            change = (fact.outcome == "in_doubt") - fact.was_in_doubt
            if change:
                owed[self, names.IN_DOUBT, None] += change
            return
        series = (fact.outcome, fact.band, fact.error_type)
        attributes = self._attributes.get(series) or self._described(series)
        owed[self, names.UNITS, series] += 1
        if fact.in_doubt:
            owed[self, names.IN_DOUBT, None] += 1
        if fact.shows_timings:
            self._made[names.DURATION].record(fact.duration_us / _US_PER_S, attributes, context)
            if fact.commit_us is not None:
                self._made[names.COMMIT_DURATION].record(fact.commit_us / _US_PER_S, attributes, context)
        if fact.shows_sizes:
            if fact.outcome == "committed":
                self._made[names.BYTES].record(fact.bytes_written, attributes, context)
            if fact.retries_of_its_own:
                owed[self, names.RETRIES_TOTAL, series] += fact.retries_of_its_own

    def add(self, name: str, series: _Series, number: int) -> None:
        """Add to a counter what units of one series have counted."""
        self._made[name].add(number, self._attributes.get(series) or self._described(series))

    def _described(self, series: _Series) -> dict[str, str]:
        """Return the attributes of a series; receivers copy them."""
        if series is None:
            return {}
        outcome, band, error_type = series
        attributes = {names.OUTCOME: outcome, names.BAND: band.value}
        if error_type:
            attributes[names.ERROR_TYPE] = error_type
        if len(self._attributes) >= _KEPT_MAX:  # errors may be of classes made at run time
            self._attributes.clear()
        self._attributes[series] = attributes
        return attributes


_known: dict[int, Instruments] = {}
"""By identity of the provider, which is kept along, so that no other one gets it."""


def instruments(provider: Any) -> Instruments:
    """Return the instruments of a meter provider, made at the first call."""
    found = _known.get(id(provider))
    if found is None:
        found = _known[id(provider)] = Instruments(provider)
    return found


def nothing_owed() -> Owed:
    """Return what `Instruments.record` adds to."""
    return defaultdict(int)


def settle(owed: Owed) -> None:
    """Add to the counters what is owed to them.

    What one of them raises is raised in the end, once the others have got theirs.
    """
    errors: list[Exception] = []
    while owed:
        (made, name, series), number = owed.popitem()
        try:
            made.add(name, series, number)
        except Exception as error:  # noqa: BLE001 - receivers of the application's may raise anything
            errors.append(error)
    if errors:
        raise errors[0]
