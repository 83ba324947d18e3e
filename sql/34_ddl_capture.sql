-- Event triggers that write ddl_log, on and off.

-- It runs as its owner for whoever's DDL: everything it names is qualified, and
-- nothing in it runs code of the one who called. Replaced in place, because
-- event triggers hang on it. The catalogs may be large and what is looked up in
-- them is little, which the planner can't know.
CREATE OR REPLACE FUNCTION walferry.capture_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '2s'
    SET jit = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    AS $$
DECLARE
    -- Relations that ALTER TABLE names or reaches through inheritance, at most.
    most_tables CONSTANT int := 200;
    -- What has a table's name before its own.
    within_tables CONSTANT text[] := ARRAY['table column', 'foreign table column', 'default value', 'table constraint'];
    callers text;
    touched jsonb;
    changed jsonb;
    shown jsonb;
    said record;
    kept record;
    written bigint;
BEGIN
    -- A line for each that called: this function's alone means top level.
    GET DIAGNOSTICS callers = PG_CONTEXT;
    -- The block is a subtransaction. A cancelled statement passes through it.
    BEGIN
        IF TG_EVENT = 'ddl_command_end' THEN
            SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                    'command', c.command_tag,
                    'type', c.object_type,
                    'oid', c.objid::bigint,
                    'relation', coalesce(r.oid, k.conrelid)::bigint,
                    'schema', c.schema_name,
                    'name', coalesce(r.relname, t.typname, n.nspname, k.conname),
                    'column', a.attname,
                    'identity', c.object_identity,
                    'in_extension', nullif(c.in_extension, false),
                    'labels', (
                        SELECT jsonb_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid
                    )
                )) ORDER BY c.ordinality)
                INTO touched
                FROM pg_event_trigger_ddl_commands() WITH ORDINALITY c
                LEFT JOIN pg_class r ON c.classid = 'pg_class'::regclass AND r.oid = c.objid
                LEFT JOIN pg_attribute a
                    ON c.classid = 'pg_class'::regclass AND c.objsubid > 0
                    AND a.attrelid = c.objid AND a.attnum = c.objsubid
                LEFT JOIN pg_type t ON c.classid = 'pg_type'::regclass AND t.oid = c.objid
                LEFT JOIN pg_namespace n ON c.classid = 'pg_namespace'::regclass AND n.oid = c.objid
                LEFT JOIN pg_constraint k ON c.classid = 'pg_constraint'::regclass AND k.oid = c.objid
                WHERE coalesce(r.oid, t.oid, n.oid, k.oid) IS NOT NULL
                    AND coalesce(c.schema_name, n.nspname) NOT IN ('pg_temp', 'pg_toast', 'walferry')
                    AND coalesce(r.relpersistence, 'p') <> 't';
            IF touched IS NULL THEN
                RETURN;
            END IF;
            WITH RECURSIVE named AS (
                SELECT (o ->> 'relation')::oid AS relation,
                    bool_or(o ->> 'command' LIKE 'CREATE%' OR o ->> 'command' LIKE 'SELECT%') AS is_new,
                    min(o.place) AS place
                FROM jsonb_array_elements(touched) WITH ORDINALITY o (o, place)
                WHERE o ? 'relation'
                GROUP BY 1
                UNION ALL
                -- Another name of their schema is another name of theirs.
                SELECT r.oid, false, o.place
                FROM jsonb_array_elements(touched) WITH ORDINALITY o (o, place)
                JOIN pg_class r ON r.relnamespace = (o ->> 'oid')::oid
                WHERE o ->> 'command' = 'ALTER SCHEMA' AND o ->> 'type' = 'schema'
            ), reached AS (
                SELECT relation, is_new, place FROM named
                UNION
                SELECT i.inhrelid, false, p.place
                FROM reached p JOIN pg_inherits i ON i.inhparent = p.relation
                WHERE NOT p.is_new
            ), counted AS (
                SELECT relation, is_new, place, row_number() OVER (ORDER BY place, relation) AS at
                FROM (
                    SELECT x.relation, bool_or(x.is_new) AS is_new, min(x.place) AS place
                    FROM reached x JOIN pg_class r ON r.oid = x.relation
                    WHERE r.relkind IN ('r', 'p', 'f') AND r.relpersistence <> 't'
                    GROUP BY 1
                ) once
            )
            SELECT jsonb_agg(
                    jsonb_build_object('change', CASE WHEN is_new THEN 'CREATE' ELSE 'ALTER' END)
                    || CASE WHEN at <= most_tables THEN walferry.table_structure(relation)
                        ELSE jsonb_build_object('oid', relation::bigint, 'left_out', true) END
                    ORDER BY at)
                INTO changed
                FROM counted;
        ELSIF TG_EVENT = 'sql_drop' THEN
            -- Not what goes with a table: its row type, indexes, defaults, sequences.
            SELECT
                jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                    'command', TG_TAG,
                    'type', d.object_type,
                    'oid', d.objid::bigint,
                    'schema', d.schema_name,
                    'name', CASE
                        WHEN d.object_type = ANY (within_tables) THEN
                            d.address_names[2]
                        ELSE d.object_name END,
                    'column', CASE
                        WHEN d.object_type = ANY (within_tables) AND d.object_type <> 'table constraint' THEN
                            d.address_names[3] END,
                    'identity', d.object_identity
                )) ORDER BY d.original DESC, d.ordinality),
                jsonb_agg(jsonb_build_object(
                    'change', 'DROP', 'oid', d.objid::bigint, 'schema', d.schema_name, 'name', d.object_name
                ) ORDER BY d.ordinality) FILTER (WHERE d.object_type IN ('table', 'foreign table'))
                INTO touched, changed
                FROM pg_event_trigger_dropped_objects() WITH ORDINALITY d
                WHERE d.classid IN (
                        'pg_class'::regclass, 'pg_type'::regclass, 'pg_namespace'::regclass, 'pg_constraint'::regclass,
                        'pg_attrdef'::regclass
                    )
                    AND (d.original OR d.normal OR d.object_type IN ('table', 'foreign table', 'table column'))
                    AND NOT d.is_temporary
                    AND coalesce(d.schema_name, d.object_name, '') NOT IN ('pg_temp', 'pg_toast', 'walferry');
            -- Tables that lost something to a CASCADE; after ALTER TABLE ddl_command_end tells.
            IF TG_TAG LIKE 'DROP %' AND EXISTS (
                SELECT FROM jsonb_array_elements(touched) o WHERE o ->> 'type' = ANY (within_tables)
            ) THEN
                SELECT coalesce(changed, '[]') || coalesce(jsonb_agg(
                        '{"change": "ALTER"}'::jsonb || walferry.table_structure(lost.relation) ORDER BY lost.relation), '[]')
                    INTO changed
                    FROM (
                        SELECT DISTINCT r.oid AS relation
                        FROM pg_event_trigger_dropped_objects() d
                        JOIN pg_namespace n ON n.nspname = d.address_names[1]
                        JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = d.address_names[2]
                        WHERE d.object_type = ANY (within_tables)
                            AND r.relkind IN ('r', 'p', 'f') AND r.relpersistence <> 't' AND n.nspname <> 'walferry'
                        ORDER BY 1 LIMIT most_tables
                    ) lost;
            END IF;
        ELSE
            SELECT jsonb_agg(jsonb_build_object(
                    'command', TG_TAG,
                    'type', CASE r.relkind WHEN 'm' THEN 'materialized view' ELSE 'table' END,
                    'oid', r.oid::bigint,
                    'relation', r.oid::bigint,
                    'schema', n.nspname,
                    'name', r.relname,
                    'identity', format('%I.%I', n.nspname, r.relname),
                    'reason', w.reason,
                    'reasons', (
                        SELECT jsonb_agg(b.name ORDER BY b.bit)
                        FROM (VALUES (1, 'persistence'), (2, 'default'), (4, 'column type'), (8, 'access method')) b (bit, name)
                        WHERE w.reason & b.bit <> 0
                    )
                ))
                INTO touched
                FROM (SELECT pg_event_trigger_table_rewrite_oid() AS relation,
                    pg_event_trigger_table_rewrite_reason() AS reason) w
                JOIN pg_class r ON r.oid = w.relation
                JOIN pg_namespace n ON n.oid = r.relnamespace
                WHERE r.relpersistence <> 't' AND n.nspname <> 'walferry';
        END IF;
        IF touched IS NULL THEN
            RETURN;
        END IF;

        SELECT o INTO shown
            FROM jsonb_array_elements(touched) WITH ORDINALITY o (o, place)
            ORDER BY TG_EVENT <> 'sql_drop' AND o ->> 'type' NOT LIKE '%table%', place
            LIMIT 1;
        SELECT * INTO said FROM walferry.ddl_statement(
            current_query(), TG_TAG, strpos(callers, E'\n') > 0 OR jsonb_path_exists(touched, '$[*].in_extension'));
        INSERT INTO walferry.ddl_log (
                at, txid, login, event, command_tag, object_type, schema_name, object_name, objects, tables,
                statement, why_null
            )
            VALUES (
                clock_timestamp(), pg_current_xact_id()::text::bigint, session_user, TG_EVENT, TG_TAG,
                shown ->> 'type', shown ->> 'schema', shown ->> 'name', touched, coalesce(changed, '[]'::jsonb),
                said.statement, said.why_null
            )
            RETURNING id INTO written;

        -- Under REPEATABLE READ it could fail, under SERIALIZABLE make others fail.
        IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
            SELECT clock_timestamp() - r.keep AS since, written - r.keep_rows AS up_to INTO kept
                FROM walferry.ddl_retention r;
            IF EXISTS (
                SELECT FROM (SELECT l.id, l.at FROM walferry.ddl_log l ORDER BY l.id LIMIT 1) oldest
                WHERE oldest.id <= kept.up_to OR oldest.at < kept.since
            ) THEN
                -- Those that another transaction is removing are left to it.
                DELETE FROM walferry.ddl_log g WHERE g.id IN (
                    SELECT l.id FROM walferry.ddl_log l
                    WHERE l.id IN (
                        SELECT old.id
                        FROM (SELECT o.id, o.at FROM walferry.ddl_log o ORDER BY o.id LIMIT 100) old
                        WHERE old.id <= kept.up_to OR old.at < kept.since
                    )
                    FOR UPDATE SKIP LOCKED
                );
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'walferry did not capture this %: %', TG_TAG, SQLERRM
            USING ERRCODE = SQLSTATE, HINT = 'The command itself is not affected. Readers of the changes do not learn of it.';
    END;
