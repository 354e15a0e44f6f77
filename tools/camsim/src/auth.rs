//! The server's half of HTTP authentication: Basic (RFC 7617) and Digest (RFC 7616, and RFC 2069 without `qop`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::clock::NS_PER_SECOND;
use crate::config::{Access, Scheme};
use crate::request::Request;
use crate::rng::Rng;

/// Decides for one connection whether a request may pass; its nonce is good on this connection only.
#[derive(Debug)]
pub(crate) struct Guard {
    nonce: String,
    issued_ns: u64,
}

/// A request without good credentials.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The value of `WWW-Authenticate` for the 401.
    pub(crate) header: String,
    /// The credentials were right, but made with a nonce that is too old.
    pub(crate) stale: bool,
}

impl Guard {
    pub(crate) fn new(rng: &mut Rng, now_ns: u64) -> Self {
        Self { nonce: new_nonce(rng), issued_ns: now_ns }
    }

    /// Checks the `Authorization` header of `request`. `deny`: whatever it says is wrong.
    pub(crate) fn check(
        &mut self,
        request: &Request,
        access: &Access,
        deny: bool,
        now_ns: u64,
        rng: &mut Rng,
    ) -> Result<(), Challenge> {
        let expired = access
            .nonce_lifetime_s
            .is_some_and(|lifetime_s| now_ns.saturating_sub(self.issued_ns) >= lifetime_s * NS_PER_SECOND);
        let granted = match (request.header("Authorization"), access.scheme) {
            (None, _) => false,
            (Some(value), Scheme::Basic) => value == basic(access),
            (Some(value), Scheme::DigestMd5) => self.digest_holds::<Md5>(value, request, access),
            (Some(value), Scheme::DigestSha256) => self.digest_holds::<Sha256>(value, request, access),
        };
        let granted = granted && !deny;
        if granted && (!expired || access.scheme == Scheme::Basic) {
            return Ok(());
        }
        if expired {
            *self = Self::new(rng, now_ns);
        }
        Err(self.challenge(access.scheme, granted))
    }

    fn challenge(&self, scheme: Scheme, stale: bool) -> Challenge {
        let algorithm = match scheme {
            Scheme::Basic => return Challenge { header: format!("Basic realm=\"{REALM}\""), stale },
            Scheme::DigestMd5 => "MD5",
            Scheme::DigestSha256 => "SHA-256",
        };
        let word = if stale { ", stale=true" } else { "" };
        let header = format!(
            "Digest realm=\"{REALM}\", nonce=\"{}\", algorithm={algorithm}, qop=\"auth\"{word}",
            self.nonce
        );
        Challenge { header, stale }
    }

    fn digest_holds<H: Digest>(&self, header: &str, request: &Request, access: &Access) -> bool {
        let Some(parameters) = header.strip_prefix("Digest ") else { return false };
        let parameters = parse_parameters(parameters);
        let value = |name: &str| {
            parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
        };
        // A real camera compares the URI with its request line byte by byte, so a client must not tidy it.
        let matches = value("username") == access.user
            && value("realm") == REALM
            && value("nonce") == self.nonce
            && value("uri") == request.url;
        let secret = hex::<H>(&[&access.user, REALM, &access.password]);
        let action = hex::<H>(&[&request.method, &request.url]);
        let expected = match value("qop") {
            "" => hex::<H>(&[&secret, &self.nonce, &action]),
            qop => hex::<H>(&[&secret, &self.nonce, value("nc"), value("cnonce"), qop, &action]),
        };
        matches && value("response").eq_ignore_ascii_case(&expected)
    }
}

fn basic(access: &Access) -> String {
    format!("Basic {}", BASE64.encode(format!("{}:{}", access.user, access.password)))
}

