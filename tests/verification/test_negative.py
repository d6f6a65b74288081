"""What must be caught: each case is named after its defect, and says under which rule it is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.verification.kit import KEY, execute, verified, vkey_of

if TYPE_CHECKING:
    from pathlib import Path

# Commits: 1-3 Alice GREEN, 4 Bob AMBER, 5 RED, 6 BLACK, 7-10 Alice. Writes: 1-6, 7-8, 9-10, 11-12, 13, 14, 15-16, ...
UNIT: Final = "UPDATE unit_of_work SET {} WHERE rowid = (SELECT unit FROM uow_ledger WHERE commit_seq = {})"
LOG: Final = "UPDATE uow_ledger SET {} WHERE commit_seq = {}"
WRITE: Final = "UPDATE uow_writes SET {} WHERE id = {}"
OTHER_NOTE: Final = "(SELECT receipt_signature FROM unit_of_work WHERE rowid = 2)"


def unit(change: str, commit: int = 2) -> str:
    """A change to the unit of this commit."""
    return UNIT.format(change, commit)


def log(change: str, commit: int = 2) -> str:
    """A change to its row in the log."""
    return LOG.format(change, commit)


def write(change: str, number: int = 7) -> str:
    """A change to the write of this number."""
    return WRITE.format(change, number)


EDITED: Final = {
    # uow_writes
    "write edited: unit": ("write_owner", write("uow_id = (SELECT uow_id FROM unit_of_work WHERE rowid = 1)")),
    "write edited: store": ("writes", write("store_name = 'notez'")),
    "write edited: record": ("writes", write("record_id = 'n22'")),
    "write edited: record removed": ("writes", write("record_id = NULL")),
    "write edited: time": ("writes", write("ts = '2026-11-22T19:20:31.110000Z'")),
    "write edited: operation": ("writes", write("operation_type = 'update'")),
    "write edited: size": ("writes", write("bytes_written = bytes_written + 1")),
    "write edited: sizes moved": (
        "writes",
        write("bytes_written = bytes_written + 1") + "; " + write("bytes_written = bytes_written - 1", 8),
    ),
    "write edited: checksum": ("writes", write("checksum = 'sha256:' || hex(zeroblob(32))")),
    "write edited: checksum in capitals": ("writes", write("checksum = 'sha256:' || upper(substr(checksum, 8))")),
    "write edited: another algorithm": ("writes", write("checksum = 'md5' || substr(checksum, 7)")),
    "write edited: checksum of a RED write": ("writes", write("checksum = NULL", 13)),
    "write edited: pseudonym of a BLACK write": ("writes", write("record_id = 'k1'", 14)),
    "write renumbered": ("write_missing", write("id = 700", 18)),
    "write deleted: first": ("write_missing", "DELETE FROM uow_writes WHERE id = 1"),
    "write deleted: middle": ("write_missing", "DELETE FROM uow_writes WHERE id = 3"),
    "write deleted: last": ("write_missing", "DELETE FROM uow_writes WHERE id = (SELECT max(id) FROM uow_writes)"),
    "write inserted": (
        "write_stray",
        (
            "INSERT INTO uow_writes SELECT 900, uow_id, store_name, 'n77', ts, operation_type, bytes_written, checksum"
            " FROM uow_writes WHERE id = 7"
        ),
    ),
    "write inserted before all others": (
        "write_stray",
        "INSERT INTO uow_writes (id, uow_id, store_name, ts) VALUES (-5, 'nobody', 'notes', 'then')",
    ),
    "writes swapped": (
        "writes",
        (
            "UPDATE uow_writes SET id = -7 WHERE id = 7; UPDATE uow_writes SET id = 7 WHERE id = 8;"
            " UPDATE uow_writes SET id = 8 WHERE id = -7"
        ),
    ),
    "write duplicated over another": (
        "writes",
        (
            "DELETE FROM uow_writes WHERE id = 8; INSERT INTO uow_writes SELECT 8, uow_id, store_name, record_id, ts,"
            " operation_type, bytes_written, checksum FROM uow_writes WHERE id = 7"
        ),
    ),
    "write transplanted from another unit": (
        "writes",
        (
            "DELETE FROM uow_writes WHERE id = 9; INSERT INTO uow_writes SELECT 9, (SELECT uow_id FROM uow_writes"
            " WHERE id = 10), store_name, record_id, ts, operation_type, bytes_written, checksum FROM uow_writes"
            " WHERE id = 7"
        ),
    ),
    # uow_nonces
    "nonce changed": ("writes", "UPDATE uow_nonces SET nonce = zeroblob(16) WHERE write_id = 11"),
    "nonce removed": ("writes", "DELETE FROM uow_nonces WHERE write_id = 11"),
    "nonce added to a GREEN write": ("writes", "INSERT INTO uow_nonces VALUES (7, zeroblob(16))"),
    "nonce as text": ("value", "UPDATE uow_nonces SET nonce = lower(hex(nonce)) WHERE write_id = 11"),
    "nonce of no write": ("nonce", "INSERT INTO uow_nonces VALUES (901, zeroblob(16))"),
    # unit_of_work
    "unit edited: id": ("receipt", unit("uow_id = 'another'")),
    "unit edited: status": ("status", unit("status = 'failed'")),
    "unit edited: begun": ("receipt", unit("created_ts = '2020-01-01T00:00:00.000000Z'")),
    "unit edited: committed": ("receipt", unit("committed_ts = '2020-01-01T00:00:00.000000Z'")),
    "unit edited: stores counted": ("receipt", unit("store_count = 1")),
    "unit edited: bytes": ("receipt", unit("total_bytes_written = 0")),
    "unit edited: receipt hash": ("receipt", unit("receipt_hash = lower(hex(zeroblob(32)))")),
    "unit edited: receipt hash in capitals": ("receipt", unit("receipt_hash = upper(receipt_hash)")),
    "unit edited: receipt hash removed": ("receipt", unit("receipt_hash = NULL")),
    "unit edited: band lowered": ("receipt", unit("band = 'GREEN'", 5)),
    "unit edited: band that is none": ("receipt", unit("band = 'green'")),
    "unit edited: contract version": ("receipt", unit("contract_version = '1.1.1'")),
    "unit edited: actor": ("context", unit("actor_id = 'mallory'", 1)),
    "unit edited: actor removed": ("context", unit("actor_id = NULL", 1)),
    "unit edited: device": ("context", unit("device_id = 'other'", 1)),
    "unit edited: correlation": ("context", unit("correlation_id = 'req-2'", 1)),
    "unit edited: actor and device swapped": ("context", unit("actor_id = device_id, device_id = actor_id", 1)),
    "unit moved to another space": ("chain", unit("space_id = 'bob'")),
    "unit edited: space renamed to a twin": ("receipt", unit("space_id = 'аlice'")),  # noqa: RUF001 - Cyrillic
    "unit edited: time below zero": ("form", unit("total_execution_time_ms = -1")),
    "unit edited: time that is not its microseconds": ("form", unit("commit_time_ms = commit_time_ms + 1")),
    "unit edited: retries as text": ("form", unit("retry_count = 'many'")),
    "unit edited: recovery": ("form", unit("recovery_attempted = 7")),
    "unit edited: error as bytes": ("form", unit("error_type = x'00'")),
    "unit deleted": (
        "unit_missing",
        "DELETE FROM unit_of_work WHERE rowid = (SELECT unit FROM uow_ledger WHERE commit_seq = 2)",
    ),
    "unit inserted: committed without a receipt": (
        "unlogged",
        "INSERT INTO unit_of_work (uow_id, status, created_ts, committed_ts) VALUES ('x', 'committed', 'a', 'b')",
    ),
    "unit replayed under another id": (
        "unlogged",
        (
            "INSERT INTO unit_of_work (uow_id, status, created_ts, receipt_hash)"
            " SELECT 'again', status, created_ts, receipt_hash FROM unit_of_work WHERE rowid = 2"
        ),
    ),
    "failed unit with a time below zero": (
        "form",
        "UPDATE unit_of_work SET total_execution_time_ms = -5 WHERE status = 'failed'",
    ),
    "unit emptied as by a soft migration down": (
        "given_up",
        unit("receipt_hash = NULL, contract_version = '1.0.0', actor_id = NULL"),
    ),
    "origin as bytes": ("receipt", "UPDATE uow_identity SET origin = CAST(origin AS BLOB)"),
    "unit sealed with text": (
        "erasure",
        "INSERT INTO uow_sealed SELECT 7, lower(hex(nodes)), 'nobody' FROM uow_ledger WHERE commit_seq = 1",
    ),
    "failed unit made committed": ("unlogged", "UPDATE unit_of_work SET status = 'committed' WHERE status = 'failed'"),
    "failed unit given a status that is none": (
        "status",
        "UPDATE unit_of_work SET status = 'lost' WHERE status = 'failed'",
    ),
    "failed unit given a receipt": (
        "unlogged",
        "UPDATE unit_of_work SET receipt_hash = lower(hex(zeroblob(32))) WHERE status = 'failed'",
    ),
    # uow_ledger
    "log edited: number": ("order", "UPDATE uow_ledger SET commit_seq = 99 WHERE commit_seq = 10"),
    "log edited: unit": ("unit_missing", log("unit = 999")),
    "log edited: number in the space": ("chain", log("space_seq = 9")),
    "log edited: link": ("chain", log("prev = zeroblob(32)")),
    "log edited: link removed": ("chain", log("prev = NULL")),
    "log edited: link as text": ("value", log("prev = lower(hex(prev))")),
    "log edited: context": ("context", log("context = zeroblob(32)", 1)),
    "log edited: context as text": ("value", log("context = lower(hex(context))", 1)),
    "log edited: context's nonce as text": ("context", log("context_nonce = lower(hex(context_nonce))", 1)),
    "log edited: microseconds removed": ("form", log("commit_us = NULL")),
    "log edited: microseconds as text": ("form", log("execution_us = 'long'")),
    "log edited: forgotten unit's leaf as text": (
        "log",
        "INSERT INTO uow_forgotten SELECT 2, 'unit', lower(hex(nodes)), 'nobody' FROM uow_ledger WHERE commit_seq = 2",
    ),
    "log edited: another space's value of an odd type": ("value", log("prev = 'x'", 4)),
    "log edited: context's nonce": ("context", log("context_nonce = zeroblob(16)", 1)),
    "log edited: context's nonce removed": ("context", log("context_nonce = NULL", 2)),
    "log edited: nonce": ("receipt", log("nonce = zeroblob(16)", 4)),
    "log edited: nonce removed": ("receipt", log("nonce = NULL", 4)),
    "log edited: root": ("writes", log("writes_root = zeroblob(32)")),
    "log edited: write count": ("write_missing", log("write_count = 3", 3)),
    "log edited: first write": ("write_missing", log("first_write = 8")),
    "log edited: first write as text": ("value", log("first_write = 'seven'")),
    "log edited: microseconds": ("form", log("commit_us = commit_us + 5000")),
    "log edited: leaf": ("log", log("nodes = zeroblob(32) || substr(nodes, 33)")),
    "log edited: inner node": ("log", log("nodes = CAST(substr(nodes, 1, 32) || zeroblob(32) AS BLOB)")),
    "log edited: nodes cut": ("log", log("nodes = substr(nodes, 1, 32)")),
    "log edited: nodes removed": ("log", log("nodes = x''")),
    "log row deleted: first": ("unlogged", "DELETE FROM uow_ledger WHERE commit_seq = 1"),
    "log row deleted: middle": ("order", "DELETE FROM uow_ledger WHERE commit_seq = 5"),
    "log row deleted: last": ("unlogged", "DELETE FROM uow_ledger WHERE commit_seq = 10"),
    "log rows swapped": (
        "chain",
        (
            "UPDATE uow_ledger SET commit_seq = 50 WHERE commit_seq = 2; UPDATE uow_ledger SET commit_seq = 2 WHERE"
            " commit_seq = 3; UPDATE uow_ledger SET commit_seq = 3 WHERE commit_seq = 50"
        ),
    ),
    "log units swapped": (
        "receipt",
        (
            "UPDATE uow_ledger SET unit = -2 WHERE commit_seq = 2; UPDATE uow_ledger SET unit = 2 WHERE commit_seq = 3;"
            " UPDATE uow_ledger SET unit = 3 WHERE commit_seq = 2"
        ),
    ),
    "whole unit removed, with its writes": (
        "log",
        (
            "DELETE FROM uow_writes WHERE id IN (9, 10); DELETE FROM unit_of_work WHERE rowid = (SELECT unit FROM"
            " uow_ledger WHERE commit_seq = 3); DELETE FROM uow_ledger WHERE commit_seq = 3"
        ),
    ),
    "whole unit removed, and the rest renumbered": (
        "log",
        (
            "DELETE FROM uow_writes WHERE id IN (9, 10); DELETE FROM unit_of_work WHERE rowid = (SELECT unit FROM"
            " uow_ledger WHERE commit_seq = 3); DELETE FROM uow_ledger WHERE commit_seq = 3;"
            " UPDATE uow_ledger SET commit_seq = commit_seq - 1 WHERE commit_seq > 3"
        ),
    ),
    # uow_identity, uow_spaces
    "origin changed": ("receipt", "UPDATE uow_identity SET origin = 'example.com/away'"),
    "identity removed": ("identity", "DELETE FROM uow_identity"),
    "space's end moved back": ("head", "UPDATE uow_spaces SET space_seq = 1 WHERE space_id = 'alice'"),
    "space's end is another receipt": ("head", "UPDATE uow_spaces SET head = zeroblob(32) WHERE space_id = 'bob'"),
    "space's end as text": ("head", "UPDATE uow_spaces SET head = lower(hex(head)) WHERE space_id = 'bob'"),
    "space's end removed": ("head", "DELETE FROM uow_spaces WHERE space_id = 'bob'"),
    "space without a unit": ("head", "INSERT INTO uow_spaces VALUES ('carol', 1, zeroblob(32))"),
    # types and texts
    "size as a real number": ("value", write("bytes_written = 5.5")),
    "size as bytes": ("value", write("bytes_written = x'35'")),
    "size beyond 2**53": ("writes", write("bytes_written = 9007199254740993")),
    "record as bytes": ("value", write("record_id = CAST(record_id AS BLOB)")),
    "record with U+0000": ("writes", write("record_id = record_id || char(0) || 'x'")),
    "record that is not UTF-8": ("value", write("record_id = CAST(x'ff' AS TEXT)")),
    "record's twin in another normal form": ("writes", write("record_id = 'n2' || char(769)")),
    "space that is not UTF-8": ("value", unit("space_id = CAST(x'616cff' AS TEXT)")),
    "count as a real number": ("value", unit("store_count = 2.5")),
    # uow_keys and signatures
    "signature removed": ("unsigned", unit("receipt_signature = NULL")),
    "signature of an earlier unit": ("signature", unit(f"receipt_signature = {OTHER_NOTE}", 4)),
    "signature of a later unit": (
        "signature",
        unit("receipt_signature = (SELECT receipt_signature FROM unit_of_work WHERE rowid = 4)"),
    ),
    "signature altered": (
        "signature",
        unit("receipt_signature = replace(receipt_signature, substr(receipt_signature, -20, 6), 'AAAAAA')"),
    ),
    "signature with text after it": ("signature", unit("receipt_signature = receipt_signature || 'x'")),
    "signature twice": (
        "signature",
        unit(
            "receipt_signature = receipt_signature"
            " || substr(receipt_signature, instr(receipt_signature, char(10) || char(10)) + 2)"
        ),
    ),
    "signature as bytes": ("signature", unit("receipt_signature = CAST(receipt_signature AS BLOB)")),
    "signed head of another origin": (
        "signature",
        unit("receipt_signature = replace(receipt_signature, 'example.com/home' || char(10), 'other' || char(10))"),
    ),
    "signed head of another size": (
        "signature",
        unit(
            "receipt_signature = replace(receipt_signature, char(10) || '2' || char(10), char(10) || '3' || char(10))"
        ),
    ),
    "key removed": ("signature", "DELETE FROM uow_keys"),
    "key replaced": (
        "key",
        "UPDATE uow_keys SET vkey = 'example.com/home+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW'",
    ),
    "key of another algorithm": ("key", "UPDATE uow_keys SET vkey = replace(vkey, '+A', '+B')"),
    "key's range cut": ("signature", "UPDATE uow_keys SET until_seq = 5"),
    "key's range begins late": ("signature", "UPDATE uow_keys SET since_seq = 3"),
    "key's range as text": ("key", "UPDATE uow_keys SET since_seq = 'one'"),
    "epoch made up": (
        "signature",
        "INSERT INTO uow_epochs (epoch, since_size, abandoned, started_ts) VALUES (2, 4, 'x', 'y')",
    ),
    # erasures
    "write sealed without a tombstone": (
        "erasure",
        "INSERT INTO uow_sealed SELECT 7, substr(nodes, 1, 32), 'nobody' FROM uow_ledger WHERE commit_seq = 1",
    ),
    "write sealed in the name of a unit that erased nothing": (
        "erasure",
        "INSERT INTO uow_sealed SELECT 7, zeroblob(32), uow_id FROM unit_of_work WHERE rowid = 1",
    ),
    "actor forgotten without a tombstone": (
        "erasure",
        unit("actor_id = NULL, device_id = NULL, correlation_id = NULL", 1)
        + "; "
        + log("context_nonce = NULL", 1)
        + "; INSERT INTO uow_forgotten VALUES (1, 'context', NULL, 'nobody')",
    ),
    "unit forgotten without a tombstone": (
        "erasure",
        (
            "INSERT INTO uow_forgotten SELECT 2, 'unit', substr(nodes, 1, 32),"
            " 'nobody' FROM uow_ledger WHERE commit_seq = 2"
        ),
    ),
    "erasure not finished": ("erasing", "INSERT INTO uow_erasing VALUES ('x', 'notes', NULL, NULL, 3, 1)"),
}


@pytest.mark.parametrize(("rule", "change"), EDITED.values(), ids=EDITED.keys())
def test_edited_rows_are_found(signed: Path, rule: str, change: str) -> None:
    """Whoever has SQL access and no key cannot change a row, or a byte of it, that a receipt speaks of."""
    execute(signed, *change.split("; "))
    report = verified(signed)
    assert not report.ok
    assert rule in report.rules, report.problems


def test_nothing_is_found_where_nothing_is_wrong(signed: Path) -> None:
    """The ledger that all these cases damage verifies to the highest level, content and all."""
    checkpoint = (signed / "checkpoint").read_text(encoding="utf-8")
    from memoryos_uow._band_keys import content_key

    report = verified(signed, live=True, vkey=vkey_of(signed), checkpoint=checkpoint, content_key=content_key(KEY))
    assert report.problems == ()
    assert (report.level, report.units, report.writes, report.signed_units) == ("anchored", 10, 22, 10)
    assert sum(store.uncheckable for store in report.stores or ()) == 0
