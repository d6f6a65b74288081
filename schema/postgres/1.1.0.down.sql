-- Storage contract 1.1.0 on PostgreSQL, backward and soft (storage-uow-enhancement-v1_1_0, "Backward Migration"): the columns stay,
-- what they hold is given up. `memoryos-uow migrate LEDGER --to 1.0.0` without --soft removes the columns too.

DROP INDEX IF EXISTS idx_uow_space_id;
DROP INDEX IF EXISTS idx_uow_actor_id;
DROP INDEX IF EXISTS idx_uow_band;
DROP INDEX IF EXISTS idx_uow_status_created;
DROP INDEX IF EXISTS idx_uow_correlation_id;

UPDATE unit_of_work SET
  total_execution_time_ms = NULL,
  commit_time_ms = NULL,
  store_count = NULL,
  total_bytes_written = NULL,
  retry_count = NULL,
  error_type = NULL,
  error_message = NULL,
  failed_store = NULL,
  error_ts = NULL,
  recovery_attempted = NULL,
  receipt_hash = NULL,
  receipt_signature = NULL,
  space_id = NULL,
  actor_id = NULL,
  device_id = NULL,
  correlation_id = NULL,
  band = NULL,
  contract_version = '1.0.0';

UPDATE uow_writes SET
  operation_type = NULL,
  bytes_written = NULL,
  checksum = NULL;
