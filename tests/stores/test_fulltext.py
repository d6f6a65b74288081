"""Full text over documents: in step with the records, closed to other spaces, deaf to hostile queries."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from memoryos_uow.abc import Dialect
from memoryos_uow.errors import RecordMissing, StoreError, UsageError
from memoryos_uow.stores import DocumentStore
from memoryos_uow.stores._fulltext import (
    QUERY_CHARACTERS_MAX,
    FullTextIndex,
    index_table,
    plain_query,
    space_word,
    syntax_query,
)
from tests.both import both, sqlite_only
from tests.stores.driver import Driver

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stores.driver import On

pytestmark = both

SECRET = "canary5f1d"
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@pytest.fixture
def notes(driver: Driver) -> On:
    """A searchable document store over the fields ``text`` and ``tags``."""
    return driver.attached(DocumentStore("notes", search=["text", "tags"]))


def integrity(on: On) -> None:
    """Let FTS5 compare its index with its own content, and ours with the documents."""
    if on.driver.url:
        with on.driver.reader() as reader:
            assert not [held.problem for held in on.store.contents(reader) if held.problem]  # type: ignore[attr-defined]
        return
    with on.driver.transaction() as tx:
        table = index_table(on.store.name)
        tx.execute(f"INSERT INTO {table}({table}, rank) VALUES ('integrity-check', 1)")
        indexed = {row for (row,) in tx.rows(f"SELECT rowid FROM {table}")}
        stored = {row for (row,) in tx.rows("SELECT id FROM uow_documents WHERE store = ?", (on.store.name,))}
        assert indexed == stored


# What is found


def test_words_are_found_in_any_field(notes: On) -> None:
    """All words must occur, in whichever fields; case and diacritics do not count."""
    notes.create("n1", {"text": "The Milk is out", "tags": ["shopping", "urgent"]})
    notes.create("n2", {"text": "café crème", "tags": "drinks"})
    assert notes.hits("milk") == ["n1"]
    assert notes.hits("URGENT milk") == ["n1"]
    assert notes.hits("cafe creme") == ["n2"]
    assert notes.hits("milk drinks") == []
    assert sorted(notes.hits("milk drinks", match="any")) == ["n1", "n2"]


def test_only_texts_of_the_fields_are_indexed(notes: On) -> None:
    """Other fields, other types, nested objects and documents that are no objects are not found, and do no harm."""
    for number, value in enumerate(
        [
            {"body": "milk"},
            {"text": 5, "tags": ["milk", 5]},
            {"text": {"text": "milk"}, "tags": None},
            ["milk"],
            "milk",
            None,
            {"text": "milk"},
        ]
    ):
        notes.create(f"n{number}", value)
    assert notes.hits("milk") == ["n6"]
    integrity(notes)


def test_best_hits_come_first_and_ties_by_key(notes: On) -> None:
    """The score is greater for the better hit; equal documents come in the order of their keys; k cuts the list."""
    for key in ("c", "a", "b"):
        notes.create(key, {"text": "milk and other things to buy"})
    notes.create("z", {"text": "milk milk milk"})
    notes.create("other", {"text": "nothing"})
    hits = notes.search("milk")
    assert [hit.key for hit in hits] == ["z", "a", "b", "c"]
    assert hits[0].score > hits[1].score == hits[2].score == hits[3].score > 0
    assert notes.hits("milk", k=2) == ["z", "a"]
    assert notes.hits("milk", k=10**30) == ["z", "a", "b", "c"]


def test_the_index_follows_every_verb(notes: On) -> None:
    """Updated and deleted documents are found by what they hold now."""
    notes.create("n1", {"text": "milk"})
    notes.upsert("n2", {"text": "milk"})
    notes.update("n1", {"text": "bread"})
    notes.delete("n2")
    notes.create("n3", {"text": "milk"})
    assert (notes.hits("milk"), notes.hits("bread")) == (["n3"], ["n1"])
    integrity(notes)


def test_a_refused_unit_leaves_the_index_alone(notes: On) -> None:
    """What is rolled back is not found, what was there before is."""
    notes.create("n1", {"text": "milk"})
    with pytest.raises(RecordMissing):
        notes.commit(
            notes.write("update", "n1", {"text": "bread"}), notes.write("delete", "n1"), notes.write("delete", "n2")
        )
    assert (notes.hits("milk"), notes.hits("bread")) == (["n1"], [])
    integrity(notes)


class IndexMachine(RuleBasedStateMachine):
    """Random units over two spaces; a search must agree with a plain scan of the documents."""

    counter = itertools.count()
    path: Path

    def __init__(self) -> None:
        super().__init__()
        directory = self.path / str(next(self.counter))
        directory.mkdir()
        self.driver = Driver(directory)
        self.notes = self.driver.attached(DocumentStore("notes", search=["text"]))
        self.model: dict[tuple[str, str], str] = {}

    @rule(
        space=st.sampled_from("xy"),
        writes=st.lists(
            st.tuples(st.sampled_from("abc"), st.sampled_from(["red", "green", "red green", "", None])), max_size=6
        ),
    )
    def commit(self, space: str, writes: list[tuple[str, str | None]]) -> None:
        on = self.notes.within(space)
        unit = []
        for key, text in writes:
            if text is not None:
                unit.append(on.write("upsert", key, {"text": text}))
                self.model[space, key] = text
            elif self.model.pop((space, key), None) is not None:
                unit.append(on.write("delete", key))
        on.commit(*unit)

    @invariant()
    def agrees(self) -> None:
        for space, word in itertools.product("xy", ["red", "green"]):
            expected = {key for (inside, key), text in self.model.items() if inside == space and word in text.split()}
            assert set(self.notes.within(space).hits(word)) == expected

    def teardown(self) -> None:
        integrity(self.notes)
        self.driver.close()


def test_search_agrees_with_a_scan(tmp_path: Path) -> None:
    """After any sequence of units a word finds exactly the documents of the space that hold it."""
    machine = type("Machine", (IndexMachine,), {"path": tmp_path})
    case = machine.TestCase  # type: ignore[attr-defined]
    case.settings = settings(deadline=None, max_examples=15, stateful_step_count=12)
    case().runTest()


# Spaces


@SHARED
@given(query=st.text(st.characters(), max_size=40), match=st.sampled_from(["all", "any"]))
@sqlite_only("many examples; the query is words there, never syntax")
def test_no_text_finds_another_space(crowded: On, query: str, match: str) -> None:
    """Whatever the text, a search answers from its own space and never fails."""
    assert set(crowded.hits(query, match=match)) <= {"mine"}
    assert set(crowded.hits(f"{query} milk", match="any")) == {"mine"}


FRAGMENTS = [
    *("(", ")", '"', "'", "{", "}", ":", "-", "+", "*", "^", ",", "AND", "OR", "NOT", "NEAR", "NEAR(", "space", "c0"),
    *("milk", "theirs", space_word("other"), space_word("shared:household"), "\0", "\ud800", "\x1a", "\\", ";", "--"),
]


@SHARED
@given(parts=st.lists(st.sampled_from(FRAGMENTS), max_size=12), glue=st.sampled_from(["", " "]))
@sqlite_only("the syntax is FTS5")
def test_no_syntax_finds_another_space(crowded: On, parts: list[str], glue: str) -> None:
    """Pieces of FTS5 syntax in any order stay inside the parentheses put around them."""
    query = glue.join(parts)
    assert set(crowded.hits(query)) <= {"mine"}
    with suppress(UsageError):
        assert set(crowded.hits(query, syntax=True)) <= {"mine"}


@pytest.fixture
def crowded(notes: On) -> On:
    """A space with one document, beside one with many like it."""
    notes.create("mine", {"text": "milk mine", "tags": ["household"]})
    other = notes.within("other")
    for number in range(5):
        other.create(f"theirs{number}", {"text": "milk theirs", "tags": [space_word(notes.space), "space"]})
    return notes


@pytest.mark.parametrize(
    "query",
    [
        f"space : {space_word('other')}",
        f"{{space}} : {space_word('other')}",
        f"{{space c0}} : {space_word('other')}",
        f"milk OR space : {space_word('other')}",
        "theirs",
        "NEAR(milk theirs)",
        "c0 : theirs",
        "- c0 : milk",
        "milk NOT mine",
        "^theirs",
        "the*",
    ],
)
@sqlite_only("the syntax is FTS5")
def test_a_space_cannot_be_asked_for(crowded: On, query: str) -> None:
    """The column that keeps spaces apart cannot be named to any effect."""
    assert set(crowded.hits(query, syntax=True)) <= {"mine"}
    assert crowded.hits("mine", syntax=True) == ["mine"]


@pytest.mark.parametrize(
    "query",
    ["milk) OR (theirs", "milk)", "(milk", '"milk', 'milk) OR "(" OR ("theirs"', ')("', "))((", '""" OR theirs'],
)
@sqlite_only("the syntax is FTS5")
def test_the_parentheses_hold(crowded: On, query: str) -> None:
    """A query that would close our parentheses or quotes is refused before SQLite sees it."""
    with pytest.raises(UsageError, match="unbalanced quotes or parentheses"):
        crowded.search(query, syntax=True)


