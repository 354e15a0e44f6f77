//! What the daemon sends to a camera, read as a camera reads it.

use vms_pure::rtp::rtcp::{self, Packet};
use vms_pure::rtsp::{Event, Framer, Request};

/// One thing that was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    /// A request.
    Asked(Asked),
    /// An answer to a request of the camera's, with this status.
    Answered(u16),
    /// A receiver report, on this channel.
    Reported(u8),
}

/// A request of the daemon's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    pub method: String,
    pub uri: String,
    pub cseq: u32,
    pub authorization: Option<String>,
}

/// What `bytes` are: whole messages and frames, which say nothing but what the daemon has to say.
pub fn read(mut bytes: &[u8]) -> Vec<Sent> {
    let mut framer = Framer::new();
    let mut sent = Vec::new();
    let mut report = None;
    while let Some(event) = framer.next(&mut bytes).expect("what is sent can be read") {
        match event {
            Event::Request(request) => sent.push(Sent::Asked(asked(&request))),
            Event::Response(response) => {
                assert!(response.headers.len() <= 2, "{response:?}");
                assert_eq!(response.headers.all("User-Agent").count(), 1, "{response:?}");
                sent.push(Sent::Answered(response.status));
            }
            Event::DataStart { channel, .. } => report = Some((channel, Vec::new())),
            Event::Data(piece) => report.as_mut().expect("a frame has begun").1.extend_from_slice(piece),
            Event::DataEnd => {
                let (channel, packet) = report.take().expect("a frame has begun");
                assert_eq!(packet[1], 201, "a receiver report");
                assert_eq!(rtcp::packets(&packet).collect::<Vec<_>>(), [Packet::Other; 2]);
                sent.push(Sent::Reported(channel));
            }
            Event::Frame { .. } | Event::Found { .. } | Event::Skipped { .. } => {
                panic!("{event:?} makes no sense to a camera")
            }
        }
    }
    assert!(framer.next(&mut &b"RTSP/1.0 200 OK\r\n\r\n"[..]).unwrap().is_some(), "the last one is whole");
    sent
}

fn asked(request: &Request) -> Asked {
    const NAMES: [&str; 7] =
        ["CSeq", "User-Agent", "Authorization", "Session", "Accept", "Transport", "Range"];
    let once = |name: &str| {
        assert!(request.headers.all(name).count() <= 1, "{request:?}");
        let value = request.headers.first(name)?;
        let is_plain = |c: char| c == '\t' || !c.is_control();
        assert!(value.chars().all(is_plain), "{name} could be taken for more than one line");
        Some(value.to_owned())
    };
    assert!(!request.uri.chars().any(char::is_control));
    let known: usize = NAMES.iter().map(|name| usize::from(once(name).is_some())).sum();
    assert_eq!(known, request.headers.len(), "a header line that is not ours: {request:?}");
    assert!(request.body.is_empty() && once("User-Agent").is_some());
    assert_eq!(request.method == "SETUP", once("Transport").is_some());
    Asked {
        method: request.method.clone(),
        uri: request.uri.clone(),
        cseq: once("CSeq").and_then(|cseq| cseq.parse().ok()).expect("requests are numbered"),
        authorization: once("Authorization"),
    }
}
