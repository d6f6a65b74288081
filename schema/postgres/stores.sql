-- What the built-in stores keep in the ledger's database. This is the users' data, not part of the contract: no downgrade
-- drops these tables while they hold anything. version is the stamp of the unit that wrote the record last.

-- Which stores were registered, and how.
CREATE TABLE IF NOT EXISTS uow_stores (
  name TEXT COLLATE "C" PRIMARY KEY,
  kind TEXT COLLATE "C" NOT NULL,
  config TEXT COLLATE "C" NOT NULL,
  registered_ts TEXT COLLATE "C" NOT NULL
);

CREATE TABLE IF NOT EXISTS uow_documents (
  store TEXT COLLATE "C" NOT NULL,
  space_id TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL,
  value TEXT COLLATE "C" NOT NULL,  -- JSON: the exact bytes that receipts speak of
  data JSONB GENERATED ALWAYS AS (value::jsonb) STORED,  -- the same for queries
  words TSVECTOR,                   -- of the fields that its store searches; null where it searches none
  PRIMARY KEY (store, space_id, key)
);
CREATE INDEX IF NOT EXISTS uow_documents_by_word ON uow_documents USING gin (words) WHERE words IS NOT NULL;

CREATE TABLE IF NOT EXISTS uow_vectors (
  store TEXT COLLATE "C" NOT NULL,
  space_id TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL,
  value BYTEA NOT NULL,             -- little-endian float32
  PRIMARY KEY (store, space_id, key)
);

CREATE TABLE IF NOT EXISTS uow_blobs (
  store TEXT COLLATE "C" NOT NULL,
  space_id TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL,
  digest TEXT COLLATE "C" NOT NULL, -- SHA-256, lower-case hex
  size BIGINT NOT NULL,
  data BYTEA,                       -- null when the bytes are a file named by their digest
  PRIMARY KEY (store, space_id, key)
);

-- Units that have, or may have, something outside the ledger that is not settled: none in a ledger at rest.
-- preparing: bytes outside are being made, no decision yet. committed: decided, some store has not published its part.
CREATE TABLE IF NOT EXISTS uow_coordination (
  uow_id TEXT COLLATE "C" PRIMARY KEY,
  state TEXT COLLATE "C" NOT NULL CHECK (state IN ('preparing', 'committed')),
  epoch BIGINT NOT NULL,            -- rises with every takeover; whoever acts names the one it knows
  owner TEXT COLLATE "C" NOT NULL,  -- the process that is at it
  lease_until_ms BIGINT NOT NULL,   -- Unix time in milliseconds, by the database's clock, after which another may take over
  unit TEXT COLLATE "C" NOT NULL,   -- JSON: the unit's own columns, for the row of one that dies before its decision
  plan TEXT COLLATE "C" NOT NULL    -- JSON: by store, the tokens of what is made outside before the decision
);

-- Decided writes that a store outside the ledger has still to publish, in the order of their decisions.
CREATE TABLE IF NOT EXISTS uow_redo (
  commit_seq BIGINT NOT NULL,       -- the unit's stamp
  seq BIGINT NOT NULL,
  uow_id TEXT COLLATE "C" NOT NULL,
  store TEXT COLLATE "C" NOT NULL,
  space_id TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  operation TEXT COLLATE "C" NOT NULL,
  payload BYTEA NOT NULL,
  PRIMARY KEY (uow_id, store, seq)
);
CREATE INDEX IF NOT EXISTS uow_redo_by_record ON uow_redo(store, space_id, key);

-- Records whose values live outside the ledger, in a second SQLite file or as named files: which there are, the version
-- of each, and the digest and size of its value. Reading and deciding need no look outside to know what is there.
CREATE TABLE IF NOT EXISTS uow_heads (
  store TEXT COLLATE "C" NOT NULL,
  space_id TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  version BIGINT NOT NULL,
  digest TEXT COLLATE "C" NOT NULL,
  size BIGINT NOT NULL,
  PRIMARY KEY (store, space_id, key)
);

-- Messages that were committed with their units and are not delivered yet: none in a ledger whose relay is up to date.
CREATE TABLE IF NOT EXISTS uow_outbox (
  id BIGINT PRIMARY KEY,            -- given by the library; rises within a unit
  stamp BIGINT NOT NULL,            -- the unit's: messages are delivered in the order of (stamp, id)
  uow_id TEXT COLLATE "C" NOT NULL,
  seq BIGINT NOT NULL,              -- its number among the unit's messages, from 0; uow_id:seq is its dedup key
  space_id TEXT COLLATE "C" NOT NULL,
  band TEXT COLLATE "C" NOT NULL,
  topic TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C",             -- messages of one space with one key are delivered in order
  payload TEXT COLLATE "C" NOT NULL,           -- JSON
  created_ts TEXT COLLATE "C" NOT NULL,
  state TEXT COLLATE "C" NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'parked')),
  attempts BIGINT NOT NULL DEFAULT 0,          -- how often delivering it failed
  due_ms BIGINT NOT NULL DEFAULT 0,            -- Unix time in milliseconds before which it is not tried
  epoch BIGINT NOT NULL DEFAULT 0,             -- rises with every claim; whoever acts names the one it knows
  owner TEXT COLLATE "C",                      -- the process that is delivering it
  lease_until_ms BIGINT NOT NULL DEFAULT 0,    -- Unix time in milliseconds after which another relay may claim it
  error_type TEXT COLLATE "C",
  error_message TEXT COLLATE "C",   -- as far as the band allows
  error_ts TEXT COLLATE "C"
);
CREATE INDEX IF NOT EXISTS uow_outbox_in_order ON uow_outbox(stamp, id);
CREATE INDEX IF NOT EXISTS uow_outbox_by_key ON uow_outbox(space_id, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS uow_outbox_by_owner ON uow_outbox(owner) WHERE owner IS NOT NULL;
