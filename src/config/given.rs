//! Values together with who gave them, so that a complaint names the place where it can be put right.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A value, and who gave it.
#[derive(Clone, Debug)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) by: By,
}

/// Who gave a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// An option of the command line.
    Option {
        /// With its dashes.
        name: &'static str,
        /// What was given.
        value: String,
    },
    /// A key of the configuration file.
    File(Place),
}

/// A place in the configuration file. Values are not repeated: a password may stand in any of them by mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: Arc<Path>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What stands there, such as `camera.retry.max`.
    pub key: String,
}

/// A value of the configuration file, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// What stands there.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl<T> From<(T, Place)> for Placed<T> {
    fn from((value, place): (T, Place)) -> Self {
        Self { value, place }
    }
}

impl Given<String> {
    /// What stands on the command line.
    pub(super) fn option(name: &'static str, value: String) -> Self {
        Self { by: By::Option { name, value: value.clone() }, value }
    }

    /// A path.
    pub(super) fn into_path(self) -> Given<PathBuf> {
        Given { value: self.value.into(), by: self.by }
    }
}

impl Given<PathBuf> {
    /// A path of the command line.
    pub(super) fn path(name: &'static str, value: PathBuf) -> Self {
        Self { by: By::Option { name, value: value.display().to_string() }, value }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option { name, value } => write!(f, "{name} {value}"),
            Self::File(place) => place.fmt(f),
        }
    }
}

/// As editors and compilers have it: a click leads there.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, key } = self;
        write!(f, "{}:{line}:{column}", path.display())?;
        if key.is_empty() { Ok(()) } else { write!(f, ": {key}") }
    }
}
