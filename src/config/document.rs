//! A TOML document that knows where everything in it stands, and complains in those terms.
//!
//! Each value is asked for by its key, type and range. What nobody has asked for when a table is [finished](Table::finish)
//! is a key that does not exist, and the answer names the nearest that does.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use humantime::{format_duration, parse_duration};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::given::{By, Given, Place, Placed};
use crate::limits::CONFIG_LEN_MAX;

/// A configuration file's text.
#[derive(Debug)]
pub(super) struct Source {
    path: Arc<Path>,
    text: String,
}

/// Why a configuration file cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: Arc<Path>,
        /// What the system said.
        why: String,
    },
    /// Something in it is wrong.
    #[error("{place}: {why}")]
    Wrong {
        /// Where.
        place: Place,
        /// What, and what to write instead.
        why: String,
    },
}

/// A table, while it is read.
#[derive(Debug)]
#[must_use = "a table is to be finished, or keys that do not exist are not found"]
pub(super) struct Table<'s> {
    source: &'s Source,
    /// With those of the tables around it, such as `camera.retry`; empty for the document.
    name: String,
    entries: DeTable<'s>,
    asked: Vec<&'static str>,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError::Unreadable`], also for a file that is too long to be one of ours.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let unreadable = |why: String| FileError::Unreadable { path: path.into(), why };
        let mut text = String::new();
        let file = File::open(path);
        match file.and_then(|file| file.take(CONFIG_LEN_MAX + 1).read_to_string(&mut text)) {
            Ok(len) if len as u64 <= CONFIG_LEN_MAX => Ok(Self::new(path, text)),
            Ok(_) => Err(unreadable(format!("longer than {CONFIG_LEN_MAX} bytes: that is no configuration"))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(unreadable("not UTF-8, as TOML has to be".to_owned()))
            }
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    /// The text of a file.
    pub(super) fn new(path: &Path, text: String) -> Self {
        Self { path: path.into(), text }
    }

    /// The document.
    ///
    /// # Errors
    /// [`FileError::Wrong`] when it is no TOML.
    pub(super) fn parse(&self) -> Result<Table<'_>, FileError> {
        match DeTable::parse(&self.text) {
            Ok(entries) => Ok(self.table(String::new(), entries.into_inner())),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let why = error.message().replace('\n', ": ");
                Err(FileError::Wrong { place: self.place(at, String::new()), why })
            }
        }
    }

    const fn table<'s>(&'s self, name: String, entries: DeTable<'s>) -> Table<'s> {
        Table { source: self, name, entries, asked: Vec::new() }
    }

    fn place(&self, at: usize, key: String) -> Place {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            path: Arc::clone(&self.path),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key,
        }
    }
}

impl<'s> Table<'s> {
    /// A string, and where it stands.
    pub(super) fn placed_string(&mut self, key: &'static str) -> Result<Option<Placed<String>>, FileError> {
        Ok(self.text(key)?.map(Placed::from))
    }

    /// A string.
    pub(super) fn string(&mut self, key: &'static str) -> Result<Option<Given<String>>, FileError> {
        Ok(self.text(key)?.map(given))
    }

    /// An array of strings.
    pub(super) fn strings(&mut self, key: &'static str) -> Result<Option<Vec<Given<String>>>, FileError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let span = value.span();
        let DeValue::Array(items) = value.into_inner() else {
            return Err(self.wrong(&span, key, "expected an array of strings, such as [\"…\"]"));
        };
        let items = items.into_iter().map(|item| self.text_of(key, item).map(given));
        items.collect::<Result<_, _>>().map(Some)
    }

    /// An array of whole numbers that are not negative.
    pub(super) fn numbers(&mut self, key: &'static str) -> Result<Option<Placed<Vec<u32>>>, FileError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let span = value.span();
        let expected = format!("expected an array of whole numbers from 0 to {}, such as [1000]", u32::MAX);
        let DeValue::Array(items) = value.into_inner() else {
            return Err(self.wrong(&span, key, &expected));
        };
        let numbers = items.into_iter().map(|item| {
            let number = if let DeValue::Integer(number) = item.get_ref()
                && number.radix() == 10
            {
                number.as_str().parse::<u32>().ok()
            } else {
                None
            };
            number.ok_or_else(|| self.wrong(&item.span(), key, &expected))
        });
        let value = numbers.collect::<Result<_, _>>()?;
        Ok(Some(Placed { value, place: self.place(&span, key) }))
    }

