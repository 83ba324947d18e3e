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
