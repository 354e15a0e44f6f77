//! What an operator sees and does: facts as they happen, faults that begin and end, and commands.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::{Client, Farm, config, misbehaving};
use serde_json::Value;
use vms_camsim::{Config, Operator, Server, StartError};

#[test]
fn a_session_is_told_from_its_first_packet_to_its_last() {
    let mut watched = Watched::start(config());
    let mut client = Client::play(&watched.farm, "h264");
    client.frames_until(|frames| frames.units == 3);
    client.send("TEARDOWN", "/h264/", "");
    let mut told = Vec::new();
    let closed = loop {
        let fact = watched.next();
        told.push(fact["truth"].as_str().unwrap().to_owned());
        if fact["truth"] == "closed" {
            break fact;
        }
    };
    assert_eq!(told, ["listening", "connected", "session", "playing", "video", "video", "closed"]);
    assert_eq!((&closed["camera"], &closed["by"]), (&"h264".into(), &"torn_down".into()), "{closed}");
    assert!(closed["units"].as_u64() >= Some(3) && closed["mono_ns"].is_u64() && closed["utc_ns"].is_u64());
}

#[test]
fn a_fault_begins_and_ends_by_itself() {
    let mut watched = Watched::start(config());
    let mut client = Client::play(&watched.farm, "h264");
    client.frames_until(|frames| frames.units == 1);
    watched.command("fault h264 stall+200ms");
    let begins = watched.fact("fault");
    assert_eq!(
        (&begins["camera"], &begins["fault"], &begins["begins"]),
        (&"h264".into(), &"stall".into(), &true.into())
    );
    let stops = watched.fact("video");
    assert_eq!(stops["flowing"], false);
    let ends = watched.fact("fault");
    let lasted_ns = ends["mono_ns"].as_u64().unwrap() - begins["mono_ns"].as_u64().unwrap();
    assert!(ends["begins"] == false && lasted_ns >= 200_000_000, "{lasted_ns} ns");
    assert_eq!(watched.fact("video")["flowing"], true);
    let (units, counter) =
        (stops["units"].as_u64().unwrap(), client.frames_until(|frames| frames.units == 10));
    assert!(units >= 1 && counter.sequence_is_whole(), "what was not sent took no numbers");
}

#[test]
fn other_cameras_are_left_alone() {
    let watched = Watched::start(misbehaving(&["h265:close-after=2"]));
    assert!(Client::play(&watched.farm, "h265").frames_until(|_| false).closed);
    assert_eq!(Client::play(&watched.farm, "h264").frames_until(|frames| frames.units == 5).units, 5);
}

#[test]
fn power_is_cut_and_comes_back() {
    let mut watched = Watched::start(config());
    let mut client = Client::play(&watched.farm, "h264");
    client.frames_until(|frames| frames.units == 1);
    watched.command("power off");
    assert_eq!(watched.fact("closed")["by"], "camera_reset");
    assert_eq!(watched.fact("listening")["on"], false);
    let error = client.socket.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(refusal(watched.farm.address), Some(ErrorKind::ConnectionRefused));
    watched.command("power on");
    assert_eq!(watched.fact("listening")["on"], true);
    Client::play(&watched.farm, "h264").frames_until(|frames| frames.units == 1);
}

#[test]
fn a_camera_with_a_port_of_its_own_refuses_alone() {
    let mut server = Server::bind(Config { own_ports: true, ..misbehaving(&["h264:refuse"]) }).unwrap();
    let ports: Vec<SocketAddr> = server.own_ports().map(|(_, address)| address).collect();
    let [h264, h265] = ports[..] else { panic!("{ports:?}") };
    assert_eq!(
        (refusal(h264), refusal(h265), refusal(server.local_addr())),
        (Some(ErrorKind::ConnectionRefused), None, None)
    );
    assert_eq!(server.own_ports().map(|(name, _)| name).collect::<Vec<_>>(), ["h264", "h265"]);
    let (lines, _) = UnixStream::pair().unwrap();
    server.attend(Operator { commands: None, lines: Box::new(lines), wants_truth: false }).unwrap();
    let farm = Farm::run(server);
    // On the common port it is known to be that camera only when it is named.
    let mut client = Client::connect(&farm);
    client.send("DESCRIBE", "/h264", "");
    assert_eq!(client.socket.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(Client::connect(&farm).request("DESCRIBE", "/h265", "").starts_with("RTSP/1.0 200"));
}

#[test]
fn a_mute_camera_answers_when_it_speaks_again() {
    let mut watched = Watched::start(misbehaving(&["mute"]));
    let mut client = Client::connect(&watched.farm);
    client.send("OPTIONS", "/h264", "");
    client.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let silence = client.socket.read(&mut [0; 16]).unwrap_err();
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    watched.command("clear h264 mute");
    client.socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 12];
    client.socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"RTSP/1.0 200");
}

