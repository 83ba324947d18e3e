//! The option names of wal2json that the format json understands.

use super::failure::{Failure, Outcome};
use super::filter;
use super::options::{Given, Options, Origins};

/// What the objects hold, as wal2json's options of the same names say.
#[derive(Clone, Debug)]
pub struct JsonOptions {
    pub transaction: bool,
    pub xids: bool,
    pub timestamp: bool,
    pub origin: bool,
    pub lsn: bool,
    pub schemas: bool,
    pub types: bool,
    pub type_oids: bool,
    pub domain_data_type: bool,
    pub column_positions: bool,
    pub not_null: bool,
    pub default: bool,
    pub pk: bool,
    pub numbers_as_strings: bool,
    pub actions: Actions,
}

/// Which kinds of changes are written.
#[derive(Clone, Copy, Debug)]
pub struct Actions {
    pub insert: bool,
    pub update: bool,
    pub delete: bool,
    pub truncate: bool,
}

impl Default for JsonOptions {
    fn default() -> Self {
        JsonOptions {
            transaction: true,
            xids: false,
            timestamp: false,
            origin: false,
            lsn: false,
            schemas: true,
            types: true,
            type_oids: false,
            domain_data_type: false,
            column_positions: false,
            not_null: false,
            default: false,
            pk: false,
            numbers_as_strings: false,
            actions: Actions {
                insert: true,
                update: true,
                delete: true,
                truncate: true,
            },
        }
    }
}

impl Options {
    /// Reads an option under its wal2json name; false when wal2json has none
    /// of that name.
    pub fn read_wal2json(&mut self, option: &Given) -> Outcome<bool> {
        let json = &mut self.json;
        match option.name.as_str() {
            "include-transaction" => json.transaction = option.boolean()?,
            "include-xids" => json.xids = option.boolean()?,
            "include-timestamp" => json.timestamp = option.boolean()?,
            "include-origin" => json.origin = option.boolean()?,
            "include-lsn" => json.lsn = option.boolean()?,
            "include-schemas" => json.schemas = option.boolean()?,
            "include-types" => json.types = option.boolean()?,
            "include-type-oids" => json.type_oids = option.boolean()?,
            "include-domain-data-type" => json.domain_data_type = option.boolean()?,
            "include-column-positions" => json.column_positions = option.boolean()?,
            "include-not-null" => json.not_null = option.boolean()?,
            "include-default" => json.default = option.boolean()?,
            "include-pk" => json.pk = option.boolean()?,
            "numeric-data-types-as-string" => json.numbers_as_strings = option.boolean()?,
            // They shape format-version 1 only, and mean nothing in 2.
            "pretty-print" | "write-in-chunks" | "include-typmod" | "include-unchanged-toast" => {
                option.boolean()?;
            }
            "format-version" => {
                if option.text()? != "2" {
                    return Err(option
                        .refuse("walferry writes wal2json's format-version 2 only.")
                        .hint("Leave the option out, or read the slot with wal2json itself."));
                }
            }
            "actions" => json.actions = actions(option)?,
            "filter-origins" => self.origins = Origins::Without(origins(option)?),
            "filter-tables" => {
                if !option.text()?.trim().is_empty() {
                    let patterns = filter::table_patterns("filter-tables", option.text()?)?;
                    self.tables.exclude.extend(patterns);
                }
            }
            "add-tables" => {
                if !option.text()?.trim().is_empty() {
                    let patterns = filter::table_patterns("add-tables", option.text()?)?;
                    self.tables.include.get_or_insert_default().extend(patterns);
                }
            }
            "filter-msg-prefixes" => {
                self.prefixes
                    .exclude
                    .extend(filter::literals(option.text()?));
            }
            "add-msg-prefixes" => {
                let prefixes = filter::literals(option.text()?);
                if !prefixes.is_empty() {
                    self.prefixes
                        .include
                        .get_or_insert_default()
                        .extend(prefixes);
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Refuses what this format has no shape for.
    pub fn check_json(&self) -> Outcome {
        let unsupported = match (self.streaming, self.two_phase) {
            (true, _) => "streaming",
            (_, true) => "two_phase",
            _ => return Ok(()),
        };
        Err(Failure::option(format!(
            "option {unsupported} needs the option format 'native'"
        ))
        .detail("wal2json's shape has no place for transactions that are not yet committed."))
    }
}

fn actions(option: &Given) -> Outcome<Actions> {
    let mut actions = Actions {
        insert: false,
        update: false,
        delete: false,
        truncate: false,
    };
    for action in option.text()?.split(',') {
        match action.trim() {
            "insert" => actions.insert = true,
            "update" => actions.update = true,
            "delete" => actions.delete = true,
            "truncate" => actions.truncate = true,
            _ => {
                return Err(option.refuse("Valid actions are insert, update, delete and truncate."));
            }
        }
    }
    Ok(actions)
}

fn origins(option: &Given) -> Outcome<Vec<u16>> {
    option
        .text()?
        .split(',')
        .map(|id| id.trim().parse::<u16>())
        .collect::<Result<_, _>>()
        .map_err(|_| {
            option
                .refuse("Expected the numbers of replication origins with commas between them.")
                .hint("SELECT roident, roname FROM pg_replication_origin lists them.")
        })
}
