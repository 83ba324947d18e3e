-- The schema as it first was: what an update has to start from.

CREATE SCHEMA walferry;
-- Which walferry this server runs.
CREATE FUNCTION walferry.version() RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'version_wrapper';

COMMENT ON FUNCTION walferry.version() IS
    'version of the walferry library that is loaded';
-- What takes a system call.
CREATE FUNCTION walferry.wal_space() RETURNS TABLE (free_bytes bigint, total_bytes bigint, why_null text)
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'wal_space_wrapper';

COMMENT ON FUNCTION walferry.wal_space() IS
    'free and total bytes of the file system that pg_wal lies on, as the server''s account may use them; why_null says why they are null';
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
    pg_catalog.date_part('epoch', pg_catalog.now() - a.xact_start)::bigint AS age_seconds,
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
    pg_catalog.date_part('epoch', pg_catalog.now() - p.prepared)::bigint,
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
-- What counts as long, large or close. Each is a setting that any session,
-- role or database may give itself: SET walferry.long_transaction = '1h';
CREATE VIEW walferry.limits AS
SELECT
    s.long_transaction::interval AS long_transaction,
    s.prepared_transaction::interval AS prepared_transaction,
    s.running_xacts_interval::interval AS running_xacts_interval,
    s.idle_slot::interval AS idle_slot,
    pg_catalog.pg_size_bytes(s.retained_wal) AS retained_wal,
    pg_catalog.pg_size_bytes(s.unconfirmed_wal) AS unconfirmed_wal,
    s.safe_wal_percent::numeric AS safe_wal_percent,
    s.time_left::interval AS time_left,
    s.catalog_xmin_age::bigint AS catalog_xmin_age,
    pg_catalog.pg_size_bytes(s.spilled) AS spilled,
    s.lost_connections::int AS lost_connections,
    s.sample_every::interval AS sample_every,
    s.keep_samples::interval AS keep_samples
FROM (
    SELECT
        coalesce(nullif(pg_catalog.current_setting('walferry.long_transaction', true), ''), '10min') AS long_transaction,
        coalesce(nullif(pg_catalog.current_setting('walferry.prepared_transaction', true), ''), '10min')
            AS prepared_transaction,
        coalesce(nullif(pg_catalog.current_setting('walferry.running_xacts_interval', true), ''), '30s')
            AS running_xacts_interval,
        coalesce(nullif(pg_catalog.current_setting('walferry.idle_slot', true), ''), '1h') AS idle_slot,
        coalesce(nullif(pg_catalog.current_setting('walferry.retained_wal', true), ''), '1GB') AS retained_wal,
        coalesce(nullif(pg_catalog.current_setting('walferry.unconfirmed_wal', true), ''), '1GB') AS unconfirmed_wal,
        coalesce(nullif(pg_catalog.current_setting('walferry.safe_wal_percent', true), ''), '25') AS safe_wal_percent,
        coalesce(nullif(pg_catalog.current_setting('walferry.time_left', true), ''), '4h') AS time_left,
        coalesce(nullif(pg_catalog.current_setting('walferry.catalog_xmin_age', true), ''), '100000000')
            AS catalog_xmin_age,
        coalesce(nullif(pg_catalog.current_setting('walferry.spilled', true), ''), '1GB') AS spilled,
        coalesce(nullif(pg_catalog.current_setting('walferry.lost_connections', true), ''), '3') AS lost_connections,
        coalesce(nullif(pg_catalog.current_setting('walferry.sample_every', true), ''), '10s') AS sample_every,
        coalesce(nullif(pg_catalog.current_setting('walferry.keep_samples', true), ''), '2 days') AS keep_samples
) s;

COMMENT ON VIEW walferry.limits IS
    'what diagnose() takes for long, large or close; each column is a setting walferry.<column> with this default';
COMMENT ON COLUMN walferry.limits.long_transaction IS 'a transaction that holds a slot for longer is a finding';
COMMENT ON COLUMN walferry.limits.prepared_transaction IS
    'a prepared transaction that holds a slot for longer is taken for forgotten';
COMMENT ON COLUMN walferry.limits.running_xacts_interval IS
    'a transaction open for longer is in a running-xacts record that slots have read; the server writes one every 15 s';
COMMENT ON COLUMN walferry.limits.idle_slot IS 'a slot that nobody has read for longer is a finding';
COMMENT ON COLUMN walferry.limits.retained_wal IS 'WAL in bytes that a slot may keep before it is worth a word';
COMMENT ON COLUMN walferry.limits.unconfirmed_wal IS
    'WAL in bytes by which a connected consumer may be behind before it is a finding';
COMMENT ON COLUMN walferry.limits.safe_wal_percent IS
    'a slot with less than this share of max_slot_wal_keep_size left is close to invalidation';
COMMENT ON COLUMN walferry.limits.time_left IS
    'a slot forecast to be invalidated, or a disk to be full, within this time is a finding';
COMMENT ON COLUMN walferry.limits.catalog_xmin_age IS
    'age in transactions of a slot''s catalog_xmin from which catalog bloat is a finding';
COMMENT ON COLUMN walferry.limits.spilled IS 'bytes a slot may have spilled to disk before it is a finding';
COMMENT ON COLUMN walferry.limits.lost_connections IS
    'so many readers of one slot within an hour without progress are a finding';
COMMENT ON COLUMN walferry.limits.sample_every IS 'sample_wal() takes no sample sooner than this after the last';
COMMENT ON COLUMN walferry.limits.keep_samples IS 'samples older than this are removed';
-- Positions over time, from which rates and lags in time are told. Somebody has
-- to call sample_wal() or heartbeat() now and then: cron, or the consumer.
CREATE TABLE walferry.wal_samples (
    at timestamptz PRIMARY KEY,
    lsn pg_lsn NOT NULL
);
CREATE INDEX wal_samples_lsn ON walferry.wal_samples (lsn);

COMMENT ON TABLE walferry.wal_samples IS 'where the end of the WAL was at what time; filled by sample_wal()';
COMMENT ON COLUMN walferry.wal_samples.at IS 'when the sample was taken';
COMMENT ON COLUMN walferry.wal_samples.lsn IS 'pg_current_wal_lsn() then';

CREATE TABLE walferry.slot_readers (
    slot_name name NOT NULL,
    at timestamptz NOT NULL,
    active_pid int NOT NULL,
    confirmed_flush_lsn pg_lsn NOT NULL,
    wal_sender_timeout int NOT NULL,
    PRIMARY KEY (slot_name, at)
);

COMMENT ON TABLE walferry.slot_readers IS
    'each process that sample_wal() met as a logical slot''s reader, once; many in a short time mean lost connections';
COMMENT ON COLUMN walferry.slot_readers.slot_name IS 'the slot';
COMMENT ON COLUMN walferry.slot_readers.at IS 'when this reader was first met';
COMMENT ON COLUMN walferry.slot_readers.active_pid IS 'process id of the reader''s walsender';
COMMENT ON COLUMN walferry.slot_readers.confirmed_flush_lsn IS 'what the slot had confirmed then';
COMMENT ON COLUMN walferry.slot_readers.wal_sender_timeout IS 'the server''s wal_sender_timeout then, in milliseconds';

CREATE TABLE walferry.heartbeats (
    source text PRIMARY KEY CHECK (pg_catalog.length(source) BETWEEN 1 AND 63),
    at timestamptz NOT NULL,
    lsn pg_lsn NOT NULL,
    beats bigint NOT NULL
);

