//! Camera URLs: what the operator typed, taken apart so that secrets cannot be printed by accident.
//!
//! User name and password are split off at once and live in [`Credentials`]. What remains is a [`CameraUrl`],
//! whose `Display` and `Debug` also hide values in the path and query that look like secrets. The real text
//! leaves only through [`CameraUrl::request_uri`].

use std::fmt;
use std::net::Ipv6Addr;

use secrecy::SecretString;

use super::control::{clean, redacted};
use crate::limits::URL_LEN_MAX;

/// How the camera is to be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `rtsp://`: plain TCP.
    Rtsp,
    /// `rtsps://`: TLS. Understood here so that the caller can say what is not supported.
    Rtsps,
}

impl Scheme {
    /// As it stands before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rtsp => "rtsp",
            Self::Rtsps => "rtsps",
        }
    }

    /// The port that a URL without one means (IANA: rtsp, rtsps).
    pub const fn port(self) -> u16 {
        match self {
            Self::Rtsp => 554,
            Self::Rtsps => 322,
        }
    }
}

/// A user name with its password. Neither is ever printed.
#[derive(Clone)]
pub struct Credentials {
    /// User name; not secret by law, but no business of a log's.
    pub username: String,
    /// Password.
    pub password: SecretString,
}

impl Credentials {
    /// A user name with its password, from whoever has them as text.
    pub fn new(username: String, password: String) -> Self {
        Self { username, password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

/// Where a camera's stream is. Holds no user name and no password, except where the camera wants them in the
/// path or query; those are left out of `Display` and `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CameraUrl {
    scheme: Scheme,
    /// Name, IPv4 or IPv6 literal without brackets.
    host: String,
    port: u16,
    /// Whether the text named the port: requests repeat the URL the way it was written.
    port_is_written: bool,
    /// Path and query as written but ASCII, starting with `/` or `?`.
    path: String,
}

/// Why a text is no camera URL. Never holds a part of the text that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// the URL is longer than {limit} bytes
    #[error("the URL is longer than {limit} bytes")]
    TooLong {
        /// [`URL_LEN_MAX`].
        limit: usize,
    },
    /// the URL does not begin with rtsp://
    #[error("the URL does not begin with rtsp://")]
    NoScheme,
    /// scheme {scheme} is not supported, only rtsp
    #[error("scheme {scheme} is not supported, only rtsp")]
    UnsupportedScheme {
        /// What stood before `://`.
        scheme: String,
    },
    /// the URL names no host
    #[error("the URL names no host")]
    NoHost,
    /// the host has characters that no host name has
    #[error("the host has characters that no host name has")]
    BadHost,
    /// the port is not a number from 1 to 65535
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    /// the URL has control characters or blanks
    #[error("the URL has control characters or blanks")]
    BadCharacter,
}

impl CameraUrl {
    /// Takes a URL apart. Percent-encoding in the user information is decoded; in the path it stays as it is,
    /// because cameras compare it as text.
    pub fn parse(text: &str) -> Result<(Self, Option<Credentials>), UrlError> {
        let text = text.trim();
        if text.len() > URL_LEN_MAX {
            return Err(UrlError::TooLong { limit: URL_LEN_MAX });
        }
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(UrlError::BadCharacter);
        }
        let (scheme, rest) = split_scheme(text)?;
        let (userinfo, rest) = split_userinfo(rest);
        let (authority, path) = split_authority(rest);
        let (host, written_port) = parse_authority(authority)?;
        let path = path.split_once('#').map_or(path, |(path, _fragment)| path);
        let url = Self {
            scheme,
            host,
            port: written_port.unwrap_or(scheme.port()),
            port_is_written: written_port.is_some(),
            path: if path.is_empty() { "/".to_owned() } else { clean(path) },
        };
        Ok((url, userinfo.and_then(parse_userinfo)))
    }

    /// Plain or TLS.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host name or address literal, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port to connect to.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The text for a request line, with everything the camera needs. May hold secrets of the path or query:
    /// for sending, not for printing.
    pub fn request_uri(&self) -> String {
        self.with_path(&self.path)
    }

    /// Whether `other` is the same host, so that it may be given the same credentials.
    pub fn is_same_host(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host)
    }

    /// This camera's scheme, host and port with another path, which starts with `/` or `?`.
    pub(super) fn with_path(&self, path: &str) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let (scheme, host) = (self.scheme.name(), &self.host);
        if self.port_is_written {
            format!("{scheme}://{open}{host}{close}:{}{path}", self.port)
        } else {
            format!("{scheme}://{open}{host}{close}{path}")
        }
    }
}

impl fmt::Display for CameraUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_path(&redacted(&self.path)))
    }
}

