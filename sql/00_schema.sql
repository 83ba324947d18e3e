-- Made here and not named in the control file: so it is the extension's own and goes with it, and a schema that somebody
-- else has made under this name is refused and not filled.
CREATE SCHEMA walferry;

COMMENT ON SCHEMA walferry IS 'walferry: slot diagnostics, heartbeat and DDL capture';
