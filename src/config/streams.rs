//! Streams that the configuration file names: `[stream.ID]`.
//!
//! What the tables say is taken as it stands here, with its places. Whether it makes a stream is decided where a caller's request is,
//! so that both may say the same.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;

use super::document::{FileError, Table};
use super::file::{crossed, wait_changes};
use super::given::{By, Place, Placed};
use crate::ids::StreamId;
use crate::ingest::{PolicyChanges, TimeoutChanges};
use crate::limits::{CAMERA_TIMEOUT, MEDIA_TIMEOUT, RETRY_WAIT, STREAMS_MAX};

/// A stream as the file has it.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamTable {
    /// Its name.
    pub id: StreamId,
    /// Where its table begins.
    pub place: Place,
    /// The camera; a user and a password may stand in it.
    pub url: Placed<String>,
    /// The camera's user.
    pub user: Option<Placed<String>>,
    /// A file whose first line is the password. It is not read yet.
    pub password_file: Option<Placed<PathBuf>>,
    /// How RTP is carried.
    pub transport: Option<Placed<Transport>>,
    /// Notes.
    pub labels: Option<Placed<BTreeMap<String, String>>>,
    /// Users that may read it.
    pub uids: Option<Placed<Vec<u32>>>,
    /// Groups that may read it.
    pub gids: Option<Placed<Vec<u32>>>,
    /// What of `[camera]` is another for it.
    pub patience: PolicyChanges,
    /// Whether it is recorded.
    pub record: Option<Placed<Record>>,
}

/// The URL may hold a password.
impl fmt::Debug for StreamTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTable").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How RTP is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// The daemon chooses.
    Auto,
    /// In the RTSP connection.
    Tcp,
    /// Beside it.
    Udp,
}

/// When a stream is recorded, by a recorder that follows the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Record {
    /// Never.
    Off,
    /// Always.
    Continuous,
}

/// All that the file names.
pub(super) fn streams(root: &mut Table<'_>) -> Result<Vec<StreamTable>, FileError> {
    let mut streams = Vec::new();
    for (name, table) in root.tables("stream")? {
        let By::File(place) = name.by else { continue };
        let wrong = |why: String| Err(FileError::Wrong { place: place.clone(), why });
        let id = match StreamId::new(&name.value) {
            Ok(id) => id,
            Err(error) => return wrong(error.to_string()),
        };
        if streams.len() == STREAMS_MAX {
            return wrong(format!("at most {STREAMS_MAX} streams"));
        }
        streams.push(stream(id, place, table)?);
    }
    Ok(streams)
}

fn stream(id: StreamId, place: Place, mut table: Table<'_>) -> Result<StreamTable, FileError> {
    let url = table.placed_string("url")?;
    let user = table.placed_string("user")?;
    let password_file = table.placed_string("password_file")?;
    let transport = table.choice("transport")?;
    let labels = table.strings_by_key("labels")?;
    let uids = table.numbers("uids")?;
    let gids = table.numbers("gids")?;
    let record = table.choice("record")?;
    let patience = patience(&mut table)?;
    table.finish()?;
    let Some(url) = url else {
        return Err(FileError::Wrong { place, why: "says no `url` to carry".to_owned() });
    };
    if let (Some(Placed { place, .. }), None) = (&password_file, &user) {
        let why = "a password needs a `user` beside it".to_owned();
        return Err(FileError::Wrong { place: place.clone(), why });
    }
    let password_file = password_file.map(|Placed { value, place }| Placed { value: value.into(), place });
    Ok(StreamTable { id, place, url, user, password_file, transport, labels, uids, gids, patience, record })
}

