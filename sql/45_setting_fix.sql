-- How a setting is given a value depends on who runs the server.
CREATE FUNCTION walferry.setting_fix(setting text, value text, plain text, restart boolean) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT CASE s.flavour
        WHEN 'self-managed' THEN
            format('ALTER SYSTEM SET %s = %s;', setting, value)
            || CASE WHEN restart THEN E'\n-- then restart the server' ELSE E'\nSELECT pg_catalog.pg_reload_conf();' END
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
    'the statements that give a setting a value on this server; value as ALTER SYSTEM takes it, plain in the setting''s own unit; on managed services a comment that says where it is set';
