"""Ledgers on PostgreSQL with very many units, made by SQL in the database: what each row says does not matter here.

Every unit has three writes and one document; the receipt log's rows have as many hashes as the library's would.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks._work import HEX, SPACE, TIME

_UNIT: Final = "'019a0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0')"
_STATEMENTS: Final = (
    f"""
INSERT INTO unit_of_work (uow_id, status, created_ts, committed_ts, total_execution_time_ms, commit_time_ms,
  store_count, total_bytes_written, retry_count, recovery_attempted, receipt_hash, space_id, actor_id, device_id,
  correlation_id, band, contract_version)
SELECT {_UNIT}, 'committed', '{TIME}', '{TIME}', 1, 1, 1, 450, 0, 0, '{HEX}', 'space:' || n %% 100,
  'actor:' || n %% 1000, 'device:0007', 'req-' || n, 'GREEN', '1.1.0'
FROM generate_series(CAST(%(first)s AS BIGINT), CAST(%(last)s AS BIGINT)) AS n
""",
    f"""
INSERT INTO uow_writes (id, uow_id, store_name, record_id, ts, operation_type, bytes_written, checksum)
SELECT 3 * n + part, {_UNIT}, 'notes', 'filled-' || n || '-' || part, '{TIME}', 'create', 150, 'sha256:{HEX}'
FROM generate_series(CAST(%(first)s AS BIGINT), CAST(%(last)s AS BIGINT)) AS n, generate_series(0, 2) AS part
""",
    f"""
INSERT INTO uow_ledger (commit_seq, unit, space_seq, prev, context, context_nonce, writes_root, write_count,
  first_write, execution_us, commit_us, nodes)
SELECT n, {_UNIT}, n, d, d, substr(d, 1, 16), d, 3, 3 * n, 512, 400,
  decode(repeat('{HEX}', 1 + CAST(log(2, CAST(n & -n AS NUMERIC)) AS INTEGER)), 'hex')
FROM generate_series(CAST(%(first)s AS BIGINT), CAST(%(last)s AS BIGINT)) AS n, decode('{HEX}', 'hex') AS d
""",
    f"""
INSERT INTO uow_documents (store, space_id, key, version, value)
SELECT 'notes', '{SPACE}', 'filled-' || n, n, '{{"text":"the boiler was serviced in spring","unit":' || n || '}}'
FROM generate_series(CAST(%(first)s AS BIGINT), CAST(%(last)s AS BIGINT)) AS n
""",
)


def fill(connection: Any, units: int, *, chunk: int = 100_000) -> None:
    """Give the empty ledger of `connection` so many units, and the planner its statistics."""
    connection.execute("SET session_replication_role = replica")  # each write would look its unit up
    for first in range(1, units + 1, chunk):
        for statement in _STATEMENTS:
            connection.execute(statement, {"first": first, "last": min(first + chunk - 1, units)})
    connection.execute(
        f"INSERT INTO uow_spaces (space_id, space_seq, head) SELECT '{SPACE}', max(commit_seq), decode('{HEX}', 'hex')"
        " FROM uow_ledger HAVING max(commit_seq) IS NOT NULL"
    )
    connection.execute(
        "UPDATE uow_blocks SET next = (SELECT coalesce(max(id), 0) + 1 FROM uow_writes) WHERE name = 'writes'"
    )
    connection.execute("SET session_replication_role = origin")
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")
