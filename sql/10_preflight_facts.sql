-- Written by scripts/write-preflight-views from sql/preflight/, which is where to change it.

CREATE VIEW walferry.preflight_open_transactions AS
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

COMMENT ON VIEW walferry.preflight_open_transactions IS
    'transactions that have an xid and so hold up the creation of a slot, in all databases, the oldest first';

CREATE VIEW walferry.preflight_publications AS
-- The database's publications and what they publish. PostgreSQL 14 to 18.
-- Needs no rights.
SELECT
    p.pubname AS publication,
    p.puballtables AS all_tables,
    p.pubinsert AS publishes_insert,
    p.pubupdate AS publishes_update,
    p.pubdelete AS publishes_delete,
    p.pubtruncate AS publishes_truncate,
    p.pubviaroot AS via_root,
    pg_catalog.pg_get_userbyid(p.pubowner) AS owner,
    -- Of what is published; partitions as themselves or, with via_root, as their root.
    (
        SELECT pg_catalog.array_agg(c.oid)
        FROM pg_catalog.pg_publication_tables t
        JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
        WHERE t.pubname = p.pubname
    ) AS tables
FROM pg_catalog.pg_publication p
ORDER BY p.pubname;

COMMENT ON VIEW walferry.preflight_publications IS
    'the database''s publications and what they publish';

CREATE VIEW walferry.preflight_relations AS
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

COMMENT ON VIEW walferry.preflight_relations IS
    'every relation that holds or shows rows, whether its changes can be replicated or not; other sessions'' temporary tables too';

CREATE VIEW walferry.preflight_replica_identity AS
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

COMMENT ON VIEW walferry.preflight_replica_identity IS
    'permanent tables and partition leaves, and what the server logs of the old row at an UPDATE or DELETE: "logged" is full, primary key, index or none';

CREATE VIEW walferry.preflight_role AS
-- What the role that is logged in may do, as far as replication goes: one row.
-- PostgreSQL 14 to 18. Needs no rights. The memberships do not count a
-- superuser's, who is a member of everything.
SELECT
    r.rolname AS role,
    r.rolsuper AS superuser,
    r.rolreplication AS replication,
    NOT r.rolsuper AND EXISTS (
        SELECT FROM pg_catalog.pg_roles g
        WHERE g.rolname = 'rds_replication' AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
    ) AS member_of_rds_replication,
    NOT r.rolsuper AND EXISTS (
        SELECT FROM pg_catalog.pg_roles g
        WHERE g.rolname = 'rds_iam' AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
    ) AS member_of_rds_iam,
    pg_catalog.pg_has_role(r.oid, 'pg_monitor', 'USAGE') AS monitor,
    pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CREATE') AS may_create_in_database
FROM pg_catalog.pg_roles r
WHERE r.rolname = current_user;

COMMENT ON VIEW walferry.preflight_role IS
    'what the role that is logged in may do, as far as replication goes: one row';

CREATE VIEW walferry.preflight_server AS
-- What kind of server this is and how it is set up for logical decoding: one
-- row. PostgreSQL 14 to 18. Needs no rights; a setting that the server does
-- not have, or that this role may not see, is missing from "settings".
SELECT
    pg_catalog.current_setting('server_version_num')::int AS server_version_num,
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    pg_catalog.current_database() AS database,
    pg_catalog.current_setting('server_encoding') AS encoding,
    -- Which service runs the server, by what only that service has.
    CASE
        WHEN EXISTS (
            SELECT FROM pg_catalog.pg_proc p
            WHERE p.proname = 'aurora_version'
                AND p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
        ) THEN 'aurora'
        WHEN pg_catalog.current_setting('rds.extensions', true) IS NOT NULL
            OR pg_catalog.current_setting('rds.logical_replication', true) IS NOT NULL
            OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname IN ('rdsadmin', 'rds_superuser'))
            THEN 'rds'
        WHEN pg_catalog.current_setting('cloudsql.logical_decoding', true) IS NOT NULL
            OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'cloudsqladmin')
            THEN 'cloud-sql'
        WHEN pg_catalog.current_setting('azure.extensions', true) IS NOT NULL
            OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'azure_pg_admin')
            THEN 'azure'
        ELSE 'self-managed'
    END AS flavour,
    -- As pg_settings has them: in the setting's own unit, without a suffix.
    (
        SELECT pg_catalog.jsonb_object_agg(s.name, s.setting)
        FROM pg_catalog.pg_settings s
        WHERE s.name IN (
            'wal_level', 'max_replication_slots', 'max_wal_senders', 'max_connections',
            'max_slot_wal_keep_size', 'wal_sender_timeout', 'hot_standby_feedback',
            'idle_replication_slot_timeout', 'output_plugin_libraries', 'max_wal_size'
        )
    ) AS settings,
    pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') AS reads_all_settings,
    pg_catalog.current_setting('rds.logical_replication', true) AS rds_logical_replication,
    pg_catalog.current_setting('rds.iam_auth_for_replication', true) AS rds_iam_auth_for_replication,
    pg_catalog.current_setting('cloudsql.logical_decoding', true) AS cloudsql_logical_decoding,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS slots_used,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication) AS senders_used,
    pg_catalog.pg_backend_pid() AS backend_pid,
    pg_catalog.inet_client_addr() AS client_address;

COMMENT ON VIEW walferry.preflight_server IS
    'what kind of server this is and how it is set up for logical decoding: one row';

CREATE VIEW walferry.preflight_space AS
-- What every role can see of the disk: one row. PostgreSQL 14 to 18. Free space
-- and the size of the disk can't be seen over SQL at all.
SELECT
    pg_catalog.pg_database_size(pg_catalog.current_database()) AS database_bytes;

COMMENT ON VIEW walferry.preflight_space IS
    'what every role can see of the disk: one row';

CREATE VIEW walferry.preflight_wal_files AS
-- How much WAL lies in pg_wal: one row. PostgreSQL 14 to 18. Needs pg_monitor.
SELECT coalesce(pg_catalog.sum(w.size), 0)::bigint AS wal_bytes
FROM pg_catalog.pg_ls_waldir() w;

COMMENT ON VIEW walferry.preflight_wal_files IS
    'how much WAL lies in pg_wal: one row';