@sqlite_only("the syntax is FTS5")
def test_the_expression_itself_is_closed(crowded: On) -> None:
    """Even without the last check, by the records' own space, MATCH alone keeps to the space."""
    table = index_table("notes")
    asked: list[str] = []

    class Recorder:
        dialect = Dialect.SQLITE

        def rows(self, sql: str, parameters: Any = (), /) -> list[tuple[Any, ...]]:
            asked.append(parameters[0])
            return []

        def stream(self, sql: str, parameters: Any = (), /) -> Any:
            raise NotImplementedError

    for query in ("milk", "theirs OR mine", f"space : {space_word('other')} OR mine"):
        crowded.store.search(Recorder(), crowded.space, query, 3, {"syntax": True})
        crowded.store.search(Recorder(), crowded.space, query, 3, {"match": "any"})
    assert len(asked) == 6
    for expression in asked:
        found = crowded.driver.rows(f"SELECT c0 FROM {table} WHERE {table} MATCH ?", (expression,))
        assert found == [("milk mine",)]


@sqlite_only("there the index is a column, see tests/postgres/test_words")
def test_a_stale_index_row_leads_nowhere(crowded: On) -> None:
    """An index row whose record is gone, or belongs to another space or store, gives no hit."""
    table = index_table("notes")
    word = space_word(crowded.space)
    crowded.driver.sql(
        f"UPDATE {table} SET space = '{word}'",
        f"INSERT INTO {table} (rowid, space, c0) VALUES (999, '{word}', 'milk')",
    )
    assert crowded.hits("milk") == ["mine"]


