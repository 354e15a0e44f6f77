//! The daemon: reads its configuration, prepares its process, and hands over to the control plane.

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::Context;
use clap::Parser;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, getuid, set_dumpable_behavior, setrlimit,
};
use tracing::{error, warn};
use tracing_subscriber::EnvFilter;
use vms_media::config::{self, Args, Config, Surroundings};
use vms_media::control::Daemon;
use vms_media::launch::{LAUNCH, launch};

/// Exit status for a configuration that cannot be followed, as clap has it for the command line.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == LAUNCH) {
        return launch(words);
    }
    let args = Args::parse();
    if args.print_config {
        print!("{}", config::DEFAULTS);
        return ExitCode::SUCCESS;
    }
    let checked = Config::check(args, &surroundings());
    let daemon = match checked.and_then(|config| Ok(Daemon::new(config)?)) {
        Ok(daemon) => daemon,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = log_to_stderr() {
        eprintln!("error: {error:#}");
        return ExitCode::from(USAGE);
    }
    match run(daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(daemon: Daemon) -> anyhow::Result<()> {
    forbid_core_files()?;
    raise_file_limit();
    Ok(daemon.run()?)
}

fn surroundings() -> Surroundings {
    Surroundings {
        root: getuid().is_root(),
        runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        state_directories: std::env::var_os("STATE_DIRECTORY"),
        cores: available_parallelism().unwrap_or(NonZeroUsize::MIN),
    }
}

/// `VMS_LOG` takes the usual filters, such as `debug` or `vms_media::control=debug`.
fn log_to_stderr() -> anyhow::Result<()> {
    let words =
        std::env::var_os("VMS_LOG").filter(|words| !words.is_empty()).unwrap_or_else(|| "info".into());
    let words = words.to_string_lossy();
    let advice =
        || format!("VMS_LOG={words}: write a filter such as info, debug or vms_media::control=debug");
    let filter = EnvFilter::builder().parse(&words).with_context(advice)?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    Ok(())
}

/// A core file, and the memory that a debugger of the same user may read, hold the cameras' passwords. The limit is
/// for those who look at it, and for a system that dumps what may not be dumped (`fs.suid_dumpable = 2`).
fn forbid_core_files() -> anyhow::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot forbid core files")?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).context("cannot forbid core files")
}

/// A stream takes a socket and two memfds; the usual soft limit of 1024 is for programs that use select().
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files stays as it is");
    }
}
