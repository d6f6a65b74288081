"""Recorded stores are made of what the ledger records of them, and only those that are needed are loaded."""

from __future__ import annotations

from importlib import import_module

from memoryos_uow import stores
from memoryos_uow.stores import _kinds
from tests.units import run


def test_every_built_in_store_can_be_made_again() -> None:
    """The table names each public store by its kind, in the module where it is."""
    found = {
        getattr(import_module(f"memoryos_uow.stores.{module}"), name): kind
        for kind, (module, name, _) in _kinds._BUILT_IN.items()
    }
    assert found == {getattr(stores, name): getattr(stores, name).kind for name in stores.__all__}


def test_a_store_is_loaded_when_it_is_asked_for() -> None:
    """A ledger of documents loads no other store; the names are there all the same."""
    code = """
import sys, tempfile, pathlib
from memoryos_uow import Ledger, stores
with tempfile.TemporaryDirectory() as folder, Ledger.open(pathlib.Path(folder) / "memory.db") as ledger:
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("a", 1)
print(*sorted(name.rpartition(".")[2] for name in sys.modules if name.startswith("memoryos_uow.stores._")))
print(set(stores.__all__) <= set(dir(stores)), stores.VectorStore.__name__, hasattr(stores, "NoStore"))
"""
    loaded, names = run(code).splitlines()
    assert "_documents" in loaded.split()
    assert not {"_blobs", "_files", "_postgres", "_sqlite_file", "_tables", "_vectors"} & set(loaded.split())
    assert names == "True VectorStore False"
