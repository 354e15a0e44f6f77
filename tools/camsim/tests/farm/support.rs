//! A farm on a thread, and a client that speaks just enough RTSP to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use vms_camsim::{Config, Server, Stats};

pub(crate) fn misbehaving(faults: &[&str]) -> Config {
    Config { faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(), ..config() }
}

pub(crate) fn config() -> Config {
    Config::new(([127, 0, 0, 1], 0).into())
}

/// A farm on a thread of its own.
pub(crate) struct Farm {
    pub(crate) address: SocketAddr,
    pub(crate) stop: UnixStream,
    pub(crate) thread: JoinHandle<Stats>,
}

impl Farm {
    pub(crate) fn start(config: Config) -> Self {
        Self::run(Server::bind(config).unwrap())
    }

    pub(crate) fn run(mut server: Server) -> Self {
        let address = server.local_addr();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            server.run(stopped.as_fd()).unwrap();
            server.stats()
        });
        Self { address, stop, thread }
    }

    pub(crate) fn stop(self) -> Stats {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

/// A client that speaks just enough RTSP.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) session: String,
}

/// What came on the interleaved channels.
#[derive(Default)]
pub(crate) struct Frames {
    /// Access units that are complete: markers seen.
    pub(crate) units: usize,
    pub(crate) packets: Vec<(u8, Vec<u8>)>,
    pub(crate) closed: bool,
}

impl Client {
    pub(crate) fn connect(farm: &Farm) -> Self {
        let socket = TcpStream::connect(farm.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket, address: farm.address, session: String::new() }
    }

    pub(crate) fn play(farm: &Farm, name: &str) -> Self {
        let mut client = Self::connect(farm);
        let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
        let answer = client.request("SETUP", &format!("/{name}/trackID=0"), transport);
        let id = answer.split("Session: ").nth(1).unwrap().split(';').next().unwrap();
        client.session = format!("Session: {id}\r\n");
        let answer = client.request("PLAY", &format!("/{name}/"), "");
        assert!(answer.starts_with("RTSP/1.0 200"), "{answer}");
        client
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &str) {
        let (address, session) = (self.address, &self.session);
        let text = format!("{method} rtsp://{address}{path} RTSP/1.0\r\nCSeq: 1\r\n{session}{headers}\r\n");
        self.socket.write_all(text.as_bytes()).unwrap();
    }

    /// Sends a request and reads its answer, which has no body.
    pub(crate) fn request(&mut self, method: &str, path: &str, headers: &str) -> String {
        self.send(method, path, headers);
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.socket.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        String::from_utf8(answer).unwrap()
    }

    /// Reads frames until `enough` or until the farm closes.
    pub(crate) fn frames_until(&mut self, enough: impl Fn(&Frames) -> bool) -> Frames {
        let mut frames = Frames::default();
        while !enough(&frames) {
            let mut head = [0; 4];
            if self.socket.read_exact(&mut head).is_err() {
                frames.closed = true;
                break;
            }
            assert_eq!(head[0], b'$');
            let mut packet = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
            self.socket.read_exact(&mut packet).expect("a frame is whole");
            frames.units += usize::from(head[1] == 0 && packet[1] & 0x80 != 0);
            frames.packets.push((head[1], packet));
        }
        frames
    }
}

impl Frames {
    pub(crate) fn video(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().filter(|(channel, _)| *channel == 0).map(|(_, packet)| packet.as_slice())
    }

    pub(crate) fn sequence_is_whole(&self) -> bool {
        let sequence: Vec<u16> =
            self.video().map(|packet| u16::from_be_bytes([packet[2], packet[3]])).collect();
        sequence.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1))
    }
}
