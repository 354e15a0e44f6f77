//! Vectors of the RFCs, and cameras that challenge in their own ways.

use proptest::prelude::*;

use super::*;
use crate::rtsp::message::Head;

#[test]
fn basic_rfc7617_section_2() {
    let mut auth = authenticator("Aladdin", "open sesame");
    assert_eq!(auth.authorization("DESCRIBE", "rtsp://c/"), None, "nothing before a challenge");
    auth.challenged(&headers(&[r#"Basic realm="WallyWorld""#])).unwrap();
    assert_eq!(auth.authorization("DESCRIBE", "rtsp://c/").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}

#[test]
fn digest_rfc2617_section_3_5() {
    let answer = answer_with_cnonce(
        "Circle Of Life",
        r#"Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
        "0a4f113b",
    );
    assert!(answer.contains(r#"response="6629fae49393a05397450978507c4ef1""#), "{answer}");
    assert!(answer.contains("nc=00000001") && answer.contains("qop=auth"), "{answer}");
}

#[test]
fn digest_rfc7616_section_3_9_1() {
    let challenge = |algorithm: &str| {
        format!(
            r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
        )
    };
    let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    let md5 = answer_with_cnonce("Circle of Life", &challenge("MD5"), cnonce);
    assert!(md5.contains(r#"response="8ca523f5e9506fed4657c9700eebdbec""#), "{md5}");
    let sha256 = answer_with_cnonce("Circle of Life", &challenge("SHA-256"), cnonce);
    assert!(
        sha256.contains(r#"response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1""#),
        "{sha256}"
    );
}

/// RFC 7616 section 3.4.3: the hash of the body, of which there is none, stands behind the URI. By Python's hashlib.
#[test]
fn digest_auth_int_covers_the_empty_body() {
    for (algorithm, response) in [
        ("MD5", "069b17bda5bbc3610cc70dc1753d2609"),
        ("SHA-256", "8b67c38c88a09205ccd3c39dd780e4042b8751b23a2d4b671b217c5a2793662d"),
        ("SHA-512-256", "92d94d6124751e78cd521ae4347f7dc80621a9eb0eb9137347cbd808b069b480"),
    ] {
        let mut auth = authenticator("u", "p");
        let line = format!(r#"Digest realm="c", nonce="n", qop="auth-int", algorithm={algorithm}"#);
        auth.challenged(&headers(&[&line])).unwrap();
        let answer = auth.authorization("DESCRIBE", "rtsp://c/x").unwrap();
        assert!(answer.contains(r#"cnonce="bdd732262feb6e9528efe333b266f103""#), "{answer}");
        assert!(answer.contains(&format!(r#"response="{response}""#)), "{answer}");
    }
}

#[test]
fn row42_rfc2069_without_qop() {
    // The vector of RFC 2069 section 2.4 as its erratum 749 corrects it; an empty qop means the same.
    for qop in ["", r#", qop="""#] {
        let mut auth = authenticator("Mufasa", "CircleOfLife");
        let line = format!(
            r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"{qop}"#
        );
        auth.challenged(&headers(&[&line])).unwrap();
        let answer = auth.authorization("GET", "/dir/index.html").unwrap();
        assert!(answer.contains(r#"response="1949323746fe6a43ef61f9606e7febea""#), "{answer}");
        assert!(!answer.contains("cnonce") && !answer.contains("qop"), "{answer}");
    }
}

#[test]
fn row42_the_strongest_of_several_challenges_is_answered() {
    let basic = r#"Basic realm="c""#;
    let md5 = r#"Digest realm="c", nonce="1", algorithm="md5""#;
    let sha = r#"Digest realm="c", nonce="2", qop="auth", algorithm=sha-256"#;
    for lines in [&[basic, md5, sha][..], &[sha, basic, md5], &[&format!("{basic}, {md5}, {sha}")]] {
        let mut auth = authenticator("u", "p");
        auth.challenged(&headers(lines)).unwrap();
        assert!(auth.authorization("PLAY", "x").unwrap().contains("algorithm=SHA-256"), "{lines:?}");
    }
    let mut auth = authenticator("u", "p");
    auth.challenged(&headers(&[basic, md5])).unwrap();
    assert!(auth.authorization("PLAY", "x").unwrap().starts_with("Digest "));
}

#[test]
fn row41_a_refused_password_is_tried_twice() {
    let mut auth = authenticator("u", "p");
    let challenge = |nonce: u32| headers(&[&format!(r#"Digest realm="c", nonce="{nonce}""#)]);
    auth.challenged(&challenge(1)).unwrap();
    auth.challenged(&challenge(2)).unwrap();
    assert_eq!(auth.challenged(&challenge(3)), Err(AuthError::Refused { realm: Some("c".into()) }));
}

#[test]
fn who_may_try_once_sends_a_refused_password_once() {
    let credentials = Credentials::new("u".to_owned(), "wrong".to_owned());
    let mut auth = Authenticator::new(Some(credentials), 1, 1);
    let challenge = headers(&[r#"Digest realm="c", nonce="n""#]);
    auth.challenged(&challenge).unwrap();
    assert!(auth.authorization("DESCRIBE", "x").is_some());
    assert_eq!(auth.challenged(&challenge), Err(AuthError::Refused { realm: Some("c".into()) }));
}

#[test]
fn row40_a_stale_nonce_is_no_refusal() {
    let mut auth = authenticator("u", "p");
    let stale = headers(&[r#"Digest realm="c", nonce="n", stale=TRUE"#]);
    auth.challenged(&headers(&[r#"Digest realm="c", nonce="m""#])).unwrap();
    for _ in 0..10 {
        auth.challenged(&stale).unwrap();
        auth.accepted();
    }
    let endless = (0..10).map(|_| auth.challenged(&stale)).find_map(Result::err);
    assert!(
        matches!(endless, Some(AuthError::Refused { .. })),
        "a camera that only ever says stale means no"
    );
}

#[test]
fn row43_the_uri_is_the_request_lines_letter_by_letter() {
    let mut auth = authenticator("u", "p");
    auth.challenged(&headers(&[r#"Digest realm="c", nonce="n", qop="auth""#])).unwrap();
    let uri = "rtsp://c:554/cam/realmonitor?channel=1&subtype=0/trackID=0";
    assert!(auth.authorization("SETUP", uri).unwrap().contains(&format!(r#"uri="{uri}""#)));
}

#[test]
fn nonce_counts_rise_and_client_nonces_differ() {
    let mut auth = authenticator("u", "p");
    auth.challenged(&headers(&[r#"Digest realm="c", nonce="n", qop="auth""#])).unwrap();
    let first = auth.authorization("PLAY", "x").unwrap();
    let second = auth.authorization("PLAY", "x").unwrap();
    assert!(first.contains("nc=00000001") && second.contains("nc=00000002"));
    let cnonce = |answer: &str| answer.split_once("cnonce=").unwrap().1[..34].to_owned();
    assert_ne!(cnonce(&first), cnonce(&second));
}

#[test]
fn the_password_is_not_sent_in_the_clear_after_digest_was_agreed() {
    let mut auth = authenticator("u", "p");
    auth.challenged(&headers(&[r#"Digest realm="c", nonce="n""#])).unwrap();
    auth.accepted();
    let basic = headers(&[r#"Basic realm="c""#]);
    assert!(matches!(auth.challenged(&basic), Err(AuthError::Refused { .. })));
}

#[test]
fn what_cannot_be_answered() {
    let mut none = Authenticator::new(None, 1, 2);
    let digest = headers(&[r#"Digest realm="c", nonce="n""#]);
    assert_eq!(none.challenged(&digest), Err(AuthError::NoCredentials { realm: Some("c".into()) }));
    let mut auth = authenticator("u", "p");
    for lines in
        [&[][..], &["Bearer x"], &["Digest nonsense"], &["Digest realm=\"c\", nonce=\"n\", algorithm=X"]]
    {
        assert_eq!(auth.challenged(&headers(lines)), Err(AuthError::Unsupported), "{lines:?}");
    }
    let thousand: Vec<&str> = vec!["Digest realm=\"c\", nonce=\"n\", qop=\"auth-int\""; 1000];
    auth.challenged(&headers(&thousand)).unwrap();
    assert!(auth.authorization("PLAY", "x").unwrap().contains("qop=auth-int"));
}

#[test]
fn a_challenge_that_cannot_be_answered_does_not_go_on_forever() {
    let mut auth = authenticator("u", "p");
    let challenge = headers(&[r#"Digest realm="c", nonce="n", qop="auth""#]);
    // Only ASCII can be quoted; the session sends nothing else, but this module does not rely on it.
    let tries = std::iter::from_fn(|| {
        assert_eq!(auth.authorization("PLAY", "rtsp://c/\u{e9}"), None);
        auth.challenged(&challenge).ok()
    });
    assert_eq!(tries.take(100).count(), 2);
}

proptest! {
    #[test]
    fn any_challenge_is_read_without_panic(lines in prop::collection::vec(challenge_line(), 0..12)) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut auth = authenticator("u", "p");
        let endless = (0..20).all(|_| {
            let _ = auth.authorization("PLAY", "rtsp://c/");
            auth.challenged(&headers(&lines)).is_ok()
        });
        prop_assert!(!endless);
    }
}

fn challenge_line() -> impl Strategy<Value = String> {
    let parameter =
        "(realm|nonce|qop|algorithm|stale|opaque|domain)=(\"[ -~]{0,8}\"|auth|MD5|SHA-256|true|[ -~]{0,4})";
    let digest = prop::collection::vec(parameter, 0..7).prop_map(|all| format!("Digest {}", all.join(", ")));
    prop_oneof![digest, "(Basic|Digest) [ -~]{0,60}", "\\PC{0,60}"]
}

#[test]
fn debug_prints_no_secret() {
    let mut auth = authenticator("canary", "canary");
    auth.challenged(&headers(&[r#"Basic realm="c""#])).unwrap();
    assert!(!format!("{auth:?}").contains("canary"));
}

fn authenticator(username: &str, password: &str) -> Authenticator {
    let credentials = Credentials { username: username.to_owned(), password: password.into() };
    Authenticator::new(Some(credentials), 42, 2)
}

fn headers(challenges: &[&str]) -> Headers {
    let lines: String = challenges.iter().map(|line| format!("WWW-Authenticate: {line}\r\n")).collect();
    let head = Head::parse(format!("RTSP/1.0 401 Unauthorized\r\n{lines}\r\n").as_bytes()).unwrap();
    head.headers().clone()
}

/// The RFCs fix the client nonce; the challenge goes the usual way.
fn answer_with_cnonce(password: &str, challenge: &str, cnonce: &str) -> String {
    let Some(PasswordClient::Digest(mut digest)) = strongest(&headers(&[challenge])) else {
        panic!("no digest")
    };
    let params =
        PasswordParams { username: "Mufasa", password, uri: "/dir/index.html", method: "GET", body: None };
    digest.respond_with_testing_cnonce(&params, cnonce).unwrap()
}