END
$$;

COMMENT ON FUNCTION walferry.capture_ddl() IS
    'event trigger: writes ddl_log; never makes a command fail';

CREATE FUNCTION walferry.ddl_capture_on(keep interval DEFAULT NULL, keep_rows bigint DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    -- What changes no table, and what only grants or comments, does not wake the trigger.
    command_tags CONSTANT text[] := ARRAY[
        'ALTER DOMAIN', 'ALTER FOREIGN TABLE', 'ALTER INDEX', 'ALTER MATERIALIZED VIEW', 'ALTER SCHEMA', 'ALTER SEQUENCE',
        'ALTER TABLE', 'ALTER TYPE', 'ALTER VIEW', 'CREATE DOMAIN', 'CREATE FOREIGN TABLE', 'CREATE INDEX',
        'CREATE MATERIALIZED VIEW', 'CREATE SCHEMA', 'CREATE SEQUENCE', 'CREATE TABLE', 'CREATE TABLE AS', 'CREATE TYPE',
        'CREATE VIEW', 'IMPORT FOREIGN SCHEMA', 'SELECT INTO'
    ];
    of_extension CONSTANT boolean := EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'walferry');
    event text;
    made boolean := false;
    found_enabled "char";
    reason text;
    owner record;
BEGIN
    -- It can change the function that everybody's DDL will run.
    SELECT r.rolname, r.rolsuper INTO owner FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
        WHERE p.oid = 'walferry.capture_ddl()'::regprocedure;
    IF NOT owner.rolsuper AND owner.rolname <> current_user THEN
        RAISE EXCEPTION 'DDL capture can''t be turned on by role "%"', current_user
            USING ERRCODE = 'insufficient_privilege',
                DETAIL = format('Schema walferry belongs to role "%s", which could then run code as whoever changes a table.', owner.rolname),
                HINT = 'Install the pack as the role that may make event triggers, and call it as the same.';
    END IF;
    BEGIN
        INSERT INTO walferry.ddl_retention AS r (keep, keep_rows)
            VALUES (coalesce(ddl_capture_on.keep, '30 days'), coalesce(ddl_capture_on.keep_rows, 10000))
            ON CONFLICT ON CONSTRAINT ddl_retention_pkey DO UPDATE SET
                keep = coalesce(ddl_capture_on.keep, r.keep), keep_rows = coalesce(ddl_capture_on.keep_rows, r.keep_rows);
        FOREACH event IN ARRAY ARRAY['ddl_command_end', 'sql_drop', 'table_rewrite'] LOOP
            SELECT e.evtenabled INTO found_enabled FROM pg_event_trigger e
                WHERE e.evtname = 'walferry_' || event AND e.evtfoid = 'walferry.capture_ddl()'::regprocedure;
            IF found_enabled IS NULL THEN
                EXECUTE format('CREATE EVENT TRIGGER %I ON %s %s EXECUTE FUNCTION walferry.capture_ddl()',
                    'walferry_' || event, event,
                    CASE WHEN event = 'ddl_command_end' THEN
                        format('WHEN TAG IN (%s)', (SELECT string_agg(quote_literal(t), ', ') FROM unnest(command_tags) t))
                    END);
                IF of_extension THEN
                    EXECUTE format('ALTER EXTENSION walferry ADD EVENT TRIGGER %I', 'walferry_' || event);
                END IF;
            END IF;
            -- ALWAYS: whatever session_replication_role is.
            IF found_enabled IS DISTINCT FROM 'A' THEN
                EXECUTE format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', 'walferry_' || event);
                made := true;
            END IF;
        END LOOP;
    EXCEPTION WHEN insufficient_privilege THEN
        GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT;
        RAISE EXCEPTION 'DDL capture can''t be turned on by role "%"', current_user
            USING ERRCODE = 'insufficient_privilege',
                DETAIL = reason || '. Event triggers are for superusers; some managed services let their administrator make them.',
                HINT = CASE (SELECT s.flavour FROM walferry.preflight_server s)
                    WHEN 'self-managed' THEN 'Call it as a superuser.'
                    WHEN 'rds' THEN 'Install and call it as a member of rds_superuser.'
                    WHEN 'aurora' THEN 'Install and call it as a member of rds_superuser.'
                    WHEN 'cloud-sql' THEN 'Install and call it as a member of cloudsqlsuperuser.'
                    ELSE 'Install and call it as the service''s administrator.'
                END || ' Where that is refused too, DDL can''t be captured; everything else works without it.';
    END;
    RETURN made;
