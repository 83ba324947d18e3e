-- How a setting is given a value depends on who runs the server.
CREATE FUNCTION walferry.setting_fix(setting text, value text, plain text, restart boolean) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT CASE s.flavour
        WHEN 'self-managed' THEN CASE
            WHEN current_setting('allow_alter_system', true) = 'off' THEN
                format('-- where the server''s settings are kept (allow_alter_system is off): %s = %s%s', setting, value,
                    CASE WHEN restart THEN '; then restart the server' ELSE '; then reload' END)
            ELSE format('ALTER SYSTEM SET %s = %s;', setting, value)
            || CASE WHEN restart THEN E'\n-- then restart the server' ELSE E'\nSELECT pg_catalog.pg_reload_conf();' END
        END
        ELSE
            format('-- in the %s: %s = %s%s',
                CASE s.flavour
                    WHEN 'rds' THEN 'instance''s DB parameter group'
                    WHEN 'aurora' THEN 'DB cluster parameter group'
                    WHEN 'cloud-sql' THEN 'instance''s database flags'
                    ELSE 'server''s parameters'
                END,
                setting, plain, CASE WHEN restart THEN '; then reboot' ELSE '' END)
    END
    FROM walferry.preflight_server s
    $$;

COMMENT ON FUNCTION walferry.setting_fix(text, text, text, boolean) IS
    'the statements that give a setting a value on this server; value as ALTER SYSTEM takes it, plain in the setting''s own unit; on managed services, and where ALTER SYSTEM is forbidden, a remark that says where it is set';

-- Twice what a transaction spilled on average, and twice what there is, as a power of two; null above 4 GB, where more is
-- no help.
CREATE FUNCTION walferry.more_decoding_memory(spill_bytes bigint, spill_txns bigint) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT walferry.setting_fix('logical_decoding_work_mem', format('''%sMB''', m.wanted), (m.wanted * 1024)::text, false)
    FROM (SELECT pg_size_bytes(current_setting('logical_decoding_work_mem')) / 1048576.0 AS megabytes) present,
        LATERAL (
            SELECT least(4096, 2 ^ ceil(log(2, greatest(2, 2 * present.megabytes,
                2.0 * coalesce(spill_bytes, 0) / greatest(spill_txns, 1) / 1048576))))::int AS wanted
        ) m
    WHERE m.wanted > present.megabytes
    $$;

COMMENT ON FUNCTION walferry.more_decoding_memory(bigint, bigint) IS
    'the statements that raise logical_decoding_work_mem to what transactions that spilled would have needed; null where it is high enough';
