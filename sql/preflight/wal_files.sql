-- How much WAL lies in pg_wal: one row. PostgreSQL 14 to 18. Needs pg_monitor.
SELECT coalesce(pg_catalog.sum(w.size), 0)::bigint AS wal_bytes
FROM pg_catalog.pg_ls_waldir() w;
