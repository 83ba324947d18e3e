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
