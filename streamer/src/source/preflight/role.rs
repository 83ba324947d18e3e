//! The role that is logged in.

use super::one_row;
use crate::error::Result;
use crate::source::connection::Connection;

const ROLE: &str = include_str!("../../../../sql/preflight/role.sql");

/// What `role.sql` found.
pub(super) struct Role {
    pub name: String,
    pub superuser: bool,
    pub replication: bool,
    pub rds_replication: bool,
    pub rds_iam: bool,
    pub monitor: bool,
    pub may_create_in_database: bool,
}

impl Role {
    pub async fn ask(connection: &mut Connection) -> Result<Self> {
        let row = one_row(connection, ROLE).await?;
        Ok(Role {
            name: row.get("role").unwrap_or_default().to_owned(),
            superuser: row.is_true("superuser"),
            replication: row.is_true("replication"),
            rds_replication: row.is_true("member_of_rds_replication"),
            rds_iam: row.is_true("member_of_rds_iam"),
            monitor: row.is_true("monitor"),
            may_create_in_database: row.is_true("may_create_in_database"),
        })
    }

    /// Whether something gives it the right to replicate.
    pub fn may_replicate(&self) -> bool {
        self.superuser || self.replication || self.rds_replication
    }

    /// What gives it the right to replicate, if anything seems to.
    pub fn right(&self) -> &'static str {
        if self.superuser {
            "it is a superuser"
        } else if self.replication {
            "it has REPLICATION"
        } else if self.rds_replication {
            "it is a member of rds_replication"
        } else {
            "it has no REPLICATION"
        }
    }
}
