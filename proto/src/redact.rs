//! `Debug` for the messages that carry secrets, so that no log line, panic message or test failure shows one.
//!
//! A URL is shown by its length only: a password may stand in its user part, its query or its path, and one with
//! an unescaped `/` or `@` in it would defeat any attempt to show the rest.

use std::fmt;

use crate::v1::{Credentials, SetupStreamRequest, StreamSpec};

/// Stands for a text that is not shown.
struct Redacted<'a>(&'a str);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes, redacted>", self.0.len())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the lengths: that of a password is worth something to a guesser.
        f.write_str("Credentials(redacted)")
    }
}

impl fmt::Debug for StreamSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, credentials, transport: _, retry, timeouts, labels, record, access } = self;
        f.debug_struct("StreamSpec")
            .field("url", &Redacted(url))
            .field("credentials", credentials)
            .field("transport", &self.transport())
            .field("retry", retry)
            .field("timeouts", timeouts)
            .field("labels", labels)
            .field("record", record)
            .field("access", access)
            .finish()
    }
}

impl fmt::Debug for SetupStreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, url, spec } = self;
        f.debug_struct("SetupStreamRequest")
            .field("id", id)
            .field("url", &Redacted(url))
            .field("spec", spec)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{SetupStreamResponse, Stream};

    const CANARY: &str = "canary-7f3a";

    fn spec() -> StreamSpec {
        StreamSpec {
            url: format!("rtsp://admin:{CANARY}/x@10.0.0.1/user=admin_password={CANARY}?pwd={CANARY}"),
            credentials: Some(Credentials { username: "admin".into(), password: CANARY.into() }),
            ..StreamSpec::default()
        }
    }

    #[test]
    fn no_debug_output_holds_a_secret() {
        let request = SetupStreamRequest { id: "cam-1".into(), url: spec().url, spec: Some(spec()) };
        let answer = SetupStreamResponse {
            stream: Some(Stream { spec: Some(spec()), ..Stream::default() }),
            created: true,
        };
        for text in
            [format!("{request:?}"), format!("{request:#?}"), format!("{answer:?}"), format!("{:?}", spec())]
        {
            assert!(!text.contains(CANARY), "{text}");
        }
        assert!(format!("{request:?}").contains("cam-1"));
    }
}
