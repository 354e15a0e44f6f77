//! The command line and the configuration file, turned once into a checked [`Config`] and never looked at as text again.
//!
//! The command line comes before the file, the file before the defaults. Whoever gave a wrong value is named: the
//! option, or the file with line and column.

mod args;
mod document;
mod file;
mod given;
mod streams;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

pub use args::Args;
pub use document::FileError;
use file::Settings;
use given::Given;
pub use given::{By, Place, Placed};
pub use streams::{Record, StreamTable, Transport};

use crate::ingest::Policy;
use crate::limits::{CONNECTS_AT_ONCE_DEFAULT, SHARDS_MAX};

/// A configuration file with every key, its meaning and its default.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// How shards do input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IoBackend {
    /// io_uring where this machine allows it, epoll elsewhere.
    Auto,
    /// io_uring, or nothing: where it is forbidden, the daemon does not start.
    Uring,
    /// epoll: more system calls, and allowed everywhere.
    Epoll,
}

/// What the daemon was asked to do, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the control plane listens; at least one.
    pub listen: Vec<Listen>,
    /// Where readers attach.
    pub ring_socket: PathBuf,
    /// That socket's mode.
    pub ring_socket_mode: u32,
    /// Where streams are kept; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Shards.
    pub shards: NonZeroUsize,
    /// How they do input and output.
    pub io: IoBackend,
    /// How long a busy shard may gather before it wakes.
    pub latency: Duration,
    /// How many cameras are connected to at once, over all shards; at least 1.
    pub connects_at_once: u16,
    /// Where metrics and health are told: a loopback address.
    pub http: Option<SocketAddr>,
    /// Patience with cameras.
    pub policy: Policy,
    /// Programs to start and look after.
    pub readers: Vec<ReaderProgram>,
    /// Streams to carry from the start on, as the file has them.
    pub streams: Vec<StreamTable>,
}

/// A program that the daemon starts and looks after.
#[derive(Clone, PartialEq, Eq)]
pub struct ReaderProgram {
    /// Its name, in the log and in metrics: that of a stream would do.
    pub name: String,
    /// What to run; a name without a slash is looked for in `PATH`.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Additions to its environment.
    pub env: BTreeMap<String, String>,
}

/// Arguments and environment of a program may hold a secret.
impl fmt::Debug for ReaderProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, command, .. } = self;
        f.debug_struct("ReaderProgram").field("name", name).field("command", command).finish_non_exhaustive()
    }
}

/// An address of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// What the surroundings say where the command line and the file are silent.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Whether this is root.
    pub root: bool,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `$STATE_DIRECTORY`: systemd gives a unit with several all of them, with colons between.
    pub state_directories: Option<OsString>,
    /// Cores this process may use.
    pub cores: NonZeroUsize,
}

/// Why the configuration cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value is not what it should be.
    #[error("{by}: {problem}")]
    Value {
        /// Who gave it.
        by: By,
        /// What is wrong with it.
        problem: Problem,
    },
    /// An option without an implementation.
    #[error("{0} is not available yet")]
    NotAvailable(&'static str),
    /// Two sockets at one path.
    #[error("{} is given twice: each --listen unix:PATH and --ring-socket needs a path of its own", .0.display())]
    SamePath(PathBuf),
    /// No place for the sockets.
    #[error("XDG_RUNTIME_DIR is not set: give --listen unix:PATH and --ring-socket PATH")]
    NoRuntimeDir,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Neither of the two forms of an address to listen at.
    #[error("write unix:PATH or tcp:ADDR:PORT")]
    Address,
    /// No address.
    #[error("write ADDR:PORT, such as 127.0.0.1:9464")]
    HttpAddress,
    /// A TCP address that others can reach.
    #[error(
        "only loopback addresses (127.0.0.1, [::1]) are allowed, because TCP callers cannot be \
         authenticated yet; use {instead} to the loopback address"
    )]
    NotLoopback {
        /// What to use.
        instead: &'static str,
    },
    /// No mode of a socket.
    #[error("write 0600, 0660 or 0666")]
    Mode,
    /// More threads than make sense.
    #[error("at most {SHARDS_MAX}; more than there are cores makes everything slower")]
    TooManyShards,
}

