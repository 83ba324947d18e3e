-- A fix is statements and remarks, one a line. Of what stands in them some was named by others, and a name may hold
-- anything: a line break in it would end a remark, and what follows would be run.

CREATE FUNCTION walferry.quoted_name(name text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = on
    AS $$
    SELECT CASE
        WHEN name !~ '[\n\r]' THEN quote_ident(name)
        ELSE 'U&"' || replace(replace(replace(replace(name, '\', '\\'), '"', '""'), E'\n', '\000a'), E'\r', '\000d') || '"'
    END
    $$;

COMMENT ON FUNCTION walferry.quoted_name(text) IS 'a name as a statement on one line takes it';

CREATE FUNCTION walferry.quoted_text(value text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = on
    AS $$
    SELECT CASE
        WHEN value !~ '[\n\r]' THEN quote_literal(value)
        ELSE 'E''' || replace(replace(replace(replace(value, '\', '\\'), '''', ''''''), E'\n', '\n'), E'\r', '\r') || ''''
    END
    $$;

COMMENT ON FUNCTION walferry.quoted_text(text) IS 'a text as a statement on one line takes it';

CREATE FUNCTION walferry.one_line(value text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = on
    AS $$ SELECT regexp_replace(value, '[\n\r]+', ' ', 'g') $$;

COMMENT ON FUNCTION walferry.one_line(text) IS 'a text without its line breaks, as a remark takes it';

-- How a prepared transaction is ended.
CREATE FUNCTION walferry.prepared_fix(gid text, database name) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = on
    AS $$
    SELECT format(E'-- in database %s; or COMMIT PREPARED, whichever its transaction manager meant\nROLLBACK PREPARED %s;',
        walferry.one_line(database), walferry.quoted_text(gid))
    $$;

COMMENT ON FUNCTION walferry.prepared_fix(text, name) IS 'the statement that ends a prepared transaction';