impl fmt::Debug for CameraUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CameraUrl({self})")
    }
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), UrlError> {
    let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
    let is_scheme = scheme.len() <= SCHEME_LEN_MAX
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !is_scheme {
        return Err(UrlError::NoScheme);
    }
    match scheme.to_ascii_lowercase().as_str() {
        "rtsp" => Ok((Scheme::Rtsp, rest)),
        "rtsps" => Ok((Scheme::Rtsps, rest)),
        _ => Err(UrlError::UnsupportedScheme { scheme: scheme.to_owned() }),
    }
}

/// Splits `user:password@` off. Passwords are seen with `@`, and with `/` or `?` by people who did not encode
/// them, so the authority's end is not looked for first: if there is no host and port before the first
/// delimiter, the userinfo may reach over it.
fn split_userinfo(text: &str) -> (Option<&str>, &str) {
    let (authority, _) = split_authority(text);
    if let Some((userinfo, _)) = authority.rsplit_once('@') {
        return (Some(userinfo), text.get(userinfo.len() + 1..).unwrap_or_default());
    }
    if parse_authority(authority).is_err()
        && let Some((before, after)) = text.split_once('@')
    {
        let (authority, _) = split_authority(after);
        let more_len = authority.rfind('@').map_or(0, |at| at + 1);
        let userinfo = text.get(..before.len() + more_len).unwrap_or(before);
        return (Some(userinfo), after.get(more_len..).unwrap_or_default());
    }
    (None, text)
}

/// Splits before the first `/`, `?` or `#`.
pub(super) fn split_authority(text: &str) -> (&str, &str) {
    text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()))
}

fn parse_userinfo(userinfo: &str) -> Option<Credentials> {
    let (username, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    (!userinfo.is_empty()).then(|| Credentials {
        username: percent_decoded(username),
        password: SecretString::from(percent_decoded(password)),
    })
}

/// Reads `host`, `host:port`, `[v6]`, `[v6]:port` and, as some firmware and people write it, bare `v6`.
pub(super) fn parse_authority(text: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UrlError::BadHost)?;
        if !after.is_empty() && !after.starts_with(':') {
            return Err(UrlError::BadHost);
        }
        (host, after.get(1..).unwrap_or_default())
    } else if text.parse::<Ipv6Addr>().is_ok() {
        (text, "")
    } else {
        text.rsplit_once(':').unwrap_or((text, ""))
    };
    Ok((parse_host(host)?, parse_port(port)?))
}

fn parse_host(text: &str) -> Result<String, UrlError> {
    if text.is_empty() {
        return Err(UrlError::NoHost);
    }
    let address = text.split_once('%').map_or(text, |(address, _zone)| address);
    let is_host = if text.contains(':') {
        address.parse::<Ipv6Addr>().is_ok()
    } else {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    if is_host { Ok(text.to_owned()) } else { Err(UrlError::BadHost) }
}

fn parse_port(text: &str) -> Result<Option<u16>, UrlError> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|&port| is_number && port != 0);
    port.map(Some).ok_or(UrlError::BadPort)
}