fn patience(table: &mut Table<'_>) -> Result<PolicyChanges, FileError> {
    let mut timeouts = TimeoutChanges::default();
    for (key, place, range) in [
        ("connect_timeout", &mut timeouts.connect, &CAMERA_TIMEOUT),
        ("reply_timeout", &mut timeouts.reply, &CAMERA_TIMEOUT),
        ("first_frame_timeout", &mut timeouts.first_frame, &MEDIA_TIMEOUT),
        ("idle_timeout", &mut timeouts.idle, &MEDIA_TIMEOUT),
    ] {
        *place = table.duration(key, range)?.map(|(given, _)| given);
    }
    let (retry, place) = wait_changes(table, "retry", &RETRY_WAIT)?;
    if let (Some(initial), Some(max), Some(place)) = (retry.initial, retry.max, place)
        && max < initial
    {
        return Err(crossed(initial, max, place));
    }
    Ok(PolicyChanges { timeouts, retry })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::document::Source;
    use super::*;
    use crate::ingest::WaitChanges;

    fn of(text: &str) -> Result<Vec<StreamTable>, String> {
        let source = Source::new(Path::new("f.toml"), text.to_owned());
        let read = || {
            let mut root = source.parse()?;
            let streams = streams(&mut root)?;
            root.finish()?;
            Ok(streams)
        };
        read().map_err(|error: FileError| error.to_string())
    }

    #[test]
    fn all_keys_of_a_stream_are_taken_with_their_places() {
        let text = "[stream.door]\nurl = 'rtsp://h/a'\nuser = 'u'\npassword_file = 'p'\ntransport = 'tcp'\n\
                    labels = { site = 'north' }\nrecord = 'continuous'\nuids = [7]\ngids = [8, 9]\nconnect_timeout = '2s'\nreply_timeout = '3s'\n\
                    first_frame_timeout = '4s'\nidle_timeout = '8s'\n\
                    [stream.door.retry]\ninitial = '5s'\nmax = '5s'\nmultiplier = 1\njitter_percent = 0\n\
                    [stream.\"cam.1\"]\nurl = 'rtsp://h/b'\n";
        let streams = of(text).unwrap();
        assert_eq!(streams.iter().map(|stream| stream.id.as_str()).collect::<Vec<_>>(), ["cam.1", "door"]);
        let StreamTable { url, user, password_file, transport, labels, uids, gids, patience, record, .. } =
            &streams[1];
        assert_eq!((url.value.as_str(), url.place.line, url.place.column), ("rtsp://h/a", 2, 7));
        assert_eq!(url.place.key, "stream.door.url");
        assert_eq!(user.as_ref().unwrap().value, "u");
        assert_eq!(password_file.as_ref().unwrap().value, Path::new("p"));
        assert_eq!(transport.as_ref().unwrap().value, Transport::Tcp);
        assert_eq!(labels.as_ref().unwrap().value["site"], "north");
        assert_eq!(record.as_ref().unwrap().value, Record::Continuous);
        assert_eq!((&uids.as_ref().unwrap().value, &gids.as_ref().unwrap().value), (&vec![7], &vec![8, 9]));
        let s = |seconds| Some(Duration::from_secs(seconds));
        let expected = PolicyChanges {
            timeouts: TimeoutChanges { connect: s(2), reply: s(3), first_frame: s(4), idle: s(8) },
            retry: WaitChanges { initial: s(5), max: s(5), multiplier: Some(1), jitter_percent: Some(0) },
        };
        assert_eq!(*patience, expected);
        assert_eq!(streams[0].patience, PolicyChanges::default());
        assert_eq!(of("").unwrap(), []);
    }

    #[test]
    fn what_makes_no_stream_is_told_with_its_place() {
        let retry = |keys: &str| format!("[stream.a]\nurl = 'x'\n[stream.a.retry]\n{keys}\n");
        for (text, told) in [
            ("[stream.Door]\nurl = 'x'".to_owned(), "f.toml:1:9: stream.Door: a stream id has 1 to 63"),
            ("[stream.a]\nuser = 'u'".to_owned(), "f.toml:1:9: stream.a: says no `url` to carry"),
            (
                "[stream.a]\nurl = 'x'\npassword_file = 'p'".to_owned(),
                "f.toml:3:17: stream.a.password_file: a password needs a `user`",
            ),
            (
                "[stream.a]\nurl = 'x'\npassword = 'canary'".to_owned(),
                "f.toml:3:1: unknown key `password` in [stream.a]: did you mean `password_file`?",
            ),
            ("stream = 1".to_owned(), "f.toml:1:10: stream: expected a table: [stream]"),
            ("[stream]\na = 'canary'".to_owned(), "f.toml:2:5: stream.a: expected a table: [stream.a]"),
            (
                "[stream.a]\nurl = 'x'\ntransport = 'canary'".to_owned(),
                "f.toml:3:13: stream.a.transport: expected \"auto\" or \"tcp\" or \"udp\"",
            ),
            (
                "[stream.a]\nurl = 'x'\nidle_timeout = '0s'".to_owned(),
                "f.toml:3:16: stream.a.idle_timeout: out of range: expected a time span from 1s to 1h",
            ),
            (
                retry("max = '5s'\ninitial = '6s'"),
                "f.toml:4:7: stream.a.retry.max: the first wait, initial = \"6s\", is longer than max = \"5s\"",
            ),
            (retry("jitter = 1"), "f.toml:4:1: unknown key `jitter` in [stream.a.retry]: did you mean"),
        ] {
            let error = of(&text).unwrap_err();
            assert!(error.starts_with(told) && !error.contains("canary"), "{text}: {error}");
        }
        // The other end is moved along.
        assert!(of(&retry("max = '1s'")).is_ok() && of(&retry("initial = '1h'")).is_ok());
    }

    #[test]
    fn no_debug_output_holds_the_url() {
        let streams = of("[stream.door]\nurl = 'rtsp://u:canary@h/'\n").unwrap();
        let text = format!("{streams:?}");
        assert!(text.contains("door") && !text.contains("canary"), "{text}");
    }
}
