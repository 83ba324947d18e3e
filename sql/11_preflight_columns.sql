COMMENT ON COLUMN walferry.preflight_open_transactions.pid IS 'its session; null of a prepared transaction';
COMMENT ON COLUMN walferry.preflight_open_transactions.gid IS 'name of a prepared transaction';
COMMENT ON COLUMN walferry.preflight_open_transactions.xid IS 'its transaction id';
COMMENT ON COLUMN walferry.preflight_open_transactions.owner IS 'role that runs or prepared it';
COMMENT ON COLUMN walferry.preflight_open_transactions.database IS 'database it runs in';
COMMENT ON COLUMN walferry.preflight_open_transactions.application_name IS 'application_name of its session';
COMMENT ON COLUMN walferry.preflight_open_transactions.state IS 'as in pg_stat_activity, or prepared';
COMMENT ON COLUMN walferry.preflight_open_transactions.age_seconds IS 'seconds since it began, or was prepared';
COMMENT ON COLUMN walferry.preflight_open_transactions.query IS 'the statement it runs or ran last, unless that may hold a password';

COMMENT ON COLUMN walferry.preflight_publications.publication IS 'its name';
COMMENT ON COLUMN walferry.preflight_publications.all_tables IS 'FOR ALL TABLES';
COMMENT ON COLUMN walferry.preflight_publications.publishes_insert IS 'it publishes INSERTs';
COMMENT ON COLUMN walferry.preflight_publications.publishes_update IS 'it publishes UPDATEs';
COMMENT ON COLUMN walferry.preflight_publications.publishes_delete IS 'it publishes DELETEs';
COMMENT ON COLUMN walferry.preflight_publications.publishes_truncate IS 'it publishes TRUNCATEs';
COMMENT ON COLUMN walferry.preflight_publications.via_root IS 'publish_via_partition_root: partitions'' changes come as their root''s';
COMMENT ON COLUMN walferry.preflight_publications.owner IS 'role that owns it';
COMMENT ON COLUMN walferry.preflight_publications.tables IS 'oids of what it publishes; null for nothing';

COMMENT ON COLUMN walferry.preflight_relations.oid IS 'oid in pg_class';
COMMENT ON COLUMN walferry.preflight_relations.schema IS 'its schema';
COMMENT ON COLUMN walferry.preflight_relations.table_name IS 'its name';
COMMENT ON COLUMN walferry.preflight_relations.kind IS
    'table, partition, partitioned table, view, materialized view or foreign table';
COMMENT ON COLUMN walferry.preflight_relations.persistence IS 'permanent, unlogged or temporary';
COMMENT ON COLUMN walferry.preflight_relations.system IS 'it belongs to the server itself';
COMMENT ON COLUMN walferry.preflight_relations.ancestors IS 'oids of the tables it is a partition of, the nearest first';
COMMENT ON COLUMN walferry.preflight_relations.rows_estimate IS 'rows, by the last VACUUM or ANALYZE; null before the first';
COMMENT ON COLUMN walferry.preflight_relations.bytes_estimate IS 'bytes, by the last VACUUM or ANALYZE; null before the first';
COMMENT ON COLUMN walferry.preflight_relations.schema_usage IS 'the role that asks may use its schema';
COMMENT ON COLUMN walferry.preflight_relations.may_select IS 'the role that asks may read a column of it';
COMMENT ON COLUMN walferry.preflight_relations.owned IS 'the role that asks owns it, or is a member of who does';
COMMENT ON COLUMN walferry.preflight_relations.row_security IS 'row security hides rows from the role that asks';

COMMENT ON COLUMN walferry.preflight_replica_identity.oid IS 'oid in pg_class';
COMMENT ON COLUMN walferry.preflight_replica_identity.schema IS 'its schema';
COMMENT ON COLUMN walferry.preflight_replica_identity.table_name IS 'its name';
COMMENT ON COLUMN walferry.preflight_replica_identity.logged IS 'what of an old row is logged: full, primary key, index or none';
COMMENT ON COLUMN walferry.preflight_replica_identity.has_unused_primary_key IS
    'it has a primary key that would do, and another replica identity is set';
COMMENT ON COLUMN walferry.preflight_replica_identity.chosen IS 'index of REPLICA IDENTITY USING INDEX';
COMMENT ON COLUMN walferry.preflight_replica_identity.candidate IS 'an index that REPLICA IDENTITY USING INDEX would take';
COMMENT ON COLUMN walferry.preflight_replica_identity.updates IS 'rows updated, by the statistics';
COMMENT ON COLUMN walferry.preflight_replica_identity.deletes IS 'rows deleted, by the statistics';

COMMENT ON COLUMN walferry.preflight_role.role IS 'current_user';
COMMENT ON COLUMN walferry.preflight_role.superuser IS 'it is a superuser';
COMMENT ON COLUMN walferry.preflight_role.replication IS 'it has the attribute REPLICATION';
COMMENT ON COLUMN walferry.preflight_role.member_of_rds_replication IS 'it is a member of rds_replication (Amazon RDS, Aurora)';
COMMENT ON COLUMN walferry.preflight_role.member_of_rds_iam IS 'it is a member of rds_iam (Amazon RDS, Aurora)';
COMMENT ON COLUMN walferry.preflight_role.monitor IS 'it has the rights of pg_monitor';
COMMENT ON COLUMN walferry.preflight_role.may_create_in_database IS 'it may make schemas and publications here';

COMMENT ON COLUMN walferry.preflight_server.server_version_num IS 'server_version_num';
COMMENT ON COLUMN walferry.preflight_server.in_recovery IS 'it is a standby';
COMMENT ON COLUMN walferry.preflight_server.database IS 'the database that is asked';
COMMENT ON COLUMN walferry.preflight_server.encoding IS 'that database''s encoding';
COMMENT ON COLUMN walferry.preflight_server.flavour IS
    'who runs it, by what only that service has: self-managed, rds, aurora, cloud-sql or azure';
COMMENT ON COLUMN walferry.preflight_server.settings IS
    'settings that matter to replication, in the setting''s own unit; without those the server lacks or the role may not read';
COMMENT ON COLUMN walferry.preflight_server.reads_all_settings IS 'the role that asks may read all settings';
COMMENT ON COLUMN walferry.preflight_server.rds_logical_replication IS 'rds.logical_replication, where there is one';
COMMENT ON COLUMN walferry.preflight_server.rds_iam_auth_for_replication IS 'rds.iam_auth_for_replication, where there is one';
COMMENT ON COLUMN walferry.preflight_server.cloudsql_logical_decoding IS 'cloudsql.logical_decoding, where there is one';
COMMENT ON COLUMN walferry.preflight_server.slots_used IS 'replication slots there are';
COMMENT ON COLUMN walferry.preflight_server.senders_used IS 'walsenders there are';
COMMENT ON COLUMN walferry.preflight_server.backend_pid IS 'process id of the session that asks';
COMMENT ON COLUMN walferry.preflight_server.client_address IS 'its address; null over a unix socket';

COMMENT ON COLUMN walferry.preflight_space.database_bytes IS 'size of this database in bytes';
COMMENT ON COLUMN walferry.preflight_wal_files.wal_bytes IS 'bytes of the files in pg_wal';
