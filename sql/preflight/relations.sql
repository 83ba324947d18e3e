-- Every relation that holds or shows rows, whether its changes can be
-- replicated or not; other sessions' temporary tables too. PostgreSQL 14 to 18.
-- Needs no rights. Rows and bytes are the statistics' estimates (VACUUM,
-- ANALYZE), so that nothing is locked and no file is looked at.
SELECT
    c.oid,
    n.nspname AS schema,
    c.relname AS table_name,
    CASE c.relkind
        WHEN 'r' THEN CASE WHEN c.relispartition THEN 'partition' ELSE 'table' END
        WHEN 'p' THEN 'partitioned table'
        WHEN 'v' THEN 'view'
        WHEN 'm' THEN 'materialized view'
        ELSE 'foreign table'
    END AS kind,
    CASE c.relpersistence WHEN 'p' THEN 'permanent' WHEN 'u' THEN 'unlogged' ELSE 'temporary' END AS persistence,
    n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') AS system,
    -- The tables it is a partition of, the nearest first.
    CASE WHEN c.relispartition THEN (
        SELECT pg_catalog.array_agg(p.ancestor::oid ORDER BY p.distance)
        FROM pg_catalog.pg_partition_ancestors(c.oid) WITH ORDINALITY AS p (ancestor, distance)
        WHERE p.distance > 1
    ) END AS ancestors,
    CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS rows_estimate,
    CASE WHEN c.relpages > 0 OR c.reltuples >= 0
        THEN c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint END AS bytes_estimate,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS schema_usage,
    pg_catalog.has_any_column_privilege(c.oid, 'SELECT') AS may_select,
    pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned,
    c.relrowsecurity AND pg_catalog.row_security_active(c.oid) AS row_security
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY n.nspname, c.relname;
