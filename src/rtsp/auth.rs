//! Answers to 401: Basic (RFC 7617) and Digest (RFC 7616, with RFC 2069 for cameras that offer no `qop`).
//!
//! The arithmetic is `http-auth`'s. What is decided here is which challenge to answer, how often, and when to
//! stop: cameras lock out an address that tries too often, so a refused password is tried as often as the caller allows and no more.

use http_auth::digest::{Algorithm, Qop};
use http_auth::parser::ChallengeParser;
use http_auth::{ChallengeRef, ParamValue, PasswordClient, PasswordParams};
use secrecy::ExposeSecret as _;

use super::message::Headers;
use super::url::Credentials;
use crate::limits::AUTH_CHALLENGES_MAX;

/// Why a 401 cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// the camera wants a password and none is configured
    #[error("the camera wants a password and none is configured")]
    NoCredentials {
        /// Whose password, in the camera's words.
        realm: Option<String>,
    },
    /// the camera refuses the user name or password
    #[error("the camera refuses the user name or password")]
    Refused {
        /// Whose password, in the camera's words.
        realm: Option<String>,
    },
    /// the camera wants a kind of authentication that is not supported
    #[error("the camera wants a kind of authentication that is not supported")]
    Unsupported,
}

/// Credentials with what the camera last challenged.
#[derive(Debug)]
pub struct Authenticator {
    credentials: Option<Credentials>,
    client: Option<PasswordClient>,
    /// Requests with a password that the camera may refuse; from 1.
    tries: u32,
    /// Requests refused since one was accepted, a stale nonce not counted.
    refused: u32,
    /// Stale nonces since a request was accepted.
    stale: u32,
    cnonces: Cnonces,
}

impl Authenticator {
    /// `seed` decides the client nonces; it comes from the operating system's entropy in the program and from a
    /// constant in tests.
    ///
    /// `tries` says how often the camera may refuse the password until it is not tried again; 0 is taken for 1.
    pub fn new(credentials: Option<Credentials>, seed: u64, tries: u32) -> Self {
        let cnonces = Cnonces { state: seed };
        Self { credentials, client: None, tries: tries.max(1), refused: 0, stale: 0, cnonces }
    }

    /// Whether there is anything to authenticate with.
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// The `Authorization` for a request, once a challenge was seen. `uri` must be the request line's, letter
    /// by letter: cameras compare the two.
    pub fn authorization(&mut self, method: &str, uri: &str) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let (username, password) = (credentials.username.as_str(), credentials.password.expose_secret());
        match self.client.as_mut()? {
            PasswordClient::Digest(digest) => {
                // Our requests have no body, so `auth-int` can be served; `auth` is what cameras test with. The body's
                // hash is what belongs there (RFC 7616 section 3.4.3): `http-auth` 0.1.10 hashes what it is given.
                let empty = empty_hash(digest.algorithm());
                let body = if digest.qop() & Qop::Auth { None } else { Some(empty.as_bytes()) };
                let params = PasswordParams { username, password, uri, method, body };
                // The variant with a given cnonce keeps this module deterministic. It is named for tests
                // because a constant would be weak; ours differs for every request.
                digest.respond_with_testing_cnonce(&params, &self.cnonces.next()).ok()
            }
            PasswordClient::Basic(basic) => Some(basic.respond(username, password)),
            _ => None,
        }
    }

    /// Takes the challenges of a 401. `Ok`: send the request again.
    ///
    /// Every challenge after the first counts as a refusal, since requests are authorized from then on. It
    /// counts even if no `Authorization` could be made (a nonce that cannot be quoted), so that the two of us
    /// cannot go round in circles.
    pub fn challenged(&mut self, headers: &Headers) -> Result<(), AuthError> {
        let strongest = strongest(headers);
        let realm = strongest.as_ref().map(|client| realm(client).chars().take(REALM_LEN_MAX).collect());
        let is_answered = self.client.is_some();
        if self.credentials.is_none() {
            return Err(AuthError::NoCredentials { realm });
        }
        let Some(strongest) = strongest else {
            return Err(if is_answered { AuthError::Refused { realm } } else { AuthError::Unsupported });
        };
        if is_answered {
            self.count(&strongest);
        }
        if self.refused >= self.tries || self.stale >= STALE_MAX || self.is_downgrade(&strongest) {
            return Err(AuthError::Refused { realm });
        }
        self.client = Some(strongest);
        Ok(())
    }

    /// A request was carried out: what was refused before is forgotten.
    pub fn accepted(&mut self) {
        self.refused = 0;
        self.stale = 0;
    }

    fn count(&mut self, challenge: &PasswordClient) {
        match challenge {
            PasswordClient::Digest(digest) if digest.stale() => self.stale += 1,
            PasswordClient::Digest(_) | PasswordClient::Basic(_) | _ => self.refused += 1,
        }
    }

    /// Whether someone who may stand between us and the camera asks for the password in the clear, after it
    /// was agreed not to send it so.
    fn is_downgrade(&self, challenge: &PasswordClient) -> bool {
        matches!((&self.client, challenge), (Some(PasswordClient::Digest(_)), PasswordClient::Basic(_)))
    }
}