/// Hash of `parts` with colons between them, in lower-case hexadecimal.
fn hex<H: Digest>(parts: &[&str]) -> String {
    H::digest(parts.join(":")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `name=value, name="value"`; commas inside quotes belong to the value.
fn parse_parameters(text: &str) -> Vec<(&str, &str)> {
    let mut quoted = false;
    text.split(|character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    })
    .filter_map(|parameter| parameter.split_once('='))
    .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
    .collect()
}

fn new_nonce(rng: &mut Rng) -> String {
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

const REALM: &str = "vms-camsim";

#[cfg(test)]
mod tests {
    use super::*;

    fn access(scheme: Scheme) -> Access {
        Access {
            user: "Mufasa".into(),
            password: "Circle, of = Life".into(),
            scheme,
            nonce_lifetime_s: Some(10),
        }
    }

    fn request(authorization: &str) -> Request {
        let mut text = format!("DESCRIBE rtsp://h/a?b=c RTSP/1.0\r\nAuthorization: {authorization}\r\n\r\n")
            .into_bytes();
        crate::request::next(&mut text, &mut 0).unwrap().unwrap()
    }

    fn answer<H: Digest>(guard: &Guard, password: &str) -> String {
        let secret = hex::<H>(&["Mufasa", REALM, password]);
        let action = hex::<H>(&["DESCRIBE", "rtsp://h/a?b=c"]);
        let response = hex::<H>(&[&secret, &guard.nonce, "00000001", "xyz", "auth", &action]);
        format!(
            "Digest username=\"Mufasa\", realm=\"{REALM}\", nonce=\"{}\", uri=\"rtsp://h/a?b=c\", qop=auth, \
             nc=00000001, cnonce=\"xyz\", response=\"{response}\"",
            guard.nonce
        )
    }

    /// The worked example of RFC 7616, 3.9.1.
    #[test]
    fn hashes_of_the_rfc() {
        let secret = hex::<Md5>(&["Mufasa", "http-auth@example.org", "Circle of Life"]);
        let action = hex::<Md5>(&["GET", "/dir/index.html"]);
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let response = hex::<Md5>(&[&secret, nonce, "00000001", cnonce, "auth", &action]);
        assert_eq!(response, "8ca523f5e9506fed4657c9700eebdbec");
    }

    #[test]
    fn digest_passes_only_with_the_right_password() {
        let mut rng = Rng::new(1);
        let access = access(Scheme::DigestSha256);
        let mut guard = Guard::new(&mut rng, 0);
        let good = request(&answer::<Sha256>(&guard, &access.password));
        assert_eq!(guard.check(&good, &access, false, 1, &mut rng), Ok(()));
        let bad = request(&answer::<Sha256>(&guard, "guess"));
        let Challenge { header, stale } = guard.check(&bad, &access, false, 1, &mut rng).unwrap_err();
        assert!(header.contains("algorithm=SHA-256") && !header.contains("stale") && !stale, "{header}");
        let tidied = answer::<Sha256>(&guard, &access.password).replace("?b=c\"", "\"");
        assert!(
            guard.check(&request(&tidied), &access, false, 1, &mut rng).is_err(),
            "the URI is that of the request line"
        );
        assert!(guard.check(&good, &access, true, 1, &mut rng).is_err(), "nothing is good enough");
        let other_hash = request(&answer::<Md5>(&guard, &access.password));
        assert!(guard.check(&other_hash, &access, false, 1, &mut rng).is_err());
    }

    #[test]
    fn an_old_nonce_is_stale_and_replaced() {
        let mut rng = Rng::new(1);
        let access = access(Scheme::DigestMd5);
        let mut guard = Guard::new(&mut rng, 0);
        let good = request(&answer::<Md5>(&guard, &access.password));
        let later = 10 * NS_PER_SECOND;
        assert_eq!(guard.check(&good, &access, false, later - 1, &mut rng), Ok(()));
        let old = guard.nonce.clone();
        let Challenge { header, stale } = guard.check(&good, &access, false, later, &mut rng).unwrap_err();
        assert!(header.contains("stale=true") && stale && !header.contains(&old), "{header}");
        let again = request(&answer::<Md5>(&guard, &access.password));
        assert_eq!(guard.check(&again, &access, false, later, &mut rng), Ok(()));
    }

    #[test]
    fn basic_scheme() {
        let mut rng = Rng::new(1);
        let access = access(Scheme::Basic);
        let mut guard = Guard::new(&mut rng, 0);
        assert_eq!(guard.check(&request(&basic(&access)), &access, false, u64::MAX, &mut rng), Ok(()));
        let Challenge { header, .. } =
            guard.check(&request("Basic AAAA"), &access, false, 0, &mut rng).unwrap_err();
        assert_eq!(header, "Basic realm=\"vms-camsim\"");
    }
}
