-- The standbys that logical slots with failover wait for (17 and later): who is listed and not there holds them all.
CREATE FUNCTION walferry.standby_slots()
    RETURNS TABLE (slot_name name, holds boolean, lag_bytes bigint, finding text)
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
    SELECT w.name::name,
        s.state IS NULL OR s.state IN ('inactive', 'invalidated') OR s.slot_type = 'logical' OR s.restart_lsn IS NULL,
        s.lag_bytes,
        CASE
            WHEN s.slot_name IS NULL THEN format('slot %s does not exist', w.name)
            WHEN s.slot_type = 'logical' THEN format('slot %s is not a standby''s', w.name)
            WHEN s.state IN ('inactive', 'invalidated') THEN format('slot %s is %s', w.name, s.state)
            ELSE format('slot %s is %s behind', w.name, walferry.in_words(s.lag_bytes))
        END
    FROM (
        SELECT DISTINCT btrim(x, E' \t\n\r"') AS name
        FROM string_to_table(current_setting('synchronized_standby_slots', true), ',') x
    ) w
    LEFT JOIN walferry.slots s ON s.slot_name = w.name
    WHERE w.name <> ''
    $$;

COMMENT ON FUNCTION walferry.standby_slots() IS
    'the physical slots of synchronized_standby_slots (17 and later), and whether each is there to confirm; logical slots with failover are sent nothing that these have not got';

-- Without those that hold it up, or, where all are there, without the one that is behind most.
CREATE FUNCTION walferry.standby_slots_fix() RETURNS text
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT E'-- start the standby; or go on without it, and lose what it has not got if it is failed over to\n'
        || walferry.setting_fix('synchronized_standby_slots', quote_literal(rest.list), rest.list, false)
    FROM (
        SELECT coalesce(string_agg(k.slot_name, ', ' ORDER BY k.slot_name) FILTER (WHERE k.place > 1 AND NOT k.holds), '') AS list
        FROM (
            SELECT w.*, row_number() OVER (ORDER BY w.holds DESC, w.lag_bytes DESC NULLS FIRST) AS place
            FROM walferry.standby_slots() w
        ) k
    ) rest
    $$;

COMMENT ON FUNCTION walferry.standby_slots_fix() IS
    'the statements that take the standby that holds up logical slots out of synchronized_standby_slots';
