-- Which walferry this server runs.
CREATE FUNCTION walferry.version() RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'version_wrapper';

COMMENT ON FUNCTION walferry.version() IS
    'version of the walferry library that is loaded';
