//! The command line, turned once into a checked [`Config`] and never looked at as text again.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::limits::{CONNECTS_AT_ONCE_DEFAULT, SHARDS_MAX};

/// The words of the command line.
#[derive(Debug, Parser)]
#[command(name = "vms-media", version, about = "RTSP cameras in, access units out through shared memory")]
pub struct Args {
    /// Where the control plane listens: `unix:PATH`, or `tcp:ADDR` with a loopback address. May be repeated.
    /// Default: `unix:` and control.sock in $XDG_RUNTIME_DIR/vms-media, or in /run/vms-media for root.
    #[arg(long, value_name = "unix:PATH|tcp:ADDR")]
    listen: Vec<String>,
    /// Where readers attach. Default: ring.sock beside control.sock.
    #[arg(long, value_name = "PATH")]
    ring_socket: Option<PathBuf>,
    /// Mode of the socket that readers attach at: 0600, 0660 or 0666. Who connects and is neither the daemon's user nor
    /// root must be named by a stream's access list.
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = ring_socket_mode)]
    ring_socket_mode: u32,
    /// Shards: threads that carry streams, one a core. Default: the cores this process may use.
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroUsize>,
    /// How shards do input and output.
    #[arg(long, value_enum, default_value_t = IoBackend::Auto)]
    io: IoBackend,
    /// How long a busy shard may gather before it wakes, in microseconds; 0: never. More costs latency and saves
    /// processor time; a shard that is not busy does not wait.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    latency_us: u32,
    /// How many cameras are connected to at once, over all shards: after a power cut the others wait for their turn. An
    /// attempt that takes longer than 2 s no longer counts.
    #[arg(long, value_name = "N", default_value_t = CONNECTS_AT_ONCE_DEFAULT, value_parser = clap::value_parser!(u16).range(1..))]
    connects_at_once: u16,
    /// Where metrics and health are told over HTTP (GET /metrics, /healthz, /readyz): a loopback address such as 127.0.0.1:9464.
    /// Default: nowhere.
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Reader programs to start and look after, by commas. Only `none` is available yet.
    #[arg(long, value_name = "LIST", default_value = "none")]
    readers: String,
    /// Not available yet.
    #[arg(long, value_name = "FILE", hide = true)]
    config: Option<OsString>,
    /// Not available yet.
    #[arg(long, value_name = "DIR", hide = true)]
    state_dir: Option<OsString>,
}

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
}

/// An address of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

/// What the surroundings say where the command line is silent.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Whether this is root.
    pub root: bool,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// Cores this process may use.
    pub cores: NonZeroUsize,
}

/// Why the command line cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `--listen` is neither of the two forms.
    #[error("--listen {0}: write unix:PATH or tcp:ADDR:PORT")]
    Address(String),
    /// `--http` is no address.
    #[error("--http {0}: write ADDR:PORT, such as 127.0.0.1:9464")]
    HttpAddress(String),
    /// A TCP address that others can reach.
    #[error(
        "{option}{address}: only loopback addresses (127.0.0.1, [::1]) are allowed, because TCP callers cannot be \
         authenticated yet; use {instead} to the loopback address"
    )]
    NotLoopback {
        /// The option, as far as it stands before the address.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// What to use.
        instead: &'static str,
    },
    /// More threads than make sense.
    #[error("--shards {0}: at most {SHARDS_MAX}; more than there are cores makes everything slower")]
    TooManyShards(NonZeroUsize),
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

