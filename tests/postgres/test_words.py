"""Full text on PostgreSQL: the words of a document, beside it in its row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger
from memoryos_uow.errors import UsageError
from memoryos_uow.stores import DocumentStore
from memoryos_uow.stores._words import query_of, split, words_of
from tests.both import change, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME: dict[str, Any] = {"space_id": "s", "band": "GREEN"}


@pytest.fixture
def ledger(pg_emptied_url: str) -> Iterator[Ledger]:
    """A ledger with one store that searches its field ``text``."""
    with searching(pg_emptied_url, "text") as opened:
        yield opened


def searching(url: str, *fields: str) -> Ledger:
    """Open the ledger with a store that searches these fields."""
    return Ledger.open(url, stores=[DocumentStore("notes", search=fields)])


def put(ledger: Ledger, key: str, value: object) -> None:
    """Write a document in a unit of its own."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].upsert(key, value)


def hits(ledger: Ledger, query: str, **options: Any) -> list[str]:
    """Keys of what is found."""
    return [hit.key for hit in ledger["notes"].search(query, space_id="s", **options)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The MILK", ["the", "milk"]),
        ("café crème brûlée Ångström", ["cafe", "creme", "brulee", "angstrom"]),
        ("ΟΔΟΣ οδός", ["οδοσ", "οδοσ"]),
        ("state-of-the-art, a/b e@x.org 3.14", ["state", "of", "the", "art", "a", "b", "e", "x", "org", "3", "14"]),
        ("İstanbul", ["istanbul"]),
        ("日本 が", ["日本", "が"]),
        ("under_score'quote", ["under", "score", "quote"]),
        ("x" * 600, ["x" * 500]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    """Runs of letters and digits, folded; whatever the database takes for a letter."""
    assert list(split(text)) == words


def test_where_words_stand() -> None:
    """A word's places count through its field; no phrase spans two fields. Far words and many places have bounds."""
    assert words_of(["milk and milk", "tea"]) == "'and':2 'milk':1,3 'tea':104"
    assert words_of(["", ""]) == ""
    many = words_of(["w " * 20_000 + "last"])
    assert many.count(",") == 254
    assert "'last':16383" in many
    assert len(words_of([" ".join(f"word{n}" for n in range(200_000))])) < 1_500_000


def test_queries() -> None:
    """Words are joined as asked; what is written together is a phrase."""
    assert query_of("milk Tea milk", any_word=False) == "('milk') & ('tea')"
    assert query_of("milk state-of", any_word=True) == "('milk') | ('state' <-> 'of')"
    assert query_of("! ' &", any_word=False) == ""


def test_a_large_document_is_indexed_as_far_as_goes(ledger: Ledger) -> None:
    """PostgreSQL's limits on words refuse no document."""
    put(ledger, "large", {"text": " ".join(f"word{n}" for n in range(150_000))})
    put(ledger, "long", {"text": "y" * 100_000})
    put(ledger, "often", {"text": "tea " * 50_000})
    assert hits(ledger, "word1 word2") == ["large"]
    assert hits(ledger, "y" * 9_000) == ["long"]
    assert hits(ledger, "tea") == ["often"]


def test_phrases_keep_to_a_field(pg_emptied_url: str) -> None:
    """The end of one field and the beginning of the next are no phrase."""
    with searching(pg_emptied_url, "a", "b") as ledger:
        put(ledger, "apart", {"a": "fresh", "b": "milk"})
        put(ledger, "together", {"a": "fresh milk", "b": ""})
        assert hits(ledger, "fresh-milk") == ["together"]
        assert sorted(hits(ledger, "fresh milk")) == ["apart", "together"]


def test_fts5s_syntax_is_refused(ledger: Ledger) -> None:
    """It is SQLite's; the error says so and what to do."""
    with pytest.raises(UsageError, match="FTS5's syntax"):
        hits(ledger, "milk NOT tea", syntax=True)


def test_a_process_that_knows_other_fields_follows(pg_emptied_url: str) -> None:
    """Once another process searches other fields, this one's next documents are found by these."""
    with searching(pg_emptied_url, "a") as first:
        put(first, "old", {"a": "milk", "b": "tea"})
        with searching(pg_emptied_url, "b") as second:
            assert hits(second, "tea") == ["old"]
            put(first, "new", {"a": "milk", "b": "tea"})
            with first.unit(**HOME) as uow:
                uow["notes"].update("old", {"a": "milk", "b": "cake"})
                uow["notes"].create("newer", {"b": "tea"})
            assert hits(second, "tea") == hits(first, "tea") == ["new", "newer"]
            assert hits(second, "cake") == ["old"]
            assert hits(second, "milk") == []
            assert second.verify().ok


def test_a_copied_store_gets_its_words_when_it_is_opened(pg_emptied_url: str) -> None:
    """Rows without words are noticed by the first of them."""
    with searching(pg_emptied_url, "text") as ledger:
        put(ledger, "n1", {"text": "milk"})
    change(pg_emptied_url, "UPDATE uow_documents SET words = NULL")
    with Ledger.open(pg_emptied_url, stores="recorded") as ledger:
        assert hits(ledger, "milk") == ["n1"]


@pytest.mark.parametrize(("words", "problem"), [("NULL", "missing"), ("'tea'", "another text")])
def test_verification_compares_the_words(ledger: Ledger, pg_emptied_url: str, words: str, problem: str) -> None:
    """Words that were taken away or changed from outside are a problem of the document."""
    put(ledger, "n1", {"text": "milk"})
    with ledger._opened.engine.reader() as reader:
        store: Any = ledger._opened.store("notes")
        assert [held.problem for held in store.contents(reader)] == [None]
        change(pg_emptied_url, f"UPDATE uow_documents SET words = {words}")
        assert [problem in str(held.problem) for held in store.contents(reader)] == [True]


def test_the_index_is_used(ledger: Ledger, pg_emptied_url: str) -> None:
    """The database finds words by its index, not by reading documents."""
    put(ledger, "n1", {"text": "milk"})
    plan = rows(
        pg_emptied_url,
        "EXPLAIN SELECT key FROM uow_documents WHERE words @@ CAST('milk' AS TSQUERY) AND store = 'notes'",
    )
    change(pg_emptied_url, "ANALYZE uow_documents")
    indexes = rows(pg_emptied_url, "SELECT indexdef FROM pg_indexes WHERE indexname = 'uow_documents_by_word'")
    assert plan
    assert "USING gin (words)" in indexes[0][0]
