-- The library's own bookkeeping on PostgreSQL, layout 1: the same tables, columns and checks as on SQLite, and at the end
-- what many machines at once need beside them. Only portable SQL: no sequences, no functions, no triggers. A unit's row is
-- named by its uow_id, for there are no row numbers. A later layout is another file; this one never changes once released.

-- One row per schema file that was applied; checksum is the SHA-256 of that file.
CREATE TABLE IF NOT EXISTS uow_schema (
  version TEXT COLLATE "C" PRIMARY KEY,
  applied_ts TEXT COLLATE "C" NOT NULL,
  checksum TEXT COLLATE "C" NOT NULL
);

-- Who this ledger is: exactly one row. origin stands in every receipt.
CREATE TABLE IF NOT EXISTS uow_identity (
  id BIGINT PRIMARY KEY CHECK (id = 1),
  ledger_id TEXT COLLATE "C" NOT NULL,
  origin TEXT COLLATE "C" NOT NULL,
  created_ts TEXT COLLATE "C" NOT NULL
);

-- The receipt log: one row per committed unit that has its number, without gaps. Row number
-- commit_seq - min(commit_seq) is the leaf of the same index in an RFC 9162 tree. Digests and nonces are their bytes.
CREATE TABLE IF NOT EXISTS uow_ledger (
  commit_seq BIGINT PRIMARY KEY,
  unit TEXT COLLATE "C" NOT NULL UNIQUE,  -- unit_of_work.uow_id
  space_seq BIGINT NOT NULL,    -- the unit's number in its space's history, from 1
  prev BYTEA,                   -- receipt_hash of the space's previous unit
  context BYTEA NOT NULL,       -- SHA-256 over actor, device, correlation and context_nonce
  context_nonce BYTEA,          -- opens context; erased to forget who acted
  nonce BYTEA,
  writes_root BYTEA NOT NULL,
  write_count BIGINT NOT NULL,
  first_write BIGINT,           -- uow_writes.id of the unit's first write; its writes have consecutive ids
  execution_us BIGINT,
  commit_us BIGINT,
  nodes BYTEA NOT NULL          -- the leaf's hash, then those of all complete subtrees that end with it, lowest first
) WITH (fillfactor = 85);       -- execution_us and commit_us come later

-- Which keys have signed this ledger's checkpoints, each from one unit to another: C2SP verifier keys.
CREATE TABLE IF NOT EXISTS uow_keys (
  vkey TEXT COLLATE "C" PRIMARY KEY,
  since_seq BIGINT NOT NULL,    -- commit_seq of the first unit that it signs
  until_seq BIGINT,             -- of the last; NULL while it is in use
  handover TEXT COLLATE "C",    -- the checkpoint at which it took over, signed by its predecessor and by itself
  revoked_ts TEXT COLLATE "C"   -- since when its signatures count for nothing
);

-- Each time that somebody went on with a history which does not contain the last head that the ledger had released.
CREATE TABLE IF NOT EXISTS uow_epochs (
  epoch BIGINT PRIMARY KEY,     -- from 2; the first needs no row
  since_size BIGINT NOT NULL,   -- how many units the log had then
  abandoned TEXT COLLATE "C" NOT NULL,  -- the head that was given up
  started_ts TEXT COLLATE "C" NOT NULL
);

-- The random nonces of writes whose band asks for them. Here and below no foreign keys: only this library writes these
-- tables, and a check for each row would cost each unit.
CREATE TABLE IF NOT EXISTS uow_nonces (
  write_id BIGINT PRIMARY KEY,  -- uow_writes.id
  nonce BYTEA NOT NULL
);

-- The end of every space's history: its length and the receipt_hash of its last unit that has its number.
CREATE TABLE IF NOT EXISTS uow_spaces (
  space_id TEXT COLLATE "C" PRIMARY KEY,
  space_seq BIGINT NOT NULL,
  head BYTEA NOT NULL
) WITH (fillfactor = 70);

-- Writes of erased records: of each only its leaf is left, so that its unit's writes_root can still be computed. What the
-- row in uow_writes said is gone. tombstone is the uow_id of the unit that erased it: the checksum of that unit's write is
-- over all that it sealed, so nobody can seal a row in its name.
CREATE TABLE IF NOT EXISTS uow_sealed (
  write_id BIGINT PRIMARY KEY,  -- uow_writes.id
  leaf BYTEA NOT NULL,
  tombstone TEXT COLLATE "C" NOT NULL,
  UNIQUE (tombstone, write_id)
);

-- What else erasures took from units. context: who acted. unit: its id, times and receipt; leaf is what is left of it.
CREATE TABLE IF NOT EXISTS uow_forgotten (
  commit_seq BIGINT NOT NULL,   -- uow_ledger.commit_seq
  what TEXT COLLATE "C" NOT NULL CHECK (what IN ('context', 'unit')),
  leaf BYTEA,
  tombstone TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (commit_seq, what),
  UNIQUE (tombstone, commit_seq, what)
);

-- Erasures that are decided and of which traces may be left outside the ledger: none at rest.
CREATE TABLE IF NOT EXISTS uow_erasing (
  uow_id TEXT COLLATE "C" PRIMARY KEY,  -- the tombstone
  store TEXT COLLATE "C" NOT NULL,
  space_id TEXT COLLATE "C",    -- which record; null once nothing is left of it outside the ledger
  key TEXT COLLATE "C",
  version BIGINT NOT NULL,      -- the tombstone's stamp: what was written since is another record
  rebuild BIGINT NOT NULL       -- 1: earlier versions may be in free space of the database
);

