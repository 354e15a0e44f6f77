//! What the configuration file may say. `defaults.toml` documents it; a test holds the two together.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{FileError, Source, Table};
use super::given::{By, Given, Place};
use super::streams::{StreamTable, streams};
use super::{IoBackend, LATENCY_US_MAX, ReaderProgram};
use crate::ids::StreamId;
use crate::ingest::{Policy, Wait, WaitChanges};
use crate::limits::{
    CAMERA_MBIT_S, CAMERA_TIMEOUT, MEDIA_TIMEOUT, PROGRAMS_MAX, RESOLVE_TIMEOUT, RETRY_AUTH_WAIT,
    RETRY_JITTER_PERCENT, RETRY_MULTIPLIER, RETRY_WAIT, SHARDS_MAX, STABLE_AFTER, TEARDOWN_TIMEOUT,
};

/// What was said, by the file or on the command line. What is absent was not.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) listen: Vec<Given<String>>,
    pub(super) ring_socket: Option<Given<PathBuf>>,
    pub(super) ring_socket_mode: Option<Given<String>>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) shards: Option<u32>,
    pub(super) io: Option<IoBackend>,
    pub(super) latency_us: Option<u32>,
    pub(super) connects_at_once: Option<u16>,
    pub(super) http: Option<Given<String>>,
    /// Only the file says it.
    pub(super) policy: Policy,
    /// Only the file says it.
    pub(super) readers: Vec<ReaderProgram>,
    /// Only the file says it.
    pub(super) streams: Vec<StreamTable>,
}

impl Settings {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`FileError`].
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        Self::of(&Source::read(path)?)
    }

    /// What `source` says.
    ///
    /// # Errors
    /// [`FileError`].
    pub(super) fn of(source: &Source) -> Result<Self, FileError> {
        let mut root = source.parse()?;
        let settings = Self {
            listen: root.strings("listen")?.unwrap_or_default(),
            ring_socket: root.string("ring_socket")?.map(Given::into_path),
            ring_socket_mode: root.string("ring_socket_mode")?,
            state_dir: root.string("state_dir")?.map(|given| given.value.into()),
            shards: root.integer("shards", 1..=u32::try_from(SHARDS_MAX).unwrap_or(u32::MAX))?,
            io: root.choice("io")?.map(|io| io.value),
            latency_us: root.integer("latency_us", 0..=LATENCY_US_MAX)?,
            connects_at_once: root.integer("connects_at_once", 1..=u16::MAX)?,
            http: root.string("http")?,
            policy: policy(&mut root)?,
            readers: readers(&mut root)?,
            streams: streams(&mut root)?,
        };
        root.finish()?;
        Ok(settings)
    }

    /// These, and what `other` says where they are silent.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            listen: if self.listen.is_empty() { other.listen } else { self.listen },
            ring_socket: self.ring_socket.or(other.ring_socket),
            ring_socket_mode: self.ring_socket_mode.or(other.ring_socket_mode),
            state_dir: self.state_dir.or(other.state_dir),
            shards: self.shards.or(other.shards),
            io: self.io.or(other.io),
            latency_us: self.latency_us.or(other.latency_us),
            connects_at_once: self.connects_at_once.or(other.connects_at_once),
            http: self.http.or(other.http),
            policy: other.policy,
            readers: other.readers,
            streams: other.streams,
        }
    }
}

/// `[reader.NAME]`: programs to start and look after.
fn readers(root: &mut Table<'_>) -> Result<Vec<ReaderProgram>, FileError> {
    let mut programs = Vec::new();
    for (name, mut table) in root.tables("reader")? {
        // A name goes into logs and metrics; it is one like a stream's.
        if StreamId::new(&name.value).is_err() || programs.len() == PROGRAMS_MAX {
            let By::File(place) = name.by else { continue };
            let why = if programs.len() == PROGRAMS_MAX {
                format!("at most {PROGRAMS_MAX} programs")
            } else {
                "a reader's name has lower-case letters, digits, '.', '_' and '-', 63 at most".to_owned()
            };
            return Err(FileError::Wrong { place, why });
        }
        let command = table.string("command")?;
        let args = table.strings("args")?.unwrap_or_default();
        let env = table.table("env")?.map(Table::rest_as_strings).transpose()?.unwrap_or_default();
        table.finish()?;
        let Some(command) = command.filter(|command| !command.value.is_empty()) else {
            let By::File(place) = name.by else { continue };
            return Err(FileError::Wrong { place, why: "says no `command` to run".to_owned() });
        };
        let args = args.into_iter().map(|given| given.value).collect();
        programs.push(ReaderProgram { name: name.value, command: command.value.into(), args, env });
    }
    Ok(programs)
}