COMMENT ON TABLE walferry.heartbeats IS 'the last heartbeat of each source; its row travels in every decoder';
COMMENT ON COLUMN walferry.heartbeats.source IS 'what heartbeat() was called with';
COMMENT ON COLUMN walferry.heartbeats.at IS 'when, by this server''s clock';
COMMENT ON COLUMN walferry.heartbeats.lsn IS 'position of the heartbeat''s logical message';
COMMENT ON COLUMN walferry.heartbeats.beats IS 'how many there have been';

-- Definer's rights: who may call it need not be able to write the table, and
-- so can't forge a sample.
CREATE FUNCTION walferry.sample_wal() RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    l record;
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN false;
    END IF;
    SELECT * INTO l FROM walferry.limits;
    INSERT INTO walferry.slot_readers (slot_name, at, active_pid, confirmed_flush_lsn, wal_sender_timeout)
        SELECT s.slot_name, clock_timestamp(), s.active_pid, s.confirmed_flush_lsn,
            (SELECT p.setting::int FROM pg_settings p WHERE p.name = 'wal_sender_timeout')
        FROM pg_replication_slots s
        JOIN pg_stat_replication r ON r.pid = s.active_pid
        WHERE s.slot_type = 'logical' AND NOT s.temporary AND s.confirmed_flush_lsn IS NOT NULL
            AND s.active_pid IS DISTINCT FROM (
                SELECT k.active_pid FROM walferry.slot_readers k
                WHERE k.slot_name = s.slot_name ORDER BY k.at DESC LIMIT 1
            )
        ON CONFLICT DO NOTHING;
    IF EXISTS (SELECT FROM walferry.wal_samples w WHERE w.at > clock_timestamp() - l.sample_every) THEN
        RETURN false;
    END IF;
    INSERT INTO walferry.wal_samples (at, lsn) VALUES (clock_timestamp(), pg_current_wal_lsn())
        ON CONFLICT DO NOTHING;
    -- Nothing to do most of the time, which an index scan finds out.
    DELETE FROM walferry.wal_samples w WHERE w.at < clock_timestamp() - l.keep_samples;
    DELETE FROM walferry.slot_readers k WHERE k.at < clock_timestamp() - l.keep_samples;
    RETURN true;
END
$$;

COMMENT ON FUNCTION walferry.sample_wal() IS
    'keeps the present end of the WAL for slots.lag and slot_forecast(), and notes new readers of slots; true when a sample was kept, false when the last is younger than walferry.sample_every or on a standby';

-- A message that is not transactional would not move a slot's restart_lsn.
CREATE FUNCTION walferry.heartbeat(source text DEFAULT 'walferry') RETURNS pg_lsn
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    now_is timestamptz := clock_timestamp();
    written pg_lsn;
BEGIN
    written := pg_logical_emit_message(
        true,
        'walferry.heartbeat',
        json_build_object('source', source, 'at', now_is)::text
    );
    INSERT INTO walferry.heartbeats AS h (source, at, lsn, beats)
        VALUES (heartbeat.source, now_is, written, 1)
        ON CONFLICT ON CONSTRAINT heartbeats_pkey
        DO UPDATE SET at = excluded.at, lsn = excluded.lsn, beats = h.beats + 1;
    PERFORM walferry.sample_wal();
    RETURN written;
END
$$;

COMMENT ON FUNCTION walferry.heartbeat(text) IS
    'commits something small, so that the slots of a quiet database move on: a transactional logical message walferry.heartbeat and the source''s row of walferry.heartbeats; takes a WAL sample too';
-- Every replication slot, with what is known of its reader.
CREATE VIEW walferry.slots AS
SELECT
    s.slot_name,
    s.slot_type,
    s.plugin,
    s.database,
    s.temporary,
    CASE
        WHEN s.wal_status = 'lost' OR v.invalidation_reason IS NOT NULL THEN 'invalidated'
        WHEN s.active_pid IS NULL AND NOT s.active THEN 'inactive'
        ELSE coalesce(r.state, 'active')
    END AS state,
    s.active_pid,
    r.usename AS reader,
    r.application_name,
    r.client_addr,
    r.backend_start AS connected_since,
    s.restart_lsn,
    s.confirmed_flush_lsn,
    r.sent_lsn,
    r.reply_time,
    greatest(pg_catalog.pg_wal_lsn_diff(here.lsn, p.read_to), 0)::bigint AS lag_bytes,
    lag.lag,
    greatest(pg_catalog.pg_wal_lsn_diff(here.lsn, s.restart_lsn), 0)::bigint AS retained_bytes,
    s.xmin,
    s.catalog_xmin,
    pg_catalog.age(s.catalog_xmin) AS catalog_xmin_age,
    s.wal_status,
    s.safe_wal_size,
    st.spill_txns,
    st.spill_count,
    st.spill_bytes,
    st.stream_txns,
    st.stream_count,
    st.stream_bytes,
    st.total_txns,
    st.total_bytes,
    st.stats_reset,
    s.two_phase,
    v.failover,
    v.synced,
    v.inactive_since,
    v.invalidation_reason,
    pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'lag', CASE WHEN lag.lag IS NULL THEN
            'there is no WAL sample: have walferry.sample_wal() called every minute' END,
        'safe_wal_size', CASE WHEN s.safe_wal_size IS NULL THEN CASE
            WHEN s.wal_status = 'lost' THEN 'the slot is lost'
            WHEN pg_catalog.current_setting('max_slot_wal_keep_size') = '-1'
                THEN 'max_slot_wal_keep_size is -1: a slot is never given up for its size' END END,
        'failover', CASE WHEN v.failover IS NULL THEN 'PostgreSQL 17 and later' END,
        'synced', CASE WHEN v.synced IS NULL THEN 'PostgreSQL 17 and later' END,
        'inactive_since', CASE WHEN v.inactive_since IS NULL AND NOT v.row ? 'inactive_since'
            THEN 'PostgreSQL 17 and later' END,
        'sent_lsn', CASE WHEN r.sent_lsn IS NULL AND s.active_pid IS NOT NULL
            THEN 'read by a function, or this role lacks pg_monitor' END
    )) AS why_null
FROM pg_catalog.pg_replication_slots s
CROSS JOIN LATERAL (SELECT pg_catalog.to_jsonb(s) AS row) j
CROSS JOIN LATERAL (
    SELECT
        j.row,
        (j.row ->> 'failover')::boolean AS failover,
        (j.row ->> 'synced')::boolean AS synced,
        (j.row ->> 'inactive_since')::timestamptz AS inactive_since,
        coalesce(
            j.row ->> 'invalidation_reason',
            CASE WHEN (j.row ->> 'conflicting')::boolean THEN 'conflict with recovery' END,
            CASE WHEN s.wal_status = 'lost' THEN 'wal_removed' END
        ) AS invalidation_reason
) v
CROSS JOIN (
    SELECT CASE
        WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
        ELSE pg_catalog.pg_current_wal_lsn()
    END AS lsn
) here
LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
LEFT JOIN LATERAL pg_catalog.pg_stat_get_replication_slot(s.slot_name) st ON s.slot_type = 'logical'
CROSS JOIN LATERAL (
    SELECT coalesce(s.confirmed_flush_lsn, r.flush_lsn, s.restart_lsn) AS read_to
) p
CROSS JOIN LATERAL (
    -- When the server wrote what the slot has read to, taken to lie on a line between two samples;
    -- where all samples are of later WAL, the first of them.
    SELECT CASE
        WHEN p.read_to >= here.lsn THEN interval '0'
        ELSE pg_catalog.clock_timestamp() - coalesce(
            (
                SELECT a.at + (coalesce(b.at, pg_catalog.clock_timestamp()) - a.at) * coalesce(
                    (pg_catalog.pg_wal_lsn_diff(p.read_to, a.lsn)
                        / nullif(pg_catalog.pg_wal_lsn_diff(coalesce(b.lsn, here.lsn), a.lsn), 0))::double precision, 0)
                FROM (
                    SELECT w.at, w.lsn FROM walferry.wal_samples w
                    WHERE w.lsn <= p.read_to ORDER BY w.lsn DESC, w.at DESC LIMIT 1
                ) a
                LEFT JOIN (
                    SELECT w.at, w.lsn FROM walferry.wal_samples w
                    WHERE w.lsn > p.read_to ORDER BY w.lsn LIMIT 1
                ) b ON true
            ),
            (SELECT w.at FROM walferry.wal_samples w WHERE w.lsn > p.read_to ORDER BY w.lsn LIMIT 1)
        )
    END AS lag
) lag;