/// The strongest challenge that we can answer; of equals, the first.
fn strongest(headers: &Headers) -> Option<PasswordClient> {
    let mut best: Option<PasswordClient> = None;
    let challenges =
        headers.all("WWW-Authenticate").flat_map(|line| ChallengeParser::new(line).map_while(Result::ok));
    for mut challenge in challenges.take(AUTH_CHALLENGES_MAX) {
        repair(&mut challenge);
        let Ok(client) = PasswordClient::try_from(&challenge) else { continue };
        if best.as_ref().is_none_or(|best| strength(&client) > strength(best)) {
            best = Some(client);
        }
    }
    best
}

/// Spells algorithms as RFC 7616 does and drops an empty `qop`, which cameras send for "none".
fn repair(challenge: &mut ChallengeRef<'_>) {
    challenge
        .params
        .retain(|(name, value)| !(name.eq_ignore_ascii_case("qop") && value.as_escaped().trim().is_empty()));
    for (name, value) in &mut challenge.params {
        let spelled = ALGORITHMS.iter().find(|known| known.eq_ignore_ascii_case(value.as_escaped().trim()));
        if let (true, Some(spelled)) = (name.eq_ignore_ascii_case("algorithm"), spelled)
            && let Ok(spelled) = ParamValue::try_from_escaped(spelled)
        {
            *value = spelled;
        }
    }
}

fn strength(client: &PasswordClient) -> u8 {
    match client {
        PasswordClient::Digest(digest) => match digest.algorithm() {
            Algorithm::Sha512Trunc256 => 4,
            Algorithm::Sha256 => 3,
            Algorithm::Md5 | _ => 2,
        },
        PasswordClient::Basic(_) => 1,
        _ => 0,
    }
}

fn realm(client: &PasswordClient) -> &str {
    match client {
        PasswordClient::Digest(digest) => digest.realm(),
        PasswordClient::Basic(basic) => basic.realm(),
        _ => "",
    }
}

/// The hash of no bytes.
fn empty_hash(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha512Trunc256 => "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a",
        Algorithm::Sha256 => "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        Algorithm::Md5 | _ => "d41d8cd98f00b204e9800998ecf8427e",
    }
}

/// Client nonces: 128 bits each from SplitMix64, never twice the same for one seed.
struct Cnonces {
    state: u64,
}

impl std::fmt::Debug for Cnonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cnonces(..)")
    }
}

impl Cnonces {
    fn next(&mut self) -> String {
        format!("{:016x}{:016x}", self.split_mix(), self.split_mix())
    }

    fn split_mix(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

const ALGORITHMS: [&str; 6] =
    ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"];
/// Characters of a realm that are kept for a person to read.
const REALM_LEN_MAX: usize = 64;
/// Stale nonces in a row before the camera is taken to mean "no".
const STALE_MAX: u32 = 4;

#[cfg(test)]
mod tests;