@sqlite_only("there the index is a column, see tests/postgres/test_words")
def test_two_stores_do_not_meet(driver: Driver) -> None:
    """Stores whose names differ in case only, or look like FTS5's own tables, have indexes of their own."""
    names = ["notes", "Notes", "nOTES", "notes_text", "notes_data", "notes_content", "notes_text_1", "NOTES_TEXT"]
    tables = [index_table(name).lower() for name in names]
    assert len(set(tables)) == len(names)
    for name in names:
        driver.attached(DocumentStore(name, search=["text"])).create("k", {"text": f"milk {name}"})
    for name in names:
        on = driver.attached(DocumentStore(name, search=["text"]))
        assert on.hits("milk") == ["k"]
        integrity(on)


# Queries


@pytest.mark.parametrize("query", ["", "   ", "\0", "!", "! ? -", '"', '""', "\ud800", "()", "*"])
def test_a_query_without_words_has_no_hits(notes: On, query: str) -> None:
    """Nothing to look for is found nowhere; it is not an error, for people type such things."""
    notes.create("n1", {"text": "milk \" ' ( ) *"})
    assert notes.hits(query) == []
    assert notes.hits(query, match="any") == []


@pytest.mark.parametrize(
    "query", ["milk AND", "AND milk", 'milk"', "milk -bread", "NOT milk", "text:milk", "milk*", "(milk", "NEAR(text"]
)
def test_plain_text_is_not_syntax(notes: On, query: str) -> None:
    """Operators of FTS5 are ordinary words and signs unless syntax is asked for."""
    notes.create("n1", {"text": "milk and bread, not near text: milk"})
    assert notes.hits(query) == ["n1"]


