"""The tokens of SQL texts: what stands in quotes and comments is nothing else, and doubtful texts are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow.engines._pg_lexer import Kind, tokens
from memoryos_uow.engines._pg_sql import foreign
from memoryos_uow.errors import UsageError


def sorts(sql: str) -> list[tuple[Kind, str]]:
    """Kind and text of each token, without space."""
    return [(token.kind, token.text) for token in tokens(sql) if token.kind is not Kind.NOTHING]


@given(sql=st.text(alphabet="ab'\"$?:;-/*\\eE \n%1().,uU&", max_size=30))
def test_the_tokens_are_the_whole_text(sql: str) -> None:
    """Put together they are what was given; or the text is refused."""
    try:
        found = tokens(sql)
    except UsageError:
        return
    assert "".join(token.text for token in found) == sql


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE t; --'",
        "'it''s ?'",
        r"E'it\'s ; ?'",
        "$$ ; ? $$",
        "$tag$ $$ ; $tag$",
        "B'01'",
        "U&'d\\0061t'",
    ],
)
def test_a_string_is_one_token(text: str) -> None:
    """Whatever it holds: quotes, semicolons, marks, comments."""
    assert sorts(f"SELECT {text} , x")[1] == (Kind.STRING, text)
    assert [kind for kind, _ in sorts(f"SELECT {text} , x")] == [Kind.WORD, Kind.STRING, Kind.OTHER, Kind.WORD]


def test_names_and_comments() -> None:
    """Names in quotes are names; comments, nested ones too, are nothing."""
    assert sorts('SELECT "a;b""c" -- ; ?\n FROM /* ; /* ? */ ; */ t') == [
        (Kind.WORD, "SELECT"),
        (Kind.NAME, '"a;b""c"'),
        (Kind.WORD, "FROM"),
        (Kind.WORD, "t"),
    ]
    assert tokens('"a""b"')[0].name == 'a"b'
    assert tokens("AbC")[0].name == "abc"
    assert tokens("AbC")[0].word == "ABC"


def test_marks() -> None:
    """? and :name are marks; casts, slices and assignments are not."""
    assert [text for kind, text in sorts("? ?2 :a x::text a[1:2] :b") if kind is Kind.MARK] == ["?", "?2", ":a", ":b"]


@pytest.mark.parametrize(
    "sql",
    ["'open", '"open', "/* open", "/* /* */", "$$ open", "$1", 'U&"\\0075ow_t"', "'one'\n'two'", r"E'a' '\'; DROP'"],
)
def test_doubtful_texts_are_refused(sql: str) -> None:
    """What is not closed, or could be read in two ways, is run in neither."""
    with pytest.raises(UsageError) as caught:
        tokens(f"SELECT {sql}")
    assert caught.value.hint


def test_only_marks_of_the_application_are_translated() -> None:
    """Its own percent signs stay percent signs, its strings and operators stay as they are."""
    assert foreign("SELECT ? % 2, '?%', a::int /* ? */ FROM t").text == "SELECT %s %% 2, '?%%', a::int /* ? */ FROM t"
    assert foreign("SELECT :a, ':a', :b").text == "SELECT %(a)s, ':a', %(b)s"
    numbered = foreign("SELECT ?2, ?1")
    assert (numbered.text, numbered.bind((1, 2))) == ("SELECT %(p2)s, %(p1)s", {"p1": 1, "p2": 2})
