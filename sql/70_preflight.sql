CREATE FUNCTION walferry.identity_fix(
        schema name, table_name name, has_unused_primary_key boolean, candidate text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT format('ALTER TABLE %s.%s REPLICA IDENTITY ', walferry.quoted_name(schema), walferry.quoted_name(table_name))
        || CASE
            WHEN has_unused_primary_key THEN 'DEFAULT;'
            WHEN candidate IS NOT NULL THEN format('USING INDEX %s;', walferry.quoted_name(candidate))
            ELSE 'FULL;'
        END
    $$;

COMMENT ON FUNCTION walferry.identity_fix(name, name, boolean, text) IS
    'the statement that gives a table a replica identity: its primary key, else an index that will do, else the whole row';

CREATE FUNCTION walferry.replica_identity_audit()
    RETURNS TABLE (
        table_oid oid,
        schema name,
        table_name name,
        logged text,
        updates bigint,
        deletes bigint,
        verdict text,
        finding text,
        fix text
    )
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
    SELECT i.oid, i.schema, i.table_name, i.logged, i.updates, i.deletes,
        CASE WHEN i.updates + i.deletes > 0 THEN 'fail' ELSE 'warn' END,
        CASE WHEN i.updates + i.deletes > 0
            THEN format('its old rows are not logged, and it has had %s updates and %s deletes', i.updates, i.deletes)
            ELSE 'an UPDATE or DELETE would come without its old row; it has had none'
        END,
        walferry.identity_fix(i.schema, i.table_name, i.has_unused_primary_key, i.candidate)
    FROM walferry.preflight_replica_identity i
    WHERE i.logged = 'none'
    $$;

COMMENT ON FUNCTION walferry.replica_identity_audit() IS
    'the database''s tables of whose old rows nothing is logged, so that an UPDATE or DELETE can''t name its row (fail: they have had some), with the statement that gives them an identity';

CREATE FUNCTION walferry.preflight()
    RETURNS TABLE (verdict text, code text, object text, finding text, fix text)
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
    WITH s AS MATERIALIZED (SELECT * FROM walferry.preflight_server),
    n AS MATERIALIZED (
        SELECT s.*, s.settings ->> 'wal_level' AS wal_level,
            (s.settings ->> 'max_replication_slots')::int AS most_slots,
            (s.settings ->> 'max_wal_senders')::int AS most_senders,
            (s.settings ->> 'max_slot_wal_keep_size')::bigint AS keep_megabytes,
            (s.settings ->> 'wal_sender_timeout')::bigint AS timeout
        FROM s
    ),
    role AS MATERIALIZED (SELECT * FROM walferry.preflight_role),
    -- The plugins that are used here or would be: each has to be listed, where there is such a list.
    libraries AS MATERIALIZED (
        SELECT p.plugin, p.used, n.settings ->> 'output_plugin_libraries' AS listed,
            p.plugin = ANY (string_to_array(
                translate(n.settings ->> 'output_plugin_libraries', ' "', ''), ',')) AS allowed
        FROM n, (
            SELECT w.plugin, bool_or(w.used) AS used
            FROM (
                SELECT s.plugin::text, true FROM pg_replication_slots s WHERE s.plugin IS NOT NULL
                UNION ALL SELECT e.extname::text, false FROM pg_extension e WHERE e.extname = 'walferry'
                UNION ALL SELECT 'pgoutput', false
            ) w (plugin, used)
            GROUP BY w.plugin
        ) p
        WHERE n.settings ? 'output_plugin_libraries'
    ),
    published AS MATERIALIZED (
        SELECT p.*, concat_ws(', ',
                CASE WHEN NOT p.publishes_insert THEN 'insert' END, CASE WHEN NOT p.publishes_update THEN 'update' END,
                CASE WHEN NOT p.publishes_delete THEN 'delete' END, CASE WHEN NOT p.publishes_truncate THEN 'truncate' END)
                AS leaves_out
        FROM walferry.preflight_publications p
    ),
    answer (place, verdict, code, object, finding, fix) AS (
        SELECT 1, 'pass', 'server', NULL,
            format('PostgreSQL %s, %s', current_setting('server_version'), n.flavour), NULL
        FROM n
        UNION ALL
        SELECT 2, CASE WHEN n.wal_level = 'logical' THEN 'pass' ELSE 'fail' END, 'wal_level', NULL,
            CASE WHEN n.wal_level = 'logical' THEN 'logical'
                ELSE format('it is %s, and logical decoding needs logical', n.wal_level) END,
            CASE
                WHEN n.wal_level = 'logical' THEN NULL
                WHEN n.flavour IN ('rds', 'aurora')
                    THEN walferry.setting_fix('rds.logical_replication', '1', '1', true)
                WHEN n.flavour = 'cloud-sql'
                    THEN walferry.setting_fix('cloudsql.logical_decoding', 'on', 'on', true)
                ELSE walferry.setting_fix('wal_level', 'logical', 'logical', true)
            END
        FROM n
        UNION ALL
        SELECT 3, CASE WHEN n.senders_used < n.most_senders THEN 'pass' ELSE 'fail' END, 'wal_senders', NULL,
            format('%s of %s in use', n.senders_used, n.most_senders),
            CASE WHEN n.senders_used >= n.most_senders THEN walferry.setting_fix('max_wal_senders',
                greatest(n.most_senders + 5, 10)::text, greatest(n.most_senders + 5, 10)::text, true) END
        FROM n
        UNION ALL
        SELECT 4, CASE WHEN n.slots_used < n.most_slots THEN 'pass' ELSE 'fail' END, 'replication_slots', NULL,
            format('%s of %s in use', n.slots_used, n.most_slots),
            CASE WHEN n.slots_used >= n.most_slots THEN walferry.setting_fix('max_replication_slots',
                greatest(n.most_slots + 5, 10)::text, greatest(n.most_slots + 5, 10)::text, true) END
        FROM n
        UNION ALL
        SELECT 5, CASE WHEN n.keep_megabytes BETWEEN 0 AND 1023 THEN 'warn' ELSE 'pass' END,
            'max_slot_wal_keep_size', NULL,
            CASE WHEN n.keep_megabytes < 0
                THEN 'no limit: a slot is never given up, and keeps WAL until it is read or the disk is full'
                ELSE format('a slot that is %s behind is given up by the server',
                    walferry.in_words(n.keep_megabytes * 1048576)) END,
            CASE WHEN n.keep_megabytes BETWEEN 0 AND 1023
                THEN walferry.setting_fix('max_slot_wal_keep_size', '''10GB''', '10240', false) END
        FROM n
        UNION ALL
        SELECT 6, CASE WHEN n.timeout < 5000 THEN 'warn' ELSE 'pass' END, 'wal_sender_timeout', NULL,
            CASE
                WHEN n.timeout = 0 THEN 'none: a reader that vanished holds its slot until TCP notices'
                WHEN n.timeout < 5000
                    THEN format('%s ms: a reader that is silent for a moment is cut, and reads its transaction again', n.timeout)
                ELSE format('%s s', n.timeout / 1000)
            END,
            CASE WHEN n.timeout < 5000 THEN walferry.setting_fix('wal_sender_timeout', '''60s''', '60000', false) END
        FROM n
        UNION ALL
        SELECT 7, CASE WHEN r.allowed THEN 'pass' ELSE 'fail' END, 'replication_right', r.role,
            CASE WHEN r.allowed THEN 'it may replicate' ELSE 'it may not replicate' END,
            CASE
                WHEN r.allowed THEN NULL
                WHEN n.flavour IN ('rds', 'aurora') THEN format('GRANT rds_replication TO %s;', walferry.quoted_name(r.role))
                ELSE format('ALTER ROLE %s REPLICATION;', walferry.quoted_name(r.role))
            END
        FROM n, (SELECT role.*, role.superuser OR role.replication OR role.member_of_rds_replication AS allowed FROM role) r
        UNION ALL
        SELECT 8, 'warn',
            CASE WHEN o.gid IS NULL THEN 'open_transactions' ELSE 'prepared_transactions' END,
            coalesce(o.gid, 'PID ' || o.pid),
            format('role %s in database %s, open for %s s: a new slot waits for its end', o.owner, o.database, o.age_seconds),
            CASE WHEN o.gid IS NULL THEN format('SELECT pg_catalog.pg_terminate_backend(%s);', o.pid)
                ELSE walferry.prepared_fix(o.gid, o.database) END
        FROM walferry.preflight_open_transactions o
        WHERE o.age_seconds >= 10
        UNION ALL
        SELECT 9, a.verdict, 'replica_identity', format('%s.%s', a.schema, a.table_name), a.finding, a.fix
        FROM walferry.replica_identity_audit() a
        UNION ALL
        SELECT 10, CASE WHEN l.allowed THEN 'pass' WHEN l.used THEN 'fail' ELSE 'warn' END, 'output_plugin_libraries', l.plugin,
            CASE WHEN l.allowed THEN format('it lists %s', l.listed)
                ELSE format('it lists %s: plugin %s is refused', l.listed, l.plugin) END,
            CASE WHEN NOT l.allowed THEN walferry.setting_fix('output_plugin_libraries',
                -- What is listed and what slots use stays.
                a.list, replace(a.list, ', ', ','), false) END
        FROM libraries l, LATERAL (
            SELECT string_agg(DISTINCT quote_ident(u.name), ', ' ORDER BY quote_ident(u.name)) AS list
            FROM (
                SELECT trim(both ' "' FROM e) FROM unnest(string_to_array(l.listed, ',')) e
                UNION ALL SELECT s.plugin::text FROM pg_replication_slots s WHERE s.plugin IS NOT NULL
                UNION ALL SELECT l.plugin
            ) u (name)
        ) a
        UNION ALL
        SELECT 10, 'pass', 'output_plugin_libraries', NULL, 'this role can''t read it, if the server has it', NULL
        FROM n
        WHERE NOT n.settings ? 'output_plugin_libraries' AND NOT n.reads_all_settings
        UNION ALL
        SELECT 11, CASE WHEN p.leaves_out = '' THEN 'pass' ELSE 'warn' END, 'publication', p.publication::text,
            CASE WHEN p.leaves_out = ''
                THEN format('it publishes %s tables, all operations%s', coalesce(cardinality(p.tables), 0),
                    CASE WHEN p.via_root THEN ', partitions as their root' ELSE '' END)
                ELSE format('it does not publish %s', p.leaves_out) END,
            CASE WHEN p.leaves_out <> '' THEN format(
                'ALTER PUBLICATION %I SET (publish = ''insert, update, delete, truncate'');', p.publication) END
        FROM published p
        UNION ALL
        SELECT 12, 'warn', 'publication_identity', format('%s.%s', i.schema, i.table_name),
            format('publication %s has it without a replica identity: the server refuses UPDATE and DELETE on it',
                string_agg(p.publication::text, ', ' ORDER BY p.publication)),
            walferry.identity_fix(i.schema, i.table_name, i.has_unused_primary_key, i.candidate)
        FROM walferry.preflight_replica_identity i
        JOIN published p ON i.oid = ANY (p.tables) AND (p.publishes_update OR p.publishes_delete)
        WHERE i.logged = 'none'
        GROUP BY i.schema, i.table_name, i.has_unused_primary_key, i.candidate
    )
    SELECT a.verdict, a.code, a.object, a.finding, a.fix
    FROM answer a
    ORDER BY a.place, a.object
    $$;

COMMENT ON FUNCTION walferry.preflight() IS
    'whether this server and the role that asks are ready for replication: pass, warn or fail, with the statement that mends it; walferry check tries the connection, slot and plugin as well';
