-- What takes a system call, which SQL can't make.
CREATE FUNCTION walferry.wal_space() RETURNS TABLE (free_bytes bigint, total_bytes bigint, why_null text)
    LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT NULL::bigint, NULL::bigint,
        'free disk space can''t be seen over SQL: look at the service''s metrics (FreeStorageSpace on RDS), or install the extension'
    $$;

COMMENT ON FUNCTION walferry.wal_space() IS
    'free and total bytes of the file system that pg_wal lies on, as the server''s account may use them; why_null says why they are null';

-- What a library publishes in shared memory, and here there is none.
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
    LANGUAGE sql VOLATILE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT NULL::text, NULL::int, NULL::text, NULL::timestamptz, NULL::timestamptz, NULL::bigint, NULL::bigint,
        NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::double precision,
        NULL::double precision, NULL::xid, NULL::bigint, NULL::bigint,
        'only the extension''s library can look into a decoder'
    $$;

COMMENT ON FUNCTION walferry.decoders() IS
    'what each running decoder of plugin walferry publishes, LSNs as numbers; where that can''t be known, one row without a slot says why';
