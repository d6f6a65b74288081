"""Documents: JSON values by key, with full-text search over chosen fields if asked for.

Promise: what `get` returns equals what was written, type by type; a value for which that would not hold is refused when
it is written. The stored text, and with it the content of which a receipt speaks, is the value as JSON without spaces,
in the caller's order of keys, in UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._names import Dialect, Operation, text_problem
from memoryos_uow._records import Content, Held
from memoryos_uow.errors import UsageError
from memoryos_uow.stores._fulltext import FullTextIndex
from memoryos_uow.stores._record_sql_postgres import ALWAYS, Condition
from memoryos_uow.stores._record_table import ODD_COLUMN, RecordStore, check_k, refuse_options
from memoryos_uow.stores._strict_json import to_json
from memoryos_uow.stores._words import WordIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow._records import Hit
    from memoryos_uow.abc import Home, Reader, Transaction, UnitFacts, Write
    from memoryos_uow.stores._fulltext import IndexEntry

_INDEXES: Final[dict[Dialect, type[FullTextIndex | WordIndex]]] = {
    Dialect.SQLITE: FullTextIndex,
    Dialect.POSTGRESQL: WordIndex,
}
_ORPHAN: Final = "a full-text entry that belongs to no document"
_NO_ENTRY: Final = "its full-text entry is missing"
_OTHER_ENTRY: Final = "its full-text entry is that of another text"
FIELDS_MAX: Final = 100
"""How many fields one store may search."""


class DocumentStore(RecordStore):
    """JSON values by key: objects, lists, strings, numbers, booleans and null.

    `search` names the top-level fields of documents to index for full-text search (FTS5): strings, or lists of strings;
    a document without them, or with other values there, is not found by that field. None takes over what the ledger has
    recorded for this store, an empty list means no index. Other fields than recorded rebuild the index when the ledger
    is opened; where several processes disagree, the one that opened the ledger last is followed by all.

    Raises:
        UsageError: a bad store name or bad fields.
    """

    kind: ClassVar[str] = "documents"
    _table = "uow_documents"
    _columns = ("value",)
    _written_on_postgres = ("words",)
    _value_type = "TEXT"

    def __init__(self, name: str, *, search: Sequence[str] | None = None) -> None:
        super().__init__(name)
        self._asked = None if search is None else _check_fields(search, self._name)
        self._index: FullTextIndex | WordIndex | None = None
        self._table_index: FullTextIndex | None = None  # the same, if it is a table to be kept in step
        self._settled = False  # the ledger recorded, at one time, what this object asked for
        self._known: Mapping[str, Any] | None = None  # what the ledger has recorded, as far as this object knows

    def __repr__(self) -> str:
        fields = self._index.fields if self._index else self._asked
        return f"DocumentStore({self._name!r}, search={list(fields)!r})" if fields else f"DocumentStore({self._name!r})"

    # Getting ready

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Settle on the fields to search; return whether they, or the index, are still to be set up.

        Raises:
            UsageError: the ledger is open for reading only and has another index than asked for.
            StoreError: a search is asked for and this SQLite has no FTS5.
        """
        present = None if recorded is None else tuple(recorded["search"])
        fields = self._follow(present)
        if home.read_only and fields != (present or ()):
            raise self._refusal(
                f"The ledger is open for reading only and has another full-text index of {self._name!r}.",
                "Leave out search=, or open the ledger for writing once.",
            )
        self._known = recorded
        self._index = _INDEXES[reader.dialect](self._name, fields) if fields else None
        self._table_index = self._index if isinstance(self._index, FullTextIndex) else None
        if self._index is None:
            return present != fields
        self._index.refuse_unfit(reader)
        return present != fields or not self._index.exists(reader)

    def _follow(self, present: tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the fields to work with, of those asked for and those `present` in the ledger's record.

        A change that another process made after ours was recorded is followed, not undone: otherwise two processes
        would rebuild the index against each other for ever, while each must keep in step the index that is there.
        """
        if self._asked is None or (self._settled and present is not None):
            return present or ()
        self._settled = present == self._asked
        return self._asked

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Build or drop the index inside `tx`; return ``{"search": [field, ...]}``."""
        present = tuple(recorded["search"]) if recorded else ()
        if self._index is None:
            _INDEXES[tx.dialect].drop(tx, self._name)
        elif present != self._index.fields or not self._index.exists(tx):
            self._index.rebuild(tx, self._parse)
        self._known = {"search": list(self._index.fields if self._index else ())}
        return self._known

    def close(self) -> None:
        """Forget what was settled with this ledger."""
        self._settled = False

    # Values

    def _encode(self, value: object, limits: Limits) -> tuple[str, Content]:
        text, stored = to_json(value, bytes_max=limits.document_bytes, store=self._name)
        return text, Content(len(stored), sha256_hex(stored))

    def _columns_of(self, payload: str) -> tuple[str]:
        return (payload,)

    def _value(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> Any:
        return self._parse(columns[0])

    def _overlay(self, payload: str) -> Any:
        return json.loads(payload)

    def save(self, write: Write) -> bytes:
        """Return the document's text."""
        text: str = write.payload
        return text.encode()

    def load(self, saved: bytes) -> str:
        """Return the document's text."""
        return saved.decode()

    def _parse(self, text: Any) -> Any:
        try:
            return json.loads(text)
        except (ValueError, TypeError, RecursionError):
            pass  # these exceptions hold the text, so nothing may be raised from inside this block
        raise self._damaged()

    # Full text

    def erase_inside(self, tx: Transaction, space_id: str, key: str) -> None:
        """Make the index anew: FTS5 keeps the words of deleted documents until it happens to merge its segments."""
        if isinstance(self._index, FullTextIndex):
            self._index.renew(tx)

    def erase_outside(self, space_id: str, key: str, version: int) -> None:
        """Do nothing: nothing is held outside the ledger."""

    def _apply_run(
        self, tx: Transaction, unit: UnitFacts, commit_seq: int, operation: Operation, run: list[Write]
    ) -> None:
        # The index finds a record by its row's id: look before a delete, and after anything else. Triggers could keep
        # it in step as well, but SQLite lets no trigger touch a virtual table while trusted_schema is off.
        index = self._table_index
        if index and operation is Operation.DELETE:
            index.remove(tx, unit.space_id, (str(write.key) for write in run))
        super()._apply_run(tx, unit, commit_seq, operation, run)
        if index and operation is not Operation.DELETE:
            index.put(tx, unit.space_id, ((str(write.key), json.loads(write.payload)) for write in run))

    def _columns_on_postgres(self, payload: str) -> tuple[str, str | None]:
        return payload, self._index.words_of(json.loads(payload)) if isinstance(self._index, WordIndex) else None

    def _condition(self) -> Condition:
        """Return that the index is still over the fields of which the words are: another process may change them."""
        if self._known is None:
            return ALWAYS
        recorded = json.dumps(dict(self._known), sort_keys=True)
        return Condition("(SELECT config FROM uow_stores WHERE name = ?) = ?", (self._name, recorded))

    def _follow_record(self, tx: Transaction) -> None:
        for (config,) in tx.rows("SELECT config FROM uow_stores WHERE name = ?", (self._name,)):
            self._known = json.loads(config)
            fields = tuple(json.loads(config)["search"])
            self._index = WordIndex(self._name, fields) if fields else None

    # For the comparison with receipts

    def contents(self, reader: Reader) -> Iterator[Held]:
        """Yield every document, and whether the full-text index has what it should have of it."""
        if isinstance(self._index, FullTextIndex):
            yield from self._compared(reader, self._index)
        else:
            yield from super().contents(reader)

    def _held(self, reader: Reader, space_id: Any, key: Any, columns: Sequence[Any]) -> Held:
        held = super()._held(reader, space_id, key, columns)
        if isinstance(self._index, WordIndex) and held.problem is None:
            held = held._replace(problem=self._words_problem(*columns))
        return held

    def _words_problem(self, text: str, words: str | None) -> str | None:
        assert isinstance(self._index, WordIndex)  # noqa: S101 - for the type checker
        if words is None:
            return _NO_ENTRY
        try:
            wanted = self._index.words_of(json.loads(text))
        except (ValueError, RecursionError):
            return None  # the content differs then, which says more
        return None if words == wanted else _OTHER_ENTRY

    def _compared(self, reader: Reader, index: FullTextIndex) -> Iterator[Held]:
        entries = index.entries(reader)
        entry = next(entries, None)
        for row_id, space_id, key, text in reader.stream(self._every(reader), (self._name,)):
            while entry is not None and entry.row_id < row_id:
                yield Held(None, None, None, _ORPHAN)
                entry = next(entries, None)
            held = self._held(reader, space_id, key, (text,))
            if held.problem is None:
                found = entry if entry is not None and entry.row_id == row_id else None
                held = held._replace(problem=_index_problem(index, space_id, text, found))
            yield held
            if entry is not None and entry.row_id == row_id:
                entry = next(entries, None)
        while entry is not None:
            yield Held(None, None, None, _ORPHAN)
            entry = next(entries, None)

    def _stored(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> bytes | str | None:
        text = columns[0]
        return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else ODD_COLUMN

    def search(self, reader: Reader, space_id: str, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        """Return the `k` documents of the space that match the text `query` best; equal scores in the order of keys.

        A document matches if the searched fields hold every word of `query`; with ``match="any"`` one is enough. Case
        and diacritics do not count; a query without words has no hits. With ``syntax=True`` the query is FTS5 syntax
        (https://sqlite.org/fts5.html, section 3), in which the fields are called c0, c1, ... in the order of
        ``search=``.

        The score is BM25 with its sign turned, greater is better. How rare a word is counts over all spaces of the
        store, so scores compare hits of one search only.

        Raises:
            UsageError: the store has no index, `query` is not a string or too long or not FTS5 syntax, `k` is not a
                positive whole number, or an option is unknown.
        """
        k = check_k(k, self._name)
        refuse_options(options, ("match", "syntax"), self._name)
        match, syntax = options.get("match", "all"), options.get("syntax", False)
        if self._index is None:
            raise self._refusal(
                f"The store {self._name!r} has no full-text index.",
                f'Name the fields to search: DocumentStore({self._name!r}, search=["text"]).',
            )
        if match not in ("all", "any") or not isinstance(syntax, bool):
            raise self._refusal(
                "A search takes match='all' or match='any', and syntax=True or False.", "Correct the call."
            )
        return self._index.search(reader, space_id, query, k, any_word=match == "any", syntax=syntax)


def _index_problem(index: FullTextIndex, space_id: str, text: str, entry: IndexEntry | None) -> str | None:
    if entry is None:
        return _NO_ENTRY
    try:
        wanted = index.entry_of(entry.row_id, space_id, json.loads(text))
    except (ValueError, RecursionError):
        return None  # the content differs then, which says more
    return None if entry == wanted else _OTHER_ENTRY


def _check_fields(search: object, store: str) -> tuple[str, ...]:
    """Return `search` as field names, or raise UsageError."""
    if isinstance(search, (str, bytes)):
        raise UsageError("The fields to search must be a list of names.", hint='Write search=["text"].', store=store)
    fields: tuple[Any, ...] = tuple(search) if isinstance(search, Iterable) else (None,)
    if not all(isinstance(field, str) and field and text_problem(field) is None for field in fields):
        raise UsageError(
            "Each field to search must be a non-empty string without U+0000 or lone surrogates.",
            hint='Nothing was written. Write search=["text"].',
            store=store,
        )
    if len(set(fields)) < len(fields) or len(fields) > FIELDS_MAX:
        raise UsageError(
            f"The fields to search must differ, and be {FIELDS_MAX} at most.",
            hint="Nothing was written. Name each field once.",
            store=store,
        )
    return fields
