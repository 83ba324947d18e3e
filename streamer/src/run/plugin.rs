//! Which output plugin a run reads, and what it is asked for.

use walferry_protocol::Lsn;

use super::wal2json;
use crate::cli::RunOptions;
use crate::config::connection::LogReader;
use crate::error::{Failure, Result};
use crate::pipeline::assembler::{Output, pgoutput};
use crate::source::catalog::Catalog;
use crate::source::changes::{ChangeReader, ChangeWriter};
use crate::source::connection::Connection;
use crate::source::plugin::{self, Plugin};
use crate::source::polling::{Polling, start_polling};
use crate::source::publication;
use crate::source::replication::try_start_replication;
use crate::source::slot::{self, SlotInfo};
use crate::source::table_filter::PrefixFilter;

/// The plugin of this run: the one asked for, else the slot's own, else
/// walferry's where the server has it, else pgoutput where a publication is
/// named, else wal2json. Says which and why when it was not asked for.
pub async fn choose(
    connection: &mut Connection,
    options: &RunOptions,
    first: bool,
) -> Result<Plugin> {
    if let Some(plugin) = options.slot.plugin {
        return Ok(plugin);
    }
    let (plugin, reason) = detect(connection, options).await?;
    if first {
        tracing::info!("reading with plugin {plugin}: {reason}");
    }
    Ok(plugin)
}

async fn detect(
    connection: &mut Connection,
    options: &RunOptions,
) -> Result<(Plugin, &'static str)> {
    if let Some(name) = &options.slot.name
        && let Some(SlotInfo {
            plugin: Some(plugin),
            ..
        }) = slot::find(connection, name).await?
    {
        return match Plugin::from_name(&plugin) {
            Some(plugin) => Ok((plugin, "it is the slot's")),
            None => Err(Failure::definite(format!(
                "slot \"{name}\" belongs to plugin {plugin}, which walferry does not read"
            ))
            .hint("choose another slot: --slot NAME --create-slot")),
        };
    }
    if plugin::walferry_is_usable(connection).await? {
        return Ok((Plugin::Walferry, "the server has the extension"));
    }
    Ok(match options.publication {
        Some(_) => (
            Plugin::Pgoutput,
            "the server does not have the walferry extension, and a publication is named",
        ),
        None => (
            Plugin::Wal2json,
            "the server does not have the walferry extension, and no publication is named",
        ),
    })
}

/// What the plugin needs beside the slot, before that is made. `first`: not a
/// reconnect, when everything was there.
pub async fn prepare(
    connection: &mut Connection,
    plugin: Plugin,
    options: &RunOptions,
    first: bool,
) -> Result<()> {
    if plugin != Plugin::Pgoutput {
        if options.publication.is_some() && first {
            tracing::warn!("the publication is not used: plugin {plugin} reads none");
        }
        return Ok(());
    }
    if !first {
        return Ok(());
    }
    // One that was made for a slot that is there would be younger than it.
    let slot_is_there = match &options.slot.name {
        Some(name) => slot::find(connection, name).await?.is_some(),
        None => false,
    };
    let create = !slot_is_there && (options.slot.create || options.slot.name.is_none());
    publication::ensure(
        connection,
        publication_name(options),
        &options.tables,
        options.schema_changes,
        create,
    )
    .await
}

pub fn publication_name(options: &RunOptions) -> &str {
    options
        .publication
        .as_deref()
        .unwrap_or(publication::DEFAULT_NAME)
}

/// Pins what shapes text on the connection that will carry the stream: a
/// plugin that prints values follows the session. And warnings have to come:
/// one of them says that a publication is missing.
async fn pin_settings(connection: &mut Connection, plugin: Plugin) -> Result<()> {
    if plugin == Plugin::Walferry {
        return Ok(());
    }
    connection
        .simple_query(
            "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; \
             SET extra_float_digits = 1; SET bytea_output = 'hex'; SET client_encoding = 'UTF8'; \
             SET client_min_messages = 'warning'",
        )
        .await?;
    Ok(())
}

/// A slot that is to be read.
pub struct Slot<'a> {
    pub plugin: Plugin,
    pub info: &'a SlotInfo,
    /// Not a reconnect: what the plugin lacks is said.
    pub first: bool,
}

/// Begins to read the slot from `position` on; with whose output the stream
/// carries.
///
/// # Errors
/// Usage: what the plugin can't be asked for. What the server refuses.
pub async fn start(
    mut connection: Connection,
    slot: &Slot<'_>,
    position: Lsn,
    options: &RunOptions,
) -> Result<(ChangeReader, ChangeWriter, Output)> {
    let server_version = connection.server_version();
    pin_settings(&mut connection, slot.plugin).await?;
    let (plugin_options, output) = match slot.plugin {
        Plugin::Walferry => {
            return start_native(connection, slot, position, options).await;
        }
        Plugin::Pgoutput => (
            pgoutput_options(options, slot.info, server_version)?,
            Output::Pgoutput(Box::new(pgoutput::Setting {
                server_version,
                catalog: Catalog::new(options.conninfo.clone()),
                tables: options.tables.clone(),
                prefixes: prefixes(options)?,
            })),
        ),
        Plugin::Wal2json => {
            let prefixes = prefixes(options)?;
            return wal2json::start(connection, slot, position, options, prefixes).await;
        }
    };
    let (reader, writer) = try_start(connection, slot.info, position, plugin_options, options)
        .await
        .map_err(|(failure, _)| failure)?;
    Ok((reader, writer, output))
}