    /// A table of strings under keys that nobody knows before.
    pub(super) fn strings_by_key(
        &mut self,
        key: &'static str,
    ) -> Result<Option<Placed<BTreeMap<String, String>>>, FileError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let span = value.span();
        let DeValue::Table(entries) = value.into_inner() else {
            return Err(self.wrong(&span, key, "expected a table of strings, such as { KEY = \"VALUE\" }"));
        };
        let place = self.place(&span, key);
        let value = self.source.table(self.name_of(key), entries).rest_as_strings()?;
        Ok(Some(Placed { value, place }))
    }

    /// One of the words of `T`, and where it stands.
    pub(super) fn choice<T: ValueEnum>(&mut self, key: &'static str) -> Result<Option<Placed<T>>, FileError> {
        let Some((text, place)) = self.text(key)? else { return Ok(None) };
        match T::from_str(&text, false) {
            Ok(value) => Ok(Some(Placed { value, place })),
            Err(_) => {
                let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
                let words = values.map(|value| format!("\"{}\"", value.get_name())).collect::<Vec<_>>();
                Err(FileError::Wrong { place, why: format!("expected {}", words.join(" or ")) })
            }
        }
    }

    /// A whole number.
    pub(super) fn integer<T: FromStr + PartialOrd + fmt::Display>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, FileError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let expected = format!("expected a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(self.wrong(&value.span(), key, &expected));
        };
        // Written in another base it is not a number that anybody counts in.
        match integer.as_str().parse() {
            Ok(number) if integer.radix() == 10 && range.contains(&number) => Ok(Some(number)),
            Ok(_) | Err(_) => Err(self.wrong(&value.span(), key, &format!("out of range: {expected}"))),
        }
    }

    /// A time span, written as a string with its unit.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<Duration>,
    ) -> Result<Option<(Duration, Place)>, FileError> {
        let Some((text, place)) = self.text(key)? else { return Ok(None) };
        let (least, most) = (format_duration(*range.start()), format_duration(*range.end()));
        let expected = format!("expected a time span from {least} to {most}, such as \"{least}\"");
        match parse_duration(&text) {
            Ok(duration) if range.contains(&duration) => Ok(Some((duration, place))),
            Ok(_) => Err(FileError::Wrong { place, why: format!("out of range: {expected}") }),
            Err(_) => Err(FileError::Wrong { place, why: expected }),
        }
    }

    /// A table in this one.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<Self>, FileError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let span = value.span();
        let DeValue::Table(entries) = value.into_inner() else {
            return Err(self.wrong(&span, key, &format!("expected a table: [{}]", self.name_of(key))));
        };
        Ok(Some(self.source.table(self.name_of(key), entries)))
    }

    /// The tables in a table of this one, each with its key and where that stands: `[reader.NAME]`.
    ///
    /// # Errors
    /// [`FileError::Wrong`] when something else stands there.
    pub(super) fn tables(&mut self, key: &'static str) -> Result<Vec<(Given<String>, Self)>, FileError> {
        let Some(outer) = self.table(key)? else { return Ok(Vec::new()) };
        let Self { source, name, entries, .. } = outer;
        let mut tables = Vec::new();
        for (key, value) in entries {
            let (at, within) = (key.span().start, value.span());
            let full = format!("{name}.{}", printable(key.get_ref()));
            let DeValue::Table(entries) = value.into_inner() else {
                let why = format!("expected a table: [{full}]");
                return Err(FileError::Wrong { place: source.place(within.start, full), why });
            };
            let by = By::File(source.place(at, full.clone()));
            tables.push((Given { value: key.get_ref().to_string(), by }, source.table(full, entries)));
        }
        Ok(tables)
    }

    /// All that is left in this table, which are strings under keys that nobody knows before.
    ///
    /// # Errors
    /// [`FileError::Wrong`] when something else stands there.
    pub(super) fn rest_as_strings(mut self) -> Result<BTreeMap<String, String>, FileError> {
        let entries = std::mem::take(&mut self.entries);
        let texts = entries.into_iter().map(|(key, value)| {
            let (text, _) = self.text_of(printable(key.get_ref()), value)?;
            Ok((key.get_ref().to_string(), text))
        });
        texts.collect()
    }

    /// Ends the reading of this table.
    ///
    /// # Errors
    /// [`FileError::Wrong`] for a key that nobody has asked for.
    pub(super) fn finish(self) -> Result<(), FileError> {
        let first = self.entries.iter().min_by_key(|(key, _)| key.span().start);
        let Some((key, _)) = first else { return Ok(()) };
        let place = self.source.place(key.span().start, String::new());
        let table = if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
        let known = match nearest(key.get_ref(), &self.asked) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", self.asked.join(", ")),
        };
        Err(FileError::Wrong {
            place,
            why: format!("unknown key `{}`{table}: {known}", printable(key.get_ref())),
        })
    }

    fn text(&mut self, key: &'static str) -> Result<Option<(String, Place)>, FileError> {
        self.take(key).map(|value| self.text_of(key, value)).transpose()
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'s>>> {
        self.asked.push(key);
        self.entries.remove(key)
    }

    fn text_of(&self, key: &str, value: Spanned<DeValue<'s>>) -> Result<(String, Place), FileError> {
        let span = value.span();
        let DeValue::String(text) = value.into_inner() else {
            return Err(self.wrong(&span, key, "expected a string: text in \"quotes\""));
        };
        Ok((text.into_owned(), self.place(&span, key)))
    }

    fn wrong(&self, span: &Range<usize>, key: &str, why: &str) -> FileError {
        FileError::Wrong { place: self.place(span, key), why: why.to_owned() }
    }

    fn place(&self, span: &Range<usize>, key: &str) -> Place {
        self.source.place(span.start, self.name_of(key))
    }

    fn name_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

