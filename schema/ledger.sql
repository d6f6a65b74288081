-- The library's own bookkeeping beside the contract's two tables, layout 1. Nothing here repeats what a row of
-- unit_of_work or uow_writes can give back. A later layout is another file; this one never changes once released.

-- One row per schema file that was applied; checksum is the SHA-256 of that file.
CREATE TABLE IF NOT EXISTS uow_schema (
  version TEXT PRIMARY KEY,
  applied_ts TEXT NOT NULL,
  checksum TEXT NOT NULL
);

-- Who this ledger is: exactly one row. origin stands in every receipt.
CREATE TABLE IF NOT EXISTS uow_identity (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  ledger_id TEXT NOT NULL,
  origin TEXT NOT NULL,
  created_ts TEXT NOT NULL
);

-- The receipt log: one row per committed unit, in the order of their commits.
CREATE TABLE IF NOT EXISTS uow_ledger (
  commit_seq INTEGER PRIMARY KEY,
  uow_id TEXT NOT NULL UNIQUE REFERENCES unit_of_work(uow_id),
  space_seq INTEGER NOT NULL,    -- the unit's number in its space's history, from 1
  prev TEXT,                     -- receipt_hash of the space's previous unit
  context TEXT NOT NULL,         -- digest over actor, device, correlation and context_nonce
  context_nonce TEXT,            -- opens context; erased to forget who acted
  nonce TEXT,
  writes_root TEXT NOT NULL,
  write_count INTEGER NOT NULL,
  first_write INTEGER,           -- uow_writes.id of the unit's first write; its writes have consecutive ids
  execution_us INTEGER,
  commit_us INTEGER
);

-- The random nonces of writes whose band asks for them.
CREATE TABLE IF NOT EXISTS uow_nonces (
  write_id INTEGER PRIMARY KEY REFERENCES uow_writes(id),
  nonce TEXT NOT NULL
);

-- The end of every space's history: its length and the receipt_hash of its last unit.
CREATE TABLE IF NOT EXISTS uow_spaces (
  space_id TEXT PRIMARY KEY,
  space_seq INTEGER NOT NULL,
  head TEXT NOT NULL
) WITHOUT ROWID;

-- The exact bytes that receipt_hash is the SHA-256 of: 17 keys in alphabetical order, always.
CREATE VIEW IF NOT EXISTS uow_receipts (uow_id, receipt) AS
SELECT u.uow_id, json_object(
  'band', u.band,
  'committed_ts', u.committed_ts,
  'context', l.context,
  'contract_version', u.contract_version,
  'created_ts', u.created_ts,
  'nonce', l.nonce,
  'origin', i.origin,
  'outcome', 'committed',
  'prev', l.prev,
  'space_id', u.space_id,
  'space_seq', l.space_seq,
  'store_count', u.store_count,
  'total_bytes_written', u.total_bytes_written,
  'type', 'memoryos-uow/receipt/1',
  'uow_id', u.uow_id,
  'write_count', l.write_count,
  'writes_root', l.writes_root)
FROM uow_ledger AS l
JOIN unit_of_work AS u ON u.uow_id = l.uow_id
JOIN uow_identity AS i ON i.id = 1;
