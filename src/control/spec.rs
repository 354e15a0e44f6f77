//! What a caller asks for, checked once at the edge and never looked at as text again.
//!
//! Here the password leaves the message it came in and becomes a `SecretString`; nothing behind this file can
//! print it.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use vms_proto::v1;

use super::error::ApiError;
use crate::ids::StreamId;
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
        Ok((id, Self { url, credentials: given.or(in_url), transport, labels: spec.labels, access }))
    }

    /// The spec as answers show it: without secrets.
    pub(crate) fn shown(&self) -> v1::StreamSpec {
        v1::StreamSpec {
            url: self.url.to_string(),
            credentials: None,
            transport: self.transport.into(),
            labels: self.labels.clone(),
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

    /// Names of the fields in which `self` and `other` differ.
    pub(crate) fn difference(&self, other: &Self) -> Vec<&'static str> {
        [
            ("url", self.url != other.url),
            ("credentials", !same_credentials(self.credentials.as_ref(), other.credentials.as_ref())),
            ("transport", self.transport != other.transport),
            ("labels", self.labels != other.labels),
            ("access", self.access != other.access),
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

/// What a request to change a stream asks for: the stream, its new access list, the etag that it must have.
///
/// # Errors
/// One of the INVALID_ARGUMENT reasons.
pub(crate) fn check_update(request: v1::UpdateStreamRequest) -> Result<(StreamId, Access, String), ApiError> {
    let id = StreamId::new(&request.id).map_err(|_| ApiError::InvalidStreamId)?;
    let paths = request.update_mask.unwrap_or_default().paths;
    if let Some(path) = paths.iter().find(|path| *path != "access") {
        let why =
            format!("only access can be changed, not {}", path.escape_default().take(64).collect::<String>());
        return Err(ApiError::InvalidField { field: "update_mask", why });
    }
    let spec = request.spec.unwrap_or_default();
    Ok((id, check_access(spec.access.unwrap_or_default())?, request.etag))
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
