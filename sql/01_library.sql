-- What takes a system call.
CREATE FUNCTION walferry.wal_space() RETURNS TABLE (free_bytes bigint, total_bytes bigint, why_null text)
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'wal_space_wrapper';

COMMENT ON FUNCTION walferry.wal_space() IS
    'free and total bytes of the file system that pg_wal lies on, as the server''s account may use them; why_null says why they are null';
