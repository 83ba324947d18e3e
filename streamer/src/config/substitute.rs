//! `${NAME}` and `${file:/path}` inside values.

use std::io::Read;
use std::path::Path;

/// Where `${…}` is looked up.
pub struct Variables<'a> {
    /// The environment; `None` for a variable that is not set.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// What a relative `${file:…}` starts from: the configuration's folder.
    pub folder: &'a Path,
}

/// Secrets are short; whatever is larger is the wrong file.
const LARGEST_FILE: u64 = 1 << 20;

/// Fills in `text`. `${NAME}` is the environment's value, `${NAME:-text}` has a
/// default for where that is unset or empty, `${file:path}` is a file's content
/// without the line break at its end, and `$${` stands for `${`.
///
/// # Errors
/// What is missing, by name; never a value.
pub fn substitute(text: &str, variables: &Variables<'_>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = after;
            continue;
        }
        filled.push_str(before);
        let Some(end) = after.find('}') else {
            return Err("a ${ is not closed; write $${ where it is meant as it stands".into());
        };
        filled.push_str(&lookup(&after[..end], variables)?);
        rest = &after[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

fn lookup(reference: &str, variables: &Variables<'_>) -> Result<String, String> {
    if let Some(path) = reference.strip_prefix("file:") {
        return file(&variables.folder.join(path));
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !valid {
        // Not repeated: it may be a piece of a password.
        return Err(
            "what stands in ${…} is neither a variable's name nor file:/path; write $${ where it is meant as it stands"
                .into(),
        );
    }
    let found = (variables.environment)(name);
    match (found, default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!("the environment variable {name} is not set")),
    }
}

fn file(path: &Path) -> Result<String, String> {
    let failed = |why: String| format!("the file {} cannot be read: {why}", path.display());
    let opened = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut content = String::new();
    opened
        .take(LARGEST_FILE + 1)
        .read_to_string(&mut content)
        .map_err(|error| failed(error.to_string()))?;
    if content.len() as u64 > LARGEST_FILE {
        return Err(failed("it is larger than 1 MB".into()));
    }
    if content.ends_with('\n') {
        content.pop();
        if content.ends_with('\r') {
            content.pop();
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, String> {
        let environment = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let variables = Variables {
            environment: &environment,
            folder: Path::new("/nonexistent"),
        };
        substitute(text, &variables)
    }

    #[test]
    fn variables_are_filled_in_anywhere_in_a_value() {
        assert_eq!(fill("a${SET}b${SET}").as_deref(), Ok("avaluebvalue"));
        assert_eq!(fill("${EMPTY}").as_deref(), Ok(""));
        assert_eq!(
            fill("${EMPTY:-x}${UNSET:-y}${SET:-z}").as_deref(),
            Ok("xyvalue")
        );
        assert_eq!(fill("$${SET} $5 $").as_deref(), Ok("${SET} $5 $"));
    }

    #[test]
    fn what_a_variable_holds_is_not_filled_in_again() {
        let environment = |_: &str| Some("${OTHER}".to_owned());
        let variables = Variables {
            environment: &environment,
            folder: Path::new("/"),
        };
        assert_eq!(substitute("${A}", &variables).as_deref(), Ok("${OTHER}"));
    }

    #[test]
    fn a_missing_variable_is_named() {
        assert_eq!(
            fill("${UNSET}"),
            Err("the environment variable UNSET is not set".into())
        );
        assert!(fill("${SET").is_err_and(|why| why.contains("not closed")));
        assert!(fill("${a b}").is_err_and(|why| !why.contains("a b")));
    }

    #[test]
    fn a_file_gives_its_content_without_the_last_line_break() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("secret"), "two\nlines\r\n")?;
        let variables = Variables {
            environment: &|_| None,
            folder: folder.path(),
        };
        assert_eq!(
            substitute("<${file:secret}>", &variables).as_deref(),
            Ok("<two\nlines>")
        );
        let missing = substitute("${file:none}", &variables);
        assert!(missing.is_err_and(|why| why.contains("none cannot be read")));
        Ok(())
    }
}
