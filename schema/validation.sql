-- The five contract validations of storage-uow-enhancement-v1_1_0 ("Contract Validation"), as queries that name each
-- offending row:   sqlite3 -header memory.db < schema/validation.sql   prints nothing when all is well.
-- Columns: the rule, the row number and id of the unit, the column, its value as an SQL literal (80 characters at most).

-- 1. Performance metrics: all execution times must be non-negative (and, where somebody wrote text, numbers).
SELECT 'metrics' AS "rule", rowid AS "row", uow_id, 'total_execution_time_ms' AS "column",
  CASE WHEN typeof(total_execution_time_ms) IN ('integer', 'real') THEN quote(total_execution_time_ms)
    ELSE quote(substr(total_execution_time_ms, 1, 80)) END AS "value"
FROM unit_of_work
WHERE CASE WHEN typeof(total_execution_time_ms) IN ('integer', 'real') THEN total_execution_time_ms < 0
  ELSE total_execution_time_ms IS NOT NULL END
UNION ALL
SELECT 'metrics', rowid, uow_id, 'commit_time_ms',
  CASE WHEN typeof(commit_time_ms) IN ('integer', 'real') THEN quote(commit_time_ms)
    ELSE quote(substr(commit_time_ms, 1, 80)) END
FROM unit_of_work
WHERE CASE WHEN typeof(commit_time_ms) IN ('integer', 'real') THEN commit_time_ms < 0
  ELSE commit_time_ms IS NOT NULL END;

-- 2. Error consistency: if status is 'failed', error_type must be present.
SELECT 'error' AS "rule", rowid AS "row", uow_id, 'error_type' AS "column",
  quote(substr(error_type, 1, 80)) AS "value"
FROM unit_of_work
WHERE status = 'failed' AND (error_type IS NULL OR error_type = '');

-- 3. Receipt integrity: receipt_hash must be a valid SHA-256 if present, that is 64 hexadecimal digits. The library
-- writes lower case; the specification does not say which, so upper case passes too. The length is taken in characters
-- and in bytes: the first, like GLOB, ends at a U+0000, the second does not.
SELECT 'receipt' AS "rule", rowid AS "row", uow_id, 'receipt_hash' AS "column",
  quote(substr(receipt_hash, 1, 80)) AS "value"
FROM unit_of_work
WHERE receipt_hash IS NOT NULL
  AND NOT (typeof(receipt_hash) = 'text' AND length(receipt_hash) = 64
    AND length(CAST(receipt_hash AS BLOB)) = 64 AND receipt_hash NOT GLOB '*[^0-9a-fA-F]*');

-- 4. Band validation: band must be one of GREEN, AMBER, RED, BLACK.
SELECT 'band' AS "rule", rowid AS "row", uow_id, 'band' AS "column", quote(substr(band, 1, 80)) AS "value"
FROM unit_of_work
WHERE band IS NOT NULL AND band NOT IN ('GREEN', 'AMBER', 'RED', 'BLACK');

-- 5. Contract version: must follow the semantic versioning pattern (semver.org 2.0.0, sections 2, 9 and 10): three
-- numbers without leading zeros; after '-' identifiers, the numeric ones without leading zeros; after '+' identifiers.
-- Each distinct version is judged once. Splitting at the dots: json_quote makes a JSON string of any text, so turning
-- its dots into '","' makes a JSON array of the parts.
WITH
  seen (version) AS (
    SELECT DISTINCT contract_version FROM unit_of_work
    WHERE typeof(contract_version) = 'text'
      AND length(contract_version) = length(CAST(contract_version AS BLOB))
  ),
  headed (version, head, build) AS (
    SELECT version,
      CASE WHEN instr(version, '+') THEN substr(version, 1, instr(version, '+') - 1) ELSE version END,
      CASE WHEN instr(version, '+') THEN substr(version, instr(version, '+') + 1) END
    FROM seen
  ),
  parted (version, core, pre, build) AS (
    SELECT version,
      CASE WHEN instr(head, '-') THEN substr(head, 1, instr(head, '-') - 1) ELSE head END,
      CASE WHEN instr(head, '-') THEN substr(head, instr(head, '-') + 1) END,
      build
    FROM headed
  ),
  sound (version) AS (
    SELECT version FROM parted
    WHERE (
        SELECT count(*) = 3 AND min(value <> '' AND value NOT GLOB '*[^0-9]*' AND value NOT GLOB '0?*')
        FROM json_each('[' || replace(json_quote(CAST(core AS TEXT)), '.', '","') || ']')
      )
      AND (pre IS NULL OR (
        SELECT min(value <> '' AND value NOT GLOB '*[^0-9A-Za-z-]*'
          AND NOT (value GLOB '0?*' AND value NOT GLOB '*[^0-9]*'))
        FROM json_each('[' || replace(json_quote(CAST(pre AS TEXT)), '.', '","') || ']')
      ))
      AND (build IS NULL OR (
        SELECT min(value <> '' AND value NOT GLOB '*[^0-9A-Za-z-]*')
        FROM json_each('[' || replace(json_quote(CAST(build AS TEXT)), '.', '","') || ']')
      ))
  )
SELECT 'version' AS "rule", rowid AS "row", uow_id, 'contract_version' AS "column",
  quote(substr(contract_version, 1, 80)) AS "value"
FROM unit_of_work
WHERE contract_version IS NULL OR contract_version NOT IN (SELECT version FROM sound);
