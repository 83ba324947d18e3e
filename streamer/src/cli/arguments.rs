//! Keeping passwords that were typed on the command line from view.
//!
//! Any user of the machine may read `/proc/PID/cmdline`. What is there is this
//! process's own memory, so the password is overwritten in place, as soon as
//! the arguments have been read. Until then it could be seen: a password file
//! is better.

use std::fs::{self, OpenOptions};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use crate::source::conninfo::password_spans;
use crate::source::secret::{Secret, redact};

/// Text that clap may print about the arguments, without their passwords.
pub fn redact_arguments(text: &str) -> String {
    let secrets: Vec<Secret> = std::env::args_os()
        .flat_map(|argument| {
            let argument = argument.to_string_lossy().into_owned();
            spans(&argument)
                .into_iter()
                .map(|span| Secret::new(&argument[span]))
                .collect::<Vec<_>>()
        })
        .collect();
    redact(text, &secrets)
}

/// Overwrites the passwords in this process's command line with `*`.
pub fn hide_secrets() {
    if let Err(error) = overwrite() {
        tracing::debug!("cannot take passwords out of the command line: {error}");
    }
}

fn overwrite() -> std::io::Result<()> {
    let mut position = 0;
    let mut memory = None;
    for argument in std::env::args_os() {
        let text = String::from_utf8_lossy(argument.as_bytes());
        // Positions hold only if nothing was replaced in the conversion.
        if text.len() == argument.len() {
            for span in spans(&text) {
                let (file, start) = match &memory {
                    Some(opened) => opened,
                    None => memory.insert((
                        OpenOptions::new().write(true).open("/proc/self/mem")?,
                        start_of_arguments()?,
                    )),
                };
                let stars = vec![b'*'; span.len()];
                file.write_all_at(&stars, start + position + span.start as u64)?;
            }
        }
        position += argument.len() as u64 + 1;
    }
    Ok(())
}

/// `arg_start`, the 48th field of `proc_pid_stat(5)`. The second field, the
/// command in parentheses, may hold blanks.
fn start_of_arguments() -> std::io::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let broken = || std::io::Error::other("/proc/self/stat has no arg_start");
    let (_, after_command) = stat.rsplit_once(')').ok_or_else(broken)?;
    after_command
        .split_whitespace()
        .nth(48 - 3)
        .and_then(|field| field.parse().ok())
        .filter(|start| *start != 0)
        .ok_or_else(broken)
}

/// Where passwords stand in an argument: `--source=URL`, a URL, or key=value.
fn spans(argument: &str) -> Vec<Range<usize>> {
    let flag = "--source=";
    let skipped = if argument.starts_with(flag) {
        flag.len()
    } else {
        0
    };
    password_spans(&argument[skipped..])
        .into_iter()
        .map(|span| span.start + skipped..span.end + skipped)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::spans;

    #[test]
    fn passwords_are_found_in_every_way_to_give_a_source() {
        for (argument, password) in [
            ("--source=postgres://u:pw@h/d", "pw"),
            ("postgres://u:pw@h/d", "pw"),
            ("postgres://u@h/d?password=pw", "pw"),
            ("host=h password=pw user=u", "pw"),
            ("host=h password = 'p \\' w' user=u", "'p \\' w'"),
            ("--source=password=pw", "pw"),
        ] {
            let found: Vec<&str> = spans(argument)
                .into_iter()
                .map(|span| &argument[span])
                .collect();
            assert_eq!(found, [password], "{argument}");
        }
        assert!(spans("--tables=a.b").is_empty());
        assert!(spans("--sink").is_empty());
    }
}
