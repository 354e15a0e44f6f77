//! Any challenges of a camera that refuses and accepts as it likes, against `rtsp::Authenticator`.
//!
//! The input is 2 bytes of choices, then WWW-Authenticate lines. A byte 0xFF ends a 401; 0xFE stands for a request that was
//! carried out. What answers a challenge is checked as a camera would check it, by arithmetic of our own.
#![no_main]

use http_auth::parser::ChallengeParser;
use http_auth::{ChallengeRef, DigestClient};
use libfuzzer_sys::fuzz_target;
use md5::Md5;
use secrecy::SecretString;
use sha2::{Digest, Sha256, Sha512_256};
use vms_fuzz::{knows_the_password, memory};
use vms_pure::rtsp::{AuthError, Authenticator, Credentials, Event, Framer, Headers};

const LOGINS: [Option<(&str, &str)>; 5] = [
    None,
    Some(("admin", "CANARY")),
    Some(("a\"d\\min", "CANARY:\"\\ x")),
    Some(("", "")),
    Some(("r\u{e9}gie", "CANARY\u{4e16}")),
];
const URIS: [&str; 2] = ["rtsp://10.1.1.1:8554/live?a=1&b=\"2\"", "rtsp://cam/x"];
/// Requests that may be made for one that is carried out, beside the logins that are refused: one without, four with stale nonces.
const OTHERS_MAX: u32 = 5;

fuzz_target!(init: memory::limit(), |data: &[u8]| {
    let Some((&[login, uri], text)) = data.split_first_chunk() else { return };
    if knows_the_password(data) {
        return;
    }
    let (logins, login) = (1 + u32::from(login / 5 % 3), LOGINS[usize::from(login) % LOGINS.len()]);
    let uri = URIS[usize::from(uri) % URIS.len()];
    let mut camera = Camera::new(login, uri, logins);
    for block in text.split_inclusive(|byte| matches!(byte, 0xfe | 0xff)) {
        match block.split_last() {
            Some((0xfe, [])) => camera.accept(),
            Some((0xfe | 0xff, lines)) => camera.refuse(lines),
            _ => camera.refuse(block),
        }
    }
});

struct Camera {
    authenticator: Authenticator,
    login: Option<(&'static str, &'static str)>,
    uri: &'static str,
    /// How often a login may be refused.
    logins: u32,
    /// Since a request was carried out.
    tries: u32,
    /// Whether the password was proved without being sent.
    had_digest: bool,
    responses: Vec<String>,
}

impl Camera {
    fn new(login: Option<(&'static str, &'static str)>, uri: &'static str, logins: u32) -> Self {
        let credentials = login.map(|(username, password)| Credentials {
            username: username.to_owned(),
            password: SecretString::from(password),
        });
        let mut authenticator = Authenticator::new(credentials, 7, logins);
        assert_eq!(authenticator.authorization("OPTIONS", uri), None, "nobody has asked");
        Self { authenticator, login, uri, logins, tries: 0, had_digest: false, responses: Vec::new() }
    }

    fn accept(&mut self) {
        self.authenticator.accepted();
        self.tries = 0;
    }

    fn refuse(&mut self, lines: &[u8]) {
        let headers = headers(lines);
        let challenges: Vec<String> = headers.all("WWW-Authenticate").map(str::to_owned).collect();
        let answer = self.authenticator.challenged(&headers);
        assert!(!format!("{:?} {answer:?}", self.authenticator).contains("CANARY"));
        match answer {
            Ok(()) => {
                self.tries += 1;
                assert!(self.tries < self.logins + OTHERS_MAX, "the camera locks us out");
                assert!(self.login.is_some());
                self.respond(&challenges);
            }
            Err(AuthError::NoCredentials { realm }) => {
                assert!(self.login.is_none() && realm.is_none_or(|realm| realm.chars().count() <= 64));
            }
            Err(AuthError::Refused { realm }) => {
                assert!(self.login.is_some() && realm.is_none_or(|realm| realm.chars().count() <= 64));
            }
            Err(AuthError::Unsupported) => {
                assert!(!challenges.iter().any(|line| digests(line).next().is_some()));
            }
        }
    }

