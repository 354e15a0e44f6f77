//! The ring ABI beside its peers, on this machine: `./tools/bench ring`.
//!
//! ```text
//!  this process, core 0                        reader processes, core 1
//!  ┌──────────────────────┐   what is measured   ┌───────────────┐
//!  │ measure ▶ Writer     │─────────────────────▶│ Tap           │
//!  │  host · floor · iox  │◀── board: modes, ───▶│ ours·floor·iox│
//!  └──────────────────────┘    counts, samples   └───────────────┘
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `measure` | one file a question; the peers take turns within each |
//! | `peer` | the traits `Writer` and `Tap`, and reader processes |
//! | `host`, `ours` | a producer with an attach socket, and a reader, by the `ring-abi` crate |
//! | `floor` | a bare SPSC ring and `memcpy` |
//! | `iox` | iceoryx2 |
//! | `board` | what a reader process is told and tells |
//! | `machine` | clocks and cores |
//! | `shared` | UNSAFE: the bench's own shared memory |
//! | `table` | rows, ratios, targets |

mod board;
mod floor;
mod host;
mod iox;
mod machine;
mod measure;
mod ours;
mod peer;
mod shared;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use board::Board;
use floor::{FloorTap, FloorWriter};
use host::Host;
use iox::{IoxTap, IoxWriter};
use measure::throughput::ReaderCommand;
use measure::{Bench, attach, bell, isolation, latency, leftovers, publish, throughput};
use ours::OursTap;
use peer::{Peer, Scratch, Shape, Tap, Writer, read};
use table::{Report, Row};

const HELP: &str = "\
Usage: vms-ring-bench run [--rounds N] [--only NAME[,NAME]] [--json FILE] [--reader-command NAME=COMMAND]
       vms-ring-bench loop ours|floor|iceoryx2 UNITS BYTES   for profilers: publish and take, in one thread
Measurements: publish whole latency futex bell attach isolation leftovers readers
COMMAND reads a stream until it is killed; {socket} and {stream} in it are replaced.";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if !matches!(arguments[..], ["run" | "loop", ..]) {
        // A child of a run that was killed would go on for ever.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    match arguments[..] {
        ["run", ref rest @ ..] => run(&Settings::parse(rest)?),
        ["loop", peer, units, bytes] => profile(named(peer)?, units.parse()?, bytes.parse()?),
        // The rest are this program's own children.
        ["read", place, stream] => read_for_ever(place, stream),
        ["attacher", board, place] => attach::attacher(&Board::open(board)?, place),
        ["party", peer, board, folder] => {
            leftovers::party(named(peer)?, &Board::open(board)?, Path::new(folder))
        }
        ["reader", peer, board, place, readers, streams] => {
            reader(named(peer)?, &Board::open(board)?, place, readers.parse()?, streams.parse()?)
        }
        _ => bail!("{HELP}"),
    }
}

/// What to measure, and how often.
#[derive(Debug, Default)]
struct Settings {
    rounds: usize,
    only: Vec<String>,
    json: Option<PathBuf>,
    readers: Vec<ReaderCommand>,
}

impl Settings {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut settings = Self { rounds: 15, ..Self::default() };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let value = rest.next().with_context(|| format!("{name} needs a value\n{HELP}"))?;
            match *name {
                "--rounds" => settings.rounds = value.parse()?,
                "--only" => settings.only = value.split(',').map(str::to_owned).collect(),
                "--json" => settings.json = Some(value.into()),
                "--reader-command" => {
                    let (name, command) = value.split_once('=').context("NAME=COMMAND is needed")?;
                    settings.readers.push(ReaderCommand { name: name.into(), command: command.into() });
                }
                _ => bail!("unknown option {name}\n{HELP}"),
            }
        }
        Ok(settings)
    }
}

