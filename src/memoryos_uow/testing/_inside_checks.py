"""What every store owes: registration, encoding, applying and undoing, reading, closing.

Each check gets the subject and an empty directory, and raises `BrokenError` for the first obligation that is broken.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import TYPE_CHECKING, Any

from memoryos_uow._limits import Limits
from memoryos_uow._names import Operation, check_store_name
from memoryos_uow.abc import ASK_THE_STORE, MISSING, NEEDED, Home, Savable, Store
from memoryos_uow.errors import RecordExists, RecordMissing, UsageError
from memoryos_uow.testing._bench import OTHER_SPACE, SPACE, Bench, blame, duty
from memoryos_uow.testing._obligations import (
    APPLY,
    ATTACH,
    CAPABILITY,
    CLOSE,
    ENCODE,
    READ,
    SAVE,
    SETUP,
    BrokenError,
    demand,
)

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow.errors import UnitOfWorkError
    from memoryos_uow.testing._bench import Change, Subject, Unit


def claims(subject: Subject, _directory: Path) -> None:
    """The store has the methods of its capability, and a name and a kind that do not change."""
    first, second = subject.make(), subject.make()
    demand(CAPABILITY, isinstance(first, Store), "it lacks a method of Store")
    demand(CAPABILITY, first.capability in NEEDED, f"{first.capability!r} is no capability")
    for needed in NEEDED[first.capability]:
        demand(CAPABILITY, isinstance(first, needed), f"it says {first.capability.value} but lacks {needed.__name__}")
    with duty(ATTACH, "its name"):
        check_store_name(first.name)
    demand(ATTACH, first is not second, "the factory returned the same instance twice")
    alike = (first.name, first.kind, first.capability) == (second.name, second.kind, second.capability)
    demand(ATTACH, alike and first.kind, "two instances differ in name, kind or capability")


def attaching(subject: Subject, directory: Path) -> None:
    """Attach only reads; setup can be undone and repeated; what is recorded is found again."""
    with Bench(subject, directory) as bench:
        before, schema = bench.tree(), _schema(bench)
        for _ in range(2):
            with duty(ATTACH, "attach to a new ledger"), bench.engine.reader() as reader:
                bench.store.attach(bench.home, reader, None)
        demand(ATTACH, bench.tree() == before and _schema(bench) == schema, "attach changed something")
        bench.registry.add([bench.store])
        with duty(ATTACH, "attach"), bench.engine.reader() as reader:
            needed = bench.registry.move_in(bench.home, reader)
        with duty(SETUP, "setup in a transaction that is rolled back"), bench.transaction(keep=False) as tx:
            bench.registry.set_up(tx)
        bench.registry.distrust()
        with duty(SETUP, "setup after one that was rolled back"), bench.transaction() as tx:
            bench.registry.set_up(tx)
        with duty(SETUP, "setup for the second time"), bench.transaction() as tx:
            recorded = _recorded(bench) if needed else None
            again = bench.store.setup(tx, recorded)
        if needed:
            demand(SETUP, json.loads(json.dumps(dict(again))) == recorded, "setup for the second time records another")
        bench.commit(("create", "k", subject.values[0]))
    with Bench(subject, directory) as bench:
        with duty(ATTACH, "attach of a new instance"), bench.engine.reader() as reader:
            bench.store.attach(Home(directory, read_only=True), reader, _recorded(bench))
            needed = bench.store.attach(bench.home, reader, _recorded(bench))
        demand(ATTACH, not needed, "attach of a new instance asks for setup again")
        bench.holds(ATTACH, {"k": subject.values[0]}, "after the ledger was opened again")


def _schema(bench: Bench) -> list[Any]:
    with bench.engine.reader() as reader:
        return reader.rows("SELECT name, sql FROM sqlite_schema ORDER BY name")


def _recorded(bench: Bench) -> Any:
    with bench.engine.reader() as reader:
        found = reader.rows("SELECT config FROM uow_stores WHERE name = ?", (bench.store.name,))
    return json.loads(found[0][0]) if found else None


def encoding(subject: Subject, directory: Path) -> None:
    """Encode looks at nothing stored, refuses what cannot be stored, keeps a copy, and measures what is kept."""
    with Bench(subject, directory).ready() as bench:
        before = bench.tree()
        for value in subject.refused:
            try:
                bench.store.encode(Operation.CREATE, "k", value, Limits())
            except UsageError:
                continue
            except Exception as error:
                raise BrokenError(ENCODE, f"it refused a value with {type(error).__name__}, not UsageError") from error
            raise BrokenError(ENCODE, "it took a value that cannot be stored")
        for value in subject.values:
            mine = copy.deepcopy(value)
            (first,), (second,) = bench.unit(("create", "k", mine)).writes, bench.unit(("create", "k", value)).writes
            demand(ENCODE, first.content == second.content, "the same value was measured differently twice")
            if _spoil(mine):
                kept, wanted = bench.store.overlay(first), bench.store.overlay(second)
                demand(ENCODE, kept == wanted, "what the caller did to the value afterwards changed what was encoded")
        (delete,) = bench.unit(("delete", "k", None)).writes
        demand(ENCODE, delete.content is None, "a delete has a content")
        demand(ENCODE, bench.tree() == before, "encode changed something outside the ledger")


def _spoil(value: Any) -> bool:
    """Change a value that can be changed in place; return whether it could."""
    if isinstance(value, (list, bytearray)) and value:
        value.pop()
    elif isinstance(value, dict) and value:
        value.popitem()
    else:
        return False
    return True


def measuring(subject: Subject, directory: Path) -> None:
    """Length and digest of each write are those of the bytes that are stored."""
    with Bench(subject, directory).ready() as bench:
        seen: dict[str, Any] = {}
        for number, value in enumerate(subject.values):
            key = f"k{number}"
            (write,) = bench.commit(("create", key, value)).writes
            if write.content is None:
                raise BrokenError(APPLY, "neither encode nor apply said what the content is")
            demand(ENCODE, write.content.bytes_written >= 0, "the length is negative")
            is_digest = len(write.content.sha256) == hashlib.sha256().digest_size * 2
            demand(ENCODE, is_digest, "the checksum is no SHA-256 in hex")
            other = seen.setdefault(write.content.sha256, value)
            demand(ENCODE, other == value, "two different values have one checksum")
            if subject.stored is not None or isinstance(value, (bytes, bytearray)):
                kept = subject.stored(directory, SPACE, key) if subject.stored is not None else bytes(value)
                if kept is None:
                    raise BrokenError(APPLY, "a stranger finds nothing of what was written")
                demand(
                    ENCODE, write.content.bytes_written == len(kept), "bytes_written is not the length of what is kept"
                )
                right = write.content.sha256 == hashlib.sha256(kept).hexdigest()
                demand(ENCODE, right, "the checksum is not that of the bytes that are kept")


def applying(subject: Subject, directory: Path) -> None:
    """The verbs do what they say, in order, and refuse what cannot be; a rollback or savepoint undoes all of it."""
    a, b, c = subject.values[:3]
    with Bench(subject, directory).ready() as bench:
        bench.commit(("create", "k", a), ("create", "gone", a))
        bench.commit(("update", "k", b), ("delete", "gone", None), ("upsert", "new", a), ("upsert", "new", c))
        wanted = {"k": b, "new": c}
        bench.holds(APPLY, wanted, "after create, update, upsert and delete")
        bench.commit(("delete", "k", None), ("create", "k", c), ("create", "x", a), ("delete", "x", None))
        wanted["k"] = c
        bench.holds(APPLY, wanted, "after a unit that deleted and created one key")
        for refused, error in (("create", RecordExists), ("update", RecordMissing), ("delete", RecordMissing)):
            key = "k" if refused == "create" else "nowhere"
            _refuses(bench, (refused, key, None if refused == "delete" else a), error)
            bench.holds(APPLY, wanted, f"after a refused {refused}")
        _undone(bench, wanted, [("update", "k", a), ("create", "y", b), ("delete", "new", None)])


def _refuses(bench: Bench, change: Change, wanted: type[UnitOfWorkError]) -> None:
    unit = bench.prepare(bench.unit(change))
    try:
        with bench.transaction() as tx:
            bench.apply(tx, unit)
    except wanted:
        bench.abandon(unit)
        return
    except Exception as error:
        raise BrokenError(
            APPLY, f"it refused a {change[0]} with {type(error).__name__}, not {wanted.__name__}"
        ) from error
    raise BrokenError(APPLY, f"it did not refuse a {change[0]} with {wanted.__name__}")


def _undone(bench: Bench, wanted: dict[str, Any], changes: list[Change]) -> None:
    unit = bench.prepare(bench.unit(*changes))
    with duty(APPLY, "apply"), bench.transaction(keep=False) as tx:
        bench.apply(tx, unit)
        inside = list(bench.store.keys(tx, SPACE))
        demand(APPLY, "y" in inside and "new" not in inside, "a transaction does not see what was applied in it")
        bench.holds(APPLY, wanted, "while another transaction is open")
    bench.holds(APPLY, wanted, "after a transaction was rolled back")
    with duty(APPLY, "apply"), bench.transaction() as tx:
        tx.savepoint("uow_check")
        bench.apply(tx, unit)
        tx.rollback_to("uow_check")
    bench.holds(APPLY, wanted, "after a transaction went back to its savepoint")
    with duty(APPLY, "apply in three calls"), bench.transaction() as tx:
        for write in unit.writes:
            bench.store.apply(tx, unit.facts, unit.commit_seq, [write])
        bench.owe(tx, unit)
    bench.publish(unit)
    bench.forget(unit)
    bench.holds(APPLY, {"k": changes[0][2], "y": changes[1][2]}, "after a unit that was applied in three calls")


def reading(subject: Subject, directory: Path) -> None:
    """Spaces are apart, keys are in order, versions change, overlays foretell, and looking changes nothing."""
    a, b, *_ = subject.values
    with Bench(subject, directory).ready() as bench:
        names = ["b", "B", "a", "ä", "z", "☃"]
        bench.commit(*[("create", name, a) for name in names])
        bench.commit(("create", "a", b), space=OTHER_SPACE)
        demand(READ, bench.keys() == sorted(names, key=str.encode), "keys are not in the order of their UTF-8 bytes")
        bench.holds(READ, {"a": b}, "in another space", space=OTHER_SPACE)
        bench.commit(("delete", "a", None), space=OTHER_SPACE)
        bench.holds(READ, dict.fromkeys(names, a), "after another space deleted a record of the same key")
        demand(READ, bench.read("nowhere") is None, "read finds a record that is not there")
        before = _version(bench, "a")
        bench.commit(("update", "a", b))
        demand(READ, before != _version(bench, "a") is not None, "the version did not change with the record")
        tree = bench.tree()
        bench.holds(READ, {**dict.fromkeys(names, a), "a": b}, "when read again")
        demand(READ, bench.tree() == tree, "reading changed something outside the ledger")
        for unit in (bench.unit(("update", "a", a)), bench.unit(("upsert", "q", b)), bench.unit(("delete", "a", None))):
            _foretells(bench, unit)


def _version(bench: Bench, key: str) -> object:
    with bench.engine.reader() as reader:
        return bench.store.version(reader, SPACE, key)


def _foretells(bench: Bench, unit: Unit) -> None:
    (write,) = unit.writes
    with duty(READ, "overlay"):
        foretold = bench.store.overlay(write)
        kept = copy.deepcopy(foretold) if foretold is not ASK_THE_STORE and foretold is not MISSING else foretold
    bench.decide(bench.prepare(unit))
    bench.publish(unit)
    bench.forget(unit)
    found = bench.read(str(write.key))
    if foretold is ASK_THE_STORE:
        return
    if foretold is MISSING:
        demand(READ, found is None, "overlay said that a record would be missing")
        return
    demand(READ, foretold == found, "overlay foretold another value than read finds afterwards")
    if _spoil(foretold):
        demand(READ, bench.store.overlay(write) == kept, "overlay returned no fresh copy")


def saving(subject: Subject, directory: Path) -> None:
    """What was saved of a write is loaded by another instance, and applied as if it had never been put aside."""
    if not isinstance(subject.make(), Savable):
        return  # nobody owes this
    with Bench(subject, directory).ready() as bench, Bench(subject, directory).ready() as other:
        for number, value in enumerate(subject.values):
            unit = bench.unit(("create", f"k{number}", value))
            (write,) = unit.writes
            assert isinstance(bench.store, Savable)  # noqa: S101 - looked at before
            assert isinstance(other.store, Savable)  # noqa: S101 - looked at before
            with duty(SAVE, "save and load"):
                saved = bench.store.save(write)
                demand(SAVE, isinstance(saved, bytes), f"save returned a {type(saved).__name__}, not bytes")
                write.payload = other.store.load(saved)
            with blame(SAVE, "after save and load"):
                bench.publish(bench.decide(bench.prepare(unit)))
                bench.forget(unit)
                bench.holds(SAVE, {f"k{n}": subject.values[n] for n in range(number + 1)}, "after save and load")
                bench.keeps(SAVE, f"k{number}", write, "after save and load")


def closing(subject: Subject, directory: Path) -> None:
    """Close may be called before anything else, twice, and the store be attached again."""
    with Bench(subject, directory) as bench:
        with duty(CLOSE, "close of a store that was never attached"):
            bench.store.close()
        bench.ready().commit(("create", "k", subject.values[0]))
        with duty(CLOSE, "close for the second time"):
            bench.store.close()
            bench.store.close()
        with duty(CLOSE, "attach after close"), bench.engine.reader() as reader:
            bench.store.attach(bench.home, reader, _recorded(bench))
        bench.holds(CLOSE, {"k": subject.values[0]}, "after close and attach")
