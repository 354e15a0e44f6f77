//! The text of the messages that we send. Reading is tolerant, writing is strict.

use std::fmt::Write as _;

/// Writes the text of one message. Control characters in values are left out, so that nothing that came from
/// a camera or an operator can start a header line of its own.
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
        let value = value.to_string();
        // Writing to a String does not fail.
        let _ = write!(self.0, "{name}: {}\r\n", clean(&value));
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
        let text = MessageWriter::request("PLAY", "rtsp://h/\r\nEvil: 1").header("CSeq", 3).finish();
        assert_eq!(text, b"PLAY rtsp://h/Evil: 1 RTSP/1.0\r\nCSeq: 3\r\n\r\n");
    }
}
