//! What a caller asks for, checked once at the edge and never looked at as text again.
//!
//! Here the password leaves the message it came in and becomes a `SecretString`; nothing behind this file can
//! print it.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use vms_proto::v1;

use super::error::ApiError;
use super::patience;
use crate::ids::StreamId;
use crate::ingest::{PolicyChanges, TimeoutChanges, WaitChanges};
use crate::limits::{ACCESS_IDS_MAX, CREDENTIAL_LEN_MAX, LABEL_KEY_LEN_MAX, LABEL_VALUE_LEN_MAX, LABELS_MAX};
use crate::publish::Access;
use crate::rtsp::{CameraUrl, Credentials, Scheme, UrlError};

/// No user's and no group's id (chown(2), unix(7)).
const INVALID_ID: u32 = u32::MAX;

/// A stream as the caller wishes it.
#[derive(Clone)]
pub(crate) struct StreamSpec {
    /// The camera, without user and password.
    pub(crate) url: CameraUrl,
    /// Who we are to it.
    pub(crate) credentials: Option<Credentials>,
    /// What was asked for; there is only TCP today, so it changes nothing but the comparison.
    transport: v1::Transport,
    /// The caller's notes.
    labels: BTreeMap<String, String>,
    /// Who may read it.
    pub(crate) access: Access,
    /// What of the daemon's patience is another for it.
    pub(crate) patience: PolicyChanges,
    /// Whether it is recorded, which is others' to do.
    record: v1::RecordMode,
}

/// What is to change of a stream's spec. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpecUpdate {
    pub(crate) access: Option<Access>,
    pub(crate) timeouts: Option<TimeoutChanges>,
    pub(crate) retry: Option<WaitChanges>,
    pub(crate) record: Option<v1::RecordMode>,
}

impl StreamSpec {
    /// Checks a request and takes it apart.
    ///
    /// # Errors
    /// One of the INVALID_ARGUMENT reasons, or NOT_AVAILABLE for a transport that is not built.
    pub(crate) fn check(request: v1::SetupStreamRequest) -> Result<(StreamId, Self), ApiError> {
        let id = StreamId::new(&request.id).map_err(|_| ApiError::InvalidStreamId)?;
        let spec = request.spec.unwrap_or_default();
        let transport = check_transport(spec.transport)?;
        let (url, in_url) = check_url(&one_url(request.url, spec.url)?)?;
        let given = spec.credentials.map(check_credentials).transpose()?.flatten();
        check_labels(&spec.labels)?;
        let access = check_access(spec.access.unwrap_or_default())?;
        let patience = PolicyChanges {
            timeouts: patience::check_timeouts(spec.timeouts.unwrap_or_default())?,
            retry: patience::check_retry(spec.retry.unwrap_or_default())?,
        };
        let record = check_record(spec.record.unwrap_or_default())?;
        let credentials = given.or(in_url);
        Ok((id, Self { url, credentials, transport, labels: spec.labels, access, patience, record }))
    }

    /// The spec as answers show it: without secrets.
    pub(crate) fn shown(&self) -> v1::StreamSpec {
        v1::StreamSpec {
            url: self.url.to_string(),
            credentials: None,
            transport: self.transport.into(),
            retry: patience::show_retry(&self.patience.retry),
            timeouts: patience::show_timeouts(&self.patience.timeouts),
            labels: self.labels.clone(),
            record: (self.record != v1::RecordMode::Off)
                .then(|| v1::RecordPolicy { mode: self.record.into() }),
            access: (self.access != Access::default()).then(|| v1::AccessPolicy {
                uids: self.access.uids.iter().copied().collect(),
                gids: self.access.gids.iter().copied().collect(),
            }),
        }
    }

    /// The request that gives this stream: with its secrets, to be kept where nobody else can read.
    pub(crate) fn request(&self, id: &StreamId) -> v1::SetupStreamRequest {
        let credentials = self.credentials.as_ref().map(|known| v1::Credentials {
            username: known.username.clone(),
            password: known.password.expose_secret().to_owned(),
        });
        let spec = v1::StreamSpec { url: self.url.request_uri(), credentials, ..self.shown() };
        v1::SetupStreamRequest { id: id.to_string(), url: String::new(), spec: Some(spec) }
    }

    /// Takes `update` over, and tells whether that made a difference.
    pub(crate) fn apply(&mut self, update: SpecUpdate) -> bool {
        let SpecUpdate { access, timeouts, retry, record } = update;
        let before = (self.access.clone(), self.patience, self.record);
        access.into_iter().for_each(|access| self.access = access);
        timeouts.into_iter().for_each(|timeouts| self.patience.timeouts = timeouts);
        retry.into_iter().for_each(|retry| self.patience.retry = retry);
        record.into_iter().for_each(|record| self.record = record);
        before != (self.access.clone(), self.patience, self.record)
    }