/// `[camera]`: patience with every camera.
fn policy(root: &mut Table<'_>) -> Result<Policy, FileError> {
    let mut policy = Policy::default();
    let Some(mut table) = root.table("camera")? else { return Ok(policy) };
    for (key, place, range) in [
        ("resolve_timeout", &mut policy.resolve_timeout, &RESOLVE_TIMEOUT),
        ("connect_timeout", &mut policy.connect_timeout, &CAMERA_TIMEOUT),
        ("reply_timeout", &mut policy.reply_timeout, &CAMERA_TIMEOUT),
        ("first_frame_timeout", &mut policy.first_frame_timeout, &MEDIA_TIMEOUT),
        ("idle_timeout", &mut policy.idle_timeout, &MEDIA_TIMEOUT),
        ("teardown_timeout", &mut policy.teardown_timeout, &TEARDOWN_TIMEOUT),
        ("report_interval", &mut policy.report_interval, &CAMERA_TIMEOUT),
        ("stable_after", &mut policy.stable_after, &STABLE_AFTER),
    ] {
        table.duration(key, range)?.into_iter().for_each(|(given, _)| *place = given);
    }
    table.integer("max_mbit_s", CAMERA_MBIT_S)?.into_iter().for_each(|given| policy.max_mbit_s = given);
    for (key, place, range) in [
        ("retry", &mut policy.retry, &RETRY_WAIT),
        ("retry_auth", &mut policy.retry_auth, &RETRY_AUTH_WAIT),
        ("retry_busy", &mut policy.retry_busy, &RETRY_WAIT),
        ("retry_unsupported", &mut policy.retry_unsupported, &RETRY_WAIT),
    ] {
        wait(&mut table, key, place, range)?;
    }
    table.finish()?;
    Ok(policy)
}

fn wait(
    table: &mut Table<'_>,
    key: &'static str,
    wait: &mut Wait,
    range: &RangeInclusive<Duration>,
) -> Result<(), FileError> {
    let (changes, place) = wait_changes(table, key, range)?;
    let (initial, max) = (changes.initial.unwrap_or(wait.initial), changes.max.unwrap_or(wait.max));
    // Of two defaults neither has a place, and they are in order.
    if let Some(place) = place.filter(|_| max < initial) {
        return Err(crossed(initial, max, place));
    }
    *wait = wait.with(&changes);
    Ok(())
}

/// A table of waits, and where its last of `initial` and `max` stands.
pub(super) fn wait_changes(
    table: &mut Table<'_>,
    key: &'static str,
    range: &RangeInclusive<Duration>,
) -> Result<(WaitChanges, Option<Place>), FileError> {
    let Some(mut table) = table.table(key)? else { return Ok((WaitChanges::default(), None)) };
    let initial = table.duration("initial", range)?;
    let max = table.duration("max", range)?;
    let multiplier = table.integer("multiplier", RETRY_MULTIPLIER)?;
    let jitter_percent = table.integer("jitter_percent", RETRY_JITTER_PERCENT)?;
    table.finish()?;
    let (initial, initial_at) = initial.unzip();
    let (max, max_at) = max.unzip();
    Ok((WaitChanges { initial, max, multiplier, jitter_percent }, max_at.or(initial_at)))
}

/// The first wait is longer than the longest.
pub(super) fn crossed(initial: Duration, max: Duration, place: Place) -> FileError {
    let (initial, max) = (humantime::format_duration(initial), humantime::format_duration(max));
    let why = format!("the first wait, initial = \"{initial}\", is longer than max = \"{max}\": set both");
    FileError::Wrong { place, why }
}
