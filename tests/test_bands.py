"""What a band lets out: error texts, keys, checksums, nonces."""

from __future__ import annotations

import pytest

from memoryos_uow import Band
from memoryos_uow._bands import (
    MAX_MESSAGE_CHARACTERS,
    checksum_text,
    error_text,
    recorded_key,
    shown_key,
    wants_nonces,
)
from memoryos_uow.errors import RecordExists

SECRET = "the secret itself"
CLOSED = [Band.AMBER, Band.RED, Band.BLACK]


class NoTextError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class NotTextError(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 - that is the test


def test_green_keeps_the_text_as_raised() -> None:
    """A GREEN unit records what the exception said, ours or not."""
    assert error_text(ValueError(SECRET), Band.GREEN) == SECRET
    assert error_text(RecordExists("Taken.", hint="Use update()."), Band.GREEN) == "Taken. Use update()."


def test_amber_keeps_our_constant_sentence_only() -> None:
    """An AMBER unit records the summary of an error of ours, which holds no value, and nothing of another's."""
    assert error_text(RecordExists(SECRET), Band.AMBER) == RecordExists.summary
    assert error_text(ValueError(SECRET), Band.AMBER) is None


@pytest.mark.parametrize("band", [Band.RED, Band.BLACK])
@pytest.mark.parametrize("error", [ValueError(SECRET), RecordExists(SECRET), KeyboardInterrupt(SECRET)], ids=repr)
def test_red_and_black_keep_no_text(band: Band, error: BaseException) -> None:
    """A RED or BLACK unit records no error text at all."""
    assert error_text(error, band) is None


@pytest.mark.parametrize("error", [NoTextError(), NotTextError()], ids=["raises", "no-string"])
@pytest.mark.parametrize("band", Band)
def test_an_exception_without_a_text_is_recorded_without(error: Exception, band: Band) -> None:
    """An exception whose own text fails does not make its recording fail."""
    assert error_text(error, band) is None


@pytest.mark.parametrize(
    ("raised", "recorded"),
    [("a\0b", "a\N{REPLACEMENT CHARACTER}b"), ("a\ud800b", "a?b"), ("", ""), ("żółw 🐢", "żółw 🐢")],
)
def test_recorded_text_can_be_stored(raised: str, recorded: str) -> None:
    """What UTF-8 or SQL cannot hold in an error's text is replaced."""
    assert error_text(ValueError(raised), Band.GREEN) == recorded


@pytest.mark.parametrize(("length", "kept"), [(1000, "x" * 1000), (1001, "x" * 999 + "…"), (10**6, "x" * 999 + "…")])
def test_recorded_text_is_cut(length: int, kept: str) -> None:
    """A text longer than the limit is cut to it, the last character showing that."""
    assert error_text(ValueError("x" * length), Band.GREEN) == kept
    assert len(kept) <= MAX_MESSAGE_CHARACTERS


@pytest.mark.parametrize("band", CLOSED)
def test_keys_are_shown_for_green_only(band: Band) -> None:
    """An error names a record's key for GREEN, cut to a line's worth, and for no other band."""
    assert shown_key("n1", Band.GREEN) == "'n1'"
    assert shown_key("k" * 81, Band.GREEN) == f"'{'k' * 77}'..."
    assert shown_key("k" * 80, Band.GREEN) == f"'{'k' * 80}'"
    assert SECRET not in shown_key(SECRET, band)


def test_checksums_for_green_and_amber_only() -> None:
    """A plain digest, which would give guessable content away, is recorded for GREEN and AMBER only."""
    assert [checksum_text("ab", band, "s", None) for band in Band] == ["sha256:ab", "sha256:ab", None, None]


def test_nonces_for_all_but_green() -> None:
    """Receipts of every band but GREEN carry nonces."""
    assert [wants_nonces(band) for band in Band] == [False, True, True, True]


def test_record_ids_for_all_but_black() -> None:
    """The ledger names a record for every band but BLACK, and a statement for none."""
    assert [recorded_key("n1", band) for band in Band] == ["n1", "n1", "n1", None]
    assert recorded_key(None, Band.GREEN) is None
