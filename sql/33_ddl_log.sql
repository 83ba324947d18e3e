-- What changed in the shape of tables, as rows: they travel in order with the
-- data in every decoder, and nobody but the owner can write one.
CREATE TABLE walferry.ddl_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    txid bigint NOT NULL,
    login text NOT NULL,
    event text NOT NULL,
    command_tag text NOT NULL,
    object_type text,
    schema_name text,
    object_name text,
    objects jsonb NOT NULL,
    tables jsonb NOT NULL,
    statement text,
    why_null text
);

COMMENT ON TABLE walferry.ddl_log IS
    'captured DDL, a row for each command or part of one; written by capture_ddl() while ddl_capture_on()';
COMMENT ON COLUMN walferry.ddl_log.id IS 'in the order of capture; rolled-back commands leave gaps';
COMMENT ON COLUMN walferry.ddl_log.at IS 'when, by this server''s clock';
COMMENT ON COLUMN walferry.ddl_log.txid IS 'the transaction''s 64-bit id; a row that was copied here from elsewhere has another''s';
COMMENT ON COLUMN walferry.ddl_log.login IS 'session_user: who had logged in';
COMMENT ON COLUMN walferry.ddl_log.event IS 'ddl_command_end, sql_drop, or table_rewrite, which comes before the rewriting';
COMMENT ON COLUMN walferry.ddl_log.command_tag IS 'the command, such as ALTER TABLE';
COMMENT ON COLUMN walferry.ddl_log.object_type IS 'type of the object it is about, a table before others';
COMMENT ON COLUMN walferry.ddl_log.schema_name IS 'schema of that object; null for a schema';
COMMENT ON COLUMN walferry.ddl_log.object_name IS 'name of that object, unquoted';
COMMENT ON COLUMN walferry.ddl_log.objects IS
    'all objects it touched: command, type, oid, schema, name, identity, column; an enum''s labels; a rewrite''s reasons';
COMMENT ON COLUMN walferry.ddl_log.tables IS
    'the tables it changed: change (CREATE, ALTER, DROP), and unless dropped what table_structure() tells afterwards';
COMMENT ON COLUMN walferry.ddl_log.statement IS 'the statement as the client sent it, for people; never to be run';
COMMENT ON COLUMN walferry.ddl_log.why_null IS 'why there is no statement';

-- One row. No setting: any session may set those, and so empty the log.
CREATE TABLE walferry.ddl_retention (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    keep interval NOT NULL CHECK (keep >= '0'::interval),
    keep_rows bigint NOT NULL CHECK (keep_rows >= 0)
);

COMMENT ON TABLE walferry.ddl_retention IS 'how much of ddl_log is kept; written by ddl_capture_on()';
COMMENT ON COLUMN walferry.ddl_retention.singleton IS 'true: there is one row';
COMMENT ON COLUMN walferry.ddl_retention.keep IS 'rows older than this are removed';
COMMENT ON COLUMN walferry.ddl_retention.keep_rows IS 'so many rows stay, at most';

-- A table as a reader of its changes has to know it. Names of types are
-- qualified but for those of pg_catalog.
CREATE FUNCTION walferry.table_structure(relation oid) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    SET quote_all_identifiers = off
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET timezone = 'UTC'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
    SET jit = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    AS $$
