//! Streams that the configuration file names: made what a caller's request is made, before anything starts, so that a mistake is told
//! with its place and costs nothing else. Afterwards they are the file's: what a caller may not change, because the next start would
//! undo it, is refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use vms_proto::v1;

use super::error::ApiError;
use super::spec::StreamSpec;
use crate::config::{FileError, Place, Placed, Record, StreamTable, Transport};
use crate::ids::StreamId;
use crate::limits::PASSWORD_FILE_LEN_MAX;

/// All streams of the file, checked.
#[derive(Default)]
pub(crate) struct Configured(Vec<(StreamId, Place, StreamSpec)>);

/// The names that are the file's, and where they stand.
#[derive(Debug, Default)]
pub(crate) struct Owned(BTreeMap<StreamId, Place>);

/// Who asked for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A caller.
    Api,
    /// The configuration file.
    File,
}

impl Configured {
    /// Checks what the file says, and reads the passwords that it names files of.
    ///
    /// # Errors
    /// [`FileError::Wrong`], which never holds a secret.
    pub(crate) fn check(tables: &[StreamTable]) -> Result<Self, FileError> {
        tables.iter().map(check).collect::<Result<_, _>>().map(Self)
    }

    /// Their names.
    pub(crate) fn owned(&self) -> Owned {
        Owned(self.0.iter().map(|(id, place, _)| (id.clone(), place.clone())).collect())
    }

    /// Each with its spec.
    pub(crate) fn into_specs(self) -> impl Iterator<Item = (StreamId, StreamSpec)> {
        self.0.into_iter().map(|(id, _, spec)| (id, spec))
    }
}

impl Owned {
    /// Whether the file names the stream.
    pub(crate) fn has(&self, id: &StreamId) -> bool {
        self.0.contains_key(id)
    }

    /// Nothing, if the stream is a caller's to change.
    ///
    /// # Errors
    /// `FromFile`.
    pub(crate) fn refuse(&self, id: &StreamId) -> Result<(), ApiError> {
        let refusal = |place: &Place| ApiError::FromFile {
            id: id.clone(),
            place: format!("{}:{}", place.path.display(), place.line),
        };
        self.0.get(id).map_or(Ok(()), |place| Err(refusal(place)))
    }
}

fn check(table: &StreamTable) -> Result<(StreamId, Place, StreamSpec), FileError> {
    let StreamTable { id, place, url, user, password_file, transport, labels, uids, gids, patience, record } =
        table;
    let password = password_file.as_ref().map(password).transpose()?.unwrap_or_default();
    let credentials = user.as_ref().map(|user| v1::Credentials { username: user.value.clone(), password });
    let transport = transport.as_ref().map_or(v1::Transport::Auto, |transport| match transport.value {
        Transport::Auto => v1::Transport::Auto,
        Transport::Tcp => v1::Transport::Tcp,
        Transport::Udp => v1::Transport::Udp,
    });
    let record = record.as_ref().map(|record| match record.value {
        Record::Off => v1::RecordMode::Off,
        Record::Continuous => v1::RecordMode::Continuous,
    });
    let numbers = |given: &Option<Placed<Vec<u32>>>| {
        given.as_ref().map(|given| given.value.clone()).unwrap_or_default()
    };
    let spec = v1::StreamSpec {
        credentials,
        transport: transport.into(),
        labels: labels.as_ref().map(|labels| labels.value.clone()).unwrap_or_default(),
        access: Some(v1::AccessPolicy { uids: numbers(uids), gids: numbers(gids) }),
        record: record.map(|mode| v1::RecordPolicy { mode: mode.into() }),
        ..v1::StreamSpec::default()
    };
    let request = v1::SetupStreamRequest { id: id.to_string(), url: url.value.clone(), spec: Some(spec) };
    let (id, mut spec) = StreamSpec::check(request).map_err(|error| complaint(table, &error))?;
    // Its ranges were looked at where it was read.
    spec.patience = *patience;
    Ok((id, place.clone(), spec))
}

/// The same complaint that a caller gets, at the place that is to be put right.
fn complaint(table: &StreamTable, error: &ApiError) -> FileError {
    fn at<T>(key: &Option<Placed<T>>) -> Option<&Place> {
        key.as_ref().map(|key| &key.place)
    }
    let place = match error.field() {
        Some("url") => Some(&table.url.place),
        Some("spec.transport") => at(&table.transport),
        Some("spec.credentials") => at(&table.password_file).or(at(&table.user)),
        Some("spec.credentials.username") => at(&table.user),
        Some("spec.labels") => at(&table.labels),
        Some("spec.access") => at(&table.uids).or(at(&table.gids)),
        Some("spec.access.uids") => at(&table.uids),
        Some("spec.access.gids") => at(&table.gids),
        Some(_) | None => None,
    };
    let why = if let ApiError::InvalidField { why, .. } | ApiError::InvalidUrl { why } = error {
        why.clone()
    } else {
        error.to_string()
    };
    FileError::Wrong { place: place.unwrap_or(&table.place).clone(), why }
}

/// The first line of the file that is named.
fn password(file: &Placed<PathBuf>) -> Result<String, FileError> {
    let wrong = |why: String| {
        let why = format!("{}: {why}", file.value.display());
        FileError::Wrong { place: file.place.clone(), why }
    };
    let password = first_line(&file.value).map_err(|error| {
        let is_text = error.kind() != io::ErrorKind::InvalidData;
        wrong(if is_text { error.to_string() } else { "its first line is not UTF-8".to_owned() })
    })?;
    if password.is_empty() {
        return Err(wrong("its first line is to be the password, and is empty".to_owned()));
    }
    Ok(password)
}