#[test]
fn slow_answers_come_late_and_in_order() {
    let farm = Farm::start(misbehaving(&["slow-answers=300"]));
    let mut client = Client::connect(&farm);
    client.send("OPTIONS", "/h264", "");
    client.send("DESCRIBE", "/h264", "");
    client.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(client.socket.read(&mut [0; 16]).is_err(), "not yet");
    client.socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"a=control:trackID=0\r\n") {
        let mut byte = [0];
        client.socket.read_exact(&mut byte).unwrap();
        text.extend(byte);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.find("Public").unwrap() < text.find("m=video").unwrap());
}

#[test]
fn a_session_without_teardown_is_held() {
    let farm = Farm::start(Config { session_timeout_s: 1, ..misbehaving(&["session-limit=1"]) });
    drop(Client::play(&farm, "h264"));
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let set_up = || Client::connect(&farm).request("SETUP", "/h264/trackID=0", transport);
    assert!(set_up().starts_with("RTSP/1.0 453"));
    // Time is all that helps: each try is a session time-out's tenth.
    let mut client = Client::connect(&farm);
    client.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let is_free = |_: &u32| {
        let _ = client.socket.read(&mut [0; 1]);
        set_up().starts_with("RTSP/1.0 200")
    };
    assert!((0..100).find(is_free).is_some());
}

#[test]
fn commands_are_answered() {
    let mut watched = Watched::start(config());
    watched.fact("listening");
    for (command, error) in [
        ("fault cam9 stall", "cam9"),
        ("fault all nonsense", "--fault list"),
        ("fault h264 stale-nonce", "--user"),
        ("power sideways", "power on|off"),
        ("clear cam9", "cam9"),
    ] {
        writeln!(watched.commands, "{command}").unwrap();
        let answer = watched.next();
        assert_eq!((&answer["answer"], &answer["command"]), (&"error".into(), &command.into()), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(error), "{answer}");
    }
    Client::play(&watched.farm, "h264").frames_until(|frames| frames.units == 1);
    writeln!(watched.commands, "stats").unwrap();
    let stats = watched.line(|line| line["answer"] == "stats");
    assert_eq!(
        (&stats["stats"]["connects"], &stats["stats"]["cameras"]["h264"]["plays"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_fault_for_nobody_is_no_start() {
    let start = |faults: &[&str]| Server::bind(misbehaving(faults)).unwrap_err();
    assert!(matches!(start(&["cam7:stall"]), StartError::NoSuchCamera { .. }));
    assert!(matches!(start(&["stale-nonce"]), StartError::NoLogin { .. }));
}

/// A farm with somebody who watches and commands it.
struct Watched {
    farm: Farm,
    commands: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Watched {
    fn start(config: Config) -> Self {
        let (commands, source) = UnixStream::pair().unwrap();
        let (lines, sink) = UnixStream::pair().unwrap();
        lines.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut server = Server::bind(config).unwrap();
        let operator = Operator { commands: Some(source.into()), lines: Box::new(sink), wants_truth: true };
        server.attend(operator).unwrap();
        Self { farm: Farm::run(server), commands, lines: BufReader::new(lines) }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.next();
            if wanted(&line) {
                return line;
            }
        }
    }

    /// The next fact of this kind; others before it are passed over.
    fn fact(&mut self, kind: &str) -> Value {
        self.line(|line| line["truth"] == kind)
    }

    /// Gives a command, and waits until it was obeyed: facts that follow from it come behind the answer.
    fn command(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
        self.line(|line| line["answer"] == "done" && line["command"] == command);
    }
}

/// How a connection fails, if it does.
fn refusal(address: SocketAddr) -> Option<ErrorKind> {
    TcpStream::connect(address).err().map(|error| error.kind())
}