BEGIN
    RETURN (
    WITH indexes AS (
        SELECT i.indexrelid, i.indisprimary, i.indisreplident,
            (SELECT jsonb_agg(a.attname ORDER BY k.place)
                FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
                JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                WHERE k.place <= i.indnkeyatts) AS columns
        FROM pg_index i
        WHERE i.indrelid = table_structure.relation AND i.indisvalid AND (i.indisprimary OR i.indisreplident)
    ), keys AS (
        SELECT
            coalesce((SELECT x.columns FROM indexes x WHERE x.indisprimary), '[]'::jsonb) AS primary_key,
            (SELECT x.columns FROM indexes x WHERE x.indisreplident) AS identity_index
    ), columns AS (
        SELECT a.attnum, jsonb_strip_nulls(jsonb_build_object(
            'name', a.attname,
            'attnum', a.attnum,
            'type_oid', a.atttypid::bigint,
            'type', format_type(a.atttypid, a.atttypmod),
            'type_schema', t.typnamespace::regnamespace::text,
            'typmod', a.atttypmod,
            'dimensions', a.attndims,
            'not_null', a.attnotnull,
            'primary_key', k.primary_key ? a.attname::text,
            'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
            'generated', CASE a.attgenerated WHEN 's' THEN 'stored' WHEN 'v' THEN 'virtual' END,
            'default', CASE WHEN a.attgenerated = '' THEN e.expression END,
            'generation', CASE WHEN a.attgenerated <> '' THEN e.expression END,
            'collation', (
                SELECT format('%I.%I', n.nspname, c.collname)
                FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
                WHERE c.oid = a.attcollation AND a.attcollation <> t.typcollation
            ),
            'base_type_oid', CASE WHEN t.typtype = 'd' THEN t.typbasetype::bigint END,
            'enum', (
                SELECT jsonb_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = a.atttypid
            ),
            -- What rows from before the column have in it, without having been rewritten.
            'of_older_rows', CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] END
        )) AS structure
        FROM keys k, pg_attribute a
        JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN LATERAL (SELECT pg_get_expr(d.adbin, d.adrelid) AS expression) e ON true
        WHERE a.attrelid = table_structure.relation AND a.attnum > 0 AND NOT a.attisdropped
    )
    SELECT jsonb_strip_nulls(jsonb_build_object(
        'oid', r.oid::bigint,
        'schema', n.nspname,
        'name', r.relname,
        'kind', CASE r.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
        'logged', r.relpersistence = 'p',
        'partition_of', (
            SELECT jsonb_build_object('schema', pn.nspname, 'name', p.relname, 'oid', p.oid::bigint)
            FROM pg_inherits i
            JOIN pg_class p ON p.oid = i.inhparent
            JOIN pg_namespace pn ON pn.oid = p.relnamespace
            WHERE i.inhrelid = r.oid AND r.relispartition
        ),
        'primary_key', k.primary_key,
        'replica_identity', CASE r.relreplident
            WHEN 'd' THEN 'default' WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' ELSE 'index' END,
        'identity_columns', CASE r.relreplident
            WHEN 'd' THEN k.primary_key
            WHEN 'i' THEN coalesce(k.identity_index, '[]'::jsonb)
            WHEN 'f' THEN (SELECT jsonb_agg(c.structure -> 'name' ORDER BY c.attnum) FROM columns c)
            ELSE '[]'::jsonb END,
        'columns', coalesce((SELECT jsonb_agg(c.structure ORDER BY c.attnum) FROM columns c), '[]'::jsonb)
    ))
    FROM keys k, pg_class r
    JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE r.oid = table_structure.relation AND r.relkind IN ('r', 'p', 'f')
    );
END
$$;

COMMENT ON FUNCTION walferry.table_structure(oid) IS
    'a table with its columns, keys and replica identity as jsonb; null for what is no table';

-- Which text may be kept beside a captured command. In doubt none.
CREATE FUNCTION walferry.ddl_statement(sent text, command_tag text, nested boolean, OUT statement text, OUT why_null text)
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    whole text := regexp_replace(btrim(sent, E' \t\r\n'), '(\s*;)+$', '');
    words text := CASE
        WHEN command_tag = 'SELECT INTO' THEN '(select|with)'
        WHEN command_tag LIKE 'CREATE %' THEN
            'create\s+(or\s+replace\s+)?((global|local|temporary|temp|unlogged|unique|foreign|materialized|recursive)\s+)*'
            || regexp_replace(command_tag, '^CREATE (FOREIGN |MATERIALIZED )?| AS$', '', 'g')
        ELSE replace(command_tag, ' ', '\s+')
    END;
BEGIN
    IF nested THEN
        why_null := 'it ran inside a function, a DO block, a trigger or an extension''s script';
    ELSIF whole IS NULL OR whole = '' THEN
        why_null := 'the server does not know the text';
    ELSIF length(whole) > 100000 THEN
        why_null := 'it is longer than 100000 characters';
    ELSIF strpos(whole, ';') > 0 THEN
        why_null := 'there is a semicolon in it: it may be several statements';
    ELSIF whole !~* ('^' || words || '\M') THEN
        why_null := 'what the client sent does not begin as this command does';
    ELSIF whole ~* 'passw|passphrase|pwd|secret|credential|token|(api|access|private|account)[ _-]?key|(user|server)\s+mapping|\moptions\s*\(|://[^/\s]*@' THEN
        why_null := 'it may hold a secret';
    ELSE
        statement := whole;
    END IF;
END
$$;

COMMENT ON FUNCTION walferry.ddl_statement(text, text, boolean) IS
    'the statement to keep of what a client sent, or why none: nested, several, another, or perhaps with a secret';
