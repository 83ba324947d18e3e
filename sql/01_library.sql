-- What takes a system call.
CREATE FUNCTION walferry.wal_space() RETURNS TABLE (free_bytes bigint, total_bytes bigint, why_null text)
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'wal_space_wrapper';

COMMENT ON FUNCTION walferry.wal_space() IS
    'free and total bytes of the file system that pg_wal lies on, as the server''s account may use them; why_null says why they are null';

-- What the plugin's decoders publish in shared memory; walferry.plugin_statistics is for people.
CREATE FUNCTION walferry.decoders() RETURNS TABLE (
        slot_name text,
        pid int,
        state text,
        since timestamptz,
        sampled_at timestamptz,
        sampled_lsn bigint,
        transactions bigint,
        changes bigint,
        filtered bigint,
        origin_filtered bigint,
        frames bigint,
        bytes bigint,
        plugin_time double precision,
        write_time double precision,
        oldest_xid xid,
        oldest_lsn bigint,
        oldest_restart_lsn bigint,
        why_null text
    )
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'decoders_wrapper';

COMMENT ON FUNCTION walferry.decoders() IS
    'what each running decoder of plugin walferry publishes, LSNs as numbers; where that can''t be known, one row without a slot says why';
