-- What PostgresStore keeps in a database that is not the ledger's. Several ledgers and stores may share one database.
-- Keys compare by their bytes; nothing here needs sequences, functions or extensions.

-- Whose stores have their records here.
CREATE TABLE IF NOT EXISTS uow_homes (
  ledger_id TEXT COLLATE "C" NOT NULL,
  store TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (ledger_id, store)
);

CREATE TABLE IF NOT EXISTS uow_records (
  ledger_id TEXT COLLATE "C" NOT NULL,
  store TEXT COLLATE "C" NOT NULL,
  space_id TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  uow_id TEXT COLLATE "C" NOT NULL,       -- the unit that wrote the record last
  value TEXT NOT NULL,                    -- JSON, byte for byte as receipts speak of it
  data JSONB GENERATED ALWAYS AS (value::jsonb) STORED,
  PRIMARY KEY (ledger_id, store, space_id, key)
);

-- One row for each unit that wrote here. It is committed together with the unit's records: to find it says that they
-- are there. committed = false is a tombstone: whoever planted it has found that the unit is not committed here, and
-- from then on it cannot be, because a late owner's own row collides with this one.
CREATE TABLE IF NOT EXISTS uow_marker (
  uow_id TEXT COLLATE "C" NOT NULL,
  store TEXT COLLATE "C" NOT NULL,
  ledger_id TEXT COLLATE "C" NOT NULL,
  committed BOOLEAN NOT NULL,
  ts TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (uow_id, store)
);