/// Begins to read walferry's own plugin; without the conditions where it is of
/// a release that does not know them.
async fn start_native(
    connection: Connection,
    slot: &Slot<'_>,
    position: Lsn,
    options: &RunOptions,
) -> Result<(ChangeReader, ChangeWriter, Output)> {
    let given = options.plugin_options(slot.info);
    let started = try_start(connection, slot.info, position, given.clone(), options).await;
    let (reader, writer) = match started {
        Err((failure, Some(left))) if failure.message.contains("unknown option \"conditions\"") => {
            if slot.first {
                tracing::warn!(
                    "the server's walferry does not know conditions yet: all are evaluated here"
                );
            }
            let without = given
                .into_iter()
                .filter(|(name, _)| !name.starts_with("conditions"))
                .collect();
            try_start(*left, slot.info, position, without, options).await
        }
        started => started,
    }
    .map_err(|(failure, _)| failure)?;
    Ok((reader, writer, Output::Native))
}

/// Begins to read, in the way that was asked for; gives the connection back
/// when the server refused but still listens.
pub async fn try_start(
    connection: Connection,
    slot: &SlotInfo,
    position: Lsn,
    plugin_options: Vec<(String, String)>,
    options: &RunOptions,
) -> Result<(ChangeReader, ChangeWriter), (Failure, Option<Box<Connection>>)> {
    match options.reader {
        LogReader::Stream => {
            let (reader, writer) =
                try_start_replication(connection, &slot.name, position, &plugin_options).await?;
            Ok((
                ChangeReader::Stream(Box::new(reader)),
                ChangeWriter::Stream(writer),
            ))
        }
        LogReader::Sql => {
            let polling = Polling {
                slot: slot.name.clone(),
                options: plugin_options,
                interval: options.poll_interval,
                rows: options.poll_rows,
                confirmed: slot.confirmed_flush_lsn.unwrap_or_default(),
            };
            let (reader, writer) = start_polling(connection, polling).await?;
            Ok((ChangeReader::Poll(reader), ChangeWriter::Poll(writer)))
        }
    }
}

/// The protocol's version is the newest of the server's that is read here:
/// 2 streams transactions in progress, 3 sends prepared ones, 4 lets streaming
/// be parallel, which it is not asked to be.
fn pgoutput_options(
    options: &RunOptions,
    slot: &SlotInfo,
    server_version: u32,
) -> Result<Vec<(String, String)>> {
    let protocol = match server_version {
        ..150_000 => 2,
        150_000..160_000 => 3,
        _ => 4,
    };
    let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
    let name = publication_name(options).replace('"', "\"\"");
    let mut given = vec![
        ("proto_version".to_owned(), protocol.to_string()),
        ("publication_names".to_owned(), format!("\"{name}\"")),
        ("messages".to_owned(), "on".to_owned()),
        ("streaming".to_owned(), on_off(options.streaming)),
    ];
    let two_phase = options.slot.two_phase || slot.two_phase;
    if two_phase && protocol < 3 {
        return Err(Failure::usage(
            "pgoutput of PostgreSQL 14 does not send prepared transactions at their PREPARE",
        )
        .hint("leave --two-phase out: they come at COMMIT PREPARED"));
    }
    if protocol >= 3 {
        given.push(("two_phase".to_owned(), on_off(two_phase)));
    }
    for (name, value) in &options.further_plugin_options {
        match name.as_str() {
            // What the streamer does here itself.
            "messages" | "message_prefixes" => {}
            "binary" => given.push((name.clone(), value.clone())),
            "origin" if server_version >= 160_000 => given.push((name.clone(), value.clone())),
            "columns" => {
                return Err(Failure::usage("pgoutput sends the columns that its publication lists")
                    .hint("ALTER PUBLICATION … SET TABLE shop.orders (id, total): PostgreSQL 15 and later"));
            }
            _ => {
                return Err(Failure::usage(format!(
                    "plugin pgoutput of this server has no option {name}"
                ))
                .hint("it has binary=true, from PostgreSQL 16 on origin=none; messages and message_prefixes work with any plugin"));
            }
        }
    }
    Ok(given)
}

fn prefixes(options: &RunOptions) -> Result<PrefixFilter> {
    let given = |wanted: &str| {
        let options = &mut options.further_plugin_options.iter().rev();
        options
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    match given("messages") {
        Some("off" | "false" | "no" | "0") => return Ok(PrefixFilter::none()),
        Some("on" | "true" | "yes" | "1") | None => {}
        Some(other) => {
            return Err(Failure::usage(format!(
                "plugin option messages is neither on nor off: {other:?}"
            ))
            .hint("write --plugin-option messages=off"));
        }
    }
    match given("message_prefixes") {
        Some(patterns) => PrefixFilter::parse(patterns),
        None => Ok(PrefixFilter::default()),
    }
}
