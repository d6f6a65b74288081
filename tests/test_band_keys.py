"""The content key: where it comes from, what is refused, and what a ledger under a key records."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pickle
import stat
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Band, Ledger, UsageError
from memoryos_uow._band_keys import ENVIRONMENT, ContentKey, content_key
from tests.processes import without_rights
from tests.schema_files import make_1_0_0
from tests.units import rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(range(32))


def key_file(path: Path, content: bytes, mode: int = 0o600) -> Path:
    """A file with `content` that is as private as `mode` says."""
    path.write_bytes(content)
    path.chmod(mode)
    return path


def hmac_of(*parts: str) -> str:
    """HMAC-SHA256 under KEY over JSON, made without the library."""
    return hmac.new(KEY, json.dumps(parts, separators=(",", ":")).encode(), hashlib.sha256).hexdigest()


def test_hmacs_are_what_the_module_says() -> None:
    """Checksum, pseudonym and key id are HMAC-SHA256 over RFC 8785 JSON that says what it is for."""
    key = ContentKey(KEY)
    assert key.checksum("s", "ab") == f"hmac-sha256:{hmac_of('memoryos-uow/content/1', 's', 'ab')}"
    assert key.pseudonym("s", "notes", "k") == f"p:{hmac_of('memoryos-uow/record/1', 's', 'notes', 'k')}"
    assert key.id == hmac_of("memoryos-uow/key-id/1")[:16]


HEX = KEY.hex().encode()


@pytest.mark.parametrize("content", [KEY, HEX, HEX.upper() + b"\n", HEX + b"\r\n"])
def test_a_key_file_holds_bytes_or_hex(tmp_path: Path, content: bytes) -> None:
    """32 raw bytes, or 64 hex digits with or without a line end, are the same key."""
    found = content_key(key_file(tmp_path / "key", content))
    assert found is not None
    assert found.id == ContentKey(KEY).id


def test_where_the_key_comes_from(tmp_path: Path) -> None:
    """The argument goes before the environment; an empty variable counts as none; no key is made up."""
    file = str(key_file(tmp_path / "key", b"x" * 32))
    assert content_key(None, {}) is None
    assert content_key(None, {ENVIRONMENT: ""}) is None
    from_environment = content_key(None, {ENVIRONMENT: file})
    assert from_environment is not None
    assert from_environment.id == ContentKey(b"x" * 32).id
    given = content_key(bytearray(KEY), {ENVIRONMENT: file})
    assert given is not None
    assert given.id == ContentKey(KEY).id


def a_pipe(path: Path) -> Path:
    """A named pipe, which nobody writes to."""
    os.mkfifo(path, 0o600)
    return path


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (lambda _: b"short", "has 32 bytes, not 5"),
        (lambda _: 7, "not a int"),
        (lambda place: place / "absent", "No such file"),
        (lambda place: f"{place}/a\0b", "not a path"),
        (lambda place: place, "not a regular file"),
        (lambda place: a_pipe(place / "pipe"), "not a regular file"),
        (lambda place: key_file(place / "key", b""), "neither 32 bytes nor 64 hex digits"),
        (lambda place: key_file(place / "key", b"0" * 66), "neither"),
        (lambda place: key_file(place / "key", b"x" * 33), "neither"),
        (lambda place: key_file(place / "key", KEY, 0o640), r"others than its owner \(mode 0640\)"),
        (lambda place: key_file(place / "key", KEY, 0o604), "others than its owner"),
        (lambda place: key_file(place / "key", KEY, 0o620), "others than its owner"),
    ],
)
def test_what_is_no_secret_key_is_refused(tmp_path: Path, given: Callable[[Path], Any], why: str) -> None:
    """A key that is missing, malformed or open to others is a typed error, which shows nothing of its content."""
    with pytest.raises(UsageError, match=why) as caught:
        content_key(given(tmp_path), {})
    assert "xxxxx" not in str(caught.value)


def test_somebody_elses_key_file_is_refused(tmp_path: Path) -> None:
    """A key file that another user owns is refused, even where it can be read."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    tmp_path.chmod(0o755)
    file = key_file(tmp_path / "key", KEY)
    os.chown(file, 12345, -1)
    with pytest.raises(UsageError, match="belongs to somebody else"):
        content_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    """A file that this process may not read is a typed error."""
    file = key_file(tmp_path / "key", KEY, 0o000)

    def attempt() -> str:
        with pytest.raises(UsageError) as caught:
            content_key(file)
        return caught.value.message

    assert "cannot be read" in without_rights(attempt)