    /// Names of the fields in which `self` and `other` differ.
    pub(crate) fn difference(&self, other: &Self) -> Vec<&'static str> {
        [
            ("url", self.url != other.url),
            ("credentials", !same_credentials(self.credentials.as_ref(), other.credentials.as_ref())),
            ("transport", self.transport != other.transport),
            ("labels", self.labels != other.labels),
            ("access", self.access != other.access),
            ("record", self.record != other.record),
            ("retry", self.patience.retry != other.patience.retry),
            ("timeouts", self.patience.timeouts != other.patience.timeouts),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}

/// `url` and `spec.url` are two spellings of one field.
fn one_url(short: String, long: String) -> Result<String, ApiError> {
    match (short.is_empty(), long.is_empty()) {
        (true, true) => Err(ApiError::InvalidUrl { why: "it is missing".to_owned() }),
        (false, true) => Ok(short),
        (true, false) => Ok(long),
        (false, false) if short == long => Ok(long),
        (false, false) => Err(ApiError::InvalidUrl { why: "url and spec.url differ".to_owned() }),
    }
}

fn check_url(text: &str) -> Result<(CameraUrl, Option<Credentials>), ApiError> {
    let (url, credentials) = CameraUrl::parse(text).map_err(|error| match error {
        UrlError::NoScheme | UrlError::UnsupportedScheme { .. } => ApiError::UnsupportedScheme,
        UrlError::TooLong { .. }
        | UrlError::NoHost
        | UrlError::BadHost
        | UrlError::BadPort
        | UrlError::BadCharacter => ApiError::InvalidUrl { why: error.to_string() },
    })?;
    match url.scheme() {
        Scheme::Rtsp => Ok((url, credentials)),
        Scheme::Rtsps => Err(ApiError::NotAvailable { what: "rtsps" }),
    }
}

/// Compared only with what the same caller may set, so how long it takes tells nobody anything new.
fn same_credentials(a: Option<&Credentials>, b: Option<&Credentials>) -> bool {
    let same = |a: &Credentials, b: &Credentials| {
        a.username == b.username && a.password.expose_secret() == b.password.expose_secret()
    };
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// UNSPECIFIED means AUTO, so that the two are the same spec.
fn check_transport(number: i32) -> Result<v1::Transport, ApiError> {
    match v1::Transport::try_from(number) {
        Ok(v1::Transport::Unspecified | v1::Transport::Auto) => Ok(v1::Transport::Auto),
        Ok(v1::Transport::Tcp) => Ok(v1::Transport::Tcp),
        Ok(v1::Transport::Udp) => Err(ApiError::NotAvailable { what: "transport UDP" }),
        Err(_) => Err(invalid("spec.transport", "the number is none of the enum's")),
    }
}

/// UNSPECIFIED means OFF, so that the two are the same spec.
fn check_record(given: v1::RecordPolicy) -> Result<v1::RecordMode, ApiError> {
    match v1::RecordMode::try_from(given.mode) {
        Ok(v1::RecordMode::Unspecified | v1::RecordMode::Off) => Ok(v1::RecordMode::Off),
        Ok(v1::RecordMode::Continuous) => Ok(v1::RecordMode::Continuous),
        Ok(v1::RecordMode::OnDemand) => Err(ApiError::NotAvailable { what: "recording on demand" }),
        Err(_) => Err(invalid("spec.record.mode", "the number is none of the enum's")),
    }
}

/// An empty message means the same as none.
fn check_credentials(given: v1::Credentials) -> Result<Option<Credentials>, ApiError> {
    let v1::Credentials { username, password } = given;
    if username.len().max(password.len()) > CREDENTIAL_LEN_MAX {
        return Err(invalid("spec.credentials", &format!("at most {CREDENTIAL_LEN_MAX} bytes each")));
    }
    match (username.is_empty(), password.is_empty()) {
        (true, true) => Ok(None),
        (true, false) => Err(invalid("spec.credentials.username", "a password needs a user name")),
        (false, _) => Ok(Some(Credentials::new(username, password))),
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if labels.len() > LABELS_MAX {
        return Err(invalid("spec.labels", &format!("at most {LABELS_MAX} labels")));
    }
    let key_fits = |key: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
        key.len() <= LABEL_KEY_LEN_MAX
            && key.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && key.bytes().all(inner)
    };
    let value_fits = |value: &str| value.len() <= LABEL_VALUE_LEN_MAX && !value.contains(char::is_control);
    if !labels.keys().all(|key| key_fits(key)) {
        return Err(invalid("spec.labels", "keys match [a-zA-Z0-9]([a-zA-Z0-9._/-]{0,62})"));
    }
    if !labels.values().all(|value| value_fits(value)) {
        let why = format!("values have at most {LABEL_VALUE_LEN_MAX} bytes and no control characters");
        return Err(invalid("spec.labels", &why));
    }
    Ok(())
}

/// What a request to change a stream asks for: the stream, what is to change, the etag that it must have.
///
/// # Errors
/// One of the INVALID_ARGUMENT reasons.
pub(crate) fn check_update(
    request: v1::UpdateStreamRequest,
) -> Result<(StreamId, SpecUpdate, String), ApiError> {
    let id = StreamId::new(&request.id).map_err(|_| ApiError::InvalidStreamId)?;
    let mut paths = request.update_mask.unwrap_or_default().paths;
    // Before there was anything else to change, a request without a mask meant this.
    if paths.is_empty() {
        paths.push("access".to_owned());
    }
    let spec = request.spec.unwrap_or_default();
    let mut update = SpecUpdate::default();
    for path in paths {
        match path.as_str() {
            "access" => update.access = Some(check_access(spec.access.clone().unwrap_or_default())?),
            "timeouts" => {
                update.timeouts = Some(patience::check_timeouts(spec.timeouts.unwrap_or_default())?);
            }
            "record" => update.record = Some(check_record(spec.record.unwrap_or_default())?),
            "retry" => update.retry = Some(patience::check_retry(spec.retry.unwrap_or_default())?),
            other => {
                let other: String = other.escape_default().take(64).collect();
                let why = format!("only access, record, retry and timeouts can be changed, not {other}");
                return Err(ApiError::InvalidField { field: "update_mask", why });
            }
        }
    }
    Ok((id, update, request.etag))
}

/// An id that stands twice counts once.
fn check_access(given: v1::AccessPolicy) -> Result<Access, ApiError> {
    let v1::AccessPolicy { uids, gids } = given;
    let access = Access { uids: uids.into_iter().collect(), gids: gids.into_iter().collect() };
    if access.uids.len().max(access.gids.len()) > ACCESS_IDS_MAX {
        return Err(invalid("spec.access", &format!("at most {ACCESS_IDS_MAX} users and as many groups")));
    }
    for (field, ids) in [("spec.access.uids", &access.uids), ("spec.access.gids", &access.gids)] {
        if ids.contains(&INVALID_ID) {
            let why = format!(
                "{INVALID_ID} is -1, which is nobody's id: the kernel says it of a peer that it does not know"
            );
            return Err(invalid(field, &why));
        }
    }
    Ok(access)
}

fn invalid(field: &'static str, why: &str) -> ApiError {
    ApiError::InvalidField { field, why: why.to_owned() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::limits::URL_LEN_MAX;

    pub(crate) const CANARY: &str = "canary-51b0";

    pub(crate) fn request(id: &str, url: &str) -> v1::SetupStreamRequest {
        v1::SetupStreamRequest { id: id.into(), url: url.into(), spec: None }
    }

    pub(crate) fn spec(url: &str) -> StreamSpec {
        StreamSpec::check(request("x", url)).unwrap().1
    }

    fn reason(request: v1::SetupStreamRequest) -> &'static str {
        StreamSpec::check(request).map(|_| ()).unwrap_err().reason()
    }

    #[test]
    fn id_and_url_alone_are_enough_and_equal_the_long_form() {
        let (id, short) = StreamSpec::check(request("cam-1", "rtsp://a:b@10.0.0.1/live")).unwrap();
        assert_eq!(id.as_str(), "cam-1");
        let long = v1::SetupStreamRequest {
            spec: Some(v1::StreamSpec {
                url: "rtsp://10.0.0.1/live".into(),
                credentials: Some(v1::Credentials { username: "a".into(), password: "b".into() }),
                transport: v1::Transport::Auto.into(),
                ..Default::default()
            }),
            ..request("cam-1", "")
        };
        let (_, long) = StreamSpec::check(long).unwrap();
        assert_eq!(short.difference(&long), Vec::<&str>::new());
    }

    #[test]
    fn wrong_fields_are_named() {
        assert_eq!(reason(request("../etc", "rtsp://a/")), "INVALID_STREAM_ID");
        assert_eq!(reason(request("a", "")), "INVALID_URL");
        assert_eq!(reason(request("a", "exec:ls")), "UNSUPPORTED_SCHEME");
        assert_eq!(reason(request("a", "rtsps://h/")), "NOT_AVAILABLE");
        assert_eq!(reason(request("a", "file:///etc/passwd")), "UNSUPPORTED_SCHEME");
        assert_eq!(reason(request("a", &format!("rtsp://h/{}", "x".repeat(URL_LEN_MAX)))), "INVALID_URL");
        let with =
            |spec: v1::StreamSpec| v1::SetupStreamRequest { spec: Some(spec), ..request("a", "rtsp://h/") };
        let udp = v1::StreamSpec { transport: v1::Transport::Udp.into(), ..Default::default() };
        assert_eq!(reason(with(udp)), "NOT_AVAILABLE");
        let unknown = v1::StreamSpec { transport: 77, ..Default::default() };
        assert_eq!(reason(with(unknown)), "INVALID_ARGUMENT");
        for (key, value) in [("", "v"), ("a b", "v"), ("k", "line\nfeed"), ("k", &"x".repeat(257))] {
            let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            assert_eq!(reason(with(v1::StreamSpec { labels, ..Default::default() })), "INVALID_ARGUMENT");
        }
        let differs = v1::StreamSpec { url: "rtsp://other/".into(), ..Default::default() };
        assert_eq!(reason(with(differs)), "INVALID_URL");
    }

    #[test]
    fn a_stream_keeps_its_own_patience_and_a_change_of_it_is_one() {
        let with = |idle: i64, multiplier| {
            let idle = Some(prost_types::Duration { seconds: idle, nanos: 0 });
            let spec = v1::StreamSpec {
                timeouts: Some(v1::Timeouts { idle, ..Default::default() }),
                retry: Some(v1::RetryPolicy { multiplier, ..Default::default() }),
                ..Default::default()
            };
            v1::SetupStreamRequest { spec: Some(spec), ..request("a", "rtsp://h/") }
        };
        let check = |request| StreamSpec::check(request).unwrap().1;
        let (mut own, plain) = (check(with(8, Some(3))), spec("rtsp://h/"));
        assert_eq!(own.difference(&plain), ["retry", "timeouts"]);
        assert_eq!(own.difference(&check(own.request(&StreamId::new("a").unwrap()))), Vec::<&str>::new());
        assert_eq!(reason(with(0, None)), "INVALID_ARGUMENT");
        assert_eq!(reason(with(8, Some(0))), "INVALID_ARGUMENT");

        let update = |paths: &[&str], spec: v1::StreamSpec| {
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            let update_mask = Some(prost_types::FieldMask { paths });
            let request = v1::UpdateStreamRequest {
                id: "a".into(),
                spec: Some(spec),
                update_mask,
                ..Default::default()
            };
            check_update(request).unwrap().1
        };
        let given = with(9, None).spec.unwrap();
        assert!(!own.apply(update(&[], given.clone())), "no mask means access");
        assert!(own.apply(update(&["timeouts"], given.clone())));
        assert_eq!(own.difference(&check(with(9, Some(3)))), Vec::<&str>::new());
        assert!(!own.apply(update(&["timeouts"], given)), "the same again");
        assert!(own.apply(update(&["retry", "timeouts"], v1::StreamSpec::default())));
        assert_eq!(own.difference(&plain), Vec::<&str>::new(), "what is absent is the daemon's again");
    }

    #[test]
    fn an_access_list_counts_each_id_once_and_holds_no_id_that_is_nobodys() {
        let list = |uids: Vec<u32>, gids: Vec<u32>| check_access(v1::AccessPolicy { uids, gids });
        let many = (0..64).chain(0..64).collect::<Vec<u32>>();
        let access = list(many.clone(), vec![5; 1000]).unwrap();
        assert_eq!((access.uids.len(), access.gids.len()), (64, 1));
        assert!(list([many, vec![64]].concat(), vec![]).is_err());
        for (uids, gids, field) in [(vec![1, u32::MAX], vec![], "uids"), (vec![], vec![u32::MAX], "gids")] {
            let error = list(uids, gids).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("-1") && error.contains("nobody's"), "{error}");
        }
        list(vec![u32::MAX - 1], vec![0]).unwrap();
    }

    #[test]
    fn no_secret_is_shown_or_told_in_an_error() {
        let spec = spec(&format!("rtsp://admin:{CANARY}@10.0.0.1/live"));
        assert!(spec.credentials.is_some());
        assert!(!format!("{:?}{}", spec.shown(), spec.shown().url).contains(CANARY));
        assert_eq!(spec.shown().url, "rtsp://10.0.0.1/live");
        for url in [
            format!("rtsp://admin:{CANARY}"),
            format!("rtsp://a:{CANARY}@h:99999/"),
            format!("{CANARY}://h/"),
        ] {
            if let Err(error) = StreamSpec::check(request("a", &url)) {
                assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
            }
        }
    }
}
