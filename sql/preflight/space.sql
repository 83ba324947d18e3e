-- What every role can see of the disk: one row. PostgreSQL 14 to 18. Free space
-- and the size of the disk can't be seen over SQL at all.
SELECT
    pg_catalog.pg_database_size(pg_catalog.current_database()) AS database_bytes;
