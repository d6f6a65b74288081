-- Units that another database is deciding at this moment: all that the ledger needs to have them, should that database
-- have committed and this process died. Made with the first store that can decide; empty in a ledger at rest.
CREATE TABLE IF NOT EXISTS uow_prepared (
  uow_id TEXT PRIMARY KEY,
  store TEXT NOT NULL,               -- whose commit decides
  unit TEXT NOT NULL                 -- JSON: what is known of the unit beside its writes
) WITHOUT ROWID;

-- The unit's writes in their order. Nobody else writes these records until the unit is settled.
CREATE TABLE IF NOT EXISTS uow_saved (
  uow_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  store TEXT NOT NULL,
  space_id TEXT NOT NULL,
  key TEXT,
  operation TEXT NOT NULL,
  payload BLOB,                      -- null for a delete
  size INTEGER,
  digest TEXT,                       -- of the content, hex
  sealed TEXT,                       -- of the delete that erases a record: what its receipt says of that
  ts TEXT NOT NULL,
  PRIMARY KEY (uow_id, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS uow_saved_by_record ON uow_saved(store, space_id, key);