fn run(settings: &Settings) -> Result<()> {
    machine::pin(machine::PRODUCER_CORE)?;
    if !machine::go_first() {
        eprintln!("not privileged to go before other programs: expect a wider spread");
    }
    let scratch = Scratch::new()?;
    let bench = Bench { scratch: scratch.path(), rounds: settings.rounds };
    let itself = std::env::current_exe()?;
    let mut commands = vec![ReaderCommand {
        name: "rust".into(),
        command: format!("'{}' read {{socket}} {{stream}}", itself.display()),
    }];
    commands.extend(settings.readers.iter().cloned());
    type Measurement<'a> = &'a dyn Fn() -> Result<Vec<Row>>;
    let all: [(&str, &str, Measurement<'_>); 9] = [
        ("publish", "Publish: the producer's time a unit, nobody to wake", &|| publish::producer(&bench)),
        ("whole", "Write, copy out and validate", &|| publish::whole(&bench)),
        ("latency", "Latency of 64 B, the reader polls", &|| latency::polling(&bench)),
        ("futex", "Latency of 64 B, the reader sleeps, a unit every 300–500 µs", &|| {
            latency::sleeping(&bench)
        }),
        ("bell", "One bell a turn against a wake a unit", &|| bell::bells(&bench)),
        ("attach", "Attaching", &|| attach::attach(&bench)),
        ("isolation", "A reader that stops or dies", &|| isolation::isolation(&bench)),
        ("leftovers", "What is left when both sides are killed", &|| leftovers::leftovers(&bench)),
        ("readers", "Reader programs at full speed", &|| throughput::readers(&bench, &commands)),
    ];
    let mut report = Report::default();
    let mut failed = Vec::new();
    for (name, title, measure) in all {
        if settings.only.is_empty() || settings.only.iter().any(|only| only == name) {
            eprintln!("{name} ...");
            match measure() {
                Ok(rows) => report.add(title, rows),
                Err(error) => failed.push(format!("{name}: {error:#}")),
            }
        }
    }
    println!("{}", report.markdown());
    if let Some(path) = &settings.json {
        std::fs::write(path, format!("{:#}\n", report.json())).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn named(peer: &str) -> Result<Peer> {
    Peer::named(peer).with_context(|| format!("there is no peer {peer}"))
}

/// A reader process: `readers` taps, led by the board.
fn reader(peer: Peer, board: &Board, place: &str, readers: usize, streams: usize) -> Result<()> {
    match peer {
        Peer::Ours => read(&mut all(readers, |_| OursTap::open(place, streams))?, board),
        Peer::Floor => read(&mut all(readers, |n| FloorTap::open(place, n))?, board),
        Peer::Iceoryx2 => read(&mut all(readers, |_| IoxTap::open(place, readers))?, board),
    }
}

fn all<T>(count: usize, open: impl FnMut(usize) -> Result<T>) -> Result<Vec<T>> {
    (0..count).map(open).collect()
}

/// The plain reader that others are compared with.
fn read_for_ever(place: &str, stream: &str) -> Result<()> {
    let stream = stream.strip_prefix('s').context("a stream of the bench")?.parse::<usize>()?;
    let mut tap = OursTap::open(place, stream + 1)?;
    loop {
        tap.wait()?;
    }
}

/// Publishes bursts of 64 units and takes them, in one thread: the same work every time, for counting instructions.
fn profile(peer: Peer, units: usize, bytes: usize) -> Result<()> {
    let scratch = Scratch::new()?;
    let shape = Shape::one_stream(1, bytes);
    match peer {
        Peer::Ours => {
            let mut host = Host::create(&scratch.path().join("ring"), shape)?;
            let place = host.place();
            let opening = std::thread::spawn(move || OursTap::open(&place, 1));
            host.admit(&mut || opening.is_finished())?;
            let tap = opening.join().map_err(|_| anyhow::anyhow!("the reader's thread failed"))??;
            bursts(host, tap, units, bytes)
        }
        Peer::Floor => {
            let writer = FloorWriter::create(shape)?;
            let tap = FloorTap::open(&writer.place(), 0)?;
            bursts(writer, tap, units, bytes)
        }
        Peer::Iceoryx2 => {
            let mut writer = IoxWriter::create(&scratch.path().join("iceoryx2"), shape)?;
            let tap = IoxTap::open(&writer.place(), 1)?;
            writer.admit(&mut || true)?;
            bursts(writer, tap, units, bytes)
        }
    }
}

fn bursts(mut writer: impl Writer, mut tap: impl Tap, units: usize, bytes: usize) -> Result<()> {
    let payload = measure::payload(bytes);
    for _ in 0..units / 64 {
        for _ in 0..64 {
            publish_one(&mut writer, &payload)?;
        }
        for _ in 0..64 {
            take_one(&mut tap)?;
        }
    }
    Ok(())
}

/// Named, for the profiler.
#[inline(never)]
fn publish_one(writer: &mut impl Writer, payload: &[u8]) -> Result<()> {
    writer.publish(payload)
}

/// Named, for the profiler.
#[inline(never)]
fn take_one(tap: &mut impl Tap) -> Result<()> {
    tap.take()?.map(|_| ()).context("a unit is missing")
}
