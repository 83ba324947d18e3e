-- What the output plugin does for each slot, and the oldest transaction that its decoder follows.
CREATE VIEW walferry.plugin_statistics AS
WITH d AS MATERIALIZED (SELECT * FROM walferry.decoders())
SELECT
    s.slot_name,
    s.database,
    s.active_pid AS pid,
    d.state,
    d.since,
    d.sampled_at,
    '0/0'::pg_lsn + d.sampled_lsn::numeric AS sampled_lsn,
    d.transactions,
    d.changes,
    d.filtered,
    d.origin_filtered,
    d.frames,
    d.bytes,
    d.plugin_time,
    d.write_time,
    d.oldest_xid,
    '0/0'::pg_lsn + d.oldest_lsn::numeric AS oldest_lsn,
    '0/0'::pg_lsn + d.oldest_restart_lsn::numeric AS oldest_restart_lsn,
    -- Nothing is added to what a decoder follows while it reads or sends. While it decodes, it is heard of
    -- every 100 ms, or it is stuck in something.
    d.state IN ('reading', 'sending')
        OR d.sampled_at > pg_catalog.clock_timestamp() - interval '5 s' AS is_current,
    CASE
        WHEN d.pid IS NOT NULL THEN NULL
        WHEN s.plugin <> 'walferry' THEN pg_catalog.format('its plugin is %s, which publishes nothing', s.plugin)
        WHEN s.active_pid IS NULL THEN 'nobody reads it; counts begin anew with each reader'
        ELSE coalesce(
            (SELECT w.why_null FROM d w WHERE w.slot_name IS NULL),
            'its reader publishes nothing: it began with an older library, or when shared memory was used up')
    END AS why_null
FROM pg_catalog.pg_replication_slots s
LEFT JOIN d ON d.slot_name = s.slot_name AND d.pid = s.active_pid
WHERE s.slot_type = 'logical';

COMMENT ON VIEW walferry.plugin_statistics IS
    'each logical slot, with what the plugin walferry has done since the slot''s present reader began; null for other plugins and without a reader';
COMMENT ON COLUMN walferry.plugin_statistics.slot_name IS 'name of the slot';
COMMENT ON COLUMN walferry.plugin_statistics.database IS 'its database';
COMMENT ON COLUMN walferry.plugin_statistics.pid IS 'process that reads it';
COMMENT ON COLUMN walferry.plugin_statistics.state IS
    'what the decoder is at: reading (WAL, or waiting for more of it), decoding, sending (a frame, or waiting for the consumer to take it)';
COMMENT ON COLUMN walferry.plugin_statistics.since IS 'since when these are counted: when the decoder began';
COMMENT ON COLUMN walferry.plugin_statistics.sampled_at IS
    'when the counts were taken: before each page of WAL and each frame of 16 kB and more, and every 100 ms of a long transaction';
COMMENT ON COLUMN walferry.plugin_statistics.sampled_lsn IS 'end of the last WAL record that was decoded then';
COMMENT ON COLUMN walferry.plugin_statistics.transactions IS
    'transactions replayed to their end (commit or prepare) with something of this database in them';
COMMENT ON COLUMN walferry.plugin_statistics.changes IS 'rows, TRUNCATEs and logical messages that the plugin was given';
COMMENT ON COLUMN walferry.plugin_statistics.filtered IS
    'rows, truncated tables and messages that the options of the reader left out';
COMMENT ON COLUMN walferry.plugin_statistics.origin_filtered IS
    'WAL records left out for their replication origin, before they became changes';
COMMENT ON COLUMN walferry.plugin_statistics.frames IS 'frames sent';
COMMENT ON COLUMN walferry.plugin_statistics.bytes IS 'bytes of these frames';
COMMENT ON COLUMN walferry.plugin_statistics.plugin_time IS
    'milliseconds in which the plugin made frames of changes, told from every 64th change; decoding and sending are not in it';
COMMENT ON COLUMN walferry.plugin_statistics.write_time IS
    'milliseconds in which frames were handed to the connection, waiting for a slow consumer included';
COMMENT ON COLUMN walferry.plugin_statistics.oldest_xid IS
    'the oldest transaction that the decoder follows and has not seen the end of, in any database; null: none';
COMMENT ON COLUMN walferry.plugin_statistics.oldest_lsn IS 'where that transaction begins in the WAL';
COMMENT ON COLUMN walferry.plugin_statistics.oldest_restart_lsn IS
    'restart_lsn can''t go beyond this while that transaction is open';
COMMENT ON COLUMN walferry.plugin_statistics.is_current IS
    'whether oldest_xid is so now: the decoder reads or sends, or was heard of within 5 s';
COMMENT ON COLUMN walferry.plugin_statistics.why_null IS 'why the counts are null';
