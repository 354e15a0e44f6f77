//! What happens to a camera, as an input tells it: answers, media, time, and what operators and networks do.

use std::net::SocketAddr;
use std::time::Duration;

use vms_pure::codec::Codec;
use vms_pure::ingest::{ConnectFailure, PeerClose};
use vms_pure::limits::{RTSP_RESYNC_LEN_MAX, UNIT_LEN_MAX};
use vms_pure::time::UnixNanos;

use crate::dialogue::Asked;
use crate::machine::{Action, Link, Machine};
use crate::{Result, Unstructured, packets};

/// The address of all cameras that behave.
pub const HOME: &str = "10.1.1.1:8554";

/// The other side of the connection.
#[derive(Debug)]
pub struct Peer {
    codec: Codec,
    channel: u8,
    number: u16,
    timestamp: u32,
    ssrc: u32,
    /// How often it may still send much at once: that takes as long as all else that an input does.
    floods_left: u8,
}

impl Default for Peer {
    fn default() -> Self {
        Self { codec: Codec::H264, channel: 0, number: 1, timestamp: 1, ssrc: 9, floods_left: 3 }
    }
}

impl Peer {
    /// What a camera does that answers everything well, and the next thing to happen then.
    pub fn behave(&mut self, machine: &mut Machine) -> Action {
        match machine.link() {
            Link::Resolving { .. } => Action::Resolved(Ok(vec![HOME.parse().unwrap()])),
            Link::Opening(_) => Action::Connected,
            Link::Down => Action::Pass(machine.until_due()),
            Link::Open(_) => match machine.asked.pop_front() {
                Some(asked) => Action::Bytes(self.good_answer(&asked)),
                None => Action::Pass(machine.until_due()),
            },
        }
    }

    /// The answer to a request.
    pub fn good_answer(&mut self, asked: &Asked) -> Vec<u8> {
        let (headers, body) = match asked.method.as_str() {
            "DESCRIBE" => ("Content-Type: application/sdp\r\n".to_owned(), sdp(self.codec)),
            "SETUP" => {
                self.channel = 0;
                (
                    "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 12ab;timeout=60\r\n"
                        .to_owned(),
                    String::new(),
                )
            }
            _ => (String::new(), String::new()),
        };
        message("RTSP/1.0 200 OK", &format!("CSeq: {}\r\n{headers}", asked.cseq), &body)
    }

    /// A picture that can be decoded by itself, in a packet for each NAL unit.
    pub fn picture(&mut self) -> Vec<u8> {
        let nals = packets::key_unit(self.codec, &[0x11; 30]);
        self.next_picture();
        let mut bytes = Vec::new();
        for (number, nal) in nals.iter().enumerate() {
            bytes.extend_from_slice(&self.packet(number + 1 == nals.len(), nal));
        }
        bytes
    }

    /// The next thing to happen.
    pub fn next(&mut self, machine: &mut Machine, input: &mut Unstructured<'_>) -> Result<Action> {
        Ok(match input.int_in_range(0..=15)? {
            0..=3 => match machine.asked.pop_front() {
                Some(asked) if input.ratio(3, 4)? => Action::Bytes(self.good_answer(&asked)),
                Some(asked) => Action::Bytes(self.answer(&asked, input)?),
                None => self.link(machine, input)?,
            },
            4..=6 => Action::Bytes(self.media(input)?),
            7 => Action::Bytes(self.flood(input)?),
            8 => Action::Bytes(some(input, 100)?.to_vec()),
            9 => Action::Bytes(self.say(input)?),
            10..=12 => self.time(machine, input)?,
            13 => self.link(machine, input)?,
            _ => match input.int_in_range(0..=31)? {
                0 if !machine.is_stopping() => Action::Stop,
                1 => Action::InternalError,
                2 | 3 if !machine.is_stopping() => Action::Start,
                4 => Action::SetClock(UnixNanos(input.arbitrary()?)),
                5..=7 => Action::Hasten,
                _ => Action::Bytes([self.media(input)?, self.say(input)?, self.media(input)?].concat()),
            },
        })
    }

