-- The database's publications and what they publish. PostgreSQL 14 to 18.
-- Needs no rights.
SELECT
    p.pubname AS publication,
    p.puballtables AS all_tables,
    p.pubinsert AS publishes_insert,
    p.pubupdate AS publishes_update,
    p.pubdelete AS publishes_delete,
    p.pubtruncate AS publishes_truncate,
    p.pubviaroot AS via_root,
    pg_catalog.pg_get_userbyid(p.pubowner) AS owner,
    -- Of what is published; partitions as themselves or, with via_root, as their root.
    (
        SELECT pg_catalog.array_agg(c.oid)
        FROM pg_catalog.pg_publication_tables t
        JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
        WHERE t.pubname = p.pubname
    ) AS tables
FROM pg_catalog.pg_publication p
ORDER BY p.pubname;
