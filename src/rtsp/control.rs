//! Which URI to send for the whole presentation and for one media section, and URIs fit for printing.
//!
//! RFC 2326 section C.1.1 says to join `a=control` to the base by the rules of RFC 3986. Cameras expect their
//! own text with the control appended (Dahua puts `/trackID=0` behind the query), as FFmpeg and live555 do.
//! Scheme, host and port are always those of the connection: cameras behind NAT name addresses that nobody
//! can reach.

use super::url::{CameraUrl, parse_authority, split_authority};
use crate::limits::URL_LEN_MAX;

/// The URIs of a described presentation.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlUris {
    /// For PLAY, keepalive and TEARDOWN.
    pub aggregate: String,
    /// For SETUP of the chosen media section.
    pub media: String,
}

impl std::fmt::Debug for ControlUris {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlUris")
            .field("aggregate", &redacted(&self.aggregate))
            .field("media", &redacted(&self.media))
            .finish()
    }
}

impl ControlUris {
    /// Resolves the controls of an SDP. `base` is what DESCRIBE's answer said in Content-Base or
    /// Content-Location, if anything.
    pub fn resolve(
        url: &CameraUrl,
        base: Option<&str>,
        session_control: Option<&str>,
        media_control: Option<&str>,
    ) -> Self {
        let described = base.and_then(|base| on_connection(url, base)).unwrap_or_else(|| url.request_uri());
        let aggregate = joined(url, &described, session_control);
        // A relative control of the session is not part of the media's base; an absolute one is.
        let media_base = if session_control.is_some_and(is_absolute) { &aggregate } else { &described };
        let media = joined(url, media_base, media_control);
        Self { aggregate, media }
    }
}

/// Appends `control` to `base`, unless it is a whole URI or says nothing.
fn joined(url: &CameraUrl, base: &str, control: Option<&str>) -> String {
    let control = control.map(clean).unwrap_or_default();
    if control.is_empty() || control == "*" || control.len() > URL_LEN_MAX {
        return base.to_owned();
    }
    if is_absolute(&control) {
        return on_connection(url, &control).unwrap_or_else(|| base.to_owned());
    }
    match (base.strip_suffix('/'), control.starts_with('/'), control.starts_with('?')) {
        (Some(base), true, _) => format!("{base}{control}"),
        (None, false, false) => format!("{base}/{control}"),
        (Some(_), false, _) | (None, _, _) => format!("{base}{control}"),
    }
}

/// A URI that the camera gave, moved to the connection's scheme, host and port. Repairs what cameras write:
/// `rtsp://rtsp://…`, no scheme (`192.0.2.7:554/x/`), a path alone. `None` when there is nothing in it.
pub(super) fn on_connection(url: &CameraUrl, text: &str) -> Option<String> {
    let text = clean(text);
    if text.is_empty() || text.len() > URL_LEN_MAX {
        return None;
    }
    if text.starts_with(['/', '?']) {
        return Some(url.with_path(&text));
    }
    let mut rest = text.as_str();
    while let Some(after) = strip_scheme(rest) {
        rest = after;
    }
    let (authority, path) = split_authority(rest);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let looks_like_host = host.contains(['.', ':']) || rest.len() != text.len();
    if !looks_like_host || parse_authority(host).is_err() {
        // A relative base is rare; appending is what we do with relative controls too.
        return Some(url.with_path(&format!("/{rest}")));
    }
    // Behind a host without a path there may be a fragment, which is repeated as the camera wrote it, behind a path.
    Some(if path.starts_with(['/', '?']) { url.with_path(path) } else { url.with_path(&format!("/{path}")) })
}

/// Whether the camera wrote a URI with a scheme.
fn is_absolute(control: &str) -> bool {
    strip_scheme(control.trim()).is_some()
}

fn strip_scheme(text: &str) -> Option<&str> {
    ["rtsp://", "rtsps://", "rtspu://"]
        .iter()
        .find(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .and_then(|scheme| text.get(scheme.len()..))
}

/// Makes a text fit for a request line and for the quotes of Digest: no control characters, blanks and
/// everything beyond ASCII percent-encoded, the rest as it is.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for byte in text.trim().bytes() {
        match byte {
            b'!'..=b'~' => cleaned.push(char::from(byte)),
            b' ' | 0x80.. => cleaned.push_str(&format!("%{byte:02X}")),
            0..=0x1f | 0x7f => {}
        }
    }
    cleaned
}

/// Replaces values whose key looks like that of a secret with `***`, for printing. Understands
/// `?user=a&password=b` and the path style of XM and Dahua, `/user=a_password=b_channel=1`, and hides the user
/// information of a whole URI.
///
/// A hidden value reaches to the next `&` of the query, and from the path to the end of the URI, further than it may have
/// to: passwords contain every other delimiter, those of the path's own style among them.
pub fn redacted(uri: &str) -> String {
    let mut printed = String::with_capacity(uri.len());
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let is_whole = redact_parts(&mut printed, path, '/');
    if let Some(query) = query.filter(|_| is_whole) {
        printed.push('?');
        redact_parts(&mut printed, query, '&');
    }
    printed
}

/// Whether what follows `text` may be printed too: not behind a secret of the path.
fn redact_parts(printed: &mut String, text: &str, delimiter: char) -> bool {
    for (index, part) in text.split(delimiter).enumerate() {
        if index > 0 {
            printed.push(delimiter);
        }
        let part = match part.rsplit_once('@') {
            Some((_, after)) if delimiter == '/' => {
                printed.push_str("***@");
                after
            }
            _ => part,
        };
        let secret_start = part
            .match_indices(['=', ':'])
            .find(|(at, _)| part.get(..*at).is_some_and(is_secret_key))
            .map(|(at, _)| at + 1);
        match secret_start {
            Some(start) => {
                printed.push_str(part.get(..start).unwrap_or_default());
                printed.push_str("***");
                if delimiter == '/' {
                    return false;
                }
            }
            None => printed.push_str(part),
        }
    }
    true
}

