-- The five contract validations of storage-uow-enhancement-v1_1_0 ("Contract Validation") on PostgreSQL, as queries that
-- name each offending row:   psql -f schema/postgres/validation.sql   prints no rows when all is well.
-- Columns: the rule, the row (its primary key), the unit, the column, its value as an SQL literal (80 characters at most).

-- 1. Performance metrics: all execution times must be non-negative.
SELECT 'metrics' AS "rule", uow_id AS "row", uow_id, 'total_execution_time_ms' AS "column",
  total_execution_time_ms::text AS "value"
FROM unit_of_work
WHERE total_execution_time_ms < 0
UNION ALL
SELECT 'metrics', uow_id, uow_id, 'commit_time_ms', commit_time_ms::text
FROM unit_of_work
WHERE commit_time_ms < 0;

-- 2. Error consistency: if status is 'failed', error_type must be present.
SELECT 'error' AS "rule", uow_id AS "row", uow_id, 'error_type' AS "column",
  coalesce(quote_literal(substr(error_type, 1, 80)), 'NULL') AS "value"
FROM unit_of_work
WHERE status = 'failed' AND (error_type IS NULL OR error_type = '');

-- 3. Receipt integrity: receipt_hash must be a valid SHA-256 if present, that is 64 hexadecimal digits. The library
-- writes lower case; the specification does not say which, so upper case passes too.
SELECT 'receipt' AS "rule", uow_id AS "row", uow_id, 'receipt_hash' AS "column",
  quote_literal(substr(receipt_hash, 1, 80)) AS "value"
FROM unit_of_work
WHERE receipt_hash !~ '^[0-9a-fA-F]{64}$';

-- 4. Band validation: band must be one of GREEN, AMBER, RED, BLACK.
SELECT 'band' AS "rule", uow_id AS "row", uow_id, 'band' AS "column",
  quote_literal(substr(band, 1, 80)) AS "value"
FROM unit_of_work
WHERE band NOT IN ('GREEN', 'AMBER', 'RED', 'BLACK');

-- 5. Contract version: must follow the semantic versioning pattern (the one that semver.org gives for version 2.0.0).
SELECT 'version' AS "rule", uow_id AS "row", uow_id, 'contract_version' AS "column",
  coalesce(quote_literal(substr(contract_version, 1, 80)), 'NULL') AS "value"
FROM unit_of_work
WHERE contract_version IS NULL OR contract_version !~ (
  '^(0|[1-9][0-9]*)[.](0|[1-9][0-9]*)[.](0|[1-9][0-9]*)'
  || '(-(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)([.](0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?'
  || '([+][0-9a-zA-Z-]+([.][0-9a-zA-Z-]+)*)?$');
