-- Up to there the server removes WAL by itself. In plpgsql, since who may not call the function would otherwise be
-- refused the whole view.
CREATE FUNCTION walferry.checkpoint_redo() RETURNS pg_lsn
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    RETURN (SELECT c.redo_lsn FROM pg_control_checkpoint() c);
EXCEPTION
    WHEN insufficient_privilege OR feature_not_supported OR undefined_function THEN
        RETURN NULL;
END
$$;

COMMENT ON FUNCTION walferry.checkpoint_redo() IS
    'where recovery would begin: WAL before the last checkpoint (on a standby, restartpoint), which only slots, archiving and wal_keep_size keep; null where that may not be asked';

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
    CASE WHEN p.read_to IS NOT NULL
        THEN greatest(pg_catalog.pg_wal_lsn_diff(here.lsn, p.read_to), 0)::bigint END AS lag_bytes,
    lag.lag,
    -- 0 where it keeps none.
    greatest(pg_catalog.pg_wal_lsn_diff(here.lsn, s.restart_lsn), 0)::bigint AS retained_bytes,
    CASE WHEN here.redo IS NOT NULL
        THEN greatest(pg_catalog.pg_wal_lsn_diff(here.redo, s.restart_lsn), 0)::bigint END AS beyond_checkpoint_bytes,
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
    END AS lsn,
    walferry.checkpoint_redo() AS redo
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
COMMENT ON COLUMN walferry.slots.beyond_checkpoint_bytes IS
    'of retained_bytes what lies before the last checkpoint, and would be removed but for this slot, others and wal_keep_size; null where that may not be asked';
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
COMMENT ON COLUMN walferry.slots.synced IS 'it is a standby''s copy of a slot on the primary, or was before the standby was promoted (17 and later)';
COMMENT ON COLUMN walferry.slots.inactive_since IS 'since when nobody reads it (17 and later)';
COMMENT ON COLUMN walferry.slots.invalidation_reason IS 'why it is invalidated';
COMMENT ON COLUMN walferry.slots.why_null IS 'for columns that are null without saying something by it: why';
