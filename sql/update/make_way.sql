-- What an earlier version made gives way, its tables excepted. Something else that uses it stops the update.
DO $walferry$
DECLARE
    names text;
BEGIN
    SELECT string_agg(format('walferry.%I', c.relname), ', ') INTO names
        FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'walferry'::regnamespace AND c.relkind = 'v';
    IF names IS NOT NULL THEN
        EXECUTE 'DROP VIEW ' || names;
    END IF;
    SELECT string_agg(p.oid::regprocedure::text, ', ') INTO names
        FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'walferry'::regnamespace
            -- Replaced in place: event triggers hang on it, while DDL is captured.
            AND p.prorettype <> 'event_trigger'::regtype;
    IF names IS NOT NULL THEN
        EXECUTE 'DROP FUNCTION ' || names;
    END IF;
END
$walferry$;