fn first_line(path: &Path) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(File::open(path)?.take(PASSWORD_FILE_LEN_MAX)).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::CANARY;
    use super::*;
    use std::sync::Arc;

    fn place(key: &str, line: usize) -> Place {
        Place { path: Arc::from(Path::new("f.toml")), line, column: 1, key: format!("stream.door.{key}") }
    }

    fn table(url: &str) -> StreamTable {
        StreamTable {
            id: StreamId::new("door").unwrap(),
            place: Place { key: "stream.door".to_owned(), ..place("", 1) },
            url: (url.to_owned(), place("url", 2)).into(),
            user: None,
            password_file: None,
            transport: None,
            labels: None,
            uids: None,
            gids: None,
            patience: Default::default(),
            record: None,
        }
    }

    fn told(table: &StreamTable) -> String {
        Configured::check(std::slice::from_ref(table)).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_table_is_the_stream_that_the_same_request_is() {
        let file = std::env::temp_dir().join(format!("vms-configured-{}", std::process::id()));
        std::fs::write(&file, format!("{CANARY}\nnot this\n")).unwrap();
        let patience = crate::ingest::PolicyChanges {
            timeouts: crate::ingest::TimeoutChanges {
                idle: Some(std::time::Duration::from_secs(8)),
                ..Default::default()
            },
            ..Default::default()
        };
        let table = StreamTable {
            user: Some(("admin".to_owned(), place("user", 3)).into()),
            password_file: Some((file.clone(), place("password_file", 4)).into()),
            transport: Some((Transport::Tcp, place("transport", 5)).into()),
            labels: Some(([("site".to_owned(), "north".to_owned())].into(), place("labels", 6)).into()),
            uids: Some((vec![7], place("uids", 7)).into()),
            gids: Some((vec![9], place("gids", 8)).into()),
            patience,
            record: Some((Record::Continuous, place("record", 9)).into()),
            ..table("rtsp://10.0.0.1/live")
        };
        let configured = Configured::check(&[table]).unwrap();
        std::fs::remove_file(&file).unwrap();
        let idle = Some(prost_types::Duration { seconds: 8, nanos: 0 });
        let request = v1::SetupStreamRequest {
            id: "door".to_owned(),
            url: format!("rtsp://admin:{CANARY}@10.0.0.1/live"),
            spec: Some(v1::StreamSpec {
                transport: v1::Transport::Tcp.into(),
                labels: [("site".to_owned(), "north".to_owned())].into(),
                access: Some(v1::AccessPolicy { uids: vec![7], gids: vec![9] }),
                timeouts: Some(v1::Timeouts { idle, ..Default::default() }),
                record: Some(v1::RecordPolicy { mode: v1::RecordMode::Continuous.into() }),
                ..Default::default()
            }),
        };
        let (id, spec) = StreamSpec::check(request).unwrap();
        let (owned, mut streams) = (configured.owned(), configured.into_specs());
        let (configured_id, configured_spec) = streams.next().unwrap();
        assert_eq!(configured_id, id);
        assert_eq!(configured_spec.difference(&spec), Vec::<&str>::new());
        let refused = owned.refuse(&id).unwrap_err().to_string();
        assert!(refused.contains("f.toml:1") && owned.has(&id), "{refused}");
        owned.refuse(&StreamId::new("another").unwrap()).unwrap();
    }

    #[test]
    fn what_a_caller_would_be_told_is_told_at_its_key() {
        let url = |url: &str| told(&table(url));
        assert_eq!(url("exec:ls"), "f.toml:2:1: stream.door.url: only rtsp:// URLs are carried");
        assert_eq!(url("rtsps://h/"), "f.toml:1:1: stream.door: rtsps is not available yet");
        assert_eq!(url("rtsp://"), "f.toml:2:1: stream.door.url: the URL names no host");
        assert_eq!(url(""), "f.toml:2:1: stream.door.url: it is missing");
        let good = table("rtsp://h/");
        let transport = Some((Transport::Udp, place("transport", 5)).into());
        assert_eq!(
            told(&StreamTable { transport, ..good.clone() }),
            "f.toml:1:1: stream.door: transport UDP is not available yet"
        );
        let labels = Some(([("a b".to_owned(), String::new())].into(), place("labels", 6)).into());
        let text = told(&StreamTable { labels, ..good.clone() });
        assert!(text.starts_with("f.toml:6:1: stream.door.labels: keys match"), "{text}");
        for (uids, gids, key) in [
            (vec![u32::MAX], vec![], "7:1: stream.door.uids: 4294967295 is -1"),
            (vec![], vec![u32::MAX], "8:1: stream.door.gids: 4294967295 is -1"),
            ((0..65).collect(), vec![], "7:1: stream.door.uids: at most 64"),
        ] {
            let uids = Some((uids, place("uids", 7)).into());
            let gids = Some((gids, place("gids", 8)).into());
            let text = told(&StreamTable { uids, gids, ..good.clone() });
            assert!(text.starts_with(&format!("f.toml:{key}")), "{text}");
        }
        let user = Some((String::new(), place("user", 3)).into());
        let password_file = Some(("/nowhere/pw".into(), place("password_file", 4)).into());
        let text = told(&StreamTable { user, password_file, ..good });
        assert_eq!(
            text,
            "f.toml:4:1: stream.door.password_file: /nowhere/pw: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn no_complaint_holds_a_secret() {
        for url in
            [format!("rtsp://u:{CANARY}@"), format!("{CANARY}://h/"), format!("rtsp://u:{CANARY}@h:p/")]
        {
            assert!(!told(&table(&url)).contains(CANARY));
        }
    }
}
