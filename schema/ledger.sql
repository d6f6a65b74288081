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

-- The receipt log: one row per committed unit, in the order of their commits, without gaps. Row number
-- commit_seq - min(commit_seq) is the leaf of the same index in an RFC 9162 tree. Digests and nonces are their bytes.
CREATE TABLE IF NOT EXISTS uow_ledger (
  commit_seq INTEGER PRIMARY KEY,
  unit INTEGER NOT NULL UNIQUE,  -- unit_of_work.rowid of the unit: an index a quarter the size of one over uow_id
  space_seq INTEGER NOT NULL,    -- the unit's number in its space's history, from 1
  prev BLOB,                     -- receipt_hash of the space's previous unit
  context BLOB NOT NULL,         -- SHA-256 over actor, device, correlation and context_nonce
  context_nonce BLOB,            -- opens context; erased to forget who acted
  nonce BLOB,
  writes_root BLOB NOT NULL,
  write_count INTEGER NOT NULL,
  first_write INTEGER,           -- uow_writes.id of the unit's first write; its writes have consecutive ids
  execution_us INTEGER,
  commit_us INTEGER,
  nodes BLOB NOT NULL            -- the leaf's hash, then those of all complete subtrees that end with it, lowest first
);

-- Which keys have signed this ledger's checkpoints, each from one unit to another: C2SP verifier keys.
CREATE TABLE IF NOT EXISTS uow_keys (
  vkey TEXT PRIMARY KEY,
  since_seq INTEGER NOT NULL,    -- commit_seq of the first unit that it signs
  until_seq INTEGER,             -- of the last; NULL while it is in use
  handover TEXT,                 -- the checkpoint at which it took over, signed by its predecessor and by itself
  revoked_ts TEXT                -- since when its signatures count for nothing
) WITHOUT ROWID;

-- Each time that somebody went on with a history which does not contain the last head that the ledger had released.
CREATE TABLE IF NOT EXISTS uow_epochs (
  epoch INTEGER PRIMARY KEY,     -- from 2; the first needs no row
  since_size INTEGER NOT NULL,   -- how many units the log had then
  abandoned TEXT NOT NULL,       -- the head that was given up
  started_ts TEXT NOT NULL
);

-- The random nonces of writes whose band asks for them.
CREATE TABLE IF NOT EXISTS uow_nonces (
  write_id INTEGER PRIMARY KEY REFERENCES uow_writes(id),
  nonce BLOB NOT NULL
);

-- The end of every space's history: its length and the receipt_hash of its last unit.
CREATE TABLE IF NOT EXISTS uow_spaces (
  space_id TEXT PRIMARY KEY,
  space_seq INTEGER NOT NULL,
  head BLOB NOT NULL
) WITHOUT ROWID;

-- Writes of erased records: of each only its leaf is left, so that its unit's writes_root can still be computed. What the
-- row in uow_writes said is gone. tombstone is the uow_id of the unit that erased it: the checksum of that unit's write is
-- over all that it sealed, so nobody can seal a row in its name.
CREATE TABLE IF NOT EXISTS uow_sealed (
  write_id INTEGER PRIMARY KEY REFERENCES uow_writes(id),
  leaf BLOB NOT NULL,
  tombstone TEXT NOT NULL,
  UNIQUE (tombstone, write_id)
);

-- What else erasures took from units. context: who acted. unit: its id, times and receipt; leaf is what is left of it.
CREATE TABLE IF NOT EXISTS uow_forgotten (
  commit_seq INTEGER NOT NULL REFERENCES uow_ledger(commit_seq),
  what TEXT NOT NULL CHECK (what IN ('context', 'unit')),
  leaf BLOB,
  tombstone TEXT NOT NULL,
  PRIMARY KEY (commit_seq, what),
  UNIQUE (tombstone, commit_seq, what)
) WITHOUT ROWID;

-- Erasures that are decided and of which traces may be left, outside the ledger or in free pages: none at rest.
CREATE TABLE IF NOT EXISTS uow_erasing (
  uow_id TEXT PRIMARY KEY,       -- the tombstone
  store TEXT NOT NULL,
  space_id TEXT,                 -- which record; null once nothing is left of it outside the ledger
  key TEXT,
  version INTEGER NOT NULL,      -- the tombstone's commit_seq: what was written since is another record
  rebuild INTEGER NOT NULL       -- 1: the file is to be written anew, because earlier versions may be in free pages
) WITHOUT ROWID;

-- Under which content key this ledger's HMACs are: at most one row. The key itself is never in the ledger.
CREATE TABLE IF NOT EXISTS uow_content_key (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  key_id TEXT NOT NULL,
  since_ts TEXT NOT NULL
);

-- Idempotency keys. While somebody is at work under a key its row is a claim; the transaction that decides the unit
-- makes it the answer that whoever comes later under the same key is given.
CREATE TABLE IF NOT EXISTS uow_idempotency (
  id INTEGER PRIMARY KEY,
  space_id TEXT NOT NULL,
  key TEXT NOT NULL,
  claim TEXT,                    -- random token of who is at work; null: this is an answer
  owner TEXT,                    -- the process of who is at work
  arguments TEXT,                -- digest of what was asked for, where that was said
  uow_id TEXT,                   -- the committed unit
  result TEXT,                   -- JSON: what it returned
  created_ts TEXT NOT NULL,
  expires_ms INTEGER NOT NULL,   -- Unix time in milliseconds: of an answer, or of a claim's lease
  UNIQUE (space_id, key)
);
CREATE INDEX IF NOT EXISTS uow_idempotency_by_expiry ON uow_idempotency(expires_ms);

-- The exact bytes that receipt_hash is the SHA-256 of: 17 keys in alphabetical order, always.
CREATE VIEW IF NOT EXISTS uow_receipts (uow_id, receipt) AS
SELECT u.uow_id, json_object(
  'band', u.band,
  'committed_ts', u.committed_ts,
  'context', 'sha256:' || lower(hex(l.context)),
  'contract_version', u.contract_version,
  'created_ts', u.created_ts,
  'nonce', nullif(lower(hex(l.nonce)), ''),
  'origin', i.origin,
  'outcome', 'committed',
  'prev', nullif(lower(hex(l.prev)), ''),
  'space_id', u.space_id,
  'space_seq', l.space_seq,
  'store_count', u.store_count,
  'total_bytes_written', u.total_bytes_written,
  'type', 'memoryos-uow/receipt/1',
  'uow_id', u.uow_id,
  'write_count', l.write_count,
  'writes_root', lower(hex(l.writes_root)))
FROM uow_ledger AS l
JOIN unit_of_work AS u ON u.rowid = l.unit
JOIN uow_identity AS i ON i.id = 1
WHERE NOT EXISTS (SELECT 1 FROM uow_forgotten AS f WHERE f.commit_seq = l.commit_seq AND f.what = 'unit');