impl Config {
    /// Checks `args`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(args: Args, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        refuse_what_is_not_built(&args)?;
        let default_path = |name: &str| socket_dir(surroundings).map(|directory| directory.join(name));
        let mut listen = args.listen.iter().map(|text| Listen::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if listen.is_empty() {
            listen.push(Listen::Unix(default_path("control.sock")?));
        }
        let ring_socket = args.ring_socket.map_or_else(|| default_path("ring.sock"), Ok)?;
        refuse_shared_paths(&listen, &ring_socket)?;
        let shards = args.shards.unwrap_or(surroundings.cores);
        if shards.get() > SHARDS_MAX {
            return Err(ConfigError::TooManyShards(shards));
        }
        let latency = Duration::from_micros(args.latency_us.into());
        let http = args.http.as_deref().map(http_address).transpose()?;
        let (ring_socket_mode, connects_at_once) = (args.ring_socket_mode, args.connects_at_once);
        Ok(Self {
            listen,
            ring_socket,
            ring_socket_mode,
            shards,
            io: args.io,
            latency,
            connects_at_once,
            http,
        })
    }
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

fn ring_socket_mode(text: &str) -> Result<u32, &'static str> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ (0o600 | 0o660 | 0o666)) => Ok(mode),
        _ => Err("write 0600, 0660 or 0666"),
    }
}

impl Listen {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Address(text.to_owned());
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            Some(("tcp", address)) => {
                let address = address.parse().map_err(|_| wrong())?;
                loopback("--listen tcp:", address, "a unix socket, or a tunnel").map(Self::Tcp)
            }
            _ => Err(wrong()),
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

fn http_address(text: &str) -> Result<SocketAddr, ConfigError> {
    let address = text.parse().map_err(|_| ConfigError::HttpAddress(text.to_owned()))?;
    loopback("--http ", address, "a tunnel, or a proxy that asks who calls,")
}

/// The address, if nobody from elsewhere can reach it.
fn loopback(
    option: &'static str,
    address: SocketAddr,
    instead: &'static str,
) -> Result<SocketAddr, ConfigError> {
    let is_loopback = address.ip().is_loopback();
    if is_loopback { Ok(address) } else { Err(ConfigError::NotLoopback { option, address, instead }) }
}

/// An option that is accepted and does nothing would be a lie.
fn refuse_what_is_not_built(args: &Args) -> Result<(), ConfigError> {
    let not_built = [
        ("--config", args.config.is_some()),
        ("--state-dir", args.state_dir.is_some()),
        ("--readers other than none", args.readers != "none"),
    ];
    match not_built.into_iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(ConfigError::NotAvailable(option)),
        None => Ok(()),
    }
}

fn socket_dir(surroundings: &Surroundings) -> Result<PathBuf, ConfigError> {
    match &surroundings.runtime_dir {
        _ if surroundings.root => Ok(PathBuf::from("/run/vms-media")),
        Some(directory) => Ok(directory.join("vms-media")),
        None => Err(ConfigError::NoRuntimeDir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], root: bool, runtime_dir: Option<&str>) -> Result<Config, ConfigError> {
        let args = Args::try_parse_from([&["vms-media"], words].concat()).unwrap();
        let cores = NonZeroUsize::new(3).unwrap();
        Config::check(args, &Surroundings { root, runtime_dir: runtime_dir.map(PathBuf::from), cores })
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
            assert!(
                matches!(check(&["--listen", open], true, None), Err(ConfigError::NotLoopback { .. })),
                "{open}"
            );
        }
        for wrong in ["tcp:localhost:9", "unix:", "/path", "http://127.0.0.1:9"] {
            assert!(
                matches!(check(&["--listen", wrong], true, None), Err(ConfigError::Address(_))),
                "{wrong}"
            );
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
            assert_eq!(http(wrong), Err(ConfigError::HttpAddress(wrong.to_owned())));
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
        for words in [["--readers", "record"], ["--config", "f"], ["--state-dir", "d"]] {
            assert!(matches!(check(&words, true, None), Err(ConfigError::NotAvailable(_))), "{words:?}");
        }
        assert!(matches!(check(&["--shards", "257"], true, None), Err(ConfigError::TooManyShards(_))));
        assert!(check(&["--readers", "none"], true, None).is_ok());
    }

    #[test]
    fn the_way_of_input_and_output_can_be_chosen() {
        assert_eq!(check(&[], true, None).unwrap().io, IoBackend::Auto);
        assert_eq!(check(&["--io", "uring"], true, None).unwrap().io, IoBackend::Uring);
        assert_eq!(check(&["--io", "epoll"], true, None).unwrap().io, IoBackend::Epoll);
    }
}