COMMENT ON VIEW walferry.slots IS 'every replication slot: who reads it, how far it is behind, what it keeps';
COMMENT ON COLUMN walferry.slots.slot_name IS 'name of the slot';
COMMENT ON COLUMN walferry.slots.slot_type IS 'logical or physical';
COMMENT ON COLUMN walferry.slots.plugin IS 'output plugin of a logical slot';
COMMENT ON COLUMN walferry.slots.database IS 'database of a logical slot';
COMMENT ON COLUMN walferry.slots.temporary IS 'it goes with its session';
COMMENT ON COLUMN walferry.slots.state IS
    'invalidated, inactive, active (read by a function), or its walsender''s state: startup, catchup, streaming, backup, stopping';
COMMENT ON COLUMN walferry.slots.active_pid IS 'process that reads it';
COMMENT ON COLUMN walferry.slots.reader IS 'role of the process that reads it';
COMMENT ON COLUMN walferry.slots.application_name IS 'application_name of the process that reads it';
COMMENT ON COLUMN walferry.slots.client_addr IS 'address of the client that reads it; null over a unix socket';
COMMENT ON COLUMN walferry.slots.connected_since IS 'when the process that reads it began';
COMMENT ON COLUMN walferry.slots.restart_lsn IS 'the oldest WAL it keeps';
COMMENT ON COLUMN walferry.slots.confirmed_flush_lsn IS 'what its consumer has confirmed; null for physical slots';
COMMENT ON COLUMN walferry.slots.sent_lsn IS 'what its consumer has been sent';
COMMENT ON COLUMN walferry.slots.reply_time IS 'when its consumer last answered, by the consumer''s clock';
COMMENT ON COLUMN walferry.slots.lag_bytes IS 'WAL in bytes between what was confirmed and the end';
COMMENT ON COLUMN walferry.slots.lag IS
    'how long ago the WAL that was confirmed last had been written, by the samples; longer, where the samples began later';
COMMENT ON COLUMN walferry.slots.retained_bytes IS 'WAL in bytes that it keeps from being removed';
COMMENT ON COLUMN walferry.slots.xmin IS 'oldest transaction whose removed rows it keeps (hot_standby_feedback)';
COMMENT ON COLUMN walferry.slots.catalog_xmin IS 'oldest transaction whose removed catalog rows it keeps';
COMMENT ON COLUMN walferry.slots.catalog_xmin_age IS 'age of catalog_xmin in transactions';
COMMENT ON COLUMN walferry.slots.wal_status IS 'reserved, extended, unreserved or lost, as in pg_replication_slots';
COMMENT ON COLUMN walferry.slots.safe_wal_size IS 'WAL in bytes that can be written before it may be invalidated';
COMMENT ON COLUMN walferry.slots.spill_txns IS 'transactions spilled to disk while decoding';
COMMENT ON COLUMN walferry.slots.spill_count IS 'how often a transaction was spilled';
COMMENT ON COLUMN walferry.slots.spill_bytes IS 'bytes of decoded changes spilled to disk';
COMMENT ON COLUMN walferry.slots.stream_txns IS 'transactions streamed while in progress';
COMMENT ON COLUMN walferry.slots.stream_count IS 'how often a transaction was streamed';
COMMENT ON COLUMN walferry.slots.stream_bytes IS 'bytes of decoded changes streamed while in progress';
COMMENT ON COLUMN walferry.slots.total_txns IS 'transactions sent to the plugin';
COMMENT ON COLUMN walferry.slots.total_bytes IS 'bytes of decoded changes sent to the plugin';
COMMENT ON COLUMN walferry.slots.stats_reset IS 'since when these are counted';
COMMENT ON COLUMN walferry.slots.two_phase IS 'it decodes prepared transactions at PREPARE';
COMMENT ON COLUMN walferry.slots.failover IS 'it is to be synchronised to standbys (17 and later)';
COMMENT ON COLUMN walferry.slots.synced IS 'it is a standby''s copy of a slot on the primary (17 and later)';
COMMENT ON COLUMN walferry.slots.inactive_since IS 'since when nobody reads it (17 and later)';
COMMENT ON COLUMN walferry.slots.invalidation_reason IS 'why it is invalidated';
COMMENT ON COLUMN walferry.slots.why_null IS 'for columns that are null without saying something by it: why';
-- How a setting is given a value depends on who runs the server.
CREATE FUNCTION walferry.setting_fix(setting text, value text, plain text, restart boolean) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT CASE s.flavour
        WHEN 'self-managed' THEN
            format('ALTER SYSTEM SET %s = %s;', setting, value)
            || CASE WHEN restart THEN E'\n-- then restart the server' ELSE E'\nSELECT pg_catalog.pg_reload_conf();' END
        ELSE
            format('-- in the %s: %s = %s%s',
                CASE s.flavour
                    WHEN 'rds' THEN 'instance''s DB parameter group'
                    WHEN 'aurora' THEN 'DB cluster parameter group'
                    WHEN 'cloud-sql' THEN 'instance''s database flags'
                    ELSE 'server''s parameters'
                END,
                setting, plain, CASE WHEN restart THEN '; then reboot' ELSE '' END)
    END
    FROM walferry.preflight_server s
    $$;

COMMENT ON FUNCTION walferry.setting_fix(text, text, text, boolean) IS
    'the statements that give a setting a value on this server; value as ALTER SYSTEM takes it, plain in the setting''s own unit; on managed services a comment that says where it is set';
