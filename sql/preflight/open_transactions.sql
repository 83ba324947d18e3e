-- Transactions that have an xid and so hold up the creation of a slot, in all
-- databases, the oldest first. PostgreSQL 14 to 18. Without pg_read_all_stats
-- (or pg_monitor) the xid, age, state and query of other roles' sessions are
-- null.
--
-- From pg_locks, which shows the lock on its own xid that each such transaction
-- holds to everybody; pg_stat_activity hides backend_xid from other roles.
SELECT
    l.pid,
    NULL AS gid,
    a.backend_xid AS xid,
    a.usename AS owner,
    d.datname AS database,
    a.application_name,
    a.state,
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start)::bigint AS age_seconds,
    -- What another session runs may hold a password; such text is left out.
    CASE
        WHEN a.xact_start IS NULL THEN NULL
        WHEN a.query ~* 'password|secret' THEN '(not shown)'
        ELSE pg_catalog.left(pg_catalog.regexp_replace(a.query, '\s+', ' ', 'g'), 200)
    END AS query
FROM (
    -- Once for a session: each subtransaction has an xid and a lock of its own.
    SELECT DISTINCT held.pid
    FROM pg_catalog.pg_locks held
    WHERE held.locktype = 'transactionid' AND held.granted AND held.mode = 'ExclusiveLock'
        AND held.pid <> pg_catalog.pg_backend_pid()
) l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_database d ON d.oid = a.datid
UNION ALL
SELECT
    NULL,
    p.gid,
    p.transaction,
    p.owner,
    p.database,
    NULL,
    'prepared',
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared)::bigint,
    NULL
FROM pg_catalog.pg_prepared_xacts p
ORDER BY 8 DESC NULLS LAST;
