-- Storage contract 1.1.0 on PostgreSQL, forward (storage-uow-enhancement-v1_1_0, "Forward Migration"). It may run again,
-- and completes a migration that somebody began by hand. The defaults are constants, so no row is written anew.

-- Performance metrics
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS total_execution_time_ms BIGINT DEFAULT 0;
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS commit_time_ms BIGINT DEFAULT 0;
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS store_count BIGINT DEFAULT 0;
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS total_bytes_written BIGINT DEFAULT 0;
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS retry_count BIGINT DEFAULT 0;

-- Error tracking
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS error_type TEXT COLLATE "C";
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS error_message TEXT COLLATE "C";
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS failed_store TEXT COLLATE "C";
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS error_ts TEXT COLLATE "C";
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS recovery_attempted BIGINT DEFAULT 0;

-- Receipt and verification
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS receipt_hash TEXT COLLATE "C";
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS receipt_signature TEXT COLLATE "C";

-- Context and tracing
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS space_id TEXT COLLATE "C";
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS actor_id TEXT COLLATE "C";
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS device_id TEXT COLLATE "C";
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS correlation_id TEXT COLLATE "C";
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS band TEXT COLLATE "C"
  CHECK (band IN ('GREEN', 'AMBER', 'RED', 'BLACK'));
ALTER TABLE unit_of_work ADD COLUMN IF NOT EXISTS contract_version TEXT COLLATE "C" DEFAULT '1.1.0';

-- Operation details of every write
ALTER TABLE uow_writes ADD COLUMN IF NOT EXISTS operation_type TEXT COLLATE "C" DEFAULT 'create'
  CHECK (operation_type IN ('create', 'update', 'delete', 'upsert'));
ALTER TABLE uow_writes ADD COLUMN IF NOT EXISTS bytes_written BIGINT DEFAULT 0;
ALTER TABLE uow_writes ADD COLUMN IF NOT EXISTS checksum TEXT COLLATE "C";

-- Indexes for performance
CREATE INDEX IF NOT EXISTS idx_uow_space_id ON unit_of_work(space_id);
CREATE INDEX IF NOT EXISTS idx_uow_actor_id ON unit_of_work(actor_id);
CREATE INDEX IF NOT EXISTS idx_uow_band ON unit_of_work(band);
CREATE INDEX IF NOT EXISTS idx_uow_status_created ON unit_of_work(status, created_ts);
CREATE INDEX IF NOT EXISTS idx_uow_correlation_id ON unit_of_work(correlation_id);

-- Existing records get the contract version
UPDATE unit_of_work SET contract_version = '1.1.0' WHERE contract_version IS NULL;