END
$$;

COMMENT ON FUNCTION walferry.ddl_capture_on(interval, bigint) IS
    'makes the event triggers that write ddl_log, and sets how much of it is kept (30 days and 10000 rows at first, later as it was where null); true when capture was off';

CREATE FUNCTION walferry.ddl_capture_off() RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    event record;
    dropped boolean := false;
BEGIN
    FOR event IN
        SELECT e.evtname AS name,
            EXISTS (
                SELECT FROM pg_depend d
                WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid AND d.deptype = 'e'
            ) AS of_extension
        FROM pg_event_trigger e
        WHERE e.evtfoid = 'walferry.capture_ddl()'::regprocedure
        ORDER BY 1
    LOOP
        IF event.of_extension THEN
            EXECUTE format('ALTER EXTENSION walferry DROP EVENT TRIGGER %I', event.name);
        END IF;
        EXECUTE format('DROP EVENT TRIGGER %I', event.name);
        dropped := true;
    END LOOP;
    RETURN dropped;
END
$$;

COMMENT ON FUNCTION walferry.ddl_capture_off() IS
    'drops the event triggers that write ddl_log, whose rows stay; true when there were any';

CREATE VIEW walferry.ddl_capture AS
SELECT
    t.triggers = 3 AND t.enabled = 3 AS is_on,
    CASE
        WHEN t.triggers = 3 AND t.enabled = 3 THEN NULL
        WHEN t.triggers = 0 THEN 'it is off: SELECT walferry.ddl_capture_on();'
        ELSE 'an event trigger is missing or disabled: SELECT walferry.ddl_capture_on();'
    END AS why_off,
    r.keep,
    r.keep_rows,
    (SELECT pg_catalog.max(l.at) FROM walferry.ddl_log l) AS last_captured
FROM (
    SELECT pg_catalog.count(*) AS triggers, pg_catalog.count(*) FILTER (WHERE e.evtenabled = 'A') AS enabled
    FROM pg_catalog.pg_event_trigger e
    WHERE e.evtname IN ('walferry_ddl_command_end', 'walferry_sql_drop', 'walferry_table_rewrite')
) t
LEFT JOIN walferry.ddl_retention r ON true;

COMMENT ON VIEW walferry.ddl_capture IS 'whether DDL is captured, in this database';
COMMENT ON COLUMN walferry.ddl_capture.is_on IS 'all three event triggers are there, and enabled always';
COMMENT ON COLUMN walferry.ddl_capture.why_off IS 'what is missing, and the statement that mends it';
COMMENT ON COLUMN walferry.ddl_capture.keep IS 'rows of ddl_log older than this are removed';
COMMENT ON COLUMN walferry.ddl_capture.keep_rows IS 'so many rows of ddl_log stay, at most';
COMMENT ON COLUMN walferry.ddl_capture.last_captured IS 'when the last row of ddl_log was written';