-- Sizes and ages as a person says them.
CREATE FUNCTION walferry.in_words(bytes bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT CASE WHEN abs(bytes) < 10240 THEN bytes || ' bytes' ELSE pg_size_pretty(bytes) END $$;

COMMENT ON FUNCTION walferry.in_words(bigint) IS 'a size in bytes as a person says it';

CREATE FUNCTION walferry.in_words(age interval) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT CASE
        WHEN s < 120 THEN round(s) || ' s'
        WHEN s < 7200 THEN round(s / 60) || ' min'
        WHEN s < 172800 THEN round(s / 3600) || ' h'
        ELSE round(s / 86400) || ' days'
    END
    FROM (SELECT extract(epoch FROM age) AS s) seconds
    $$;

COMMENT ON FUNCTION walferry.in_words(interval) IS 'a span of time as a person says it';

-- What holds a slot's restart_lsn and catalog_xmin.
--
-- While a slot is read, the running-xacts records in the WAL (every 15 s on a
-- busy server, and at each checkpoint) move restart_lsn up to where the oldest
-- transaction began that ran then, and catalog_xmin up to what that
-- transaction's snapshot needs (SnapBuildProcessRunningXacts, snapbuild.c), as
-- soon as the consumer has confirmed that far. That snapshot's xmin may be older
-- than the transaction's own xid. So the transaction to blame is the oldest of
-- all databases, if it is old enough to have been in such a record, or one whose
-- xid is not after catalog_xmin.
CREATE FUNCTION walferry.slot_blockers(slot name DEFAULT NULL)
    RETURNS TABLE (
        slot_name name,
        kind text,
        holds text[],
        pid int,
        gid text,
        owner name,
        application_name text,
        database name,
        xid xid,
        age interval,
        query text,
        finding text,
        fix text
    )
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH l AS MATERIALIZED (SELECT * FROM walferry.limits),
    s AS MATERIALIZED (
        SELECT v.*, a.wait_event,
            CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS here
        FROM walferry.slots v
        LEFT JOIN pg_stat_activity a ON a.pid = v.active_pid
        WHERE (slot IS NULL OR v.slot_name = slot) AND v.state <> 'invalidated'
    ),
    t AS MATERIALIZED (
        SELECT o.*, pg_catalog.age(o.xid) AS xid_age, make_interval(secs => o.age_seconds) AS open_for
        FROM walferry.preflight_open_transactions o
        WHERE o.xid IS NOT NULL
    ),
    consumer AS (
        SELECT s.slot_name,
            CASE WHEN s.slot_type = 'physical' THEN 'missing standby' ELSE 'missing consumer' END AS kind,
            array_remove(ARRAY['restart_lsn', CASE WHEN s.catalog_xmin IS NOT NULL THEN 'catalog_xmin' END], NULL) AS holds,
            NULL::int AS pid, NULL::name AS owner, NULL::text AS application_name, s.database,
            coalesce(now() - s.inactive_since, s.lag) AS age,
            format('nobody reads it, and it keeps %s of WAL: start its %s, or drop it if it is not needed any more',
                walferry.in_words(s.retained_bytes),
                CASE WHEN s.slot_type = 'physical' THEN 'standby' ELSE 'consumer' END) AS finding,
            format('SELECT pg_catalog.pg_drop_replication_slot(%L);', s.slot_name) AS fix
        FROM s
        WHERE s.state = 'inactive' AND NOT coalesce(s.synced, false)
        UNION ALL
        SELECT s.slot_name,
            CASE
                WHEN s.slot_type = 'physical' THEN 'standby'
                WHEN s.wait_event IN ('WaitForStandbyConfirmation', 'WalSenderWaitForStandbyConfirmation') THEN 'standby'
                WHEN s.here - s.sent_lsn > l.unconfirmed_wal AND s.wait_event = 'WalSenderWriteData'
                    THEN 'consumer does not receive'
                WHEN s.sent_lsn - s.confirmed_flush_lsn > l.unconfirmed_wal THEN 'consumer does not confirm'
                ELSE 'decoding'
            END,
            CASE WHEN s.slot_type = 'physical' THEN ARRAY['restart_lsn'] ELSE ARRAY['restart_lsn', 'catalog_xmin'] END,
            s.active_pid, s.reader, s.application_name, s.database,
            s.lag,
            CASE
                WHEN s.slot_type = 'physical'
                    THEN format('its standby is %s behind', walferry.in_words(s.lag_bytes))
                WHEN s.wait_event IN ('WaitForStandbyConfirmation', 'WalSenderWaitForStandbyConfirmation')
                    THEN format('it waits for the standbys of synchronized_standby_slots (%s) to confirm',
                        current_setting('synchronized_standby_slots', true))
                WHEN s.here - s.sent_lsn > l.unconfirmed_wal AND s.wait_event = 'WalSenderWriteData'
                    THEN format('its consumer takes nothing off the connection, with %s still to be sent',
                        walferry.in_words((s.here - s.sent_lsn)::bigint))
                WHEN s.sent_lsn - s.confirmed_flush_lsn > l.unconfirmed_wal
                    THEN format('its consumer has been sent %s that it has not confirmed',
                        walferry.in_words((s.sent_lsn - s.confirmed_flush_lsn)::bigint))
                ELSE format('its walsender is still decoding, with %s to go',
                    walferry.in_words((s.here - s.sent_lsn)::bigint))
            END,
            CASE
                WHEN s.slot_type = 'physical' THEN NULL
                WHEN s.wait_event IN ('WaitForStandbyConfirmation', 'WalSenderWaitForStandbyConfirmation')
                    THEN walferry.setting_fix('synchronized_standby_slots', '''''', '', false)
                WHEN s.wait_event = 'WalSenderWriteData' OR s.sent_lsn - s.confirmed_flush_lsn > l.unconfirmed_wal
                    THEN format('SELECT pg_catalog.pg_terminate_backend(%s);', s.active_pid)
            END
        FROM s, l
        WHERE s.active_pid IS NOT NULL AND s.sent_lsn IS NOT NULL AND s.lag_bytes > l.unconfirmed_wal
    ),
    transaction AS (
        SELECT s.slot_name,
            CASE WHEN t.gid IS NULL THEN 'transaction' ELSE 'prepared transaction' END AS kind,
            array_remove(ARRAY[
                CASE WHEN s.restart_lsn < s.confirmed_flush_lsn THEN 'restart_lsn' END, 'catalog_xmin'], NULL) AS holds,
            t.pid, t.gid, t.owner, t.application_name, t.database, t.xid, t.open_for AS age, t.query,
            CASE
                WHEN t.gid IS NULL THEN format('transaction %s of role %s in database %s, open for %s%s%s',
                    t.xid, coalesce(t.owner, 'unknown'), coalesce(t.database, 'unknown'),
                    coalesce(walferry.in_words(t.open_for), 'an unknown time'),
                    ', ' || t.state, '; its statement: ' || nullif(t.query, ''))
                ELSE format('transaction %s, prepared by %s in database %s, %s ago and neither committed nor rolled back',
                    t.xid, t.owner, t.database, walferry.in_words(t.open_for))
            END AS finding,
            CASE
                WHEN t.gid IS NULL THEN format('SELECT pg_catalog.pg_terminate_backend(%s);', t.pid)
                ELSE format(E'-- in database %s; or COMMIT PREPARED, whichever its transaction manager meant\nROLLBACK PREPARED %L;',
                    t.database, t.gid)
            END AS fix
        FROM s
        JOIN t ON t.xid_age >= s.catalog_xmin_age
            OR (t.xid_age = (SELECT max(o.xid_age) FROM t o) AND t.open_for >= (SELECT l.running_xacts_interval FROM l))
        WHERE s.slot_type = 'logical' AND s.active_pid IS NOT NULL
    ),
    waiting AS (
        SELECT s.slot_name, s.database,
            format('whatever held %s of WAL has ended; the slot moves on at the next running-xacts record in the WAL (15 s at most on a busy server) and its confirmation',
                walferry.in_words(s.retained_bytes)) AS finding,
            CASE WHEN current_setting('server_version_num')::int >= 160000
                THEN 'SELECT pg_catalog.pg_log_standby_snapshot();' ELSE 'CHECKPOINT;' END AS fix
        FROM s, l
        WHERE s.slot_type = 'logical' AND s.active_pid IS NOT NULL AND NOT pg_is_in_recovery()
            AND s.retained_bytes > l.retained_wal
            AND NOT EXISTS (SELECT FROM transaction x WHERE x.slot_name = s.slot_name)
            AND NOT EXISTS (SELECT FROM consumer x WHERE x.slot_name = s.slot_name)
    )
    SELECT c.slot_name, c.kind, c.holds, c.pid, NULL::text, c.owner, c.application_name, c.database, NULL::xid,
        c.age, NULL::text, c.finding, c.fix
    FROM consumer c
    UNION ALL
    SELECT x.slot_name, x.kind, x.holds, x.pid, x.gid, x.owner, x.application_name, x.database, x.xid,
        x.age, x.query, x.finding, x.fix
    FROM transaction x
    UNION ALL
    SELECT w.slot_name, 'waiting', ARRAY['restart_lsn'], NULL, NULL, NULL, NULL, w.database, NULL,
        NULL, NULL, w.finding, w.fix
    FROM waiting w
    ORDER BY 1, 10 DESC NULLS LAST
    $$;

COMMENT ON FUNCTION walferry.slot_blockers(name) IS
    'what holds a slot''s restart_lsn and catalog_xmin, the oldest first, with the statement that ends it; of all slots without an argument';
CREATE FUNCTION walferry.slot_forecast(slot name DEFAULT NULL)
    RETURNS TABLE (
        slot_name name,
        wal_bytes_per_second numeric,
        sampled_from timestamptz,
        sampled_to timestamptz,
        retained_bytes bigint,
        bytes_to_invalidation bigint,
        seconds_to_invalidation numeric,
        free_bytes bigint,
        seconds_to_disk_full numeric,
        why_null jsonb
    )
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH here AS MATERIALIZED (
        SELECT clock_timestamp() AS at,
            CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn
    ),
    -- The last hour, up to this moment: the oldest sample in it, or the last one before it.
    since AS MATERIALIZED (
        SELECT coalesce(
            (SELECT w FROM walferry.wal_samples w, here
             WHERE w.at >= here.at - interval '1 hour' AND w.at < here.at - interval '1 second'
             ORDER BY w.at LIMIT 1),
            (SELECT w FROM walferry.wal_samples w, here
             WHERE w.at < here.at - interval '1 second' ORDER BY w.at DESC LIMIT 1)
        ) AS w
    ),
    rate AS MATERIALIZED (
        SELECT (since.w).at AS sampled_from, here.at AS sampled_to,
            CASE WHEN here.lsn >= (since.w).lsn THEN
                round((here.lsn - (since.w).lsn) / extract(epoch FROM here.at - (since.w).at)::numeric, 1) END AS bytes
        FROM here, since
    ),
    space AS MATERIALIZED (SELECT * FROM walferry.wal_space())
    SELECT s.slot_name, rate.bytes, rate.sampled_from,
        CASE WHEN rate.sampled_from IS NOT NULL THEN rate.sampled_to END,
        s.retained_bytes, s.safe_wal_size,
        CASE WHEN s.safe_wal_size IS NOT NULL THEN round(greatest(s.safe_wal_size, 0) / nullif(rate.bytes, 0)) END,
        space.free_bytes,
        round(space.free_bytes / nullif(rate.bytes, 0)),
        jsonb_strip_nulls(jsonb_build_object(
            'wal_bytes_per_second', CASE WHEN rate.bytes IS NULL THEN
                'there is no WAL sample: SELECT walferry.sample_wal(); and ask again some seconds later' END,
            'bytes_to_invalidation', s.why_null ->> 'safe_wal_size',
            'seconds_to_invalidation', CASE
                WHEN s.safe_wal_size IS NULL THEN s.why_null ->> 'safe_wal_size'
                WHEN rate.bytes IS NULL THEN 'the rate is not known'
                WHEN rate.bytes = 0 THEN 'no WAL is being written' END,
            'free_bytes', space.why_null,
            'seconds_to_disk_full', CASE
                WHEN space.free_bytes IS NULL THEN 'the free space is not known'
                WHEN rate.bytes IS NULL THEN 'the rate is not known'
                WHEN rate.bytes = 0 THEN 'no WAL is being written' END
        ))
    FROM walferry.slots s, rate, space
    WHERE slot IS NULL OR s.slot_name = slot
    ORDER BY s.slot_name
    $$;

COMMENT ON FUNCTION walferry.slot_forecast(name) IS
    'how long until a slot is invalidated or pg_wal''s disk is full, if WAL goes on being written as in the last hour and the slot does not move; of all slots without an argument; why_null says what is not known and why';
CREATE FUNCTION walferry.replica_identity_audit()
    RETURNS TABLE (
        table_oid oid,
        schema name,
        table_name name,
        logged text,
        updates bigint,
        deletes bigint,
        verdict text,
        finding text,
        fix text
    )
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT i.oid, i.schema, i.table_name, i.logged, i.updates, i.deletes,
        CASE WHEN i.updates + i.deletes > 0 THEN 'fail' ELSE 'warn' END,
        CASE WHEN i.updates + i.deletes > 0
            THEN format('its old rows are not logged, and it has had %s updates and %s deletes', i.updates, i.deletes)
            ELSE 'an UPDATE or DELETE would come without its old row; it has had none'
        END,
        format('ALTER TABLE %I.%I REPLICA IDENTITY ', i.schema, i.table_name)
        || CASE
            WHEN i.has_unused_primary_key THEN 'DEFAULT;'
            WHEN i.candidate IS NOT NULL THEN format('USING INDEX %I;', i.candidate)
            ELSE 'FULL;'
        END
    FROM walferry.preflight_replica_identity i
    WHERE i.logged = 'none'
    $$;

COMMENT ON FUNCTION walferry.replica_identity_audit() IS
    'the database''s tables of whose old rows nothing is logged, so that an UPDATE or DELETE can''t name its row (fail: they have had some), with the statement that gives them an identity';

CREATE FUNCTION walferry.preflight()
    RETURNS TABLE (verdict text, code text, object text, finding text, fix text)
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH s AS MATERIALIZED (SELECT * FROM walferry.preflight_server),
    n AS MATERIALIZED (
        SELECT s.*, s.settings ->> 'wal_level' AS wal_level,
            (s.settings ->> 'max_replication_slots')::int AS most_slots,
            (s.settings ->> 'max_wal_senders')::int AS most_senders,
            (s.settings ->> 'max_slot_wal_keep_size')::bigint AS keep_megabytes,
            (s.settings ->> 'wal_sender_timeout')::bigint AS timeout
        FROM s
    ),
    role AS MATERIALIZED (SELECT * FROM walferry.preflight_role),
    answer (place, verdict, code, object, finding, fix) AS (
        SELECT 1, 'pass', 'server', NULL,
            format('PostgreSQL %s, %s', current_setting('server_version'), n.flavour), NULL
        FROM n
        UNION ALL
        SELECT 2, CASE WHEN n.wal_level = 'logical' THEN 'pass' ELSE 'fail' END, 'wal_level', NULL,
            CASE WHEN n.wal_level = 'logical' THEN 'logical'
                ELSE format('it is %s, and logical decoding needs logical', n.wal_level) END,
            CASE
                WHEN n.wal_level = 'logical' THEN NULL
                WHEN n.flavour IN ('rds', 'aurora')
                    THEN walferry.setting_fix('rds.logical_replication', '1', '1', true)
                WHEN n.flavour = 'cloud-sql'
                    THEN walferry.setting_fix('cloudsql.logical_decoding', 'on', 'on', true)
                ELSE walferry.setting_fix('wal_level', 'logical', 'logical', true)
            END
        FROM n
        UNION ALL
        SELECT 3, CASE WHEN n.senders_used < n.most_senders THEN 'pass' ELSE 'fail' END, 'wal_senders', NULL,
            format('%s of %s in use', n.senders_used, n.most_senders),
            CASE WHEN n.senders_used >= n.most_senders THEN walferry.setting_fix('max_wal_senders',
                greatest(n.most_senders + 5, 10)::text, greatest(n.most_senders + 5, 10)::text, true) END
        FROM n
        UNION ALL
        SELECT 4, CASE WHEN n.slots_used < n.most_slots THEN 'pass' ELSE 'fail' END, 'replication_slots', NULL,
            format('%s of %s in use', n.slots_used, n.most_slots),
            CASE WHEN n.slots_used >= n.most_slots THEN walferry.setting_fix('max_replication_slots',
                greatest(n.most_slots + 5, 10)::text, greatest(n.most_slots + 5, 10)::text, true) END
        FROM n
        UNION ALL
        SELECT 5, CASE WHEN n.keep_megabytes BETWEEN 0 AND 1023 THEN 'warn' ELSE 'pass' END,
            'max_slot_wal_keep_size', NULL,
            CASE WHEN n.keep_megabytes < 0
                THEN 'no limit: a slot is never given up, and keeps WAL until it is read or the disk is full'
                ELSE format('a slot that is %s behind is given up by the server',
                    walferry.in_words(n.keep_megabytes * 1048576)) END,
            CASE WHEN n.keep_megabytes BETWEEN 0 AND 1023
                THEN walferry.setting_fix('max_slot_wal_keep_size', '''10GB''', '10240', false) END
        FROM n
        UNION ALL
        SELECT 6, CASE WHEN n.timeout < 5000 THEN 'warn' ELSE 'pass' END, 'wal_sender_timeout', NULL,
            CASE
                WHEN n.timeout = 0 THEN 'none: a reader that vanished holds its slot until TCP notices'
                WHEN n.timeout < 5000
                    THEN format('%s ms: a reader that is silent for a moment is cut, and reads its transaction again', n.timeout)
                ELSE format('%s s', n.timeout / 1000)
            END,
            CASE WHEN n.timeout < 5000 THEN walferry.setting_fix('wal_sender_timeout', '''60s''', '60000', false) END
        FROM n
        UNION ALL
        SELECT 7, CASE WHEN r.allowed THEN 'pass' ELSE 'fail' END, 'replication_right', r.role,
            CASE WHEN r.allowed THEN 'it may replicate' ELSE 'it may not replicate' END,
            CASE
                WHEN r.allowed THEN NULL
                WHEN n.flavour IN ('rds', 'aurora') THEN format('GRANT rds_replication TO %I;', r.role)
                ELSE format('ALTER ROLE %I REPLICATION;', r.role)
            END
        FROM n, (SELECT role.*, role.superuser OR role.replication OR role.member_of_rds_replication AS allowed FROM role) r
        UNION ALL
        SELECT 8, 'warn',
            CASE WHEN o.gid IS NULL THEN 'open_transactions' ELSE 'prepared_transactions' END,
            coalesce(o.gid, 'PID ' || o.pid),
            format('role %s in database %s, open for %s s: a new slot waits for its end', o.owner, o.database, o.age_seconds),
            CASE WHEN o.gid IS NULL THEN format('SELECT pg_catalog.pg_terminate_backend(%s);', o.pid)
                ELSE format(E'-- in database %s; or COMMIT PREPARED, whichever its transaction manager meant\nROLLBACK PREPARED %L;',
                    o.database, o.gid) END
        FROM walferry.preflight_open_transactions o
        WHERE o.age_seconds >= 10
        UNION ALL
        SELECT 9, a.verdict, 'replica_identity', format('%s.%s', a.schema, a.table_name), a.finding, a.fix
        FROM walferry.replica_identity_audit() a
    )
    SELECT a.verdict, a.code, a.object, a.finding, a.fix
    FROM answer a
    ORDER BY a.place, a.object
    $$;

COMMENT ON FUNCTION walferry.preflight() IS
    'whether this server and the role that asks are ready for replication: pass, warn or fail, with the statement that mends it; walferry check tries the connection, slot and plugin as well';
CREATE FUNCTION walferry.diagnose(slot name DEFAULT NULL)
    RETURNS TABLE (severity text, code text, object text, finding text, evidence jsonb, fix text)
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH l AS MATERIALIZED (SELECT * FROM walferry.limits),
    s AS MATERIALIZED (
        SELECT v.* FROM walferry.slots v WHERE slot IS NULL OR v.slot_name = slot
    ),
    b AS MATERIALIZED (
        SELECT k.*, s.slot_type, s.retained_bytes, s.lag_bytes, s.lag, s.connected_since
        FROM walferry.slot_blockers(slot) k
        JOIN s ON s.slot_name = k.slot_name
    ),
    f AS MATERIALIZED (SELECT * FROM walferry.slot_forecast(slot)),
    -- What is the server's and not a slot's is told when no slot was named.
    n AS MATERIALIZED (
        SELECT p.*, (p.settings ->> 'max_replication_slots')::int AS most_slots,
            (p.settings ->> 'max_wal_senders')::int AS most_senders,
            (p.settings ->> 'max_slot_wal_keep_size')::bigint AS keep_megabytes,
            (p.settings ->> 'wal_sender_timeout')::bigint AS timeout,
            p.settings ->> 'output_plugin_libraries' AS libraries
        FROM walferry.preflight_server p
    ),
    answer (severity, code, object, finding, evidence, fix) AS (
        SELECT 'critical', 'slot_invalidated', s.slot_name::text,
            format('the server has given it up (%s): its consumer can''t go on from it, and changes since %s are lost to it; it has to be made anew, with a new snapshot',
                s.invalidation_reason, s.confirmed_flush_lsn),
            jsonb_build_object('invalidation_reason', s.invalidation_reason, 'confirmed_flush_lsn', s.confirmed_flush_lsn,
                'plugin', s.plugin, 'database', s.database),
            format('SELECT pg_catalog.pg_drop_replication_slot(%L);', s.slot_name)
        FROM s
        WHERE s.state = 'invalidated'

        UNION ALL
        SELECT 'critical', 'slot_near_invalidation', s.slot_name::text,
            format('it is given up after %s more of WAL%s; end what holds it, or raise max_slot_wal_keep_size as far as the disk allows (%s free)',
                walferry.in_words(greatest(s.safe_wal_size, 0)),
                coalesce(', in about ' || walferry.in_words(make_interval(secs => f.seconds_to_invalidation::double precision)), ''),
                coalesce(walferry.in_words(f.free_bytes), 'it is not known how much is')),
            jsonb_build_object('safe_wal_size', s.safe_wal_size, 'retained_bytes', s.retained_bytes,
                'wal_status', s.wal_status, 'seconds_to_invalidation', f.seconds_to_invalidation,
                'wal_bytes_per_second', f.wal_bytes_per_second, 'free_bytes', f.free_bytes),
            walferry.setting_fix('max_slot_wal_keep_size',
                format('''%sMB''', greatest(4 * n.keep_megabytes, 2 * s.retained_bytes / 1048576)),
                greatest(4 * n.keep_megabytes, 2 * s.retained_bytes / 1048576)::text, false)
        FROM s
        JOIN f ON f.slot_name = s.slot_name, l, n
        WHERE s.state <> 'invalidated' AND n.keep_megabytes >= 0
            AND (s.wal_status = 'unreserved'
                OR s.safe_wal_size < n.keep_megabytes * 1048576 * l.safe_wal_percent / 100
                OR (f.seconds_to_invalidation < extract(epoch FROM l.time_left) AND s.retained_bytes > l.retained_wal))

        UNION ALL
        SELECT 'critical', 'disk_filling', s.slot_name::text,
            format('it keeps %s of WAL, and the disk of pg_wal has %s left: full in about %s at the rate of the last hour',
                walferry.in_words(s.retained_bytes), walferry.in_words(f.free_bytes),
                walferry.in_words(make_interval(secs => f.seconds_to_disk_full::double precision))),
            jsonb_build_object('retained_bytes', s.retained_bytes, 'free_bytes', f.free_bytes,
                'wal_bytes_per_second', f.wal_bytes_per_second, 'seconds_to_disk_full', f.seconds_to_disk_full),
            (SELECT b.fix FROM b WHERE b.slot_name = s.slot_name ORDER BY b.age DESC NULLS LAST LIMIT 1)
        FROM s
        JOIN f ON f.slot_name = s.slot_name, l
        WHERE s.state <> 'invalidated' AND s.retained_bytes > l.retained_wal
            AND f.seconds_to_disk_full < extract(epoch FROM l.time_left)

        UNION ALL
        SELECT CASE WHEN b.retained_bytes > l.retained_wal THEN 'critical' ELSE 'warning' END,
            CASE WHEN b.retained_bytes > l.retained_wal THEN 'slot_inactive' ELSE 'slot_idle' END,
            b.slot_name::text,
            CASE WHEN b.age IS NULL THEN '' ELSE format('since %s ', walferry.in_words(b.age)) END || b.finding,
            jsonb_build_object('retained_bytes', b.retained_bytes, 'lag_bytes', b.lag_bytes, 'lag', b.lag),
            b.fix
        FROM b, l
        WHERE b.kind IN ('missing consumer', 'missing standby')
            AND (b.retained_bytes > l.retained_wal OR b.age > l.idle_slot)

        UNION ALL
        -- Once for a transaction, with all the slots that it holds.
        SELECT CASE WHEN max(b.retained_bytes) > max(l.retained_wal) THEN 'critical' ELSE 'warning' END,
            CASE WHEN b.gid IS NULL THEN 'long_transaction' ELSE 'prepared_transaction' END,
            coalesce(b.gid, 'pid ' || b.pid),
            format('it holds %s of %s: %s',
                CASE WHEN bool_or('restart_lsn' = ANY (b.holds)) THEN 'restart_lsn and catalog_xmin' ELSE 'catalog_xmin' END,
                CASE WHEN count(*) = 1 THEN 'slot ' || min(b.slot_name::text) ELSE count(*) || ' slots' END,
                b.finding),
            jsonb_build_object('slots', jsonb_agg(b.slot_name ORDER BY b.slot_name),
                'retained_bytes', max(b.retained_bytes), 'xid', b.xid::text, 'owner', b.owner, 'database', b.database,
                'application_name', b.application_name, 'age_seconds', round(extract(epoch FROM max(b.age))),
                'query', b.query),
            b.fix
        FROM b, l
        WHERE (b.kind = 'transaction' AND b.age > l.long_transaction)
            OR (b.kind = 'prepared transaction' AND b.age > l.prepared_transaction)
        GROUP BY b.gid, b.pid, b.finding, b.xid::text, b.owner, b.database, b.application_name, b.query, b.fix

        UNION ALL
        SELECT CASE b.kind WHEN 'waiting' THEN 'info' WHEN 'decoding' THEN 'info' ELSE 'warning' END,
            CASE b.kind
                WHEN 'waiting' THEN 'blocker_gone'
                WHEN 'decoding' THEN 'decoding_behind'
                WHEN 'standby' THEN 'standby_behind'
                WHEN 'consumer does not confirm' THEN 'consumer_not_confirming'
                ELSE 'consumer_not_receiving'
            END,
            b.slot_name::text, b.finding,
            jsonb_build_object('pid', b.pid, 'application_name', b.application_name, 'retained_bytes', b.retained_bytes,
                'lag_bytes', b.lag_bytes, 'lag', b.lag, 'connected_since', b.connected_since),
            b.fix
        FROM b
        WHERE b.kind IN ('waiting', 'decoding', 'standby', 'consumer does not confirm', 'consumer does not receive')

        UNION ALL
        SELECT 'warning', 'walsender_timeout', k.slot_name::text,
            format('%s readers in an hour, and nothing confirmed in between: its consumer is cut off (wal_sender_timeout is %s) while it is busy, and is sent the same again',
                k.readers, walferry.in_words(make_interval(secs => n.timeout / 1000.0))),
            jsonb_build_object('readers', k.readers, 'since', k.since, 'wal_sender_timeout_ms', n.timeout,
                'confirmed_flush_lsn', k.confirmed_flush_lsn),
            walferry.setting_fix('wal_sender_timeout', format('''%ss''', greatest(300, 5 * n.timeout / 1000)),
                greatest(300000, 5 * n.timeout)::text, false)
        FROM n, l, LATERAL (
            -- Of those met under the present setting, at the position that the slot still has.
            SELECT k.slot_name, count(DISTINCT k.active_pid) AS readers, min(k.at) AS since, k.confirmed_flush_lsn
            FROM walferry.slot_readers k
            JOIN s ON s.slot_name = k.slot_name AND s.confirmed_flush_lsn = k.confirmed_flush_lsn
            WHERE k.at > clock_timestamp() - interval '1 hour' AND k.wal_sender_timeout = n.timeout
            GROUP BY k.slot_name, k.confirmed_flush_lsn
        ) k
        WHERE n.timeout > 0 AND k.readers >= l.lost_connections

        UNION ALL
        SELECT 'info', 'spill', s.slot_name::text,
            format('%s of %s transactions were spilled to disk, %s in all, since logical_decoding_work_mem is %s; a walsender may use so much memory',
                s.spill_txns, s.total_txns, walferry.in_words(s.spill_bytes), current_setting('logical_decoding_work_mem')),
            jsonb_build_object('spill_txns', s.spill_txns, 'spill_count', s.spill_count, 'spill_bytes', s.spill_bytes,
                'total_txns', s.total_txns, 'stats_reset', s.stats_reset,
                'logical_decoding_work_mem', current_setting('logical_decoding_work_mem')),
            walferry.setting_fix('logical_decoding_work_mem', format('''%sMB''', m.wanted), (m.wanted * 1024)::text, false)
            || CASE WHEN n.flavour = 'self-managed'
                THEN format(E'\nSELECT pg_catalog.pg_stat_reset_replication_slot(%L);', s.slot_name) ELSE '' END
        FROM s, l, n,
            LATERAL (
                -- Twice what a transaction spilled on average, and twice what there is, as a power of two of MB;
                -- more than 4 GB is no help.
                SELECT least(4096, (2 ^ ceil(log(2, greatest(
                    2, 2.0 * s.spill_bytes / greatest(s.spill_txns, 1) / 1048576,
                    2.0 * pg_size_bytes(current_setting('logical_decoding_work_mem')) / 1048576))))::int) AS wanted
            ) m
        WHERE s.spill_bytes > l.spilled
            AND m.wanted * 1048576::bigint > pg_size_bytes(current_setting('logical_decoding_work_mem'))

        UNION ALL
        SELECT CASE WHEN s.catalog_xmin_age > 1000000000 THEN 'critical' ELSE 'warning' END,
            'catalog_xmin_old', s.slot_name::text,
            format('its catalog_xmin %s is %s transactions old: VACUUM can''t remove dead rows of the system catalogs since%s',
                s.catalog_xmin, s.catalog_xmin_age, '; ' || k.finding),
            jsonb_build_object('catalog_xmin', s.catalog_xmin::text, 'catalog_xmin_age', s.catalog_xmin_age, 'held_by', k.kind),
            k.fix
        FROM s
        CROSS JOIN l
        LEFT JOIN LATERAL (
            SELECT b.kind, b.finding, b.fix FROM b
            WHERE b.slot_name = s.slot_name AND 'catalog_xmin' = ANY (b.holds)
            ORDER BY b.age DESC NULLS LAST LIMIT 1
        ) k ON true
        WHERE s.catalog_xmin_age > l.catalog_xmin_age AND s.state <> 'invalidated'

        UNION ALL
        SELECT 'warning', 'slot_not_synchronised', s.slot_name::text,
            'this standby''s copy of it is not yet safe to use after a failover: it is still temporary, because the primary''s slot keeps less than this standby needs',
            jsonb_build_object('synced', s.synced, 'temporary', s.temporary, 'restart_lsn', s.restart_lsn),
            '-- on the primary, once its consumer has confirmed more' || E'\nSELECT pg_catalog.pg_log_standby_snapshot();'
        FROM s, n
        WHERE n.in_recovery AND s.synced AND s.temporary

        UNION ALL
        SELECT 'warning', 'slot_sync_off', string_agg(s.slot_name::text, ', ' ORDER BY s.slot_name),
            'slots were synchronised from the primary, and sync_replication_slots is off: they grow old, and can''t be used after a failover',
            jsonb_build_object('slots', jsonb_agg(s.slot_name ORDER BY s.slot_name)),
            walferry.setting_fix('sync_replication_slots', 'on', 'on', false)
        FROM s, n
        WHERE n.in_recovery AND s.synced AND current_setting('sync_replication_slots', true) = 'off'
        HAVING count(*) > 0

        UNION ALL
        SELECT 'warning', 'no_free_slot', NULL,
            format('all of max_replication_slots = %s are in use: no further slot can be made', n.most_slots),
            jsonb_build_object('slots_used', n.slots_used, 'max_replication_slots', n.most_slots),
            walferry.setting_fix('max_replication_slots', greatest(n.most_slots + 5, 10)::text,
                greatest(n.most_slots + 5, 10)::text, true)
        FROM n
        WHERE slot IS NULL AND n.slots_used >= n.most_slots

        UNION ALL
        SELECT 'warning', 'no_free_sender', NULL,
            format('all of max_wal_senders = %s are in use: no further consumer or standby can connect', n.most_senders),
            jsonb_build_object('senders_used', n.senders_used, 'max_wal_senders', n.most_senders),
            walferry.setting_fix('max_wal_senders', greatest(n.most_senders + 5, 10)::text,
                greatest(n.most_senders + 5, 10)::text, true)
        FROM n
        WHERE slot IS NULL AND n.senders_used >= n.most_senders

        UNION ALL
        SELECT 'critical', 'plugin_not_allowed', p.plugin,
            format('output_plugin_libraries (%s) does not list it: %s', n.libraries,
                coalesce('slots that use it can''t be read: ' || p.slots, 'no slot can be made with it')),
            jsonb_build_object('output_plugin_libraries', n.libraries, 'slots', p.slots),
            walferry.setting_fix('output_plugin_libraries', w.list, replace(w.list, ', ', ','), false)
        FROM n,
            (
                SELECT u.plugin, string_agg(u.slot_name, ', ' ORDER BY u.slot_name) AS slots
                FROM (
                    SELECT s.plugin::text AS plugin, s.slot_name::text AS slot_name FROM s WHERE s.plugin IS NOT NULL
                    UNION ALL
                    SELECT e.extname::text, NULL FROM pg_extension e WHERE e.extname = 'walferry' AND slot IS NULL
                ) u
                GROUP BY u.plugin
            ) p,
            LATERAL (
                SELECT array_agg(btrim(x, ' "')) AS listed
                FROM unnest(string_to_array(n.libraries, ',')) x WHERE btrim(x, ' "') <> ''
            ) c,
            LATERAL (
                -- What is listed, and whatever slots use: one statement mends them all.
                SELECT string_agg(CASE WHEN x ~ '^[a-z_][a-z0-9_]*$' THEN x ELSE quote_literal(x) END, ', ' ORDER BY x) AS list
                FROM (
                    SELECT unnest(c.listed) AS x
                    UNION SELECT plugin::text FROM pg_replication_slots WHERE plugin IS NOT NULL
                    UNION SELECT p.plugin
                ) every
            ) w
        WHERE n.libraries IS NOT NULL AND NOT p.plugin = ANY (coalesce(c.listed, '{}'))

        UNION ALL
        -- The database's tables matter to the slots in it.
        SELECT 'warning', 'replica_identity', format('%s.%s', a.schema, a.table_name), a.finding,
            jsonb_build_object('updates', a.updates, 'deletes', a.deletes), a.fix
        FROM (
            SELECT r.*, row_number() OVER (ORDER BY r.updates + r.deletes DESC, r.schema, r.table_name) AS place
            FROM walferry.replica_identity_audit() r
            WHERE r.verdict = 'fail'
        ) a
        WHERE a.place <= 20 AND slot IS NULL
            AND EXISTS (SELECT FROM s WHERE s.database = current_database() AND NOT s.temporary)

        UNION ALL
        SELECT 'warning', 'publication_empty', p.publication::text,
            'it publishes no table, so that its subscribers get nothing: add tables (ALTER PUBLICATION … ADD TABLE …), or drop it',
            jsonb_build_object('owner', p.owner),
            format('DROP PUBLICATION %I;', p.publication)
        FROM walferry.preflight_publications p
        WHERE slot IS NULL AND NOT p.all_tables AND coalesce(cardinality(p.tables), 0) = 0
    )
    SELECT a.severity, a.code, a.object, a.finding, a.evidence, a.fix
    FROM answer a
    ORDER BY CASE a.severity WHEN 'critical' THEN 1 WHEN 'warning' THEN 2 ELSE 3 END, a.code, a.object
    $$;

COMMENT ON FUNCTION walferry.diagnose(name) IS
    'what is wrong with replication slots, the gravest first: severity (critical, warning, info), code, the object it is about, the finding in words, evidence, and the statements that mend it, one a line (lines that begin with -- are remarks); no row on a healthy server; for one slot, with its name';
-- Who may see and do what: members of pg_monitor all of it, nobody else anything.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA walferry FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA walferry FROM PUBLIC;
REVOKE ALL ON SCHEMA walferry FROM PUBLIC;
GRANT USAGE ON SCHEMA walferry TO pg_monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA walferry TO pg_monitor;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA walferry TO pg_monitor;