    /// Any answer.
    fn answer(&mut self, asked: &Asked, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let statuses = [200, 200, 401, 401, 302, 0, 100, 403, 404, 453, 454, 461, 503, 551];
        let status = *input.choose(&statuses)?;
        let mut headers = match input.int_in_range(0..=4)? {
            0..=2 => format!("CSeq: {}\r\n", asked.cseq),
            3 => String::new(),
            _ => format!("CSeq: {}\r\n", input.int_in_range(0..=9)?),
        };
        let mut body = String::new();
        match (status, asked.method.as_str()) {
            (401, _) => headers += &line("WWW-Authenticate", &CHALLENGES, &asked.uri, input)?,
            (302, _) => headers += &line("Location", &LOCATIONS, &asked.uri, input)?,
            (_, "OPTIONS") => headers += &line("Public", &["GET_PARAMETER", ""], "OPTIONS", input)?,
            (_, "DESCRIBE") => {
                self.codec = if input.arbitrary()? { Codec::H264 } else { Codec::H265 };
                headers += &line("Content-Base", &["", "/", "rtsp://10.9.9.9/x/"], &asked.uri, input)?;
                body = match input.int_in_range(0..=5)? {
                    0..=2 => sdp(self.codec),
                    3 => format!("{}a=fmtp:96 sprop-max-don-diff=1\r\n", sdp(self.codec)),
                    4 => "v=0\r\nm=video 0 RTP/AVP 26\r\n".to_owned(),
                    _ => String::from_utf8_lossy(some(input, 100)?).into_owned(),
                };
            }
            (_, "SETUP") => {
                let transport = line("Transport", &TRANSPORTS, "RTP/AVP/TCP;interleaved=0-1", input)?;
                self.channel = if transport.contains("=8") { 8 } else { 0 };
                headers += &transport;
                headers += &line("Session", &["1;timeout=2", "1;timeout=4000000000", ""], "2", input)?;
            }
            _ => headers += &line("RTP-Info", &["seq=1;rtptime=1", "url=x;seq=70000"], "", input)?,
        }
        Ok(message(&format!("RTSP/1.0 {status} X"), &headers, &body))
    }

    /// Something that nobody asked for.
    fn say(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        Ok(match input.int_in_range(0..=7)? {
            0 => message(&format!("RTSP/1.0 {} X", input.int_in_range(0..=600)?), "CSeq: 3\r\n", ""),
            1 => message("OPTIONS * RTSP/1.0", "CSeq: 9\r\nX: a\r\n b\r\n", ""),
            2 => message("ANNOUNCE rtsp://x/ RTSP/1.0", "CSeq: 1\r\n", &sdp(self.codec)),
            3 => b"RTSP/1.0 200 OK\r\nContent-Length: x\r\n\r\n".to_vec(),
            4 => b"RTSP/1.0 200 OK\r\nContent-Length: 250000\r\n\r\n".to_vec(),
            5 => b"\r\n\0xyz$$R".to_vec(),
            6 => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            _ => message("REDIRECT rtsp://x/ RTSP/1.0", &format!("CSeq: {}\r\n", "9".repeat(40)), ""),
        })
    }

    /// Frames: units that are whole or not, other packets, reports.
    fn media(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for _ in 0..input.int_in_range(1..=3)? {
            match input.int_in_range(0..=7)? {
                0..=3 => {
                    let is_key = input.arbitrary()?;
                    let body = [some(input, 20)?, &[0x80]].concat();
                    let unit = if is_key { packets::key_unit } else { packets::other_unit };
                    let payloads = packets::payloads(self.codec, false, &unit(self.codec, &body), input)?;
                    // The camera may send less than all, or a packet twice.
                    let missing =
                        if input.ratio(1, 4)? { input.choose_index(payloads.len() + 1)? } else { usize::MAX };
                    self.next_picture();
                    for (number, payload) in payloads.iter().enumerate() {
                        let packet = self.packet(number + 1 == payloads.len(), payload);
                        if number != missing {
                            bytes.extend_from_slice(&packet);
                        }
                    }
                }
                4 => {
                    let payload = some(input, 40)?.to_vec();
                    let packet = self.packet(input.arbitrary()?, &payload);
                    bytes.extend_from_slice(&packet);
                }
                5 => {
                    let (ntp, timestamp) = (input.arbitrary()?, self.timestamp);
                    let channel = self.channel + input.int_in_range(0..=1)?;
                    bytes.extend_from_slice(&packets::frame(
                        channel,
                        &packets::sender_report(self.ssrc, ntp, timestamp),
                    ));
                }
                6 => self.jump(input)?,
                _ => bytes.extend_from_slice(&packets::frame(input.int_in_range(0..=9)?, some(input, 30)?)),
            }
        }
        Ok(bytes)
    }

