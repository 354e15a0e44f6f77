//! Commands of an operator, or of a test, while the farm runs: one a line.

use std::os::fd::OwnedFd;

use serde::Serialize;

use crate::farm::Stats;
use crate::faults::spec::{ALL, Fault};

/// What a line asks for.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// Begin a fault; its times count from now.
    Fault(Box<Fault>),
    /// End faults of these cameras (none named: of all), those called so or all.
    Clear { cameras: Vec<String>, name: Option<String> },
    /// Cut the power of these cameras, or give it back.
    Power { on: bool, cameras: Vec<String> },
    /// Tell what was counted.
    Stats,
}

/// The answer to a command, as a line of JSON.
#[derive(Debug, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Reply<'a> {
    /// Done.
    Done { command: &'a str },
    /// Not done, and why.
    Error { command: &'a str, error: String },
    /// What was counted.
    Stats { stats: Stats },
}

impl Command {
    /// Reads a line; what is wrong with it is for the person who wrote it.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match *words.as_slice() {
            ["fault", fault] => parse_fault(fault),
            ["fault", cameras, fault] => parse_fault(&format!("{cameras}:{fault}")),
            ["clear", cameras] => Ok(Self::Clear { cameras: names(cameras), name: None }),
            ["clear", cameras, name] => match crate::faults::find(name) {
                Some(kind) => Ok(Self::Clear { cameras: names(cameras), name: Some(kind.name.to_owned()) }),
                None => Err(format!("no fault is called {name:?}")),
            },
            ["power", word @ ("on" | "off"), ref cameras @ ..] if cameras.len() <= 1 => {
                let cameras = cameras.first().map(|list| names(list)).unwrap_or_default();
                Ok(Self::Power { on: word == "on", cameras })
            }
            ["stats"] => Ok(Self::Stats),
            _ => Err(USAGE.to_owned()),
        }
    }
}

fn parse_fault(text: &str) -> Result<Command, String> {
    text.parse()
        .map(|fault| Command::Fault(Box::new(fault)))
        .map_err(|error: crate::FaultError| error.to_string())
}

/// `cam1,cam2`; none for `all`.
fn names(list: &str) -> Vec<String> {
    if list == ALL { Vec::new() } else { list.split(',').map(str::to_owned).collect() }
}

/// Where commands come from, and the part of a line that has come.
#[derive(Debug)]
pub(crate) struct Commands {
    pub(crate) source: OwnedFd,
    line: Vec<u8>,
}

impl Commands {
    pub(crate) const fn new(source: OwnedFd) -> Self {
        Self { source, line: Vec::new() }
    }

    /// Reads what is there, without waiting for more, and gives the lines that are whole; `None` at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<Vec<String>> {
        let count = match rustix::io::read(&self.source, &mut *buffer) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => 0,
            Err(_) => return None,
        };
        self.line.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let mut lines = Vec::new();
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim().to_owned());
        }
        // Nobody writes such a line: what comes of it is an error for what is left.
        self.line.truncate(LINE_LEN_MAX);
        Some(lines.into_iter().filter(|line| !line.is_empty()).collect())
    }
}

const USAGE: &str = "expected: fault CAMERAS FAULT, clear CAMERAS [NAME], power on|off [CAMERAS], or stats; CAMERAS: all, or \
                     names with commas";
const LINE_LEN_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let Ok(Command::Fault(fault)) = Command::parse("fault cam3,cam4 lose=7+5s") else {
            panic!("no fault")
        };
        assert_eq!((fault.to_string().as_str(), fault.cameras.len()), ("lose=7", 2));
        assert!(
            matches!(Command::parse("fault cam3:stall"), Ok(Command::Fault(fault)) if fault.cameras == ["cam3"])
        );
        assert!(
            matches!(Command::parse(" clear  all "), Ok(Command::Clear { cameras, name: None }) if cameras.is_empty())
        );
        assert!(matches!(Command::parse("clear cam1 stall"), Ok(Command::Clear { name: Some(_), .. })));
        assert!(matches!(Command::parse("power off"), Ok(Command::Power { on: false, .. })));
        assert!(matches!(Command::parse("power on cam1"), Ok(Command::Power { on: true, .. })));
        assert!(matches!(Command::parse("stats"), Ok(Command::Stats)));
    }

    #[test]
    fn errors_say_what_to_write() {
        for (line, expected) in [
            ("reboot", "power on|off"),
            ("fault cam1 nonsense", "--fault list"),
            ("clear cam1 nonsense", "no fault"),
            ("power maybe", "power on|off"),
        ] {
            let error = Command::parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn lines_come_in_pieces() {
        use std::io::Write;
        let (source, mut sender) = std::os::unix::net::UnixStream::pair().unwrap();
        let (mut commands, mut buffer) = (Commands::new(source.into()), [0; 64]);
        sender.write_all(b"sta").unwrap();
        assert_eq!(commands.read(&mut buffer).unwrap().len(), 0);
        sender.write_all(b"ts\n\npower on\n").unwrap();
        assert_eq!(commands.read(&mut buffer).unwrap(), ["stats", "power on"]);
        drop(sender);
        assert!(commands.read(&mut buffer).is_none());
    }
}