/// Decodes `%41`; what is no valid escape stays as it is, since a `%` may be part of a password.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let decoded = match rest {
            [b'%', high, low, ..] => hex_value(*high).zip(hex_value(*low)),
            _ => None,
        };
        if let Some((high, low)) = decoded {
            bytes.push(high << 4 | low);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Longer texts before `://` are not scheme names and may be secrets.
const SCHEME_LEN_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn parsed(text: &str) -> (CameraUrl, Option<(String, String)>) {
        let (url, credentials) = CameraUrl::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        (url, credentials.map(|c| (c.username, c.password.expose_secret().to_owned())))
    }

    fn credentials(text: &str) -> (String, String) {
        parsed(text).1.unwrap()
    }

    #[test]
    fn parts_and_defaults() {
        let (url, none) = parsed("rtsp://cam.lan/Streaming/Channels/101?a=b");
        assert_eq!((url.scheme(), url.host(), url.port(), none), (Scheme::Rtsp, "cam.lan", 554, None));
        assert_eq!(url.request_uri(), "rtsp://cam.lan/Streaming/Channels/101?a=b");
        assert_eq!(parsed("RTSP://h:8554").0.request_uri(), "rtsp://h:8554/");
        assert_eq!(parsed("rtsp://h/\u{e9}").0.request_uri(), "rtsp://h/%C3%A9");
        assert_eq!(parsed("rtsp://h?x=1#frag").0.request_uri(), "rtsp://h?x=1");
        let (tls, _) = parsed("rtsps://h/x");
        assert_eq!((tls.scheme(), tls.port()), (Scheme::Rtsps, 322));
    }

    #[test]
    fn row44_reserved_characters_in_the_password() {
        let expected = |password: &str| ("admin".to_owned(), password.to_owned());
        assert_eq!(credentials("rtsp://admin:p%40ss%2Fw@h/x"), expected("p@ss/w"));
        assert_eq!(credentials("rtsp://admin:@@@@h/x"), expected("@@@"));
        assert_eq!(credentials("rtsp://admin:a:b@h/x"), expected("a:b"));
        assert_eq!(credentials("rtsp://admin:100%@h/x"), expected("100%"));
        assert_eq!(credentials("rtsp://admin:pa/s?s#@h:1/x"), expected("pa/s?s#"));
        assert_eq!(credentials("rtsp://admin:pa/s@s@h:1/x"), expected("pa/s@s"));
        assert_eq!(credentials("rtsp://admin@h/x"), expected(""));
        assert_eq!(parsed("rtsp://h/x@y").1, None);
        assert_eq!(parsed("rtsp://@h/x").1, None);
    }

    #[test]
    fn row45_ipv6_in_brackets_or_bare() {
        for text in
            ["rtsp://[fe80::1]:8554/x", "rtsp://[fe80::1%25eth0]/x", "rtsp://fe80::1/x", "rtsp://u:p@::1/x"]
        {
            assert!(parsed(text).0.host().contains(':'), "{text}");
        }
        assert_eq!(parsed("rtsp://fe80::1/x").0.request_uri(), "rtsp://[fe80::1]/x");
        assert_eq!(parsed("rtsp://[fe80::1]:8554/x").0.port(), 8554);
    }

    #[test]
    fn errors_say_what_without_saying_secrets() {
        let error = |text: &str| CameraUrl::parse(text).map(|(url, _)| url).unwrap_err();
        assert_eq!(error("http://h/"), UrlError::UnsupportedScheme { scheme: "http".into() });
        assert_eq!(error("admin:canary@h/x"), UrlError::NoScheme);
        assert_eq!(error("canary_password_which_is_long://h"), UrlError::NoScheme);
        assert_eq!(error("rtsp:///x"), UrlError::NoHost);
        assert_eq!(error("rtsp://h:0/x"), UrlError::BadPort);
        assert_eq!(error("rtsp://h:65536/x"), UrlError::BadPort);
        assert_eq!(error("rtsp://h:+5/x"), UrlError::BadPort);
        assert_eq!(error("rtsp://h;x/"), UrlError::BadHost);
        assert_eq!(error("rtsp://h/a b"), UrlError::BadCharacter);
        assert_eq!(error("rtsp://h/a\r\nb"), UrlError::BadCharacter);
        assert!(matches!(error(&format!("rtsp://h/{}", "x".repeat(URL_LEN_MAX))), UrlError::TooLong { .. }));
        for text in ["ftp://u:canary@h/", "rtsp://u:canary@h:x/", "rtsp://u:canary@/", "rtsp://u:canary@[/"] {
            let error = error(text);
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn printing_hides_userinfo_and_values_that_look_like_secrets() {
        for text in [
            "rtsp://u:canary@h/x",
            "rtsp://h/x?user=canary&password=canary",
            "rtsp://h/x?channel=1&Token=canary/canary",
            "rtsp://h/user=canary_password=canary_channel=1_stream=0.sdp",
            "rtsp://h/user=admin_password=canary/canary_channel=1_stream=0.sdp",
            "rtsp://h/user=admin&password=canary?canary/canary_channel=1",
            "rtsp://h/live?access_token=canary==",
        ] {
            let (url, credentials) = CameraUrl::parse(text).unwrap();
            let printed = format!("{url} {url:?} {credentials:?}");
            assert!(!printed.contains("canary"), "{printed}");
        }
        let (url, _) = parsed("rtsp://h/cam/realmonitor?channel=1&subtype=0&pwd=canary");
        assert_eq!(url.to_string(), "rtsp://h/cam/realmonitor?channel=1&subtype=0&pwd=***");
        assert!(url.request_uri().contains("canary"));
    }
    proptest! {
        /// No userinfo of any kind is printed, whether the text is accepted or not.
        #[test]
        fn no_password_is_printed(before in "[a-z]{0,4}", after in "[!-~]{0,6}", path in "[ -~]{0,20}") {
            let printed = match CameraUrl::parse(&format!("rtsp://u:{before}CANARY{after}@cam/{path}")) {
                Ok((url, credentials)) => format!("{url} {url:?} {credentials:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!printed.contains("CANARY"), "{}", printed);
        }

        /// What is parsed is sent so that it parses to the same again.
        #[test]
        fn a_request_uri_is_a_url(text in "rtsp://[a-z0-9.:\\[\\]@%]{1,20}[ -~]{0,30}") {
            if let Ok((url, _)) = CameraUrl::parse(&text) {
                prop_assert_eq!(CameraUrl::parse(&url.request_uri()).map(|(again, _)| again), Ok(url));
            }
        }
    }
}
