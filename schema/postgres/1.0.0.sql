-- Storage contract 1.0.0 on PostgreSQL: the two tables that 1.1.0 builds on. Text compares by its bytes, as on SQLite.
-- ON UPDATE CASCADE: where an erasure forgets a unit, its id becomes another one in both tables at once.

CREATE TABLE IF NOT EXISTS unit_of_work (
  uow_id TEXT COLLATE "C" PRIMARY KEY,
  envelope_id TEXT COLLATE "C",
  status TEXT COLLATE "C" NOT NULL,
  created_ts TEXT COLLATE "C" NOT NULL,
  committed_ts TEXT COLLATE "C"
);

CREATE TABLE IF NOT EXISTS uow_writes (
  id BIGINT PRIMARY KEY,
  uow_id TEXT COLLATE "C" NOT NULL REFERENCES unit_of_work(uow_id) ON UPDATE CASCADE,
  store_name TEXT COLLATE "C" NOT NULL,
  record_id TEXT COLLATE "C",
  ts TEXT COLLATE "C" NOT NULL
);