-- Under which content key this ledger's HMACs are: at most one row. The key itself is never in the ledger.
CREATE TABLE IF NOT EXISTS uow_content_key (
  id BIGINT PRIMARY KEY CHECK (id = 1),
  key_id TEXT COLLATE "C" NOT NULL,
  since_ts TEXT COLLATE "C" NOT NULL
);

-- Idempotency keys. While somebody is at work under a key its row is a claim; the transaction that decides the unit
-- makes it the answer that whoever comes later under the same key is given.
CREATE TABLE IF NOT EXISTS uow_idempotency (
  space_id TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  claim TEXT COLLATE "C",       -- random token of who is at work; null: this is an answer
  owner TEXT COLLATE "C",       -- the process of who is at work
  arguments TEXT COLLATE "C",   -- digest of what was asked for, where that was said
  uow_id TEXT COLLATE "C",      -- the committed unit
  result TEXT COLLATE "C",      -- JSON: what it returned
  created_ts TEXT COLLATE "C" NOT NULL,
  expires_ms BIGINT NOT NULL,   -- Unix time in milliseconds: of an answer, or of a claim's lease
  UNIQUE (space_id, key)
);
CREATE INDEX IF NOT EXISTS uow_idempotency_by_expiry ON uow_idempotency(expires_ms);

-- Numbers without sequences: whoever needs ids takes a block of them. Gaps are fine.
CREATE TABLE IF NOT EXISTS uow_blocks (
  name TEXT COLLATE "C" PRIMARY KEY,  -- writes: ids of uow_writes; outbox: ids of messages
  next BIGINT NOT NULL                -- the first id that nobody has taken
) WITH (fillfactor = 10);

-- Committed units that have no number in the receipt log yet, with what their receipts need: none when all is numbered.
CREATE TABLE IF NOT EXISTS uow_pending (
  uow_id TEXT COLLATE "C" PRIMARY KEY,
  stamp BIGINT NOT NULL,        -- microseconds by the database's clock, when all else was written: the order of numbers
  context BYTEA NOT NULL,
  context_nonce BYTEA,
  nonce BYTEA,
  writes_root BYTEA NOT NULL,
  write_count BIGINT NOT NULL,
  first_write BIGINT
);

-- Who gives units their numbers: exactly one row. owner is null while nobody does.
CREATE TABLE IF NOT EXISTS uow_sequencer (
  id BIGINT PRIMARY KEY CHECK (id = 1),
  epoch BIGINT NOT NULL,          -- rises with every takeover; whoever acts names the one it knows
  owner TEXT COLLATE "C",
  lease_until_ms BIGINT NOT NULL  -- Unix time in milliseconds, by the database's clock, after which another may take over
) WITH (fillfactor = 10);

-- How durable commits of this server are: a row for each time that opening the ledger found it to have changed.
CREATE TABLE IF NOT EXISTS uow_durability (
  since_ts TEXT COLLATE "C" PRIMARY KEY,
  fsync TEXT COLLATE "C" NOT NULL,                -- on: what was flushed is on the disk
  full_page_writes TEXT COLLATE "C" NOT NULL,     -- on: a page torn by a power cut can be mended
  synchronous_commit TEXT COLLATE "C" NOT NULL,   -- the default, which a ledger of durability full overrules
  standbys TEXT COLLATE "C" NOT NULL              -- synchronous_standby_names: empty, commits wait for no other machine
);

-- The newest units of a space, an actor, a band without sorting: ids rise with time. On SQLite the contract's own
-- indexes end in the row number and do this; here they do not.
CREATE INDEX IF NOT EXISTS uow_units_by_space ON unit_of_work(space_id, uow_id);
CREATE INDEX IF NOT EXISTS uow_units_by_actor ON unit_of_work(actor_id, uow_id) WHERE actor_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS uow_units_by_band ON unit_of_work(band, uow_id);

-- A unit's hash and times are written after its commit: room on its page keeps its indexes out of that.
ALTER TABLE unit_of_work SET (fillfactor = 70);

-- The exact bytes that receipt_hash is the SHA-256 of: 17 keys in alphabetical order, always (RFC 8785).
CREATE OR REPLACE VIEW uow_receipts (uow_id, receipt) AS
SELECT u.uow_id,
  '{"band":' || coalesce(to_json(u.band)::text, 'null')
  || ',"committed_ts":' || coalesce(to_json(u.committed_ts)::text, 'null')
  || ',"context":"sha256:' || encode(l.context, 'hex')
  || '","contract_version":' || coalesce(to_json(u.contract_version)::text, 'null')
  || ',"created_ts":' || coalesce(to_json(u.created_ts)::text, 'null')
  || ',"nonce":' || coalesce('"' || encode(l.nonce, 'hex') || '"', 'null')
  || ',"origin":' || to_json(i.origin)::text
  || ',"outcome":"committed","prev":' || coalesce('"' || encode(l.prev, 'hex') || '"', 'null')
  || ',"space_id":' || coalesce(to_json(u.space_id)::text, 'null')
  || ',"space_seq":' || l.space_seq::text
  || ',"store_count":' || coalesce(u.store_count::text, 'null')
  || ',"total_bytes_written":' || coalesce(u.total_bytes_written::text, 'null')
  || ',"type":"memoryos-uow/receipt/1","uow_id":' || to_json(u.uow_id)::text
  || ',"write_count":' || l.write_count::text
  || ',"writes_root":"' || encode(l.writes_root, 'hex') || '"}'
FROM uow_ledger AS l
JOIN unit_of_work AS u ON u.uow_id = l.unit
JOIN uow_identity AS i ON i.id = 1
WHERE NOT EXISTS (SELECT 1 FROM uow_forgotten AS f WHERE f.commit_seq = l.commit_seq AND f.what = 'unit');
