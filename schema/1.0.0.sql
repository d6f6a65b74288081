-- Storage contract 1.0.0: the two tables that 1.1.0 builds on.

CREATE TABLE IF NOT EXISTS unit_of_work (uow_id TEXT PRIMARY KEY, envelope_id TEXT, status TEXT NOT NULL,
  created_ts TEXT NOT NULL, committed_ts TEXT);

CREATE TABLE IF NOT EXISTS uow_writes (id INTEGER PRIMARY KEY, uow_id TEXT NOT NULL REFERENCES unit_of_work(uow_id),
  store_name TEXT NOT NULL, record_id TEXT, ts TEXT NOT NULL);
