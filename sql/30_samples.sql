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
    -- Who may call this may set the limits too, but not flood the table or empty it.
    IF EXISTS (
        SELECT FROM walferry.wal_samples w
        WHERE w.at > clock_timestamp() - greatest(l.sample_every, interval '0.1 s')
    ) THEN
        RETURN false;
    END IF;
    -- WAL that this server has not written: the table came from another, by pg_dump.
    DELETE FROM walferry.wal_samples w WHERE w.lsn > pg_current_wal_lsn();
    INSERT INTO walferry.wal_samples (at, lsn) VALUES (clock_timestamp(), pg_current_wal_lsn())
        ON CONFLICT DO NOTHING;
    -- Nothing to do most of the time, which an index scan finds out.
    DELETE FROM walferry.wal_samples w WHERE w.at < clock_timestamp() - greatest(l.keep_samples, interval '1 hour');
    DELETE FROM walferry.slot_readers k WHERE k.at < clock_timestamp() - greatest(l.keep_samples, interval '1 hour');
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
