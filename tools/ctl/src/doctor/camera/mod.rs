//! Asks a camera to play for some seconds, by the daemon's own state machine, and tells what came of it.
//!
//! ```text
//!  drive ── bytes, time ──▶ ingest::Camera ── access units ──▶ video (numbers)
//!    └──── the same bytes ──▶ exchange (what was said)                  │
//!                                   └───────────▶ report ◀──────────────┘
//! ```
//! The password is told to the camera once at most, because cameras lock out who tries often; the session is ended with TEARDOWN.

mod drive;
mod exchange;
mod report;
mod video;

use std::time::Duration;

use vms_media::rtsp::{CameraUrl, Credentials, Scheme};

use super::finding::Finding;
use crate::problem::Problem;
pub(super) use report::Measured;

/// A camera, and who we are to it. Prints no secret.
#[derive(Debug)]
pub(super) struct Target {
    url: CameraUrl,
    credentials: Option<Credentials>,
}

impl Target {
    /// Takes a URL apart. A `user` takes the place of the one in the URL.
    pub(super) fn new(url: &str, user: Option<String>, password: Option<String>) -> Result<Self, Problem> {
        let (url, own) =
            CameraUrl::parse(url).map_err(|why| Problem::Usage(format!("the camera's URL: {why}")))?;
        if url.scheme() == Scheme::Rtsps {
            return Err(Problem::Usage("rtsps is not available yet: use the camera's rtsp port".to_owned()));
        }
        let given = user.map(|user| Credentials::new(user, password.unwrap_or_default()));
        Ok(Self { url, credentials: given.or(own) })
    }
}

/// Looks at the camera for about `seconds`.
pub(super) fn probe(target: Target, seconds: u32) -> (Vec<Finding>, Measured) {
    match drive::watch(target, Duration::from_secs(seconds.into())) {
        Ok(seen) => (report::findings(&seen), Measured::of(&seen)),
        Err(why) => (vec![Finding::fail("camera", why)], Measured::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_hides_its_password_and_a_wrong_one_is_wrong_usage() {
        let target = Target::new("rtsp://a:canary@cam/x", Some("b".into()), Some("canary".into())).unwrap();
        assert!(!format!("{target:?}").contains("canary"));
        assert_eq!(target.credentials.unwrap().username, "b");
        assert_eq!(Target::new("rtsp://a:pw@cam/", None, None).unwrap().credentials.unwrap().username, "a");
        for wrong in ["http://u:canary@h/", "rtsp://", "rtsps://u:canary@h/", "canary"] {
            let problem = Target::new(wrong, None, None).unwrap_err();
            assert_eq!(problem.exit_code(), 2);
            assert!(!problem.to_string().contains("canary"), "{problem}");
        }
    }
}
