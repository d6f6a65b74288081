"""The least that a unit with a receipt can cost in Python: all rows and all hashes, and nothing else.

One function with everything in local variables: it computes digests, leaves, the root, the receipt and the log's tree
as the library does, and writes the same rows with the same statements. It checks no argument, asks nobody whether the
ledger is still as it was, shares no commit, tells nobody anything, has one store and one space, and would write
nonsense beside another process. Whoever keeps the promises pays for them on top of this.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from hashlib import sha256
from time import time_ns
from typing import TYPE_CHECKING, Final

from benchmarks._work import (
    CONTEXT,
    INSERT_ENTRY,
    INSERT_UNIT,
    INSERT_WRITE,
    SPACE,
    WRITES,
    ByHand,
    ByHandWithLedger,
    documents,
    unit_row,
)

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._work import Durability

_TIMES_OF_UNIT: Final = "UPDATE unit_of_work SET total_execution_time_ms = ?, commit_time_ms = ? WHERE uow_id = ?"
_TIMES_OF_ENTRY: Final = "UPDATE uow_ledger SET execution_us = ?, commit_us = ? WHERE commit_seq = ?"
_HEAD_OF_SPACE: Final = (
    "INSERT INTO uow_spaces (space_id, space_seq, head) VALUES (?, ?, ?)"
    " ON CONFLICT (space_id) DO UPDATE SET space_seq = excluded.space_seq, head = excluded.head"
)
_ROW: Final = unit_row(0)
_ID, _CREATED, _COMMITTED, _HASH, _CORRELATION = (
    [column.strip() for column in INSERT_UNIT.partition("(")[2].partition(")")[0].split(",")].index(name)
    for name in ("uow_id", "created_ts", "committed_ts", "receipt_hash", "correlation_id")
)


class ByHandWithReceipt(ByHandWithLedger):
    """The rows of the library, and what stands in them computed."""

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        self.peaks: list[bytes] = []
        self.before = ("", 0)
        self.prev: bytes | None = None

    def _write(self) -> None:
        execute, many, number = self.connection.execute, self.connection.executemany, self.number
        begun = time_ns()
        now = datetime.fromtimestamp(begun // 1_000_000_000, UTC).isoformat()[:19]
        now = f"{now}.{begun // 1000 % 1_000_000:06d}Z"
        unit_id = f"{begun // 1_000_000:012x}"
        unit_id = f"{unit_id[:8]}-{unit_id[8:]}-7000-8000-{number:012x}"
        last, took = self.before
        execute(_TIMES_OF_UNIT, (took // 1000, took // 1000, last))
        execute(_TIMES_OF_ENTRY, (took, took, number - 1))
        rows, writes, leaves, total, first = [], [], [], 0, WRITES * number
        for part, (key, value) in enumerate(documents(number)):
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            content = text.encode()
            checksum = f"sha256:{sha256(content).hexdigest()}"
            total += len(content)
            rows.append((SPACE, key, number, text))
            writes.append((first + part, unit_id, "notes", key, now, "create", len(content), checksum))
            leaf = (
                f'\0{{"bytes_written":{len(content)},"checksum":"{checksum}","nonce":null,"operation_type":"create"'
                f',"record_id":"{key}","seq":{part},"store_name":"notes","ts":"{now}"}}'
            )
            leaves.append(sha256(leaf.encode()).digest())
        root = sha256(b"\1" + sha256(b"\1" + leaves[0] + leaves[1]).digest() + leaves[2]).digest()
        nonce, request = os.urandom(16), f"req-{number:08d}"
        context = (
            f'{{"actor_id":"{CONTEXT["actor_id"]}","correlation_id":"{request}","device_id":"{CONTEXT["device_id"]}"'
            f',"nonce":"{nonce.hex()}"}}'
        )
        context_digest = sha256(context.encode()).digest()
        prev = "null" if self.prev is None else f'"{self.prev.hex()}"'
        receipt = (
            f'{{"band":"GREEN","committed_ts":"{now}","context":"sha256:{context_digest.hex()}"'
            f',"contract_version":"1.1.0","created_ts":"{now}","nonce":null,"origin":"o","outcome":"committed"'
            f',"prev":{prev},"space_id":"{SPACE}","space_seq":{number},"store_count":1'
            f',"total_bytes_written":{total},"type":"memoryos-uow/receipt/1","uow_id":"{unit_id}"'
            f',"write_count":{WRITES},"writes_root":"{root.hex()}"}}'
        ).encode()
        head = sha256(receipt).digest()
        nodes = self._append(sha256(b"\0" + receipt).digest(), number - 1)
        many(self.INSERT, rows)
        row = _ROW.copy()
        row[_ID], row[_CREATED], row[_COMMITTED], row[_HASH], row[_CORRELATION] = unit_id, now, now, head.hex(), request
        execute(INSERT_UNIT, row)
        many(INSERT_WRITE, writes)
        entry = (number, number, number, self.prev, context_digest, nonce, None, root, WRITES, first, nodes)
        execute(INSERT_ENTRY, entry)
        execute(_HEAD_OF_SPACE, (SPACE, number, head))
        self.prev, self.before = head, (unit_id, (time_ns() - begun) // 1000)

    def _append(self, leaf: bytes, position: int) -> bytes:
        """Add a leaf to the tree; return what its row keeps."""
        nodes, peaks = [leaf], self.peaks
        while position & 1:
            nodes.append(sha256(b"\1" + peaks.pop() + nodes[-1]).digest())
            position >>= 1
        peaks.append(nodes[-1])
        return b"".join(nodes)


FLOOR: Final[dict[str, type[ByHand]]] = {
    "by hand": ByHand,
    "by hand, with the ledger's rows": ByHandWithLedger,
    "by hand, with rows and receipt": ByHandWithReceipt,
}
"""From what nobody would leave out to all that the contract asks for."""
