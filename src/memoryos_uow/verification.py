"""What verification answers with: the level that was reached, what that does not prove, and every problem by its rule.

Promise: frozen records, no behaviour beyond putting themselves into plain values; nothing in them is content, and a
record's key is in them for band GREEN only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class VerificationLevel(StrEnum):
    """How much a ledger that verified without a problem has proved; each level includes those before it."""

    NONE = "none"
    """Something does not hold: see `problems`."""
    HASHED = "hashed"
    """Rows, receipts, chains and tree agree with each other."""
    SIGNED = "signed"
    """And a key that is not in the file has signed the whole tree."""
    ANCHORED = "anchored"
    """And the tree continues one whose signed head was kept elsewhere."""


NOT_PROVED: Final[Mapping[VerificationLevel, str]] = MappingProxyType(
    {
        VerificationLevel.NONE: "Nothing is proved of a ledger with problems; each says which row it is about.",
        VerificationLevel.HASHED: (
            "Whoever can write the file can change rows and compute every hash anew, and units removed from the end"
            " leave no gap. A signature shows the first, a checkpoint kept elsewhere both."
        ),
        VerificationLevel.SIGNED: (
            "Units removed from the end, back to an older signed state, leave no gap, and whoever holds the signing key"
            " can write another history. A checkpoint kept elsewhere shows both."
        ),
        VerificationLevel.ANCHORED: (
            "Of units after the checkpoint it proves no more than verification without one; and whoever holds the"
            " signing key can show different histories to people who do not compare their checkpoints."
        ),
    }
)
"""What each level does not prove, in a sentence or two."""

_OWN_KEY: Final = (
    "The key is the one that the ledger itself names: whoever can write the file can put another in its place. Give the"
    " key that you were handed, and it is compared."
)

_OWN_FILES: Final = (
    "The database's own files were not looked at: `pg_amcheck` checks its pages and indexes, and data checksums show"
    " what a disk has changed."
)

ALWAYS_OPEN: Final = (
    "Times, retries, errors and envelope ids of units, and rows of units that failed, were rolled back or are of"
    " contract 1.0.0, are in no receipt: only their form can be checked."
)
"""What no level proves."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold."""

    rule: str
    """What is wrong, as one stable word or two (`docs/explanation/verification.md` has them all)."""
    detail: str
    """One sentence."""
    uow_id: str | None = None
    store: str | None = None
    record: str | None = None
    """The record's key, for band GREEN; None where there is none or the band withholds it."""


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """What the comparison of one store with its receipts found."""

    store: str
    kind: str | None
    """None for a store that is not registered."""
    records: int = 0
    """Records that the store holds."""
    matched: int = 0
    """Records whose content is what their newest receipt says."""
    gone: int = 0
    """Records that their newest receipt deleted, and that are gone."""
    uncheckable: int = 0
    """Records whose receipts do not say enough: RED and BLACK without the key, contract 1.0.0."""
    unclaimed: int = 0
    """Records of which no receipt speaks, in a store where that is allowed: an application's own table."""
    skipped: str | None = None
    """Why nothing was compared, as a sentence; None if it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The answer of ``ledger.verify()``."""

    level: VerificationLevel
    """The highest level without a problem."""
    problems: tuple[Finding, ...] = ()
    """What does not hold, in the order in which it was found; the first thousand."""
    problems_total: int = 0
    rules: Mapping[str, int] = field(default_factory=dict)
    """How many problems each rule has."""
    units: int = 0
    """Committed units whose receipts were recomputed."""
    writes: int = 0
    """Writes whose leaves were recomputed."""
    spaces: int = 0
    erased: int = 0
    """Writes whose content was erased, of which only the sealed leaf is left."""
    without_receipt: int = 0
    """Units of contract 1.0.0 and units that did not commit: no receipt speaks of them."""
    pending: int = 0
    """Committed units that have no number in the receipt log yet; only in a database, and none in a ledger at rest.

    Their writes were compared with what their receipts will say, and are not among `units` and `writes`."""
    files_checked: bool = True
    """Whether the file's pages and indexes were checked; those of a database are not."""
    signed_units: int = 0
    """Units, from the first on, that the newest valid signature covers."""
    key_given: bool = False
    """Whether the caller vouched for a key; otherwise the keys are those that the ledger itself names."""
    root: str | None = None
    """Hex tree hash over all receipts; None if it could not be computed."""
    stores: tuple[StoreCheck, ...] | None = None
    """Live content, store by store; None if it was not asked for."""

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return self.problems_total == 0

    @property
    def not_proved(self) -> str:
        """What the level reached does not prove."""
        text = NOT_PROVED[self.level]
        if self.level is VerificationLevel.SIGNED and not self.key_given:
            text = f"{_OWN_KEY} {text}"
        return text if self.files_checked else f"{text} {_OWN_FILES}"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "ok": self.ok,
            "level": self.level.value,
            "not_proved": [self.not_proved, ALWAYS_OPEN],
            **{name: getattr(self, name) for name in _COUNTS},
            "rules": dict(self.rules),
            "problems": [asdict(finding) for finding in self.problems],
            "stores": None if self.stores is None else [asdict(store) for store in self.stores],
        }


_COUNTS: Final = (
    "units",
    "writes",
    "spaces",
    "erased",
    "without_receipt",
    "pending",
    "signed_units",
    "root",
    "problems_total",
)
