-- Permanent tables and partition leaves, and what the server logs of the old
-- row at an UPDATE or DELETE: "logged" is full, primary key, index or none.
-- PostgreSQL 14 to 18. Needs no rights.
--
-- A key that is deferrable or not valid does not count, as in
-- RelationGetIndexList (relcache.c). "candidate" is an index that REPLICA
-- IDENTITY USING INDEX would take.
SELECT
    c.oid,
    n.nspname AS schema,
    c.relname AS table_name,
    CASE
        WHEN c.relreplident = 'f' THEN 'full'
        WHEN c.relreplident = 'd' AND k.primary_key IS NOT NULL THEN 'primary key'
        WHEN c.relreplident = 'i' AND k.chosen IS NOT NULL THEN 'index'
        ELSE 'none'
    END AS logged,
    c.relreplident <> 'd' AND k.primary_key IS NOT NULL AS has_unused_primary_key,
    k.chosen,
    k.candidate,
    coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid), 0) AS updates,
    coalesce(pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0) AS deletes
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT
        pg_catalog.min(x.relname::text) FILTER (WHERE i.indisprimary) AS primary_key,
        pg_catalog.min(x.relname::text) FILTER (WHERE i.indisreplident) AS chosen,
        pg_catalog.min(x.relname::text) FILTER (
            WHERE i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
            AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey::pg_catalog.int2[]) AND NOT a.attnotnull
            )
        ) AS candidate
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
) k ON true
WHERE c.relkind = 'r' AND c.relpersistence = 'p'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'walferry')
ORDER BY n.nspname, c.relname;
