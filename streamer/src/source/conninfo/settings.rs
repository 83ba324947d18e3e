//! Keyword settings as text, gathered from all their places.

use std::collections::HashMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

use super::keyword::{self, KEYWORDS, Treatment};
use super::servicefile;
use crate::error::{Failure, Result};

/// The environment variables that conninfo looks at.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    pub fn of_process() -> Self {
        Environment(
            std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        )
    }

    /// An empty variable counts as not set, as in libpq's users' scripts.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    pub fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Environment(pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into())
    }
}

/// Settings by keyword. Holds passwords, so it has no `Debug`.
#[derive(Default)]
pub struct Settings(HashMap<&'static str, String>);

impl Settings {
    /// The setting, unless it is empty, which libpq takes as not given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// # Errors
    /// The keyword is unknown.
    pub fn set(&mut self, name: &str, value: String) -> Result<()> {
        self.0.insert(keyword::find(name)?.name, value);
        Ok(())
    }

    /// Sets what is not set yet; an unknown name is the caller's to refuse.
    pub fn set_default(&mut self, name: &str, value: String) {
        if let Ok(keyword) = keyword::find(name) {
            self.0.entry(keyword.name).or_insert(value);
        }
    }

    /// Adds what the service and the environment say.
    pub fn fill(&mut self, environment: &Environment) -> Result<()> {
        for name in ["service", "servicefile"] {
            let variable = keyword::find(name)?.variable;
            if let Some(value) = variable.and_then(|variable| environment.get(variable)) {
                self.set_default(name, value);
            }
        }
        if let Some(service) = self.get("service").map(str::to_owned) {
            servicefile::apply(&service, self, environment)?;
        }
        for keyword in KEYWORDS {
            if let Some(value) = keyword
                .variable
                .and_then(|variable| environment.get(variable))
            {
                self.set_default(keyword.name, value);
            }
        }
        for keyword in KEYWORDS {
            if keyword.treatment == Treatment::Unused && self.get(keyword.name).is_some() {
                tracing::debug!("connection keyword {} has no effect", keyword.name);
            }
        }
        Ok(())
    }

    pub fn number(&self, name: &str) -> Result<Option<i32>> {
        self.get(name)
            .map(|text| {
                text.trim()
                    .parse()
                    .map_err(|_| Failure::usage(format!("{name} is {text:?}, not a whole number")))
            })
            .transpose()
    }

    /// A number, `default` where none is given; zero and less mean the
    /// system's own value.
    pub fn positive(&self, name: &str, default: u32) -> Result<Option<u32>> {
        Ok(match self.number(name)? {
            None => Some(default),
            Some(number) => u32::try_from(number).ok().filter(|number| *number > 0),
        })
    }
}

/// Where the server of this machine keeps its socket: Debian's folder if it is
/// there, else PostgreSQL's own default.
pub fn default_socket_folder() -> PathBuf {
    let debian = Path::new("/var/run/postgresql");
    if debian.is_dir() {
        debian.to_owned()
    } else {
        PathBuf::from("/tmp")
    }
}

/// The name of the effective user, by which libpq defaults `user`.
pub fn system_user() -> Option<String> {
    let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
    let mut strings = vec![0_u8; 16 * 1024];
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are to live locals, and the length is that of the
    // buffer they point to; geteuid can't fail.
    let result = unsafe {
        libc::getpwuid_r(
            libc::geteuid(),
            entry.as_mut_ptr(),
            strings.as_mut_ptr().cast(),
            strings.len(),
            &mut found,
        )
    };
    if result != 0 || found.is_null() {
        return None;
    }
    // SAFETY: on success `found` points to `entry`, now initialized, whose
    // name is a C string inside `strings`, alive until the end of this function.
    let name = unsafe { CStr::from_ptr((*found).pw_name) };
    name.to_str().ok().map(str::to_owned)
}
