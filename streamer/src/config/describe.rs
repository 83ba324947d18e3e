//! What a configuration was understood to say, in words.

use std::time::Duration;

use super::Configuration;
use super::connection::LogReader;
use super::extractor::HeartbeatCarrier;
use super::filter::Table;

/// One line a topic; nothing secret.
pub fn describe(configuration: &Configuration) -> Vec<String> {
    let mut lines = vec![source(configuration), slot(configuration)];
    lines.extend(tables(configuration));
    let job = &configuration.job;
    lines.push(match &job.sink {
        Some(sink) => format!("sink: {}", sink.name()),
        None => "sink: not said here; give --sink".into(),
    });
    if let Some(mode) = job.mode {
        lines.push(format!("mode: {}", mode.name()));
    }
    lines.extend(extractor(configuration));
    lines
}

fn source(configuration: &Configuration) -> String {
    let connection = &configuration.connection;
    if configuration.job.source.is_some() {
        return "source: a connection string".into();
    }
    let from_environment = "(from the environment)";
    let host = connection.host.as_deref().unwrap_or(from_environment);
    let port = connection
        .port
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let database = connection.database.as_deref().unwrap_or(from_environment);
    let user = connection.username.as_deref().unwrap_or(from_environment);
    let password = if connection.password.is_some() {
        "with a password"
    } else {
        "password from the environment or a password file"
    };
    let mut line = format!("source: database {database} on {host}{port} as {user}, {password}");
    if let Some(ssl) = &connection.ssl {
        line.push_str(&format!(", TLS {}", ssl.mode));
        if ssl.certificate.is_some() {
            line.push_str(" with a client certificate");
        }
    }
    if let Some(timeout) = connection.socket_timeout {
        line.push_str(&match timeout.as_secs() {
            0 => ", waiting without limit".to_owned(),
            seconds => format!(", lost after {seconds} s without an answer"),
        });
    }
    line
}

fn slot(configuration: &Configuration) -> String {
    let slots = &configuration.connection.slots;
    let reader = match configuration.connection.log_reader {
        Some(LogReader::Sql) => ", polled with SQL",
        _ => "",
    };
    if slots.len() > 1 {
        let each: Vec<String> = slots
            .iter()
            .map(|slot| match slot.plugin {
                Some(plugin) => format!("{} ({})", slot.name, plugin.name()),
                None => slot.name.clone(),
            })
            .collect();
        return format!("slots: {}{reader}", each.join(", "));
    }
    let plugin = configuration
        .plugin()
        .map(|plugin| format!(" with plugin {}", plugin.name()))
        .unwrap_or_default();
    match configuration.slot() {
        Some(name) if configuration.job.create_slot => {
            format!("slot: {name}{plugin}{reader}, made if it is missing")
        }
        Some(name) => format!("slot: {name}{plugin}{reader}"),
        None => format!("slot: a temporary one{plugin}"),
    }
}

fn tables(configuration: &Configuration) -> Vec<String> {
    let job = &configuration.job;
    let mut lines = Vec::new();
    let listed: Vec<String> = configuration
        .filter
        .allow
        .iter()
        .flat_map(|allow| {
            let schema = allow.schema.as_deref().unwrap_or("(any schema)").to_owned();
            match &allow.tables {
                None => vec![format!("{schema}.*, whole")],
                Some(tables) => tables
                    .iter()
                    .map(|table| format!("{schema}.{}", table_in_words(table)))
                    .collect(),
            }
        })
        .collect();
    if listed.is_empty() && job.tables.is_empty() {
        lines.push("tables: all".into());
    } else {
        for table in listed.iter().chain(&job.tables) {
            lines.push(format!("table: {table}"));
        }
    }
    if configuration
        .filter
        .allow
        .iter()
        .flat_map(|allow| allow.tables.iter().flatten())
        .any(|table| table.name.chars().any(char::is_uppercase))
    {
        lines.push(
            "note: names are case-sensitive: a table created without quotes has a lower-case name"
                .into(),
        );
    }
    for table in &job.exclude_tables {
        lines.push(format!("left out: {table}"));
    }
    lines
}

fn table_in_words(table: &Table) -> String {
    let mut words = table.name.clone();
    match &table.columns {
        Some(columns) => words.push_str(&format!(", columns {}", columns.join(", "))),
        None => words.push_str(", whole"),
    }
    if let Some(condition) = &table.condition {
        words.push_str(&format!(", rows where {}", condition.text));
    }
    for (columns, which) in [(&table.update_any, "any"), (&table.update_all, "all")] {
        if !columns.is_empty() {
            words.push_str(&format!(
                ", UPDATEs that change {which} of {}",
                columns.join(", ")
            ));
        }
    }
    if let Some(operations) = &table.operations {
        let names: Vec<String> = operations.iter().map(ToString::to_string).collect();
        words.push_str(&format!(", only {}", names.join(", ")));
    }
    words
}

fn extractor(configuration: &Configuration) -> Vec<String> {
    let extractor = &configuration.extractor;
    let mut lines = Vec::new();
    if let Some(realtime) = &extractor.realtime {
        if let Some(beat) = &realtime.heartbeat {
            let what = match beat.carrier {
                HeartbeatCarrier::Message => "a logical message".to_owned(),
                HeartbeatCarrier::Table => {
                    format!("column {} of {}.{}", beat.column, beat.schema, beat.table)
                }
            };
            lines.push(format!("heartbeat: {what}, every {}", time(beat.interval)));
        }
        if let Some(start) = realtime.start_lsn {
            lines.push(format!("start: at {start}, the first time"));
        }
    }
    if let Some(snapshot) = &extractor.snapshot {
        lines.push(format!(
            "snapshot: {} with settings of their own{}",
            count(snapshot.tables.len(), "table"),
            jobs(&snapshot.jobs)
        ));
    }
    if let Some(delta) = &extractor.delta_snapshot {
        let mut line = format!(
            "delta snapshot: {} with settings of their own{}",
            count(delta.tables.len(), "table"),
            jobs(&delta.jobs)
        );
        if !delta.row_identifier_key.is_empty() {
            line.push_str(&format!(
                ", rows told apart by {}",
                delta.row_identifier_key.join(", ")
            ));
        }
        if !delta.update_key.is_empty() {
            line.push_str(&format!(
                ", changes found by {}",
                delta.update_key.join(", ")
            ));
        }
        match delta.replicate_deletes {
            Some(true) => line.push_str(", deletes looked for"),
            Some(false) => line.push_str(", deletes not looked for"),
            None => {}
        }
        lines.push(line);
    }
    lines
}

fn jobs(jobs: &super::extractor::Jobs) -> String {
    let mut words = String::new();
    if let Some(threads) = jobs.threads {
        words.push_str(&format!(", {}", count(threads.get() as usize, "thread")));
    }
    if let Some(rows) = jobs.fetch_size_rows {
        words.push_str(&format!(", {rows} rows a fetch"));
    }
    words
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

fn time(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}