def test_punctuation_inside_words_makes_phrases(notes: On) -> None:
    """state-of-the-art finds these words side by side."""
    notes.create("n1", {"text": "state of the art"})
    notes.create("n2", {"text": "the art of state"})
    assert notes.hits("state-of-the-art") == ["n1"]


@sqlite_only("the syntax is FTS5")
def test_syntax_passes_through_on_request(notes: On) -> None:
    """With syntax=True phrases, prefixes, NOT and the columns c0, c1 work."""
    notes.create("n1", {"text": "milk and bread", "tags": "home"})
    notes.create("n2", {"text": "home made milk", "tags": "shop"})
    assert notes.hits('"bread" OR made', syntax=True, k=9) == ["n1", "n2"]
    assert notes.hits("(mil* NOT bread)", syntax=True) == ["n2"]
    assert notes.hits("c1 : home", syntax=True) == ["n1"]
    assert notes.hits(' "say ""(" OR bread ', syntax=True) == ["n1"]
    assert notes.hits(" ", syntax=True) == []


@pytest.mark.parametrize("query", ["milk AND", "nosuch : milk", "milk ; bread", "a\0b", "\ud800", "+", "NEAR(a b, x)"])
@sqlite_only("the syntax is FTS5")
def test_bad_syntax_is_a_typed_error_that_quotes_nothing(notes: On, query: str) -> None:
    """What FTS5 does not understand is the caller's error; the query stays out of it and of its causes."""
    with pytest.raises(UsageError) as caught:
        notes.search(f"{SECRET} OR {query}", syntax=True)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("query", "k", "options"),
    [
        (5, 3, {}),
        (None, 3, {}),
        (b"milk", 3, {}),
        ("milk", 0, {}),
        ("milk", -(10**50), {}),
        ("milk", 1.5, {}),
        ("milk", True, {}),
        ("milk", None, {}),
        ("milk", 3, {"match": "some"}),
        ("milk", 3, {"match": ["any"]}),
        ("milk", 3, {"syntax": "yes"}),
        ("milk", 3, {"fuzzy": True}),
        ("x" * (QUERY_CHARACTERS_MAX + 1), 3, {}),
        ("x" * (QUERY_CHARACTERS_MAX + 1), 3, {"syntax": True}),
    ],
)
def test_bad_calls_are_refused(notes: On, query: Any, k: Any, options: dict[str, Any]) -> None:
    """A wrong query, number of hits or option is a typed error with a hint."""
    with pytest.raises(UsageError) as caught:
        notes.search(query, k, **options)
    assert caught.value.hint
    assert caught.value.store == "notes"


def test_long_queries_are_answered(notes: On) -> None:
    """Thousands of words are one query still; a word that comes twice counts once."""
    notes.create("n1", {"text": "a b"})
    assert notes.hits("a b " * 2_000) == ["n1"]
    words = " ".join(f"w{number}" for number in range(1_600))
    assert notes.hits(words) == []
    assert notes.hits(f"{words} a", match="any") == ["n1"]
    assert plain_query("milk milk", "notes", any_word=False) == '"milk"'
    assert syntax_query(" (milk) ", "notes") == "(milk)"


# Making and changing the index


def test_hostile_field_names_are_data(driver: Driver) -> None:
    """Field names never become SQL or column names."""
    fields = ["space", "c1", "rowid", 'x") ; DROP TABLE uow_documents; --', "ünï", " ", "rank", "'"]
    on = driver.attached(DocumentStore("notes", search=fields))
    for number, name in enumerate(fields):
        on.create(f"n{number}", {name: f"word{number}"})
    for number in range(len(fields)):
        assert on.hits(f"word{number}") == [f"n{number}"]


