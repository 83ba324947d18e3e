-- Who may see and do what: members of pg_monitor all of it, nobody else anything.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA walferry FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA walferry FROM PUBLIC;
REVOKE ALL ON SCHEMA walferry FROM PUBLIC;
GRANT USAGE ON SCHEMA walferry TO pg_monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA walferry TO pg_monitor;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA walferry TO pg_monitor;