impl Config {
    /// Reads the file that `args` name, if they do, and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(args: Args, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        refuse_what_is_not_built(&args)?;
        if let Some(shards) = args.shards.filter(|shards| shards.get() > SHARDS_MAX) {
            let by = By::Option { name: "--shards", value: shards.to_string() };
            return Err(ConfigError::Value { by, problem: Problem::TooManyShards });
        }
        let file = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        Self::of(args.settings().or(file), surroundings)
    }

    fn of(settings: Settings, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let default_path = |name: &str| socket_dir(surroundings).map(|directory| directory.join(name));
        let listen = settings.listen.iter().map(|given| checked(given, Listen::parse));
        let mut listen = listen.collect::<Result<Vec<_>, _>>()?;
        if listen.is_empty() {
            listen.push(Listen::Unix(default_path("control.sock")?));
        }
        let ring_socket =
            settings.ring_socket.map_or_else(|| default_path("ring.sock"), |given| Ok(given.value))?;
        refuse_shared_paths(&listen, &ring_socket)?;
        let mode = settings.ring_socket_mode.as_ref();
        Ok(Self {
            listen,
            ring_socket,
            ring_socket_mode: mode.map_or(Ok(RING_SOCKET_MODE), |mode| checked(mode, ring_socket_mode))?,
            state_dir: settings.state_dir.or_else(|| state_directory(surroundings)),
            shards: settings.shards.and_then(at_least_one).unwrap_or(surroundings.cores),
            io: settings.io.unwrap_or(IoBackend::Auto),
            latency: Duration::from_micros(settings.latency_us.unwrap_or(LATENCY_US).into()),
            connects_at_once: settings.connects_at_once.unwrap_or(CONNECTS_AT_ONCE_DEFAULT),
            http: settings.http.map(|address| checked(&address, http_address)).transpose()?,
            policy: settings.policy,
            readers: settings.readers,
            streams: settings.streams,
        })
    }
}

/// What `check` makes of a value, or who gave it and what is wrong with it.
fn checked<T>(
    given: &Given<String>,
    check: impl FnOnce(&str) -> Result<T, Problem>,
) -> Result<T, ConfigError> {
    check(&given.value).map_err(|problem| ConfigError::Value { by: given.by.clone(), problem })
}

fn at_least_one(number: u32) -> Option<NonZeroUsize> {
    usize::try_from(number).ok().and_then(NonZeroUsize::new)
}

/// Without this the second socket would meet the first one's lock, and blame another process.
fn refuse_shared_paths(listen: &[Listen], ring_socket: &Path) -> Result<(), ConfigError> {
    let mut taken = vec![ring_socket];
    for address in listen {
        if let Listen::Unix(path) = address {
            if taken.contains(&path.as_path()) {
                return Err(ConfigError::SamePath(path.clone()));
            }
            taken.push(path);
        }
    }
    Ok(())
}

fn ring_socket_mode(text: &str) -> Result<u32, Problem> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ (0o600 | 0o660 | 0o666)) => Ok(mode),
        _ => Err(Problem::Mode),
    }
}

impl Listen {
    fn parse(text: &str) -> Result<Self, Problem> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            Some(("tcp", address)) => {
                let address = address.parse().map_err(|_| Problem::Address)?;
                loopback(address, "a unix socket, or a tunnel").map(Self::Tcp)
            }
            _ => Err(Problem::Address),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

fn http_address(text: &str) -> Result<SocketAddr, Problem> {
    let address = text.parse().map_err(|_| Problem::HttpAddress)?;
    loopback(address, "a tunnel, or a proxy that asks who calls,")
}

/// The address, if nobody from elsewhere can reach it.
const fn loopback(address: SocketAddr, instead: &'static str) -> Result<SocketAddr, Problem> {
    if address.ip().is_loopback() { Ok(address) } else { Err(Problem::NotLoopback { instead }) }
}

/// An option that is accepted and does nothing would be a lie.
fn refuse_what_is_not_built(args: &Args) -> Result<(), ConfigError> {
    if args.readers == "none" { Ok(()) } else { Err(ConfigError::NotAvailable("--readers other than none")) }
}

/// The first of those that are given.
fn state_directory(surroundings: &Surroundings) -> Option<PathBuf> {
    let first = surroundings.state_directories.as_ref()?.as_bytes().split(|byte| *byte == b':').next()?;
    (!first.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(first)))
}

