-- The tables of a second SQLite file (SQLiteFileStore). Anybody may read uow_records; only its ledger writes it.

-- Whose file this is: exactly one row.
CREATE TABLE IF NOT EXISTS uow_home (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  ledger_id TEXT NOT NULL,
  store TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS uow_records (
  id INTEGER PRIMARY KEY,
  space_id TEXT NOT NULL,
  key TEXT NOT NULL,
  version INTEGER NOT NULL,  -- commit sequence of the unit that wrote or deleted the record last
  value TEXT,                -- NULL: deleted. The row stays, so that an older write cannot bring the record back.
  UNIQUE (space_id, key)
);
