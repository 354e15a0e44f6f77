//! Enough RTSP to make a simulated camera play, and no more: the socket comes back with nothing read of the media.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, bail};

/// Plays `url` over this connection, RTP on channel 0, RTCP on channel 1.
pub(crate) fn play(farm: SocketAddr, url: &str) -> anyhow::Result<TcpStream> {
    let mut camera = Camera { socket: TcpStream::connect(farm)?, sequence: 0 };
    camera.request("DESCRIBE", url, "Accept: application/sdp\r\n")?;
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let head = camera.request("SETUP", &format!("{url}/trackID=0"), transport)?;
    let session = header(&head, "session").context("SETUP gave no session")?;
    let id = session.split(';').next().unwrap_or_default();
    camera.request("PLAY", url, &format!("Session: {id}\r\n"))?;
    Ok(camera.socket)
}

struct Camera {
    socket: TcpStream,
    sequence: u32,
}

impl Camera {
    /// The head of the answer.
    fn request(&mut self, method: &str, url: &str, headers: &str) -> anyhow::Result<String> {
        self.sequence += 1;
        let sequence = self.sequence;
        // In one write: the second of two waits for the camera's delayed acknowledgement.
        let request = format!("{method} {url} RTSP/1.0\r\nCSeq: {sequence}\r\n{headers}\r\n");
        self.socket.write_all(request.as_bytes())?;
        // Byte by byte: what comes behind the answer to PLAY is to stay in the socket.
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.socket.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head)?;
        if !head.starts_with("RTSP/1.0 200 ") {
            bail!("{method} {url}: {head}");
        }
        let len = header(&head, "content-length").map_or(Ok(0), |len| len.parse())?;
        std::io::copy(&mut Read::take(&mut self.socket, len), &mut std::io::sink())?;
        Ok(head)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
}
