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
