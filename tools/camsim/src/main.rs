//! `vms-camsim`: the command line of the simulated camera farm.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use vms_camsim::{
    Access, Config, Fault, MediaSpec, Operator, Scheme, Server, WriteMode, fault_list, parse_bitrate,
};

/// A simulated camera farm: serves elementary streams over RTSP (interleaved TCP) at rtsp://ADDR/NAME.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; with port 0 the system chooses one. "listening on ADDR" is printed when ready.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Annex B elementary stream (.264 .h264 .265 .h265 .hevc) without B pictures, shown at /NAME; starts with a key
    /// frame. Default rate: 25. Without this option two built-in clips are shown at /h264 and /h265.
    #[arg(long, value_name = "NAME=FILE[:FPS]")]
    media: Vec<MediaSpec>,
    /// Further cameras at /cam0 to /camN-1; camera i shows clip i mod the number of clips.
    #[arg(long, value_name = "N", default_value_t = 0)]
    cameras: u32,
    /// Pad the clips to this mean bit rate, such as 500k or 4M.
    #[arg(long, value_name = "BITS", value_parser = parse_bitrate)]
    bitrate: Option<u64>,
    /// Demand this user name.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// Demand this password.
    #[arg(long, requires = "user")]
    password: Option<String>,
    /// How user name and password are demanded.
    #[arg(long, value_enum, default_value_t = Auth::Digest)]
    auth: Auth,
    /// Refuse a nonce as stale when it is this old.
    #[arg(long, value_name = "SECONDS")]
    nonce_lifetime: Option<u64>,
    /// Announce this session timeout; clients send a keepalive within it. Nothing happens when they don't.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    session_timeout: u64,
    /// Leave the access units as they are: no stamp.
    #[arg(long)]
    no_stamp: bool,
    /// Show the clip once to each client, then send RTCP BYE and close its connection.
    #[arg(long)]
    once: bool,
    /// Show the clip again and again, with continuous time (the default).
    #[arg(long = "loop", conflicts_with = "once")]
    looped: bool,
    /// Write each access unit at once, or in pieces of 1448 bytes.
    #[arg(long, value_enum, default_value_t = Pieces::Unit)]
    write: Pieces,
    /// Misbehave; `--fault list` prints all faults. CAMERAS: names with commas; default: all. Times such as 10s or 500ms count
    /// from the start; without @START it begins at once, without +DURATION it stays; /EVERY: again and again.
    #[arg(long, value_name = "[CAMERAS:]NAME[=VALUE][@START][+DURATION][/EVERY]")]
    fault: Vec<Fault>,
    /// A port of its own for each camera as well, printed as "NAME at ADDR": such a camera can refuse connections alone.
    #[arg(long)]
    own_ports: bool,
    /// Take commands from standard input, one a line: fault CAMERAS FAULT, clear CAMERAS [NAME], power on|off [CAMERAS],
    /// stats. Each is answered with a line of JSON; CAMERAS: all, or names with commas.
    #[arg(long)]
    control: bool,
    /// Print what really happens, as it happens: a line of JSON for each change.
    #[arg(long)]
    truth: bool,
    /// Seed of phases, session ids and first sequence numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print what was counted as a line of JSON at the end.
    #[arg(long)]
    stats: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Auth {
    Basic,
    Digest,
    DigestSha256,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Pieces {
    Unit,
    Segment,
}

fn main() -> anyhow::Result<()> {
    if asks_for_list(std::env::args()) {
        print!("{}", fault_list());
        return Ok(());
    }
    let arguments = Arguments::parse();
    let operator = operator(&arguments)?;
    let print_stats = arguments.stats;
    raise_descriptor_limit();
    let stop = stop_on_signals().context("cannot catch signals")?;
    let mut server = Server::bind(config(arguments))?;
    println!("listening on {}", server.local_addr());
    server.own_ports().for_each(|(name, address)| println!("{name} at {address}"));
    // A supervisor reads this from a pipe, so it must leave at once.
    std::io::stdout().flush()?;
    server.attend(operator)?;
    server.run(stop.as_fd())?;
    if print_stats {
        println!("{}", serde_json::to_string(&server.stats())?);
    }
    Ok(())
}

fn config(arguments: Arguments) -> Config {
    let scheme = match arguments.auth {
        Auth::Basic => Scheme::Basic,
        Auth::Digest => Scheme::DigestMd5,
        Auth::DigestSha256 => Scheme::DigestSha256,
    };
    let access = arguments.user.zip(arguments.password).map(|(user, password)| Access {
        user,
        password,
        scheme,
        nonce_lifetime_s: arguments.nonce_lifetime,
    });
    Config {
        media: arguments.media,
        cameras: arguments.cameras,
        bitrate: arguments.bitrate,
        access,
        session_timeout_s: arguments.session_timeout,
        stamp: !arguments.no_stamp,
        once: arguments.once,
        write: match arguments.write {
            Pieces::Unit => WriteMode::Unit,
            Pieces::Segment => WriteMode::Segment,
        },
        faults: arguments.fault,
        seed: arguments.seed,
        own_ports: arguments.own_ports,
        ..Config::new(arguments.listen)
    }
}

/// `--fault list` needs no other argument.
fn asks_for_list(arguments: impl Iterator<Item = String>) -> bool {
    let arguments: Vec<String> = arguments.collect();
    arguments.windows(2).any(|pair| pair[0] == "--fault" && pair[1] == "list")
        || arguments.iter().any(|one| one == "--fault=list")
}

fn operator(arguments: &Arguments) -> std::io::Result<Operator> {
    let commands = arguments.control.then(|| std::io::stdin().as_fd().try_clone_to_owned()).transpose()?;
    Ok(Operator { commands, lines: Box::new(std::io::stdout()), wants_truth: arguments.truth })
}

/// A descriptor that becomes readable on SIGINT or SIGTERM.
fn stop_on_signals() -> std::io::Result<UnixStream> {
    let (stop, sender) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGINT, sender.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGTERM, sender)?;
    Ok(stop)
}

/// Each client takes a descriptor, and the usual soft limit is 1024. Failure shows when clients are refused.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
