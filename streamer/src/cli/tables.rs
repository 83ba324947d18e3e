//! `walferry tables`: what can be replicated and what not, and why.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::check::Subject;
use super::print;
use crate::error::{Failure, Result};
use crate::source::connection::{Connection, Replication};
use crate::source::preflight::{Publication, Reason, Relation, publications, relations};
use crate::source::slot::verdict::size;

#[derive(Debug, Args)]
#[command(after_help = "\
Rows and sizes are the statistics' estimates. A partition is listed below its table.

Examples:
  walferry tables --source postgres://ferry@db/shop
  walferry tables --source postgres://ferry@db/shop --tables 'sales.*' --publication sales
  walferry tables --config walferry.yaml --json")]
pub struct TablesArguments {
    #[command(flatten)]
    pub(super) subject: Subject,

    /// System catalogs too
    #[arg(long)]
    system: bool,

    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
}

pub fn execute(arguments: TablesArguments) -> Result<()> {
    arguments.subject.configured.warn();
    let conninfo = arguments.subject.conninfo()?;
    let (filter, _) = arguments.subject.filter()?;
    let wanted = arguments.subject.publication();
    let (mut listed, published) = super::slot::block_on(async {
        let mut connection = Connection::connect(&conninfo, Replication::Off).await?;
        let listed = relations(&mut connection).await?;
        let published = publications(&mut connection).await?;
        connection.close().await;
        Ok((listed, published))
    })?;
    if let Some(name) = &wanted
        && !published
            .iter()
            .any(|publication| publication.name == *name)
    {
        return Err(
            Failure::definite(format!("publication \"{name}\" does not exist"))
                .sqlstate("42704")
                .hint("walferry check --publication NAME prints the statement that makes it"),
        );
    }
    listed.retain(|one| {
        (arguments.system || one.reason != Some(Reason::System))
            && filter.passes(&one.schema, &one.table)
    });
    let published: Vec<&Publication> = published
        .iter()
        .filter(|publication| wanted.as_ref().is_none_or(|name| publication.name == *name))
        .collect();
    if arguments.json {
        let rows: Vec<Value> = listed
            .iter()
            .map(|one| {
                let mut object = json!(one);
                object["publications"] = json!(of(one, &published));
                object
            })
            .collect();
        print(format!("{:#}\n", Value::Array(rows)).as_bytes())
    } else {
        print(table(&listed, &published).as_bytes())
    }
}

/// The publications that publish it.
fn of<'a>(relation: &Relation, published: &[&'a Publication]) -> Vec<&'a str> {
    published
        .iter()
        .filter(|publication| relation.replicated && publication.covers(relation))
        .map(|publication| publication.name.as_str())
        .collect()
}

fn table(relations: &[Relation], published: &[&Publication]) -> String {
    let mut rows = vec![
        [
            "TABLE",
            "KIND",
            "REPLICATED",
            "OLD ROWS",
            "ROWS",
            "SIZE",
            "PUBLICATIONS",
            "REMARKS",
        ]
        .map(str::to_owned),
    ];
    let or_dash = |text: String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    rows.extend(relations.iter().map(|one| {
        [
            one.name(),
            one.kind.title().to_owned(),
            match one.reason {
                None => "yes".to_owned(),
                Some(Reason::RowsInPartitions) => "by partitions".to_owned(),
                Some(_) => "no".to_owned(),
            },
            or_dash(
                one.identity
                    .as_ref()
                    .map(|identity| identity.logged.clone())
                    .unwrap_or_default(),
            ),
            or_dash(
                one.rows_estimate
                    .map(|rows| rows.to_string())
                    .unwrap_or_default(),
            ),
            or_dash(
                one.bytes_estimate
                    .map(|bytes| size(bytes.unsigned_abs()))
                    .unwrap_or_default(),
            ),
            or_dash(of(one, published).join(", ")),
            remarks(one),
        ]
    }));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn remarks(relation: &Relation) -> String {
    let mut remarks: Vec<String> = Vec::new();
    if let Some(reason) = relation.reason {
        remarks.push(reason.words().to_owned());
    }
    if let Some(parent) = &relation.partition_of {
        remarks.push(format!("partition of {parent}"));
    }
    if let Some(identity) = relation.identity.as_ref().filter(|one| one.is_missing()) {
        remarks.push(format!("old rows: {}", identity.words()));
        if identity.updates + identity.deletes > 0 {
            remarks.push(format!(
                "has had {} updates and {} deletes",
                identity.updates, identity.deletes
            ));
        }
        remarks.extend(identity.fix.clone());
    }
    if relation.replicated && !(relation.schema_usage && relation.may_select) {
        remarks.push("no right to SELECT: changes only".to_owned());
    }
    if relation.replicated && relation.row_security {
        remarks.push("row security hides rows from this role's SELECT".to_owned());
    }
    remarks.join("; ")
}