def test_other_fields_rebuild_the_index(driver: Driver) -> None:
    """Documents written before a field was searched are found by it afterwards; an empty list drops the index."""
    driver.attached(DocumentStore("notes")).create("n1", {"text": "milk", "title": "list"})
    with_text = driver.attached(DocumentStore("notes", search=["text"]))
    assert (with_text.hits("milk"), with_text.hits("list")) == (["n1"], [])
    with_both = driver.attached(DocumentStore("notes", search=["title", "text"]))
    assert (with_both.hits("milk"), with_both.hits("list")) == (["n1"], ["n1"])
    integrity(with_both)
    without = driver.attached(DocumentStore("notes", search=[]))
    if driver.url:
        assert driver.rows("SELECT count(*) FROM uow_documents WHERE words IS NOT NULL") == [(0,)]
    else:
        assert driver.rows("SELECT name FROM sqlite_schema WHERE name LIKE 'uow_fts%'") == []
    with pytest.raises(UsageError, match="no full-text index"):
        without.search("milk")


@sqlite_only("there the index is a column, see tests/postgres/test_words")
def test_a_lost_index_is_made_again(driver: Driver) -> None:
    """Where the record speaks of an index and the table is gone, opening the store builds it."""
    notes = driver.attached(DocumentStore("notes", search=["text"]))
    notes.create("n1", {"text": "milk"})
    driver.sql(f"DROP TABLE {index_table('notes')}")
    assert driver.attach(DocumentStore("notes"))
    assert driver.attached(DocumentStore("notes")).hits("milk") == ["n1"]


def test_setup_is_idempotent(driver: Driver) -> None:
    """A second process that sets up the same finds everything done and leaves it."""
    store = DocumentStore("notes", search=["text"])
    on = driver.attached(store)
    on.create("n1", {"text": "milk"})
    driver.sql(
        "UPDATE uow_documents SET words = 'marker'"
        if driver.url
        else f"UPDATE {index_table('notes')} SET c0 = 'marker'"
    )
    with driver.transaction() as tx:
        assert store.setup(tx, {"search": ["text"]}) == {"search": ["text"]}
    assert on.hits("marker") == ["n1"]


@sqlite_only("there the index is a column, see tests/postgres/test_words")
def test_a_sqlite_without_fts5_is_refused(driver: Driver) -> None:
    """A search that cannot be had is refused when the ledger is opened, loudly."""

    class WithoutFts5:
        dialect = Dialect.SQLITE

        def rows(self, sql: str, parameters: object = (), /) -> list[tuple[Any, ...]]:
            return []

        def stream(self, sql: str, parameters: object = (), /) -> Any:
            raise NotImplementedError

    assert DocumentStore("notes").attach(driver.home, WithoutFts5(), None)
    with pytest.raises(StoreError, match="no FTS5"):
        DocumentStore("notes", search=["text"]).attach(driver.home, WithoutFts5(), None)


@sqlite_only("PostgreSQL keeps no document that is no JSON")
def test_a_damaged_document_does_not_rebuild(driver: Driver) -> None:
    """A document that is no JSON any more is a typed error when the index is made."""
    driver.attached(DocumentStore("notes")).create("n1", {})
    driver.sql(f"UPDATE uow_documents SET value = '{SECRET}'")
    with pytest.raises(StoreError) as caught:
        driver.attach(DocumentStore("notes", search=["text"]))
    assert SECRET not in str(caught.value)


@sqlite_only("there the index is a column, see tests/postgres/test_words")
def test_the_index_belongs_to_one_store(driver: Driver) -> None:
    """Rebuilding takes in the documents of its own store only."""
    driver.attached(DocumentStore("more")).create("k", {"text": "milk"})
    notes = driver.attached(DocumentStore("notes", search=["text"]))
    assert notes.hits("milk") == []
    assert driver.rows(f"SELECT count(*) FROM {index_table('notes')}") == [(0,)]
    with driver.reader() as reader:
        assert FullTextIndex("notes", ("text",)).exists(reader)
