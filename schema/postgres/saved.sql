-- Units that another database is deciding at this moment: all that the ledger needs to have them, should that database
-- have committed and this process died. Made with the first store that can decide; empty in a ledger at rest.
CREATE TABLE IF NOT EXISTS uow_prepared (
  uow_id TEXT COLLATE "C" PRIMARY KEY,
  store TEXT COLLATE "C" NOT NULL,   -- whose commit decides
  unit TEXT COLLATE "C" NOT NULL     -- JSON: what is known of the unit beside its writes
);

-- The unit's writes in their order. Nobody else writes these records until the unit is settled.
CREATE TABLE IF NOT EXISTS uow_saved (
  uow_id TEXT COLLATE "C" NOT NULL,
  seq BIGINT NOT NULL,
  store TEXT COLLATE "C" NOT NULL,
  space_id TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C",
  operation TEXT COLLATE "C" NOT NULL,
  payload BYTEA,                     -- null for a delete
  size BIGINT,
  digest TEXT COLLATE "C",           -- of the content, hex
  sealed TEXT COLLATE "C",           -- of the delete that erases a record: what its receipt says of that
  ts TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (uow_id, seq)
);
CREATE INDEX IF NOT EXISTS uow_saved_by_record ON uow_saved(store, space_id, key);
