-- Which walferry this schema is of.
CREATE FUNCTION walferry.version() RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT '@VERSION@' $$;

COMMENT ON FUNCTION walferry.version() IS
    'version of the walferry library that is loaded';