    fn respond(&mut self, challenges: &[String]) {
        // Two requests by the same nonce.
        for method in ["DESCRIBE", "SETUP"] {
            let Some(text) = self.authenticator.authorization(method, self.uri) else { continue };
            assert!(text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')), "{text}");
            assert!(!self.responses.contains(&text), "no two are the same, and none can be played back");
            let (username, password) = self.login.unwrap();
            let parsed: Vec<_> = ChallengeParser::new(&text).collect();
            if let Some(basic) = text.strip_prefix("Basic ") {
                assert!(!self.had_digest, "the password goes out in the clear after it was not to");
                assert!(
                    !challenges.iter().any(|line| digests(line).next().is_some()),
                    "a digest was offered"
                );
                assert_eq!(basic, base64(&format!("{username}:{password}")));
                continue;
            }
            let [Ok(response)] = parsed.as_slice() else { panic!("{text}") };
            assert_eq!(response.scheme, "Digest");
            assert!(!text.contains("CANARY"));
            check_digest(response, challenges, (username, password), method, self.uri);
            self.had_digest = true;
            // RFC 2069 has nothing that differs from request to request.
            if parameter(response, "cnonce").is_some() {
                self.responses.push(text.clone());
            }
        }
    }
}

fn check_digest(
    response: &ChallengeRef<'_>,
    challenges: &[String],
    (username, password): (&str, &str),
    method: &str,
    uri: &str,
) {
    let value = |name| parameter(response, name);
    assert_eq!(value("uri").as_deref(), Some(uri));
    let (realm, nonce) = (value("realm").unwrap(), value("nonce").unwrap());
    let offers = |challenge: &ChallengeRef<'_>| {
        parameter(challenge, "realm").as_ref() == Some(&realm)
            && parameter(challenge, "nonce").as_ref() == Some(&nonce)
    };
    let offered: Vec<_> = challenges.iter().flat_map(|line| parse(line)).filter(|c| offers(c)).collect();
    assert!(!offered.is_empty(), "nobody offered {realm:?} {nonce:?}");
    let algorithms: Vec<String> = match value("algorithm") {
        Some(named) => vec![named],
        // RFC 2069 names none.
        None => {
            let named = offered.iter().flat_map(|challenge| &challenge.params);
            let named = named.filter(|(key, _)| key.eq_ignore_ascii_case("algorithm"));
            named.map(|(_, value)| value.to_unescaped()).chain(["MD5".to_owned()]).collect()
        }
    };
    let valid = algorithms.iter().any(|algorithm| {
        let algorithm = algorithm.trim().to_ascii_uppercase();
        let (hash, is_session) =
            algorithm.strip_suffix("-SESS").map_or((&*algorithm, false), |hash| (hash, true));
        let hash = |text: String| match hash {
            "SHA-256" => hex(&Sha256::digest(text)),
            "SHA-512-256" => hex(&Sha512_256::digest(text)),
            _ => hex(&Md5::digest(text)),
        };
        let mut login = hash(format!("{username}:{realm}:{password}"));
        let cnonce = value("cnonce").unwrap_or_default();
        // Without a qop nothing says the cnonce that a session's hash holds: such an answer cannot be checked.
        if is_session && value("cnonce").is_none() {
            return true;
        }
        if is_session {
            login = hash(format!("{login}:{nonce}:{cnonce}"));
        }
        let body = if value("qop").as_deref() == Some("auth-int") {
            format!(":{}", hash(String::new()))
        } else {
            String::new()
        };
        let request = hash(format!("{method}:{uri}{body}"));
        let expected = match (value("qop"), value("nc")) {
            (Some(qop), Some(count)) => hash(format!("{login}:{nonce}:{count}:{cnonce}:{qop}:{request}")),
            _ => hash(format!("{login}:{nonce}:{request}")),
        };
        value("response") == Some(expected)
    });
    assert!(valid, "no camera accepts {response:?}");
}

/// The header lines of a 401, as they come out of the framer.
fn headers(lines: &[u8]) -> Headers {
    let mut text = b"RTSP/1.0 401 Unauthorized\r\n".to_vec();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        text.extend_from_slice(b"WWW-Authenticate: ");
        text.extend_from_slice(line);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    match Framer::new().next(&mut &text[..]) {
        Ok(Some(Event::Response(response))) => response.headers,
        _ => Headers::default(),
    }
}

/// As far as a line can be understood.
fn parse(line: &str) -> impl Iterator<Item = ChallengeRef<'_>> {
    ChallengeParser::new(line).map_while(Result::ok)
}

/// Those that anybody could answer, without any repair.
fn digests(line: &str) -> impl Iterator<Item = DigestClient> {
    parse(line).take(4).filter_map(|challenge| DigestClient::try_from(&challenge).ok())
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let (_, value) = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value.to_unescaped())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let bits = bytes.iter().chain([&0; 2]).take(3).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let digit = |n: usize| match n > bytes.len() {
            true => '=',
            false => char::from(ALPHABET[(bits >> (18 - 6 * n) & 63) as usize]),
        };
        [0, 1, 2, 3].map(digit)
    };
    text.as_bytes().chunks(3).flat_map(group).collect()
}