    /// The camera begins anew, or somewhere else.
    fn jump(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=4)? {
            0 => self.ssrc = input.arbitrary()?,
            1 => self.number = input.arbitrary()?,
            2 => self.number = self.number.wrapping_add(input.int_in_range(1..=70)?),
            3 => self.timestamp = input.arbitrary()?,
            _ => self.number = self.number.wrapping_sub(input.int_in_range(1..=70)?),
        }
        Ok(())
    }

    /// So much of one thing that a limit is passed.
    fn flood(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        if self.floods_left == 0 || input.ratio(7, 8)? {
            return self.media(input);
        }
        self.floods_left -= 1;
        // Seldom so much that the connection ends for it, or that any sink is full.
        let is_last = input.ratio(1, 16)?;
        if is_last {
            self.floods_left = 0;
        }
        Ok(match input.int_in_range(0..=4)? {
            0 => vec![b'x'; if is_last { RTSP_RESYNC_LEN_MAX + 1000 } else { RTSP_RESYNC_LEN_MAX / 4 }],
            1 => [&b"RTSP/1.0 200 OK\r\nX: "[..], &[b'x'; 70_000]].concat(),
            2 => [&b"RTSP/1.0 200 OK\r\n"[..], &b"X: y\r\n".repeat(300)].concat(),
            3 => message("RTSP/1.0 200 OK", "", &"v=0\r\n".repeat(if is_last { 40_000 } else { 400 })),
            _ => self.endless_picture(if is_last { UNIT_LEN_MAX / 60_000 + 2 } else { 4 }),
        })
    }

    /// A picture that goes on for so many packets, and does not end.
    fn endless_picture(&mut self, packets: usize) -> Vec<u8> {
        let header: &[u8] = if self.codec == Codec::H264 { &[0x7c] } else { &[0x62, 1] };
        let mut bytes = Vec::with_capacity(packets * 60_100);
        for number in 0..packets {
            let flags = if number == 0 { 0x80 } else { 0 };
            let payload = [header, &[flags | 5], &[7; 60_000]].concat();
            bytes.extend_from_slice(&self.packet(false, &payload));
        }
        bytes
    }

    fn time(&self, machine: &Machine, input: &mut Unstructured<'_>) -> Result<Action> {
        let due = machine.until_due();
        let time = match input.int_in_range(0..=9)? {
            0..=2 => due,
            3 => due.saturating_sub(Duration::from_nanos(1)),
            4 | 5 => Duration::from_millis(40),
            6 => Duration::from_secs(1),
            7 => Duration::from_secs(input.int_in_range(2..=20)?),
            8 => Duration::from_secs(3600),
            _ => Duration::from_nanos(1 << input.int_in_range(0..=63_u32)?),
        };
        Ok(Action::Pass(time.min(machine.until_late())))
    }

    /// The network does something.
    fn link(&self, machine: &Machine, input: &mut Unstructured<'_>) -> Result<Action> {
        let fails = input.ratio(1, 4)?;
        Ok(match machine.link() {
            Link::Resolving { .. } if fails => Action::Resolved(Err("no such name".to_owned())),
            Link::Resolving { .. } => {
                let address = |n: u8| SocketAddr::from(([10, 2, 2, n], 554));
                Action::Resolved(Ok((0..input.int_in_range(0..=9)?).map(address).collect()))
            }
            Link::Opening(_) if fails => Action::ConnectFailed(match input.int_in_range(0..=2)? {
                0 => ConnectFailure::Refused,
                1 => ConnectFailure::TimedOut,
                _ => ConnectFailure::Network("unreachable".to_owned()),
            }),
            Link::Opening(_) => Action::Connected,
            Link::Open(_) if fails => Action::Closed(match input.int_in_range(0..=3)? {
                0 => PeerClose::Closed,
                1 => PeerClose::Reset,
                2 => PeerClose::TimedOut,
                _ => PeerClose::Broken("broken".to_owned()),
            }),
            Link::Open(_) | Link::Down => Action::Pass(machine.until_due()),
        })
    }

    fn next_picture(&mut self) {
        self.timestamp = self.timestamp.wrapping_add(3600);
    }

    fn packet(&mut self, marker: bool, payload: &[u8]) -> Vec<u8> {
        self.number = self.number.wrapping_add(1);
        packets::frame(self.channel, &packets::rtp(marker, self.number, self.timestamp, self.ssrc, payload))
    }
}

/// A header line: one of the values, or the echo of something, or anything, or none.
fn line(name: &str, values: &[&str], echo: &str, input: &mut Unstructured<'_>) -> Result<String> {
    let value = match input.int_in_range(0..=7)? {
        0..=4 => (*input.choose(values)?).to_owned(),
        5 => echo.to_owned(),
        6 => String::from_utf8_lossy(some(input, 40)?).replace(['\r', '\n'], " "),
        _ => return Ok(String::new()),
    };
    Ok(format!("{name}: {value}\r\n"))
}

fn message(start: &str, headers: &str, body: &str) -> Vec<u8> {
    let len = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{start}\r\n{headers}{len}\r\n{body}").into_bytes()
}

fn sdp(codec: Codec) -> String {
    let name = codec.name();
    let payload_type = packets::PAYLOAD_TYPE;
    format!(
        "v=0\r\nm=video 0 RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} {name}/90000\r\na=control:t0\r\n"
    )
}

fn some<'a>(input: &mut Unstructured<'a>, most: usize) -> Result<&'a [u8]> {
    let len = input.int_in_range(0..=most)?.min(input.len());
    input.bytes(len)
}

const CHALLENGES: [&str; 5] = [
    "Basic realm=\"x\"",
    "Digest realm=\"x\", nonce=\"1\"",
    "Digest realm=\"x\", nonce=\"2\", stale=true, qop=\"auth\"",
    "Digest realm=\"x\", nonce=\"3\", algorithm=SHA-256, qop=\"auth\"",
    "Bearer",
];
const LOCATIONS: [&str; 6] = [
    "rtsp://10.2.2.2/other",
    "rtsp://camera.example/live",
    "rtsps://10.1.1.1/live",
    "/elsewhere",
    "rtsp://u:p@10.1.1.1:554/live",
    "http://10.1.1.1/",
];
const TRANSPORTS: [&str; 4] = [
    "RTP/AVP/TCP;unicast;interleaved=8-9",
    "RTP/AVP/TCP;unicast;interleaved=0",
    "RTP/AVP;unicast;client_port=1-2;server_port=3-4",
    "RTP/AVP/TCP",
];
