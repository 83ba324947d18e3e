-- What lies where a slot's WAL begins, by pg_walinspect (15 and later) where that is installed in this database and the
-- role may use it. In plpgsql: its functions may not be there when this one is made.
--
-- restart_lsn lies on a running-xacts record, and what holds it wrote its first record before the next of those
-- (SnapBuildProcessRunningXacts, snapbuild.c): a transaction found here that is still open is the one to blame.
CREATE FUNCTION walferry.slot_wal(slot name, most bigint DEFAULT 1048576)
    RETURNS TABLE (
        resource_manager text,
        relation text,
        xid xid,
        first_lsn pg_lsn,
        records bigint,
        bytes bigint,
        still_open boolean,
        pid int,
        gid text,
        why_null text
    )
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
#variable_conflict use_column
DECLARE
    inspect name := (
        SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_walinspect'
    );
    here CONSTANT pg_lsn := CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END;
    begins pg_lsn;
    ends pg_lsn;
BEGIN
    SELECT s.restart_lsn INTO begins FROM pg_replication_slots s WHERE s.slot_name = slot;
    why_null := CASE
        WHEN NOT FOUND THEN 'there is no slot with this name'
        WHEN begins IS NULL THEN 'the slot keeps no WAL'
        WHEN begins >= here THEN 'there is no WAL since'
        WHEN inspect IS NULL AND current_setting('server_version_num')::int < 150000 THEN 'PostgreSQL 15 and later'
        WHEN inspect IS NULL THEN 'pg_walinspect is not installed here: CREATE EXTENSION pg_walinspect;'
        WHEN NOT has_schema_privilege(inspect, 'USAGE') OR NOT has_function_privilege(
                format('%I.pg_get_wal_records_info(pg_lsn, pg_lsn)', inspect), 'EXECUTE')
            THEN format('role %s may not use pg_walinspect: GRANT EXECUTE ON FUNCTION %I.pg_get_wal_records_info(pg_lsn, pg_lsn) TO %s;',
                current_user, inspect, walferry.quoted_name(current_user))
    END;
    IF why_null IS NOT NULL THEN
        RETURN NEXT;
        RETURN;
    END IF;
    -- 64 MB at most: a record is a row in memory.
    ends := least(begins + least(greatest(most, 8192), 67108864)::numeric, here);
    RETURN QUERY EXECUTE format($query$
        SELECT w.resource_manager,
            -- Of this database by name, of others by the file's number.
            CASE
                WHEN w.place IS NULL THEN NULL
                WHEN w.place[2] IN (0, d.oid) THEN pg_filenode_relation(w.place[1], w.place[3])::regclass::text
                ELSE format('file %%s of database %%s', w.place[3],
                    (SELECT x.datname FROM pg_database x WHERE x.oid = w.place[2]))
            END,
            w.xid, w.first_lsn, w.records, w.bytes, CASE WHEN w.xid IS NOT NULL THEN o.found END, o.pid, o.gid, NULL::text
        FROM (
            SELECT r.resource_manager, regexp_match(r.block_ref, 'rel (\d+)/(\d+)/(\d+)')::oid[] AS place,
                nullif(r.xid::text, '0')::xid AS xid, min(r.start_lsn) AS first_lsn, count(*) AS records,
                sum(r.record_length + r.fpi_length)::bigint AS bytes
            FROM %I.pg_get_wal_records_info($1, $2) r
            GROUP BY 1, 2, 3
        ) w
        JOIN pg_database d ON d.datname = current_database()
        LEFT JOIN LATERAL (
            SELECT true AS found, t.pid, t.gid FROM walferry.preflight_open_transactions t WHERE t.xid = w.xid
            UNION ALL SELECT false, NULL, NULL
            ORDER BY 1 DESC LIMIT 1
        ) o ON true
        ORDER BY w.first_lsn
        $query$, inspect)
        USING begins, ends;
EXCEPTION
    -- The WAL was removed meanwhile, or is not to be read: no reason to fail who asks for more than this.
    WHEN OTHERS THEN
        resource_manager := NULL;
        why_null := format('pg_walinspect refuses (%s): %s', SQLSTATE, SQLERRM);
        RETURN NEXT;
END
$$;

COMMENT ON FUNCTION walferry.slot_wal(name, bigint) IS
    'what the first "most" bytes of WAL are that a slot keeps, by resource manager, relation and transaction, and which of these is still open; by pg_walinspect (15 and later), else one row whose why_null says what is missing';
