"""What recovery logs of a unit in doubt: no more than its band allows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Band, _log
from memoryos_uow.testing._watched import watched
from tests.leftovers import begun, change, dies, open_ledger, stores

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")


@pytest.mark.parametrize("band", list(Band))
@pytest.mark.parametrize(("effect", "method"), [("DECIDE", "abandon"), ("PUBLISH", "publish")])
def test_stores_of_a_unit_in_doubt_are_named_as_its_band_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, band: Band, effect: str, method: str
) -> None:
    """RED and BLACK: id, band and outcome; GREEN and AMBER: which stores do not answer, too."""
    place = begun(tmp_path / "ledger")
    dies(place, effect, after=False)
    change(place, "UPDATE uow_coordination SET unit = json_set(unit, '$.band', ?)", band.value)
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(_log, "warn", lambda event, **facts: told.append({"event": event, **facts}))

    def refuse(called: str, _when: str) -> None:
        if called == method:
            raise OSError("gone")

    with open_ledger(place, stores=[watched(s, refuse) if s.name == "files" else s for s in stores()]) as ledger:
        (uow_id,) = ledger.recover().in_doubt
    warning = next(one for one in told if one["event"] == "uow.in_doubt")
    wanted: dict[str, Any] = {"event": "uow.in_doubt", "uow_id": uow_id, "band": band.value, "outcome": "in_doubt"}
    if band in {Band.GREEN, Band.AMBER}:
        wanted["stores"] = ["files"]
        if method == "abandon":
            wanted["reason"] = "OSError"
    assert warning == wanted
