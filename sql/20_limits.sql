-- What counts as long, large or close. Each is a setting that any session,
-- role or database may give itself: SET walferry.long_transaction = '1h';
CREATE VIEW walferry.limits AS
SELECT
    s.long_transaction::interval AS long_transaction,
    s.prepared_transaction::interval AS prepared_transaction,
    s.running_xacts_interval::interval AS running_xacts_interval,
    s.idle_slot::interval AS idle_slot,
    pg_catalog.pg_size_bytes(s.retained_wal) AS retained_wal,
    pg_catalog.pg_size_bytes(s.unconfirmed_wal) AS unconfirmed_wal,
    s.silent_consumer::interval AS silent_consumer,
    s.safe_wal_percent::numeric AS safe_wal_percent,
    s.time_left::interval AS time_left,
    s.catalog_xmin_age::bigint AS catalog_xmin_age,
    pg_catalog.pg_size_bytes(s.spilled) AS spilled,
    s.lost_connections::int AS lost_connections,
    s.sample_every::interval AS sample_every,
    s.keep_samples::interval AS keep_samples
FROM (
    SELECT
        coalesce(nullif(pg_catalog.current_setting('walferry.long_transaction', true), ''), '10min') AS long_transaction,
        coalesce(nullif(pg_catalog.current_setting('walferry.prepared_transaction', true), ''), '10min')
            AS prepared_transaction,
        coalesce(nullif(pg_catalog.current_setting('walferry.running_xacts_interval', true), ''), '30s')
            AS running_xacts_interval,
        coalesce(nullif(pg_catalog.current_setting('walferry.idle_slot', true), ''), '1h') AS idle_slot,
        coalesce(nullif(pg_catalog.current_setting('walferry.retained_wal', true), ''), '1GB') AS retained_wal,
        coalesce(nullif(pg_catalog.current_setting('walferry.unconfirmed_wal', true), ''), '1GB') AS unconfirmed_wal,
        coalesce(nullif(pg_catalog.current_setting('walferry.silent_consumer', true), ''), '10s') AS silent_consumer,
        coalesce(nullif(pg_catalog.current_setting('walferry.safe_wal_percent', true), ''), '25') AS safe_wal_percent,
        coalesce(nullif(pg_catalog.current_setting('walferry.time_left', true), ''), '4h') AS time_left,
        coalesce(nullif(pg_catalog.current_setting('walferry.catalog_xmin_age', true), ''), '100000000')
            AS catalog_xmin_age,
        coalesce(nullif(pg_catalog.current_setting('walferry.spilled', true), ''), '1GB') AS spilled,
        coalesce(nullif(pg_catalog.current_setting('walferry.lost_connections', true), ''), '3') AS lost_connections,
        coalesce(nullif(pg_catalog.current_setting('walferry.sample_every', true), ''), '10s') AS sample_every,
        coalesce(nullif(pg_catalog.current_setting('walferry.keep_samples', true), ''), '2 days') AS keep_samples
) s;

COMMENT ON VIEW walferry.limits IS
    'what diagnose() takes for long, large or close; each column is a setting walferry.<column> with this default';
COMMENT ON COLUMN walferry.limits.long_transaction IS 'a transaction that holds a slot for longer is a finding';
COMMENT ON COLUMN walferry.limits.prepared_transaction IS
    'a prepared transaction that holds a slot for longer is taken for forgotten';
COMMENT ON COLUMN walferry.limits.running_xacts_interval IS
    'a transaction open for longer is in a running-xacts record that slots have read; the server writes one every 15 s';
COMMENT ON COLUMN walferry.limits.idle_slot IS 'a slot that nobody has read for longer is a finding';
COMMENT ON COLUMN walferry.limits.retained_wal IS 'WAL in bytes that a slot may keep before it is worth a word';
COMMENT ON COLUMN walferry.limits.unconfirmed_wal IS
    'WAL in bytes by which a connected consumer may be behind before it is a finding';
COMMENT ON COLUMN walferry.limits.silent_consumer IS
    'a consumer that has not answered for longer has stopped; one that answers and does not take what it is sent is slow';
COMMENT ON COLUMN walferry.limits.safe_wal_percent IS
    'a slot with less than this share of max_slot_wal_keep_size left is close to invalidation';
COMMENT ON COLUMN walferry.limits.time_left IS
    'a slot forecast to be invalidated, or a disk to be full, within this time is a finding';
COMMENT ON COLUMN walferry.limits.catalog_xmin_age IS
    'age in transactions of a slot''s catalog_xmin from which catalog bloat is a finding';
COMMENT ON COLUMN walferry.limits.spilled IS 'bytes a slot may have spilled to disk before it is a finding';
COMMENT ON COLUMN walferry.limits.lost_connections IS
    'so many readers of one slot within an hour without progress are a finding';
COMMENT ON COLUMN walferry.limits.sample_every IS 'sample_wal() takes no sample sooner than this after the last, nor than 0.1 s';
COMMENT ON COLUMN walferry.limits.keep_samples IS 'samples older than this, and than an hour, are removed';