fn is_secret_key(before: &str) -> bool {
    let key = before.rsplit(['=', '&', ';', ',']).next().unwrap_or(before).to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// Parts of keys whose values are not printed. `user` is here because its value is half of a login.
const SECRET_WORDS: [&str; 14] = [
    "user",
    "usr",
    "login",
    "account",
    "pass",
    "pwd",
    "psw",
    "token",
    "auth",
    "key",
    "secret",
    "sign",
    "session",
    "credential",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolve(
        url: &str,
        base: Option<&str>,
        session: Option<&str>,
        media: Option<&str>,
    ) -> (String, String) {
        let uris = ControlUris::resolve(&CameraUrl::parse(url).unwrap().0, base, session, media);
        (uris.aggregate, uris.media)
    }

    fn media(url: &str, base: Option<&str>, media: Option<&str>) -> String {
        resolve(url, base, None, media).1
    }

    #[test]
    fn row45_base_missing_schemeless_doubled_or_a_path() {
        let url = "rtsp://cam/x";
        assert_eq!(media(url, None, Some("trackID=1")), "rtsp://cam/x/trackID=1");
        assert_eq!(media(url, Some("192.0.2.7:554/x/"), Some("trackID=1")), "rtsp://cam/x/trackID=1");
        assert_eq!(media(url, Some("rtsp://rtsp://cam/x/"), Some("a")), "rtsp://cam/x/a");
        assert_eq!(media(url, Some("/y/"), Some("a")), "rtsp://cam/y/a");
        assert_eq!(media(url, Some("rtsp://fe80::7/y"), Some("a")), "rtsp://cam/y/a");
        assert_eq!(media(url, Some(""), Some("a")), "rtsp://cam/x/a");
        assert_eq!(media(url, Some("rtsp://cam"), Some("a")), "rtsp://cam/a");
        assert_eq!(media(url, Some("rtsp://cam#y"), Some("a")), "rtsp://cam/#y/a");
    }

    #[test]
    fn row46_the_connection_keeps_host_and_port() {
        let (aggregate, media) = resolve(
            "rtsp://nat:10554/x",
            Some("rtsp://10.0.0.9:554/x/"),
            Some("*"),
            Some("rtsp://10.0.0.9/x/t1"),
        );
        assert_eq!(aggregate, "rtsp://nat:10554/x/");
        assert_eq!(media, "rtsp://nat:10554/x/t1");
    }

    #[test]
    fn row47_controls_are_appended_behind_the_query_too() {
        let url = "rtsp://cam/cam/realmonitor?channel=1&subtype=0";
        let (aggregate, media) = resolve(
            url,
            Some("rtsp://cam/cam/realmonitor?channel=1&subtype=0/"),
            Some("*"),
            Some("trackID=0"),
        );
        assert_eq!(aggregate, "rtsp://cam/cam/realmonitor?channel=1&subtype=0/");
        assert_eq!(media, "rtsp://cam/cam/realmonitor?channel=1&subtype=0/trackID=0");
        for same in [None, Some(""), Some("*"), Some(" ")] {
            assert_eq!(
                resolve("rtsp://cam/x", None, same, same),
                ("rtsp://cam/x".into(), "rtsp://cam/x".into())
            );
        }
        assert_eq!(resolve("rtsp://cam/x/", None, None, Some("/t1")).1, "rtsp://cam/x/t1");
        assert_eq!(resolve("rtsp://cam/x", None, None, Some("?t=1")).1, "rtsp://cam/x?t=1");
        assert_eq!(resolve("rtsp://cam/x", None, Some("rtsp://cam/y/"), Some("t1")).1, "rtsp://cam/y/t1");
    }

    #[test]
    fn a_control_cannot_split_the_request_line() {
        assert_eq!(media("rtsp://cam/x", None, Some("t 1\u{7}")), "rtsp://cam/x/t%201");
        assert_eq!(media("rtsp://cam/x", None, Some("\u{e9}")), "rtsp://cam/x/%C3%A9");
    }
    proptest! {
        /// Whatever a camera writes, requests go to the connection's host and fit on one line.
        #[test]
        fn any_control_stays_on_the_connection(base in uri(), session in uri(), media in uri()) {
            let (aggregate, media) = resolve("rtsp://cam:8554/x", Some(&base), Some(&session), Some(&media));
            for uri in [aggregate, media] {
                prop_assert!(uri.starts_with("rtsp://cam:8554/") || uri.starts_with("rtsp://cam:8554?"), "{}", uri);
                prop_assert!(uri.bytes().all(|b| b.is_ascii_graphic()), "{}", uri);
            }
        }

        #[test]
        fn userinfo_is_hidden(before in "[!-.0-~]{0,9}", after in "[!-.0->A-~]{0,9}") {
            let printed = redacted(&format!("rtsp://{}CANARY{after}@cam/x", before.replace('?', "")));
            prop_assert!(!printed.contains("CANARY"), "{}", printed);
        }

        #[test]
        fn any_text_is_redacted_without_panic(text in "\\PC{0,80}") {
            let _ = redacted(&text);
        }
    }

    fn uri() -> impl Strategy<Value = String> {
        prop_oneof!["(rtsp://)?[a-z0-9.:@\\[\\]/?*%]{0,30}", "\\PC{0,40}", Just("*".to_owned())]
    }
}
