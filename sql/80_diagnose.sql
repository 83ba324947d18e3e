-- jit is off: compiling would take longer than the query (a second with 200 slots, in place of 0.2).
CREATE FUNCTION walferry.diagnose(slot name DEFAULT NULL)
    RETURNS TABLE (severity text, code text, object text, finding text, evidence jsonb, fix text)
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
    WITH l AS MATERIALIZED (SELECT * FROM walferry.limits),
    s AS MATERIALIZED (
        SELECT v.* FROM walferry.slots v WHERE slot IS NULL OR v.slot_name = slot
    ),
    -- Where the WAL begins that is kept for the slot that keeps most, if pg_walinspect may be asked.
    oldest AS MATERIALIZED (
        SELECT w.* FROM (
            SELECT s.slot_name FROM s, l
            WHERE s.slot_type = 'logical' AND s.state <> 'invalidated'
                AND coalesce(s.beyond_checkpoint_bytes, s.retained_bytes) > l.retained_wal
            ORDER BY s.retained_bytes DESC LIMIT 1
        ) k, LATERAL walferry.slot_wal(k.slot_name) w
        WHERE w.why_null IS NULL
    ),
    oldest_wal AS MATERIALIZED (
        SELECT jsonb_agg(jsonb_build_object('xid', o.xid, 'first_lsn', o.first_lsn, 'bytes', o.bytes,
            'relation', o.relation) ORDER BY o.first_lsn) AS wal
        FROM (
            SELECT o.xid::text AS xid, min(o.first_lsn) AS first_lsn, sum(o.bytes) AS bytes,
                (array_agg(o.relation ORDER BY o.bytes DESC) FILTER (WHERE o.relation IS NOT NULL))[1] AS relation
            FROM oldest o WHERE o.xid IS NOT NULL
            GROUP BY o.xid::text ORDER BY 2 LIMIT 10
        ) o
    ),
    b AS MATERIALIZED (
        SELECT k.*, s.slot_type, s.retained_bytes, s.lag_bytes, s.lag, s.connected_since, s.beyond_checkpoint_bytes,
            (SELECT min(o.first_lsn) FROM oldest o WHERE o.xid = k.xid) AS first_record
        FROM walferry.slot_blockers(slot) k
        JOIN s ON s.slot_name = k.slot_name
    ),
    f AS MATERIALIZED (SELECT * FROM walferry.slot_forecast(slot)),
    -- What is the server's and not a slot's is told when no slot was named.
    n AS MATERIALIZED (
        SELECT p.*, (p.settings ->> 'max_replication_slots')::int AS most_slots,
            (p.settings ->> 'max_wal_senders')::int AS most_senders,
            (p.settings ->> 'max_slot_wal_keep_size')::bigint AS keep_megabytes,
            (p.settings ->> 'wal_sender_timeout')::bigint AS timeout,
            p.settings ->> 'output_plugin_libraries' AS libraries
        FROM walferry.preflight_server p
    ),
    answer (severity, code, object, finding, evidence, fix) AS (
        SELECT 'critical', 'slot_missing', slot::text, 'there is no slot with this name', '{}'::jsonb,
            'SELECT slot_name, plugin, database FROM walferry.slots;'
        WHERE slot IS NOT NULL AND NOT EXISTS (SELECT FROM s)

        UNION ALL
        SELECT 'critical', 'slot_invalidated', s.slot_name::text,
            format('the server has given it up (%s): %s', s.invalidation_reason,
                CASE WHEN n.in_recovery AND coalesce(s.synced, false)
                    THEN 'this standby''s copy of the primary''s slot would not serve after a failover; the server makes it anew when the primary''s is sound'
                    WHEN s.slot_type = 'physical'
                    THEN 'its standby can''t go on from it, unless an archive has the WAL; it has to be made anew'
                    ELSE format('its consumer can''t go on from it, and changes since %s are lost to it; it has to be made anew, with a new snapshot',
                        s.confirmed_flush_lsn) END),
            jsonb_build_object('invalidation_reason', s.invalidation_reason, 'confirmed_flush_lsn', s.confirmed_flush_lsn,
                'plugin', s.plugin, 'database', s.database),
            CASE WHEN n.in_recovery AND coalesce(s.synced, false)
                THEN format(E'-- on the primary\nSELECT * FROM walferry.diagnose(%L);', s.slot_name)
                ELSE format('SELECT pg_catalog.pg_drop_replication_slot(%L);', s.slot_name) END
        FROM s, n
        WHERE s.state = 'invalidated'

        UNION ALL
        SELECT 'critical', 'slot_near_invalidation', s.slot_name::text,
            format('it is given up after %s more of WAL%s; end what holds it, or raise max_slot_wal_keep_size as far as the disk allows (%s free)',
                walferry.in_words(greatest(s.safe_wal_size, 0)),
                coalesce(', in about ' || walferry.in_words(make_interval(secs => least(f.seconds_to_invalidation, 1e11)::double precision)), ''),
                coalesce(walferry.in_words(f.free_bytes), 'it is not known how much is')),
            jsonb_build_object('safe_wal_size', s.safe_wal_size, 'retained_bytes', s.retained_bytes,
                'wal_status', s.wal_status, 'seconds_to_invalidation', f.seconds_to_invalidation,
                'wal_bytes_per_second', f.wal_bytes_per_second, 'free_bytes', f.free_bytes),
            CASE WHEN m.megabytes > n.keep_megabytes
                THEN walferry.setting_fix('max_slot_wal_keep_size', format('''%sMB''', m.megabytes), m.megabytes::text, false)
                ELSE (SELECT b.fix FROM b WHERE b.slot_name = s.slot_name ORDER BY b.age DESC NULLS LAST LIMIT 1) END
        FROM s
        JOIN f ON f.slot_name = s.slot_name, l, n,
            LATERAL (
                -- No more than half of what is free.
                SELECT least(greatest(64, 4 * n.keep_megabytes, 2 * s.retained_bytes / 1048576),
                    n.keep_megabytes + f.free_bytes / 2 / 1048576, 2147483647) AS megabytes
            ) m
        WHERE s.state <> 'invalidated' AND n.keep_megabytes >= 0
            AND (s.wal_status = 'unreserved'
                OR s.safe_wal_size < n.keep_megabytes * 1048576 * l.safe_wal_percent / 100
                OR (f.seconds_to_invalidation < extract(epoch FROM l.time_left) AND s.retained_bytes > l.retained_wal))

        UNION ALL
        SELECT 'critical', 'disk_filling', s.slot_name::text,
            format('it keeps %s of WAL, and the disk of pg_wal has %s left: full in about %s at the rate of the last hour',
                walferry.in_words(s.retained_bytes), walferry.in_words(f.free_bytes),
                walferry.in_words(make_interval(secs => f.seconds_to_disk_full::double precision))),
            jsonb_build_object('retained_bytes', s.retained_bytes, 'free_bytes', f.free_bytes,
                'wal_bytes_per_second', f.wal_bytes_per_second, 'seconds_to_disk_full', f.seconds_to_disk_full),
            (SELECT b.fix FROM b WHERE b.slot_name = s.slot_name ORDER BY b.age DESC NULLS LAST LIMIT 1)
        FROM s
        JOIN f ON f.slot_name = s.slot_name, l
        -- On a busy server a sound slot is always some seconds behind, and these may be a GB.
        WHERE s.state <> 'invalidated' AND s.retained_bytes > l.retained_wal
            AND coalesce(s.beyond_checkpoint_bytes, s.retained_bytes) > 0
            AND f.seconds_to_disk_full < extract(epoch FROM l.time_left)

        UNION ALL
        SELECT CASE WHEN b.retained_bytes > l.retained_wal THEN 'critical' ELSE 'warning' END,
            CASE WHEN b.retained_bytes > l.retained_wal THEN 'slot_inactive' ELSE 'slot_idle' END,
            b.slot_name::text,
            CASE WHEN b.age IS NULL THEN '' ELSE format('since %s ', walferry.in_words(b.age)) END || b.finding,
            jsonb_build_object('retained_bytes', b.retained_bytes, 'lag_bytes', b.lag_bytes, 'lag', b.lag),
            b.fix
        FROM b, l
        WHERE b.kind IN ('missing consumer', 'missing standby')
            AND (b.retained_bytes > l.retained_wal OR b.age > l.idle_slot)

        UNION ALL
        -- Once for a transaction, with all the slots that it holds.
        SELECT CASE WHEN max(b.retained_bytes) > max(l.retained_wal)
                AND max(b.age) > max(CASE WHEN b.gid IS NULL THEN l.long_transaction ELSE l.prepared_transaction END)
                THEN 'critical' ELSE 'warning' END,
            CASE WHEN b.gid IS NULL THEN 'long_transaction' ELSE 'prepared_transaction' END,
            coalesce(b.gid, 'pid ' || b.pid),
            format('it holds %s of %s: %s',
                CASE WHEN bool_or('restart_lsn' = ANY (b.holds)) THEN 'restart_lsn and catalog_xmin' ELSE 'catalog_xmin' END,
                CASE WHEN count(*) = 1 THEN 'slot ' || min(b.slot_name::text) ELSE count(*) || ' slots' END,
                b.finding),
            jsonb_build_object('slots', jsonb_agg(b.slot_name ORDER BY b.slot_name),
                'retained_bytes', max(b.retained_bytes), 'xid', b.xid::text, 'owner', b.owner, 'database', b.database,
                'application_name', b.application_name, 'age_seconds', round(extract(epoch FROM max(b.age))),
                'query', b.query, 'first_record', min(b.first_record)),
            b.fix
        FROM b, l
        WHERE (b.kind = 'transaction' AND b.age > l.long_transaction)
            OR (b.kind = 'prepared transaction' AND b.age > l.prepared_transaction)
            -- However young: with it gone, so much of the disk would be free.
            OR (b.kind IN ('transaction', 'prepared transaction')
                AND coalesce(b.beyond_checkpoint_bytes, b.retained_bytes) > l.retained_wal)
        GROUP BY b.gid, b.pid, b.finding, b.xid::text, b.owner, b.database, b.application_name, b.query, b.fix

        UNION ALL
        SELECT CASE WHEN b.kind IN ('waiting', 'decoding') THEN 'info' ELSE 'warning' END,
            CASE b.kind
                WHEN 'waiting' THEN 'blocker_gone'
                WHEN 'primary' THEN 'held_by_primary'
                WHEN 'decoding' THEN 'decoding_behind'
                WHEN 'standby' THEN 'standby_behind'
                WHEN 'consumer does not confirm' THEN 'consumer_not_confirming'
                ELSE 'consumer_not_receiving'
            END,
            b.slot_name::text, b.finding,
            jsonb_build_object('pid', b.pid, 'application_name', b.application_name, 'retained_bytes', b.retained_bytes,
                'lag_bytes', b.lag_bytes, 'lag', b.lag, 'connected_since', b.connected_since)
            || CASE WHEN b.kind = 'waiting' THEN jsonb_build_object('oldest_wal', (SELECT o.wal FROM oldest_wal o))
                ELSE '{}' END,
            b.fix
        FROM b
        WHERE b.kind IN ('waiting', 'primary', 'decoding', 'standby', 'consumer does not confirm', 'consumer does not receive')

        UNION ALL
        SELECT 'warning', 'walsender_timeout', k.slot_name::text,
            format('%s readers in an hour, and nothing confirmed in between: unless it fails by itself, its consumer is cut off while it is busy (wal_sender_timeout is %s; the server''s log then says "terminating walsender process due to replication timeout") and is sent the same again',
                k.readers, walferry.in_words(make_interval(secs => n.timeout / 1000.0))),
            jsonb_build_object('readers', k.readers, 'since', k.since, 'wal_sender_timeout_ms', n.timeout,
                'confirmed_flush_lsn', k.confirmed_flush_lsn),
            walferry.setting_fix('wal_sender_timeout', format('''%ss''', greatest(300, 5 * n.timeout / 1000)),
                greatest(300000, 5 * n.timeout)::text, false)
        FROM n, l, LATERAL (
            -- Of those met under the present setting, at the position that the slot still has.
            SELECT k.slot_name, count(DISTINCT k.active_pid) AS readers, min(k.at) AS since, k.confirmed_flush_lsn
            FROM walferry.slot_readers k
            JOIN s ON s.slot_name = k.slot_name AND s.confirmed_flush_lsn = k.confirmed_flush_lsn
            WHERE k.at > clock_timestamp() - interval '1 hour' AND k.wal_sender_timeout = n.timeout
            GROUP BY k.slot_name, k.confirmed_flush_lsn
        ) k
        WHERE n.timeout > 0 AND k.readers >= l.lost_connections

        UNION ALL
        SELECT 'info', 'spill', s.slot_name::text,
            format('%s of %s transactions were spilled to disk, %s in all, since logical_decoding_work_mem is %s; a walsender may use so much memory',
                s.spill_txns, s.total_txns, walferry.in_words(s.spill_bytes), current_setting('logical_decoding_work_mem')),
            jsonb_build_object('spill_txns', s.spill_txns, 'spill_count', s.spill_count, 'spill_bytes', s.spill_bytes,
                'total_txns', s.total_txns, 'stats_reset', s.stats_reset,
                'logical_decoding_work_mem', current_setting('logical_decoding_work_mem')),
            m.fix || CASE WHEN n.flavour = 'self-managed'
                THEN format(E'\nSELECT pg_catalog.pg_stat_reset_replication_slot(%L);', s.slot_name) ELSE '' END
        FROM s, l, n,
            LATERAL (
                SELECT CASE WHEN s.spill_bytes > l.spilled
                    THEN walferry.more_decoding_memory(s.spill_bytes, s.spill_txns) END AS fix
            ) m
        WHERE m.fix IS NOT NULL

        UNION ALL
        SELECT CASE WHEN s.catalog_xmin_age > 1000000000 THEN 'critical' ELSE 'warning' END,
            'catalog_xmin_old', s.slot_name::text,
            format('its catalog_xmin %s is %s transactions old: VACUUM can''t remove dead rows of the system catalogs since%s',
                s.catalog_xmin, s.catalog_xmin_age, '; ' || k.finding),
            jsonb_build_object('catalog_xmin', s.catalog_xmin::text, 'catalog_xmin_age', s.catalog_xmin_age, 'held_by', k.kind),
            k.fix
        FROM s
        CROSS JOIN l
        LEFT JOIN LATERAL (
            SELECT b.kind, b.finding, b.fix FROM b
            WHERE b.slot_name = s.slot_name AND 'catalog_xmin' = ANY (b.holds)
            ORDER BY b.age DESC NULLS LAST LIMIT 1
        ) k ON true
        WHERE s.catalog_xmin_age > l.catalog_xmin_age AND s.state <> 'invalidated'

        UNION ALL
        -- A standby's hot_standby_feedback, kept by its slot when it is gone.
        SELECT CASE WHEN age(s.xmin) > 1000000000 THEN 'critical' ELSE 'warning' END, 'xmin_old', s.slot_name::text,
            format('its xmin %s is %s transactions old: VACUUM can''t remove dead rows of any table since; %s',
                s.xmin, age(s.xmin),
                CASE WHEN s.state = 'inactive' THEN 'its standby, which asked for them, is gone'
                    ELSE 'an old transaction on its standby needs them (hot_standby_feedback)' END),
            jsonb_build_object('xmin', s.xmin::text, 'xmin_age', age(s.xmin), 'state', s.state, 'pid', s.active_pid,
                'application_name', s.application_name),
            CASE WHEN s.state = 'inactive' THEN format('SELECT pg_catalog.pg_drop_replication_slot(%L);', s.slot_name)
                ELSE E'-- on the standby: the oldest transaction there\nSELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() ORDER BY pg_catalog.age(backend_xmin) DESC LIMIT 1;'
            END
        FROM s, l
        WHERE s.slot_type = 'physical' AND age(s.xmin) > l.catalog_xmin_age AND s.state <> 'invalidated'

        UNION ALL
        SELECT 'warning', 'standby_slot_missing', w.slot_name::text,
            format('%s, and synchronized_standby_slots lists it: slots with failover are sent nothing until it is there (%s)',
                w.finding, k.slots),
            jsonb_build_object('synchronized_standby_slots', current_setting('synchronized_standby_slots', true), 'slots', k.slots),
            walferry.standby_slots_fix()
        FROM (
            SELECT string_agg(s.slot_name, ', ' ORDER BY s.slot_name) AS slots FROM s
            WHERE s.failover AND s.state <> 'invalidated'
        ) k, n, LATERAL walferry.standby_slots() w
        WHERE k.slots IS NOT NULL AND NOT n.in_recovery AND w.holds

        UNION ALL
        SELECT 'warning', 'slot_not_synchronised', s.slot_name::text,
            'this standby''s copy of it is not yet safe to use after a failover: it is still temporary, because the primary''s slot keeps less than this standby needs',
            jsonb_build_object('synced', s.synced, 'temporary', s.temporary, 'restart_lsn', s.restart_lsn),
            '-- on the primary, once its consumer has confirmed more' || E'\nSELECT pg_catalog.pg_log_standby_snapshot();'
        FROM s, n
        WHERE n.in_recovery AND s.synced AND s.temporary

        UNION ALL
        SELECT 'warning', 'slot_sync_off', string_agg(s.slot_name::text, ', ' ORDER BY s.slot_name),
            'slots were synchronised from the primary, and sync_replication_slots is off: they grow old, and can''t be used after a failover',
            jsonb_build_object('slots', jsonb_agg(s.slot_name ORDER BY s.slot_name)),
            walferry.setting_fix('sync_replication_slots', 'on', 'on', false)
        FROM s, n
        WHERE n.in_recovery AND s.synced AND current_setting('sync_replication_slots', true) = 'off'
        HAVING count(*) > 0

        UNION ALL
        -- What the slot sync worker asks for before it does anything (ValidateSlotSyncParams, slotsync.c).
        SELECT 'warning', 'slot_sync_off', NULL,
            format('sync_replication_slots is on, and nothing is synchronised as long as %s', k.reason),
            jsonb_build_object('reason', k.reason), k.fix
        FROM n, LATERAL (
            SELECT 'hot_standby_feedback is off' AS reason,
                walferry.setting_fix('hot_standby_feedback', 'on', 'on', false) AS fix
            WHERE current_setting('hot_standby_feedback') = 'off'
            UNION ALL
            SELECT 'primary_slot_name is empty',
                '-- the standby''s physical slot on the primary, made there with pg_create_physical_replication_slot: primary_slot_name = ...'
            WHERE current_setting('primary_slot_name') = ''
            UNION ALL
            SELECT 'primary_conninfo names no database',
                '-- add dbname=... of any database to primary_conninfo, and reload'
            FROM pg_settings p
            WHERE p.name = 'primary_conninfo' AND p.setting <> '' AND p.setting !~ '\mdbname\s*=|^postgres(ql)?://[^/]*/[^?]'
        ) k
        WHERE slot IS NULL AND n.in_recovery AND current_setting('sync_replication_slots', true) = 'on'

        UNION ALL
        SELECT 'warning', 'no_free_slot', NULL,
            format('all of max_replication_slots = %s are in use: no further slot can be made', n.most_slots),
            jsonb_build_object('slots_used', n.slots_used, 'max_replication_slots', n.most_slots),
            walferry.setting_fix('max_replication_slots', greatest(n.most_slots + 5, 10)::text,
                greatest(n.most_slots + 5, 10)::text, true)
        FROM n
        WHERE slot IS NULL AND n.slots_used >= n.most_slots

        UNION ALL
        SELECT 'warning', 'no_free_sender', NULL,
            format('all of max_wal_senders = %s are in use: no further consumer or standby can connect', n.most_senders),
            jsonb_build_object('senders_used', n.senders_used, 'max_wal_senders', n.most_senders),
            walferry.setting_fix('max_wal_senders', greatest(n.most_senders + 5, 10)::text,
                greatest(n.most_senders + 5, 10)::text, true)
        FROM n
        WHERE slot IS NULL AND n.senders_used >= n.most_senders

        UNION ALL
        SELECT 'critical', 'plugin_not_allowed', p.plugin,
            format('output_plugin_libraries (%s) does not list it: %s', n.libraries,
                coalesce('slots that use it can''t be read: ' || p.slots, 'no slot can be made with it')),
            jsonb_build_object('output_plugin_libraries', n.libraries, 'slots', p.slots),
            walferry.setting_fix('output_plugin_libraries', w.list, replace(w.list, ', ', ','), false)
        FROM n,
            (
                SELECT u.plugin, string_agg(u.slot_name, ', ' ORDER BY u.slot_name) AS slots
                FROM (
                    SELECT s.plugin::text AS plugin, s.slot_name::text AS slot_name FROM s WHERE s.plugin IS NOT NULL
                    UNION ALL
                    SELECT e.extname::text, NULL FROM pg_extension e WHERE e.extname = 'walferry' AND slot IS NULL
                ) u
                GROUP BY u.plugin
            ) p,
            LATERAL (
                SELECT array_agg(btrim(x, ' "')) AS listed
                FROM unnest(string_to_array(n.libraries, ',')) x WHERE btrim(x, ' "') <> ''
            ) c,
            LATERAL (
                -- What is listed, and whatever slots use: one statement mends them all.
                SELECT string_agg(CASE WHEN x ~ '^[a-z_][a-z0-9_]*$' THEN x ELSE quote_literal(x) END, ', ' ORDER BY x) AS list
                FROM (
                    SELECT unnest(c.listed) AS x
                    UNION SELECT plugin::text FROM pg_replication_slots WHERE plugin IS NOT NULL
                    UNION SELECT p.plugin
                ) every
            ) w
        WHERE n.libraries IS NOT NULL AND NOT p.plugin = ANY (coalesce(c.listed, '{}'))

        UNION ALL
        -- The database's tables matter to the slots in it.
        -- From the view and not the audit, so that only tables that were changed are looked into.
        SELECT 'warning', 'replica_identity', format('%s.%s', a.schema, a.table_name),
            format('its old rows are not logged, and it has had %s updates and %s deletes', a.updates, a.deletes),
            jsonb_build_object('updates', a.updates, 'deletes', a.deletes),
            walferry.identity_fix(a.schema, a.table_name, a.has_unused_primary_key, a.candidate)
        FROM (
            SELECT i.*, row_number() OVER (ORDER BY i.updates + i.deletes DESC, i.schema, i.table_name) AS place
            FROM walferry.preflight_replica_identity i
            WHERE i.updates + i.deletes > 0 AND i.logged = 'none'
                -- pgoutput reads published tables, of which the server refuses such changes.
                AND EXISTS (
                    SELECT FROM s
                    WHERE s.database = current_database() AND NOT s.temporary AND s.state <> 'invalidated'
                        AND s.plugin <> 'pgoutput'
                )
        ) a
        WHERE a.place <= 20 AND slot IS NULL

        UNION ALL
        SELECT 'warning', 'publication_empty', p.publication::text,
            'it publishes no table, so that its subscribers get nothing',
            jsonb_build_object('owner', p.owner, 'tables_to_add', m.tables),
            CASE WHEN m.list IS NULL
                THEN E'-- there is no table here that it could publish\n' || m.drop
                ELSE format(E'-- leave out what its subscribers are not to get; or, if it has none: %s\nALTER PUBLICATION %s ADD TABLE %s;',
                    m.drop, walferry.quoted_name(p.publication), m.list) END
        FROM walferry.preflight_publications p, LATERAL (
            SELECT count(*) AS tables, format('DROP PUBLICATION %s;', walferry.quoted_name(p.publication)) AS drop,
                string_agg(format('%s.%s', walferry.quoted_name(i.schema), walferry.quoted_name(i.table_name)), ', ') AS list
            FROM (
                -- Of a published table without a replica identity the server would refuse UPDATEs.
                SELECT i.schema, i.table_name FROM walferry.preflight_replica_identity i
                WHERE i.logged <> 'none' OR NOT (p.publishes_update OR p.publishes_delete)
                LIMIT 20
            ) i
        ) m
        WHERE slot IS NULL AND NOT p.all_tables AND coalesce(cardinality(p.tables), 0) = 0
            -- One FOR TABLES IN SCHEMA (15 and later) gets its tables when they are made.
            AND NOT EXISTS (
                SELECT FROM pg_depend d
                JOIN pg_publication k ON k.oid = d.refobjid
                WHERE k.pubname = p.publication AND d.refclassid = 'pg_publication'::regclass
                    AND d.classid = to_regclass('pg_catalog.pg_publication_namespace')
            )
    )
    SELECT a.severity, a.code, a.object, a.finding, a.evidence, a.fix
    FROM answer a
    ORDER BY CASE a.severity WHEN 'critical' THEN 1 WHEN 'warning' THEN 2 ELSE 3 END, a.code, a.object
    $$;

COMMENT ON FUNCTION walferry.diagnose(name) IS
    'what is wrong with replication slots, the gravest first: severity (critical, warning, info), code, the object it is about, the finding in words, evidence, and the statements that mend it, one a line (lines that begin with -- are remarks); no row on a healthy server; for one slot, with its name';