fn socket_dir(surroundings: &Surroundings) -> Result<PathBuf, ConfigError> {
    match &surroundings.runtime_dir {
        _ if surroundings.root => Ok(PathBuf::from("/run/vms-media")),
        Some(directory) => Ok(directory.join("vms-media")),
        None => Err(ConfigError::NoRuntimeDir),
    }
}

/// Unless somebody says otherwise.
const RING_SOCKET_MODE: u32 = 0o600;
/// The same.
const LATENCY_US: u32 = 500;
/// More is not what anybody wants of live video.
const LATENCY_US_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::document::Source;
    use super::*;
    use clap::Parser;

    fn check(words: &[&str], root: bool, runtime_dir: Option<&str>) -> Result<Config, ConfigError> {
        let args = Args::try_parse_from([&["vms-media"], words].concat()).unwrap();
        let cores = NonZeroUsize::new(3).unwrap();
        Config::check(
            args,
            &Surroundings {
                root,
                runtime_dir: runtime_dir.map(PathBuf::from),
                state_directories: None,
                cores,
            },
        )
    }

    fn problem(outcome: Result<Config, ConfigError>) -> Problem {
        match outcome {
            Err(ConfigError::Value { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    }

    /// What comes of `words` with a file that says `text`.
    fn with_file(words: &[&str], text: &str) -> Result<Config, ConfigError> {
        let args = Args::try_parse_from([&["vms-media"], words].concat()).unwrap();
        let file = Settings::of(&Source::new(Path::new("f.toml"), text.to_owned()))?;
        let cores = NonZeroUsize::new(3).unwrap();
        let state_directories = Some("/env/state:/another".into());
        Config::of(
            args.settings().or(file),
            &Surroundings { root: true, runtime_dir: None, state_directories, cores },
        )
    }

    #[test]
    fn defaults_follow_the_user() {
        let config = check(&[], false, Some("/run/user/7")).unwrap();
        assert_eq!(config.listen, [Listen::Unix("/run/user/7/vms-media/control.sock".into())]);
        assert_eq!(config.ring_socket, PathBuf::from("/run/user/7/vms-media/ring.sock"));
        assert_eq!(config.shards.get(), 3);
        let root = check(&[], true, Some("/run/user/0")).unwrap();
        assert_eq!(root.ring_socket, PathBuf::from("/run/vms-media/ring.sock"));
        assert_eq!(check(&[], false, None), Err(ConfigError::NoRuntimeDir));
        assert!(check(&["--listen", "unix:/c", "--ring-socket", "/r"], false, None).is_ok());
    }

    #[test]
    fn only_loopback_tcp_is_listened_at() {
        for good in ["tcp:127.0.0.1:0", "tcp:127.8.8.8:9", "tcp:[::1]:9"] {
            assert!(check(&["--listen", good], true, None).is_ok(), "{good}");
        }
        for open in ["tcp:0.0.0.0:9", "tcp:[::]:9", "tcp:192.168.1.2:9"] {
            let problem = problem(check(&["--listen", open], true, None));
            assert!(matches!(problem, Problem::NotLoopback { .. }), "{open}");
        }
        for wrong in ["tcp:localhost:9", "unix:", "/path", "http://127.0.0.1:9"] {
            assert_eq!(problem(check(&["--listen", wrong], true, None)), Problem::Address, "{wrong}");
        }
    }

    #[test]
    fn metrics_are_told_at_loopback_addresses_only() {
        let http = |address: &str| check(&["--http", address], true, None);
        assert_eq!(check(&[], true, None).unwrap().http, None);
        assert_eq!(http("127.0.0.1:0").unwrap().http, Some(([127, 0, 0, 1], 0).into()));
        assert!(http("[::1]:9464").is_ok());
        for open in ["0.0.0.0:9464", "[::]:9464", "192.168.1.2:9464"] {
            let text = http(open).unwrap_err().to_string();
            assert!(text.starts_with(&format!("--http {open}: only loopback addresses")), "{text}");
        }
        for wrong in ["", "9464", "127.0.0.1", "localhost:9464", "tcp:127.0.0.1:9464", "http://127.0.0.1:1/"]
        {
            assert_eq!(problem(http(wrong)), Problem::HttpAddress, "{wrong}");
        }
    }

    #[test]
    fn two_sockets_cannot_share_a_path() {
        let same = |words: &[&str]| check(words, true, None).unwrap_err();
        let shared = ConfigError::SamePath("/x/s".into());
        assert_eq!(same(&["--listen", "unix:/x/s", "--ring-socket", "/x/s"]), shared);
        assert_eq!(same(&["--listen", "unix:/x/s", "--ring-socket", "/x//./s"]), shared);
        assert_eq!(same(&["--listen", "unix:/x/s", "--listen", "unix:/x/s"]), shared);
        assert!(shared.to_string().contains("a path of its own"));
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let refused = check(&["--readers", "record"], true, None);
        assert!(matches!(refused, Err(ConfigError::NotAvailable(_))), "{refused:?}");
        assert_eq!(problem(check(&["--shards", "257"], true, None)), Problem::TooManyShards);
        assert!(check(&["--readers", "none"], true, None).is_ok());
    }

    #[test]
    fn the_way_of_input_and_output_can_be_chosen() {
        assert_eq!(check(&[], true, None).unwrap().io, IoBackend::Auto);
        assert_eq!(check(&["--io", "uring"], true, None).unwrap().io, IoBackend::Uring);
        assert_eq!(check(&["--io", "epoll"], true, None).unwrap().io, IoBackend::Epoll);
    }

    #[test]
    fn the_command_line_comes_before_the_file_and_the_file_before_the_defaults() {
        let file = "listen = [\"unix:/f/c\"]\nring_socket = \"/f/r\"\nring_socket_mode = \"0666\"\nshards = 2\n\
                    io = \"epoll\"\nlatency_us = 9\nconnects_at_once = 5\nhttp = \"127.0.0.1:1\"\n";
        let config = with_file(&[], file).unwrap();
        assert_eq!(config.listen, [Listen::Unix("/f/c".into())]);
        assert_eq!((config.ring_socket.to_str(), config.ring_socket_mode), (Some("/f/r"), 0o666));
        assert_eq!((config.shards.get(), config.io, config.latency.as_micros()), (2, IoBackend::Epoll, 9));
        assert_eq!(config.connects_at_once, 5);
        assert_eq!(config.http, Some(([127, 0, 0, 1], 1).into()));

        let words = "--listen unix:/a/c --ring-socket /a/r --ring-socket-mode 0660 --shards 1 --io uring --latency-us 0 --connects-at-once 6 \
                     --http 127.0.0.1:2";
        let both = with_file(&words.split_whitespace().collect::<Vec<_>>(), file).unwrap();
        assert_eq!(both.listen, [Listen::Unix("/a/c".into())]);
        assert_eq!((both.ring_socket.to_str(), both.ring_socket_mode), (Some("/a/r"), 0o660));
        assert_eq!((both.shards.get(), both.io, both.latency.as_micros()), (1, IoBackend::Uring, 0));
        assert_eq!(both.connects_at_once, 6);
        assert_eq!(both.http, Some(([127, 0, 0, 1], 2).into()));
        let state_dir = |words: &[&str], file: &str| with_file(words, file).unwrap().state_dir.unwrap();
        assert_eq!(state_dir(&["--state-dir", "/a/s"], "state_dir = '/f/s'"), Path::new("/a/s"));
        assert_eq!(state_dir(&[], "state_dir = '/f/s'"), Path::new("/f/s"));
        assert_eq!(state_dir(&[], ""), Path::new("/env/state"));
        assert_eq!(check(&[], true, None).unwrap().state_dir, None);
    }

    #[test]
    fn a_complaint_names_who_gave_the_value() {
        let told = |words: &[&str], file: &str| with_file(words, file).unwrap_err().to_string();
        let text = told(&[], "shards = 1\nhttp = \"0.0.0.0:1\"\n");
        assert!(text.starts_with("f.toml:2:8: http: only loopback addresses"), "{text}");
        let text = told(&["--http", "0.0.0.0:1"], "http = \"127.0.0.1:1\"\n");
        assert!(text.starts_with("--http 0.0.0.0:1: only loopback addresses"), "{text}");
        let text = told(&[], "listen = [\"unix:/a\",\n  \"unix\"]\n");
        assert_eq!(text, "f.toml:2:3: listen: write unix:PATH or tcp:ADDR:PORT");
        assert_eq!(
            told(&[], "ring_socket_mode = \"0777\""),
            "f.toml:1:20: ring_socket_mode: write 0600, 0660 or 0666"
        );
    }

    /// `defaults.toml` with its comments of the forms `# key = value` and `# [table]` taken for what they show.
    fn with_examples() -> String {
        let is_example = |line: &str| {
            let key = line.split(" = ").next().unwrap_or_default();
            let is_header = line.starts_with('[') && line.ends_with(']');
            is_header || line.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        let shown = |line: &str| match line.strip_prefix("# ") {
            Some(example) if is_example(example) => format!("{example}\n"),
            _ => format!("{line}\n"),
        };
        DEFAULTS.lines().map(shown).collect()
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        assert_eq!(with_file(&[], DEFAULTS).unwrap(), with_file(&[], "").unwrap());
    }

    #[test]
    fn each_documented_patience_reaches_the_cameras() {
        let lines: Vec<&str> = DEFAULTS.lines().collect();
        let start = lines.iter().position(|line| *line == "[camera]").unwrap();
        let mut changed = 0;
        for (index, line) in lines.iter().enumerate().skip(start) {
            let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
            let other = match key {
                // As long as the longest, which stands in the next line.
                "initial" => lines[index + 1].replace("max", "initial"),
                "max" => "max = \"2h\"".to_owned(),
                "multiplier" | "jitter_percent" | "max_mbit_s" => format!("{key} = 7"),
                _ => format!("{key} = \"3s\""),
            };
            let text = [&lines[..index], &[other.as_str()], &lines[index + 1..]].concat().join("\n");
            assert_ne!(with_file(&[], &text).unwrap().policy, Policy::default(), "{other}");
            changed += 1;
        }
        assert_eq!(changed, 9 + 4 * 4);
    }

    #[test]
    fn every_key_is_documented_and_every_documented_key_is_one() {
        let examples = with_examples();
        let config = with_file(&[], &examples).unwrap();
        assert_eq!((config.shards.get(), config.http.is_some()), (4, true), "the examples are followed");
        assert_eq!(config.readers.first().map(|reader| reader.args.len()), Some(3));
        // An unknown key is answered with those that there are.
        let headers = examples.match_indices("\n[").map(|(at, _)| at + 1);
        for start in std::iter::once(0).chain(headers) {
            let end = examples[start + 1..].find("\n[").map_or(examples.len(), |len| start + 1 + len);
            let table = &examples[start..end];
            let text = format!("{}{table}\nqqqq = 1\n{}", &examples[..start], &examples[end..]);
            let told = with_file(&[], &text).unwrap_err().to_string();
            let (_, known) = told.split_once("there are ").unwrap_or_else(|| panic!("{told}"));
            for key in known.split(", ") {
                let is_documented = table.contains(&format!("\n{key} = "))
                    || examples.lines().any(|line| line.starts_with('[') && line.contains(key));
                assert!(is_documented, "{key}: {told}");
            }
        }
    }
}
