"""`UnitOfWork.db`: a sqlite-utils database on the unit's connection (https://sqlite-utils.datasette.io/)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlite_utils import Database

from memoryos_uow.integrations._connection import UnitConnection

if TYPE_CHECKING:
    from memoryos_uow.unit import UnitOfWork


class UnitDatabase(Database):
    """A database whose statements are a unit's.

    What sqlite-utils would find out by making a table and dropping it again is known here: the trial would stand in the
    unit's receipt.
    """

    def __init__(self, unit: UnitOfWork) -> None:
        # Plugins and pragmas would change the connection beyond the unit.
        super().__init__(cast("Any", UnitConnection(unit)), execute_plugins=False, recursive_triggers=False)

    @property
    def supports_strict(self) -> bool:
        """STRICT tables came with SQLite 3.37."""
        return self.sqlite_version >= (3, 37)

    @property
    def supports_on_conflict(self) -> bool:
        """Upserts came with SQLite 3.24."""
        return self.sqlite_version >= (3, 24)
