//! The text of the messages that we send. Reading is tolerant, writing is strict.

use std::fmt::Write as _;

/// Writes the text of one message. Control characters are left out, so that nothing that came from a camera or an operator can
/// start a header line of its own; but for tabs in values, which a digest's nonce may have (RFC 7230 §3.2.6).
///
/// Has no `Debug`: the text may hold an `Authorization`.
pub(super) struct MessageWriter(String);

impl MessageWriter {
    /// `METHOD uri RTSP/1.0`.
    pub(super) fn request(method: &str, uri: &str) -> Self {
        Self::start(format_args!("{} {} RTSP/1.0", clean(method), clean(uri)))
    }

    /// `RTSP/1.0 status reason`.
    pub(super) fn response(status: u16, reason: &str) -> Self {
        Self::start(format_args!("RTSP/1.0 {status} {}", clean(reason)))
    }

    /// Adds one header line, spelled as given: some cameras know `CSeq` in this spelling only.
    pub(super) fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let mut value = value.to_string();
        value.retain(|c| c == '\t' || !c.is_control());
        // Writing to a String does not fail.
        let _ = write!(self.0, "{name}: {value}\r\n");
        self
    }

    /// The whole message; ours never have a body.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.push_str("\r\n");
        self.0.into_bytes()
    }

    fn start(line: std::fmt::Arguments<'_>) -> Self {
        Self(format!("{line}\r\n"))
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_start_a_line_of_its_own() {
        let text =
            MessageWriter::request("PLAY", "rtsp://h/\r\nEvil: 1").header("Session", "3\r\n\0X: 1").finish();
        assert_eq!(text, b"PLAY rtsp://h/Evil: 1 RTSP/1.0\r\nSession: 3X: 1\r\n\r\n");
    }

    #[test]
    fn a_nonce_is_echoed_as_it_came() {
        let text = MessageWriter::request("PLAY", "rtsp://h/\ta")
            .header("Authorization", "Digest nonce=\"1\t2\"")
            .finish();
        assert_eq!(text, b"PLAY rtsp://h/a RTSP/1.0\r\nAuthorization: Digest nonce=\"1\t2\"\r\n\r\n");
    }
}
