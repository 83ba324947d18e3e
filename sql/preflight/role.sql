-- What the role that is logged in may do, as far as replication goes: one row.
-- PostgreSQL 14 to 18. Needs no rights. The memberships do not count a
-- superuser's, who is a member of everything.
SELECT
    r.rolname AS role,
    r.rolsuper AS superuser,
    r.rolreplication AS replication,
    NOT r.rolsuper AND EXISTS (
        SELECT FROM pg_catalog.pg_roles g
        WHERE g.rolname = 'rds_replication' AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
    ) AS member_of_rds_replication,
    NOT r.rolsuper AND EXISTS (
        SELECT FROM pg_catalog.pg_roles g
        WHERE g.rolname = 'rds_iam' AND pg_catalog.pg_has_role(r.oid, g.oid, 'MEMBER')
    ) AS member_of_rds_iam,
    pg_catalog.pg_has_role(r.oid, 'pg_monitor', 'USAGE') AS monitor,
    pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CREATE') AS may_create_in_database
FROM pg_catalog.pg_roles r
WHERE r.rolname = current_user;
