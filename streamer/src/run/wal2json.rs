//! Starting to read a slot of wal2json.

use std::sync::Arc;

use walferry_protocol::Lsn;

use super::plugin::{Slot, try_start};
use crate::cli::RunOptions;
use crate::decode::wal2json::{Filters, FormatVersion, Request, ServerEncoding, Wal2json};
use crate::error::{Failure, Result};
use crate::pipeline::assembler::Output;
use crate::source::catalog::Catalog;
use crate::source::changes::{ChangeReader, ChangeWriter};
use crate::source::connection::Connection;
use crate::source::table_filter::PrefixFilter;

/// Starts, without the options that this version of wal2json refuses where
/// rows can be read without them.
pub async fn start(
    mut connection: Connection,
    slot: &Slot<'_>,
    position: Lsn,
    options: &RunOptions,
    prefixes: PrefixFilter,
) -> Result<(ChangeReader, ChangeWriter, Output)> {
    if options.slot.two_phase {
        return Err(Failure::usage(
            "wal2json does not send prepared transactions at their PREPARE",
        )
        .hint("leave --two-phase out: they come at COMMIT PREPARED"));
    }
    let encoding = connection.parameter("server_encoding").unwrap_or("UTF8");
    let encoding = ServerEncoding::from_name(encoding)?;
    let mut request = Request::new(&options.tables, &options.further_plugin_options)?;
    if slot.first && request.format == FormatVersion::One {
        tracing::warn!(
            "wal2json's format-version 1 does not tell of TRUNCATE; format-version 2, the default, does"
        );
    }
    if slot.first && options.accept_missing_identity {
        tracing::warn!(
            "wal2json leaves out UPDATEs and DELETEs of tables without a usable replica identity: they are not delivered"
        );
    }
    loop {
        let started = try_start(
            connection,
            slot.info,
            position,
            request.options().to_vec(),
            options,
        )
        .await;
        let (failure, left) = match started {
            Ok((reader, writer)) => {
                let wal2json = Wal2json::new(
                    &request,
                    encoding,
                    Filters {
                        tables: options.tables.clone(),
                        prefixes,
                    },
                    Arc::new(Catalog::new(options.conninfo.clone())),
                );
                return Ok((reader, writer, Output::Wal2json(Box::new(wal2json))));
            }
            Err(refused) => refused,
        };
        let Some(left) = left else {
            return Err(failure);
        };
        let Some((option, loss)) = request.without_refused(&failure) else {
            return Err(failure);
        };
        if slot.first {
            tracing::warn!("this version of wal2json has no option {option}: {loss}");
        }
        connection = *left;
    }
}
