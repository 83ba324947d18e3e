//! Who runs the server, and what follows for the statements that mend it.

use serde::Serialize;

use super::finding::Fix;
use crate::source::connection::quote_identifier;

/// Who runs the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    SelfManaged,
    Rds,
    Aurora,
    CloudSql,
    Azure,
}

/// When a setting's new value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    AtReload,
    AtRestart,
}

impl Flavour {
    /// By the name `sql/preflight/server.sql` has for it.
    pub fn from_name(name: Option<&str>) -> Self {
        match name {
            Some("rds") => Flavour::Rds,
            Some("aurora") => Flavour::Aurora,
            Some("cloud-sql") => Flavour::CloudSql,
            Some("azure") => Flavour::Azure,
            _ => Flavour::SelfManaged,
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Flavour::SelfManaged => "self-managed",
            Flavour::Rds => "Amazon RDS",
            Flavour::Aurora => "Amazon Aurora",
            Flavour::CloudSql => "Google Cloud SQL",
            Flavour::Azure => "Azure Database",
        }
    }

    /// Whether a library of one's own can be put into the server.
    pub fn takes_libraries(self) -> bool {
        self == Flavour::SelfManaged
    }

    /// Gives a setting a value. `value` is as ALTER SYSTEM takes it, `plain` in
    /// the setting's own unit, as services want it.
    pub fn set(self, name: &str, value: &str, plain: &str, applies: Applies) -> (Vec<Fix>, String) {
        let restart = applies == Applies::AtRestart;
        let (fix, where_to) = match self {
            Flavour::SelfManaged => {
                let mut steps = vec![Fix::sql(format!("ALTER SYSTEM SET {name} = {value}"))];
                if restart {
                    return (steps, "as a superuser; then restart the server".to_owned());
                }
                steps.push(Fix::sql("SELECT pg_reload_conf()"));
                return (steps, "as a superuser".to_owned());
            }
            Flavour::Rds => (
                format!("{name} = {plain}"),
                "in the instance's DB parameter group",
            ),
            Flavour::Aurora => (
                format!("{name} = {plain}"),
                "in the DB cluster parameter group",
            ),
            Flavour::CloudSql => (
                format!("{name}={plain}"),
                "in the instance's database flags",
            ),
            Flavour::Azure => (format!("{name} = {plain}"), "in the server's parameters"),
        };
        let after = match (self, restart) {
            (_, false) => "; it holds without a restart",
            (Flavour::Rds, true) => "; then reboot the instance",
            (Flavour::Aurora, true) => "; then reboot the writer instance",
            (_, true) => "; then restart the instance",
        };
        (vec![Fix::parameter(fix)], format!("{where_to}{after}"))
    }

    /// Switches logical decoding on.
    pub fn logical_decoding(self) -> (Vec<Fix>, String) {
        let name = match self {
            Flavour::SelfManaged | Flavour::Azure => {
                return self.set("wal_level", "logical", "logical", Applies::AtRestart);
            }
            Flavour::Rds | Flavour::Aurora => "rds.logical_replication",
            Flavour::CloudSql => "cloudsql.logical_decoding",
        };
        let on = if self == Flavour::CloudSql { "on" } else { "1" };
        self.set(name, on, on, Applies::AtRestart)
    }

    /// Gives a role the right to replicate.
    pub fn replication_right(self, role: &str) -> Fix {
        let role = quote_identifier(role);
        Fix::sql(match self {
            Flavour::Rds | Flavour::Aurora => format!("GRANT rds_replication TO {role}"),
            _ => format!("ALTER ROLE {role} REPLICATION"),
        })
    }

    /// Who may give that right.
    pub fn administrator(self) -> &'static str {
        match self {
            Flavour::SelfManaged => "as a superuser",
            Flavour::Rds | Flavour::Aurora => "as a member of rds_superuser",
            Flavour::CloudSql => "as a member of cloudsqlsuperuser",
            Flavour::Azure => "as a member of azure_pg_admin",
        }
    }
}
