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
    SET jit = off
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
