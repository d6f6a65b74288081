-- What the built-in stores keep inside the ledger's file. This is the users' data, not part of the contract: a 1.0.0
-- ledger in basic mode has these tables too, and no downgrade drops them while they hold anything.
-- version is the commit sequence of the unit that wrote the record last.

-- Which stores were registered, and how.
CREATE TABLE IF NOT EXISTS uow_stores (
  name TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  config TEXT NOT NULL,
  registered_ts TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS uow_documents (
  id INTEGER PRIMARY KEY,
  store TEXT NOT NULL,
  space_id TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  value TEXT NOT NULL,           -- JSON
  UNIQUE (store, space_id, key)
);

CREATE TABLE IF NOT EXISTS uow_vectors (
  id INTEGER PRIMARY KEY,
  store TEXT NOT NULL,
  space_id TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  value BLOB NOT NULL,           -- little-endian float32
  UNIQUE (store, space_id, key)
);

CREATE TABLE IF NOT EXISTS uow_blobs (
  id INTEGER PRIMARY KEY,
  store TEXT NOT NULL,
  space_id TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,          -- SHA-256, lower-case hex
  size INTEGER NOT NULL,
  data BLOB,                     -- null when the bytes are a file named by their digest
  UNIQUE (store, space_id, key)
);

-- Units that have, or may have, something outside the ledger that is not settled: none in a ledger at rest.
-- preparing: bytes outside are being made, no decision yet. committed: decided, some store has not published its part.
CREATE TABLE IF NOT EXISTS uow_coordination (
  uow_id TEXT PRIMARY KEY,
  state TEXT NOT NULL CHECK (state IN ('preparing', 'committed')),
  epoch INTEGER NOT NULL,            -- rises with every takeover; whoever acts names the one it knows
  owner TEXT NOT NULL,               -- the process that is at it
  lease_until_ms INTEGER NOT NULL,   -- Unix time in milliseconds after which another process may take over
  unit TEXT NOT NULL,                -- JSON: the unit's own columns, for the row of one that dies before its decision
  plan TEXT NOT NULL                 -- JSON: by store, the tokens of what is made outside before the decision
) WITHOUT ROWID;

-- Decided writes that a store outside the ledger has still to publish, in the order of their decisions.
CREATE TABLE IF NOT EXISTS uow_redo (
  id INTEGER PRIMARY KEY,
  commit_seq INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  uow_id TEXT NOT NULL,
  store TEXT NOT NULL,
  space_id TEXT NOT NULL,
  key TEXT NOT NULL,
  operation TEXT NOT NULL,
  payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS uow_redo_by_record ON uow_redo(store, space_id, key);
CREATE INDEX IF NOT EXISTS uow_redo_by_unit ON uow_redo(uow_id);

-- Records whose values live outside the ledger, in a second SQLite file or as named files: which there are, the version
-- of each, and the digest and size of its value. Reading and deciding need no look outside to know what is there.
CREATE TABLE IF NOT EXISTS uow_heads (
  id INTEGER PRIMARY KEY,
  store TEXT NOT NULL,
  space_id TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  UNIQUE (store, space_id, key)
);

-- Messages that were committed with their units and are not delivered yet: none in a ledger whose relay is up to date.
CREATE TABLE IF NOT EXISTS uow_outbox (
  id INTEGER PRIMARY KEY,            -- rises in the order of commits
  uow_id TEXT NOT NULL,
  seq INTEGER NOT NULL,              -- its number among the unit's messages, from 0; uow_id:seq is its dedup key
  space_id TEXT NOT NULL,
  band TEXT NOT NULL,
  topic TEXT NOT NULL,
  key TEXT,                          -- messages of one space with one key are delivered in order
  payload TEXT NOT NULL,             -- JSON
  created_ts TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'parked')),
  attempts INTEGER NOT NULL DEFAULT 0,        -- how often delivering it failed
  due_ms INTEGER NOT NULL DEFAULT 0,          -- Unix time in milliseconds before which it is not tried
  epoch INTEGER NOT NULL DEFAULT 0,           -- rises with every claim; whoever acts names the one it knows
  owner TEXT,                                 -- the process that is delivering it
  lease_until_ms INTEGER NOT NULL DEFAULT 0,  -- Unix time in milliseconds after which another relay may claim it
  error_type TEXT,
  error_message TEXT,                -- as far as the band allows
  error_ts TEXT
);
CREATE INDEX IF NOT EXISTS uow_outbox_by_key ON uow_outbox(space_id, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS uow_outbox_by_owner ON uow_outbox(owner) WHERE owner IS NOT NULL;
