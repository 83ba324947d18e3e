-- What kind of server this is and how it is set up for logical decoding: one
-- row. PostgreSQL 14 to 18. Needs no rights; a setting that the server does
-- not have, or that this role may not see, is missing from "settings".
SELECT
    pg_catalog.current_setting('server_version_num')::int AS server_version_num,
    pg_catalog.pg_is_in_recovery() AS in_recovery,
    pg_catalog.current_database() AS database,
    pg_catalog.current_setting('server_encoding') AS encoding,
    -- Which service runs the server, by what only that service has.
    CASE
        WHEN EXISTS (
            SELECT FROM pg_catalog.pg_proc p
            WHERE p.proname = 'aurora_version'
                AND p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
        ) THEN 'aurora'
        WHEN pg_catalog.current_setting('rds.extensions', true) IS NOT NULL
            OR pg_catalog.current_setting('rds.logical_replication', true) IS NOT NULL
            OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname IN ('rdsadmin', 'rds_superuser'))
            THEN 'rds'
        WHEN pg_catalog.current_setting('cloudsql.logical_decoding', true) IS NOT NULL
            OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'cloudsqladmin')
            THEN 'cloud-sql'
        WHEN pg_catalog.current_setting('azure.extensions', true) IS NOT NULL
            OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'azure_pg_admin')
            THEN 'azure'
        ELSE 'self-managed'
    END AS flavour,
    -- As pg_settings has them: in the setting's own unit, without a suffix.
    (
        SELECT pg_catalog.jsonb_object_agg(s.name, s.setting)
        FROM pg_catalog.pg_settings s
        WHERE s.name IN (
            'wal_level', 'max_replication_slots', 'max_wal_senders', 'max_connections',
            'max_slot_wal_keep_size', 'wal_sender_timeout', 'hot_standby_feedback',
            'idle_replication_slot_timeout', 'output_plugin_libraries', 'max_wal_size'
        )
    ) AS settings,
    pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') AS reads_all_settings,
    pg_catalog.current_setting('rds.logical_replication', true) AS rds_logical_replication,
    pg_catalog.current_setting('rds.iam_auth_for_replication', true) AS rds_iam_auth_for_replication,
    pg_catalog.current_setting('cloudsql.logical_decoding', true) AS cloudsql_logical_decoding,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS slots_used,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication) AS senders_used,
    pg_catalog.pg_backend_pid() AS backend_pid,
    pg_catalog.inet_client_addr() AS client_address;
