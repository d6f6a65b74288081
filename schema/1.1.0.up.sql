-- Storage contract 1.1.0, forward (storage-uow-enhancement-v1_1_0, "Forward Migration").
-- SQLite has no ADD COLUMN IF NOT EXISTS: this file runs once on a whole 1.0.0 ledger. The library runs only those
-- statements whose column is missing, so it also completes a migration that somebody began by hand.

-- Performance metrics
ALTER TABLE unit_of_work ADD COLUMN total_execution_time_ms INTEGER DEFAULT 0;
ALTER TABLE unit_of_work ADD COLUMN commit_time_ms INTEGER DEFAULT 0;
ALTER TABLE unit_of_work ADD COLUMN store_count INTEGER DEFAULT 0;
ALTER TABLE unit_of_work ADD COLUMN total_bytes_written INTEGER DEFAULT 0;
ALTER TABLE unit_of_work ADD COLUMN retry_count INTEGER DEFAULT 0;

-- Error tracking
ALTER TABLE unit_of_work ADD COLUMN error_type TEXT;
ALTER TABLE unit_of_work ADD COLUMN error_message TEXT;
ALTER TABLE unit_of_work ADD COLUMN failed_store TEXT;
ALTER TABLE unit_of_work ADD COLUMN error_ts TEXT;
ALTER TABLE unit_of_work ADD COLUMN recovery_attempted INTEGER DEFAULT 0;

-- Receipt and verification
ALTER TABLE unit_of_work ADD COLUMN receipt_hash TEXT;
ALTER TABLE unit_of_work ADD COLUMN receipt_signature TEXT;

-- Context and tracing
ALTER TABLE unit_of_work ADD COLUMN space_id TEXT;
ALTER TABLE unit_of_work ADD COLUMN actor_id TEXT;
ALTER TABLE unit_of_work ADD COLUMN device_id TEXT;
ALTER TABLE unit_of_work ADD COLUMN correlation_id TEXT;
ALTER TABLE unit_of_work ADD COLUMN band TEXT CHECK (band IN ('GREEN', 'AMBER', 'RED', 'BLACK'));
ALTER TABLE unit_of_work ADD COLUMN contract_version TEXT DEFAULT '1.1.0';

-- Operation details of every write
ALTER TABLE uow_writes ADD COLUMN operation_type TEXT DEFAULT 'create'
  CHECK (operation_type IN ('create', 'update', 'delete', 'upsert'));
ALTER TABLE uow_writes ADD COLUMN bytes_written INTEGER DEFAULT 0;
ALTER TABLE uow_writes ADD COLUMN checksum TEXT;

-- Indexes for performance
CREATE INDEX IF NOT EXISTS idx_uow_space_id ON unit_of_work(space_id);
CREATE INDEX IF NOT EXISTS idx_uow_actor_id ON unit_of_work(actor_id);
CREATE INDEX IF NOT EXISTS idx_uow_band ON unit_of_work(band);
CREATE INDEX IF NOT EXISTS idx_uow_status_created ON unit_of_work(status, created_ts);
CREATE INDEX IF NOT EXISTS idx_uow_correlation_id ON unit_of_work(correlation_id);

-- Existing records get the contract version
UPDATE unit_of_work SET contract_version = '1.1.0' WHERE contract_version IS NULL;
