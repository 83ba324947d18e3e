//! The connection service file, `pg_service.conf`.

use std::fs;
use std::path::PathBuf;

use super::{Environment, Settings, keyword};
use crate::error::{Failure, Result};

/// Adds the settings of `service` that are not set yet.
///
/// The user's file (`PGSERVICEFILE`, else `~/.pg_service.conf`) is looked at
/// first, then the system's (`pg_service.conf` in `PGSYSCONFDIR`, else in
/// Debian's folder).
pub fn apply(service: &str, settings: &mut Settings, environment: &Environment) -> Result<()> {
    let named = settings.get("servicefile").map(PathBuf::from);
    let user_file = named.clone().or_else(|| {
        let home = environment.home()?;
        Some(home.join(".pg_service.conf"))
    });
    let system_folder = environment
        .get("PGSYSCONFDIR")
        .unwrap_or_else(|| "/etc/postgresql-common".to_owned());
    let system_file = PathBuf::from(system_folder).join("pg_service.conf");
    for path in user_file.iter().chain([&system_file]) {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if Some(path) == named.as_ref() => {
                return Err(Failure::usage(format!(
                    "cannot read the service file {}: {error}",
                    path.display()
                )));
            }
            Err(_) => continue,
        };
        let at = |line: usize| format!("{} line {}", path.display(), line + 1);
        if read(&text, service, settings, at)? {
            return Ok(());
        }
    }
    let looked_in: Vec<String> = user_file
        .iter()
        .chain([&system_file])
        .map(|path| path.display().to_string())
        .collect();
    Err(
        Failure::usage(format!("there is no connection service {service:?}")).hint(format!(
            "add a section [{service}] to {}",
            looked_in.join(" or ")
        )),
    )
}

/// Whether the section was found.
fn read(
    text: &str,
    service: &str,
    settings: &mut Settings,
    at: impl Fn(usize) -> String,
) -> Result<bool> {
    let mut found = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            if found {
                break;
            }
            found = line == format!("[{service}]");
            continue;
        }
        if !found {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(Failure::usage(format!(
                "no \"=\" in the service file, {}",
                at(number)
            )));
        };
        if name == "service" || name == "servicefile" {
            return Err(Failure::usage(format!(
                "a service may not name another one, {}",
                at(number)
            )));
        }
        keyword::find(name).map_err(|failure| failure.detail(at(number)))?;
        settings.set_default(name, value.to_owned());
    }
    Ok(found)
}