def test_a_key_shows_and_leaves_nothing() -> None:
    """A key's repr holds its id only, and it cannot be pickled."""
    key = ContentKey(KEY)
    assert repr(key) == f"<ContentKey {key.id}>"
    with pytest.raises(UsageError, match="copied"):
        pickle.dumps(key)


def write(ledger: Ledger, band: str, key: str = "k") -> tuple[str | None, str | None]:
    """Record id and checksum of a write of this band."""
    with ledger.unit(space_id="s", band=band) as uow:
        uow["notes"].upsert(key, {"text": "x"})
    (found,) = ledger.get(uow.uow_id).writes
    return found.record_id, found.checksum


def test_what_a_ledger_under_a_key_records(tmp_path: Path) -> None:
    """GREEN and AMBER are as without a key; RED has an HMAC, BLACK a pseudonym as well; deletes have no checksum."""
    plain = hashlib.sha256(b'{"text":"x"}').hexdigest()
    keyed = f"hmac-sha256:{hmac_of('memoryos-uow/content/1', 's', plain)}"
    pseudonym = f"p:{hmac_of('memoryos-uow/record/1', 's', 'notes', 'k')}"
    with Ledger.open(tmp_path / "memory.db", content_key=KEY) as ledger:
        assert [write(ledger, band) for band in Band] == [
            ("k", f"sha256:{plain}"),
            ("k", f"sha256:{plain}"),
            ("k", keyed),
            (pseudonym, keyed),
        ]
        with ledger.unit(space_id="s", band="BLACK") as uow:
            uow["notes"].delete("k")
        (found,) = ledger.get(uow.uow_id).writes
        assert (found.record_id, found.checksum) == (pseudonym, None)
    assert rows(tmp_path / "memory.db", "SELECT key_id FROM uow_content_key") == [(ContentKey(KEY).id,)]
    assert KEY not in (tmp_path / "memory.db").read_bytes()
    assert KEY.hex().encode() not in (tmp_path / "memory.db").read_bytes()


def test_another_key_is_noticed_at_open(tmp_path: Path) -> None:
    """A ledger takes no second key; the error names both ids and neither key."""
    Ledger.open(tmp_path / "memory.db", content_key=KEY).close()
    with pytest.raises(UsageError, match=f"has the id {ContentKey(KEY).id}"):
        Ledger.open(tmp_path / "memory.db", content_key=b"x" * 32)
    Ledger.open(tmp_path / "memory.db", content_key=KEY).close()


def test_without_its_key_nothing_is_silently_left_null(tmp_path: Path) -> None:
    """Opened without its key, also by a process that was there before it had one, RED and BLACK units are refused."""
    with Ledger.open(tmp_path / "memory.db") as early:
        assert write(early, "BLACK") == (None, None)
        Ledger.open(tmp_path / "memory.db", content_key=KEY).close()
        for band in ("RED", "BLACK"):
            with pytest.raises(UsageError, match=f"{band} units of this ledger.*{ENVIRONMENT}"):
                write(early, band)
        assert write(early, "GREEN")[0] == "k"
        with pytest.raises(UsageError, match="content key"):
            early.erase(space_id="s", store="notes", key="k")
        assert early["notes"].get("k", space_id="s") is not None


def test_the_environment_names_the_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ledger.open takes the key from the file that the environment names."""
    monkeypatch.setenv(ENVIRONMENT, str(key_file(tmp_path / "key", KEY)))
    with Ledger.open(tmp_path / "memory.db") as ledger:
        assert (write(ledger, "RED")[1] or "").startswith("hmac-sha256:")


def test_a_ledger_without_a_key_table_is_left_alone(tmp_path: Path) -> None:
    """In basic mode a key is accepted and not recorded: contract 1.0.0 has no checksums."""
    make_1_0_0(tmp_path / "old.db")
    with Ledger.open(tmp_path / "old.db", migrate=False, content_key=KEY) as ledger:
        with ledger.unit(space_id="s", band="RED") as uow:
            uow["notes"].create("k", {})
        assert uow.receipt is not None