fn given<T>((value, place): (T, Place)) -> Given<T> {
    Given { value, by: By::File(place) }
}

/// The known key that was probably meant.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let likeness = |name: &str| strsim::jaro_winkler(&key.to_ascii_lowercase().replace('-', "_"), name);
    let best = known.iter().map(|name| (likeness(name), *name)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > LIKENESS_MIN).map(|(_, name)| name)
}

/// A key as far as it is one: what else may stand there by mistake is nobody's business.
fn printable(key: &str) -> &str {
    let is_word =
        key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if is_word { key } else { "…" }
}

/// Above it a key is taken for a misspelt one; clap has the same.
const LIKENESS_MIN: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IoBackend;

    /// What is complained of in `text`, when it is asked for all that the tests know.
    fn told(text: &str) -> String {
        let source = Source::new(Path::new("f.toml"), text.to_owned());
        read(&source).map_or_else(|error| error.to_string(), |()| String::new())
    }

    fn read(source: &Source) -> Result<(), FileError> {
        let mut root = source.parse()?;
        root.string("listen")?;
        root.strings("many")?;
        root.numbers("ids")?;
        root.strings_by_key("labels")?;
        root.integer("shards", 1..=256_u32)?;
        root.choice::<IoBackend>("io")?;
        if let Some(mut camera) = root.table("camera")? {
            camera.duration("reply_timeout", &(Duration::from_secs(1)..=Duration::from_secs(120)))?;
            camera.finish()?;
        }
        root.finish()
    }

    #[test]
    fn what_is_right_is_taken() {
        let text = "listen = 'a'\nmany = ['a', 'b']\nids = [0, 1_000]\nlabels = { site = 'north' }\nshards = 2_5\nio = 'epoll'\n[camera]\nreply_timeout = '1m 2s'\n";
        assert_eq!(told(text), "");
        assert_eq!(told(""), "");
        assert_eq!(told("camera.reply_timeout = '120s'"), "");
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_one() {
        let cases = [
            ("shard = 2", "f.toml:1:1: unknown key `shard`: did you mean `shards`?"),
            ("\n\n  lisen = 'a'", "f.toml:3:3: unknown key `lisen`: did you mean `listen`?"),
            (
                "[camera]\nreply-timeout = '1s'",
                "f.toml:2:1: unknown key `reply-timeout` in [camera]: did you mean `reply_timeout`?",
            ),
            ("[kamera]", "f.toml:1:2: unknown key `kamera`: did you mean `camera`?"),
            (
                "zzz = 1",
                "f.toml:1:1: unknown key `zzz`: there are listen, many, ids, labels, shards, io, camera",
            ),
            (
                "'rtsp://u:canary@h/' = 1",
                "f.toml:1:1: unknown key `…`: there are listen, many, ids, labels, shards, io, camera",
            ),
        ];
        for (text, answer) in cases {
            assert_eq!(told(text), answer);
        }
        assert!(told("zzz = 1\nshard = 1").contains("`zzz`"), "the first in the file is told first");
    }

    #[test]
    fn a_wrong_value_is_answered_with_what_is_allowed_and_not_repeated() {
        let cases = [
            ("shards = 257", "f.toml:1:10: shards: out of range: expected a whole number from 1 to 256"),
            ("shards = -1", "f.toml:1:10: shards: out of range: expected a whole number from 1 to 256"),
            ("shards = 0x10", "f.toml:1:10: shards: out of range: expected a whole number from 1 to 256"),
            (
                "shards = 99999999999999999999",
                "f.toml:1:10: shards: out of range: expected a whole number from 1 to 256",
            ),
            ("shards = 'canary'", "f.toml:1:10: shards: expected a whole number from 1 to 256"),
            ("io = 'canary'", "f.toml:1:6: io: expected \"auto\" or \"uring\" or \"epoll\""),
            ("listen = 1", "f.toml:1:10: listen: expected a string: text in \"quotes\""),
            ("many = 'canary'", "f.toml:1:8: many: expected an array of strings, such as [\"…\"]"),
            ("many = ['é', 1]", "f.toml:1:14: many: expected a string: text in \"quotes\""),
            (
                "ids = [1, -1]",
                "f.toml:1:11: ids: expected an array of whole numbers from 0 to 4294967295, such as [1000]",
            ),
            (
                "ids = 'canary'",
                "f.toml:1:7: ids: expected an array of whole numbers from 0 to 4294967295, such as [1000]",
            ),
            (
                "labels = 'canary'",
                "f.toml:1:10: labels: expected a table of strings, such as { KEY = \"VALUE\" }",
            ),
            ("labels = { site = 1 }", "f.toml:1:19: labels.site: expected a string: text in \"quotes\""),
            ("camera = 'canary'", "f.toml:1:10: camera: expected a table: [camera]"),
            (
                "[camera]\nreply_timeout = '3m'",
                "f.toml:2:17: camera.reply_timeout: out of range: expected a time span from 1s to 2m, such as \"1s\"",
            ),
            (
                "[camera]\nreply_timeout = 'canary'",
                "f.toml:2:17: camera.reply_timeout: expected a time span from 1s to 2m, such as \"1s\"",
            ),
            (
                "[camera]\nreply_timeout = 5",
                "f.toml:2:17: camera.reply_timeout: expected a string: text in \"quotes\"",
            ),
        ];
        for (text, answer) in cases {
            assert_eq!(told(text), answer);
        }
    }

    #[test]
    fn what_is_no_toml_is_answered_with_its_place_and_not_repeated() {
        for (text, place) in [
            ("shards = 1\nlisten = 'canary", "f.toml:2:"),
            ("shards = 1\nshards = 2", "f.toml:2:1: duplicate key"),
            ("listen = canary", "f.toml:1:10: "),
        ] {
            let told = told(text);
            assert!(told.starts_with(place) && !told.contains("canary") && !told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let told = |path: &str| Source::read(Path::new(path)).unwrap_err().to_string();
        assert_eq!(told("/nowhere/f.toml"), "/nowhere/f.toml: No such file or directory (os error 2)");
        assert!(told("/").starts_with("/: "));
        assert!(told("/dev/zero").starts_with("/dev/zero: longer than"));
        assert!(told("/proc/self/exe").contains("UTF-8") || told("/proc/self/exe").contains("longer"));
    }
}
