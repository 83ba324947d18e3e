-- What holds a slot's restart_lsn and catalog_xmin.
--
-- While a slot is read, the running-xacts records in the WAL (every 15 s on a
-- busy server, and at each checkpoint) move restart_lsn up to where the oldest
-- transaction began that ran then, and catalog_xmin up to what that
-- transaction's snapshot needs (SnapBuildProcessRunningXacts, snapbuild.c), as
-- soon as the consumer has confirmed that far. That snapshot's xmin may be older
-- than the transaction's own xid. So the transaction to blame is the oldest of
-- all databases, if it is old enough to have been in such a record, or one whose
-- xid is not after catalog_xmin.
--
-- That is what can be told from outside. Where the slot's decoder publishes the
-- oldest transaction that it follows, it is known which one holds restart_lsn:
-- that one, once restart_lsn has come up to where it needs it to be.
CREATE FUNCTION walferry.slot_blockers(slot name DEFAULT NULL)
    RETURNS TABLE (
        slot_name name,
        kind text,
        holds text[],
        pid int,
        gid text,
        owner name,
        application_name text,
        database name,
        xid xid,
        age interval,
        query text,
        finding text,
        fix text
    )
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
    WITH l AS MATERIALIZED (SELECT * FROM walferry.limits),
    s AS MATERIALIZED (
        SELECT v.*, a.wait_event, a.state AS session_state, a.usename AS session_role,
            a.application_name AS session_application,
            coalesce(v.reply_time, v.connected_since) > clock_timestamp() - l.silent_consumer AS answers,
            coalesce(v.beyond_checkpoint_bytes, v.retained_bytes) > 0 AS needless,
            pg_is_in_recovery() AS in_recovery,
            p.oldest_xid, p.oldest_lsn, coalesce(p.is_current, false) AS known,
            coalesce(p.is_current AND p.oldest_restart_lsn <= v.restart_lsn, false) AS held_by_oldest,
            CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS here
        FROM walferry.slots v
        CROSS JOIN l
        LEFT JOIN pg_stat_activity a ON a.pid = v.active_pid
        LEFT JOIN walferry.plugin_statistics p ON p.slot_name = v.slot_name
        WHERE (slot IS NULL OR v.slot_name = slot) AND v.state <> 'invalidated'
    ),
    t AS MATERIALIZED (
        SELECT o.*, pg_catalog.age(o.xid) AS xid_age, make_interval(secs => o.age_seconds) AS open_for
        FROM walferry.preflight_open_transactions o
        WHERE o.xid IS NOT NULL
    ),
    consumer AS (
        SELECT s.slot_name,
            CASE WHEN s.slot_type = 'physical' THEN 'missing standby' ELSE 'missing consumer' END AS kind,
            array_remove(ARRAY['restart_lsn', CASE WHEN s.catalog_xmin IS NOT NULL THEN 'catalog_xmin' END], NULL) AS holds,
            NULL::int AS pid, NULL::name AS owner, NULL::text AS application_name, s.database,
            coalesce(clock_timestamp() - s.inactive_since, s.lag) AS age,
            format('nobody reads it, and it keeps %s of WAL: start its %s, or drop it if it is not needed any more',
                walferry.in_words(s.retained_bytes),
                CASE WHEN s.slot_type = 'physical' THEN 'standby' ELSE 'consumer' END) AS finding,
            format('SELECT pg_catalog.pg_drop_replication_slot(%L);', s.slot_name) AS fix
        FROM s
        -- A standby's copy of a slot is read by nobody; "synced" is left from then on a standby that was promoted.
        WHERE s.state = 'inactive' AND NOT (coalesce(s.synced, false) AND s.in_recovery)
        UNION ALL
        -- Read by a function, or held by a session as its temporary slot.
        SELECT s.slot_name,
            CASE WHEN s.session_state = 'active' THEN 'decoding' ELSE 'consumer does not receive' END,
            ARRAY['restart_lsn', 'catalog_xmin'],
            s.active_pid, s.session_role, s.session_application, s.database, s.lag,
            CASE WHEN s.session_state = 'active'
                THEN format('process %s reads it with a function, and it moves on when that is done', s.active_pid)
                ELSE format('process %s holds it and reads nothing, and it keeps %s of WAL', s.active_pid,
                    walferry.in_words(s.retained_bytes)) END,
            CASE WHEN s.session_state = 'active'
                THEN format('SELECT * FROM pg_catalog.pg_stat_activity WHERE pid = %s;', s.active_pid)
                ELSE format('SELECT pg_catalog.pg_terminate_backend(%s);', s.active_pid) END
        FROM s, l
        WHERE s.slot_type = 'logical' AND s.active_pid IS NOT NULL AND s.sent_lsn IS NULL
            AND s.confirmed_flush_lsn IS NOT NULL AND s.lag_bytes > l.unconfirmed_wal
        UNION ALL
        SELECT s.slot_name,
            CASE
                WHEN s.slot_type = 'physical' THEN 'standby'
                WHEN s.wait_event IN ('WaitForStandbyConfirmation', 'WalSenderWaitForStandbyConfirmation') THEN 'standby'
                WHEN s.here - s.sent_lsn > l.unconfirmed_wal AND s.wait_event = 'WalSenderWriteData'
                    THEN 'consumer does not receive'
                WHEN s.sent_lsn - s.confirmed_flush_lsn > l.unconfirmed_wal THEN 'consumer does not confirm'
                ELSE 'decoding'
            END,
            CASE WHEN s.slot_type = 'physical' THEN ARRAY['restart_lsn'] ELSE ARRAY['restart_lsn', 'catalog_xmin'] END,
            s.active_pid, s.reader, s.application_name, s.database,
            s.lag,
            CASE
                WHEN s.slot_type = 'physical'
                    THEN format('its standby is %s behind', walferry.in_words(s.lag_bytes))
                WHEN s.wait_event IN ('WaitForStandbyConfirmation', 'WalSenderWaitForStandbyConfirmation')
                    THEN format('it is sent nothing that the standbys of synchronized_standby_slots have not confirmed: %s',
                        (SELECT string_agg(w.finding, ', ' ORDER BY w.holds DESC, w.slot_name) FROM walferry.standby_slots() w))
                WHEN s.here - s.sent_lsn > l.unconfirmed_wal AND s.wait_event = 'WalSenderWriteData'
                    THEN format(CASE WHEN s.answers
                        THEN 'its consumer answers, and takes changes more slowly than they are sent, with %s still to be sent'
                        ELSE 'its consumer takes nothing off the connection, with %s still to be sent' END,
                        walferry.in_words((s.here - s.sent_lsn)::bigint))
                WHEN s.sent_lsn - s.confirmed_flush_lsn > l.unconfirmed_wal
                    THEN format('its consumer has been sent %s that it has not confirmed',
                        walferry.in_words((s.sent_lsn - s.confirmed_flush_lsn)::bigint))
                ELSE format('its walsender is still decoding, with %s to go',
                    walferry.in_words((s.here - s.sent_lsn)::bigint))
            END,
            CASE
                WHEN s.slot_type = 'physical'
                    THEN '-- look at the standby''s log, its disk and its network; how it goes:'
                        || format(E'\nSELECT * FROM walferry.slots WHERE slot_name = %L;', s.slot_name)
                WHEN s.wait_event IN ('WaitForStandbyConfirmation', 'WalSenderWaitForStandbyConfirmation')
                    THEN walferry.standby_slots_fix()
                WHEN s.here - s.sent_lsn > l.unconfirmed_wal AND s.wait_event = 'WalSenderWriteData' AND s.answers
                    THEN '-- nothing on this server mends a slow consumer; how it goes:'
                        || format(E'\nSELECT * FROM walferry.slots WHERE slot_name = %L;', s.slot_name)
                WHEN s.wait_event = 'WalSenderWriteData' OR s.sent_lsn - s.confirmed_flush_lsn > l.unconfirmed_wal
                    THEN format('SELECT pg_catalog.pg_terminate_backend(%s);', s.active_pid)
                -- Large transactions are written to disk and read back.
                WHEN s.wait_event LIKE 'ReorderBuffer%' THEN walferry.more_decoding_memory(s.spill_bytes, s.spill_txns)
                ELSE '-- it is at work, and catches up unless WAL is written faster than one process decodes it; how it goes:'
                    || format(E'\nSELECT * FROM walferry.slots WHERE slot_name = %L;', s.slot_name)
            END
        FROM s, l
        WHERE s.active_pid IS NOT NULL AND s.sent_lsn IS NOT NULL AND s.lag_bytes > l.unconfirmed_wal
    ),
    transaction AS (
        SELECT s.slot_name,
            CASE WHEN t.gid IS NULL THEN 'transaction' ELSE 'prepared transaction' END AS kind,
            array_remove(ARRAY[
                CASE WHEN CASE WHEN s.known THEN o.is_it
                        ELSE s.confirmed_flush_lsn IS NULL OR s.restart_lsn < s.confirmed_flush_lsn END
                    THEN 'restart_lsn' END,
                CASE WHEN x.holds_xmin THEN 'catalog_xmin' END], NULL) AS holds,
            t.pid, t.gid, t.owner, t.application_name, t.database, t.xid, t.open_for AS age, t.query,
            CASE
                WHEN t.gid IS NULL THEN format('transaction %s of role %s in database %s, open for %s%s%s%s',
                    t.xid, coalesce(t.owner, 'unknown'), coalesce(t.database, 'unknown'),
                    coalesce(walferry.in_words(t.open_for), 'an unknown time'),
                    ', ' || t.state, o.began, '; its statement: ' || nullif(t.query, ''))
                ELSE format('transaction %s, prepared by %s in database %s, %s ago and neither committed nor rolled back%s',
                    t.xid, t.owner, t.database, walferry.in_words(t.open_for), o.began)
            END AS finding,
            CASE
                WHEN t.gid IS NULL THEN format('SELECT pg_catalog.pg_terminate_backend(%s);', t.pid)
                ELSE walferry.prepared_fix(t.gid, t.database)
            END AS fix
        FROM s
        CROSS JOIN t
        CROSS JOIN LATERAL (
            SELECT t.xid_age >= s.catalog_xmin_age
                OR (t.xid_age = (SELECT max(o.xid_age) FROM t o)
                    AND t.open_for >= (SELECT l.running_xacts_interval FROM l)) AS holds_xmin
        ) x
        CROSS JOIN LATERAL (
            SELECT y.is_it, CASE WHEN y.is_it THEN ', its first record at ' || s.oldest_lsn END AS began
            FROM (SELECT s.held_by_oldest AND t.xid = s.oldest_xid AS is_it) y
        ) o
        WHERE s.slot_type = 'logical' AND s.active_pid IS NOT NULL AND (x.holds_xmin OR o.is_it)
    ),
    waiting AS (
        SELECT s.slot_name, s.database,
            CASE WHEN s.in_recovery THEN 'primary' ELSE 'waiting' END AS kind,
            format(CASE WHEN s.in_recovery
                THEN 'an old transaction on the primary holds %s of WAL, or has until now: this standby''s slots move on at a running-xacts record of the primary'
                WHEN s.held_by_oldest AND s.oldest_xid IS NOT NULL
                THEN format('transaction %s (its first record at %s) held ', s.oldest_xid, s.oldest_lsn)
                    || '%s of WAL and has ended; the slot moves on at the next running-xacts record in the WAL (15 s at most on a busy server) and its confirmation'
                ELSE 'whatever held %s of WAL has ended; the slot moves on at the next running-xacts record in the WAL (15 s at most on a busy server) and its confirmation' END,
                walferry.in_words(s.retained_bytes)) AS finding,
            CASE WHEN s.in_recovery THEN E'-- on the primary, once its old transactions have ended (SELECT * FROM walferry.preflight_open_transactions;)\n' ELSE '' END
            || CASE WHEN current_setting('server_version_num')::int >= 160000
                THEN 'SELECT pg_catalog.pg_log_standby_snapshot();' ELSE 'CHECKPOINT;' END AS fix
        FROM s, l
        WHERE s.slot_type = 'logical' AND s.active_pid IS NOT NULL AND s.confirmed_flush_lsn IS NOT NULL
            AND s.retained_bytes > l.retained_wal AND s.needless
            AND NOT EXISTS (SELECT FROM transaction x
                WHERE x.slot_name = s.slot_name AND (NOT s.known OR 'restart_lsn' = ANY (x.holds)))
            AND NOT EXISTS (SELECT FROM consumer x WHERE x.slot_name = s.slot_name)
    )
    SELECT c.slot_name, c.kind, c.holds, c.pid, NULL::text, c.owner, c.application_name, c.database, NULL::xid,
        c.age, NULL::text, c.finding, c.fix
    FROM consumer c
    UNION ALL
    SELECT x.slot_name, x.kind, x.holds, x.pid, x.gid, x.owner, x.application_name, x.database, x.xid,
        x.age, x.query, x.finding, x.fix
    FROM transaction x
    UNION ALL
    SELECT w.slot_name, w.kind, ARRAY['restart_lsn', 'catalog_xmin'], NULL, NULL, NULL, NULL, w.database, NULL,
        NULL, NULL, w.finding, w.fix
    FROM waiting w
    ORDER BY 1, 10 DESC NULLS LAST
    $$;

COMMENT ON FUNCTION walferry.slot_blockers(name) IS
    'what holds a slot''s restart_lsn and catalog_xmin, the oldest first, with the statement that ends it; of all slots without an argument';
