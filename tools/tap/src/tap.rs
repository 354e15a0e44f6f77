//! The loop: attach, read until something says stop, sum up.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use ring_abi::consumer::{self, Configuration, Ended, Event, Reader, Retry};
use ring_abi::join::Join;
use ring_abi::layout::Class;
use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use crate::elementary::Elementary;
use crate::latency::Latency;
use crate::options::Options;
use crate::record::Record;
use crate::stream::Stream;
use crate::summary::Summary;
use crate::table::Table;
use crate::unit::CopiedUnit;

/// Reads until the options, a signal or the producer say stop; whether all was as it should be.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let told = Told::default();
    for (signal, flag) in [(SIGINT, &told.stop), (SIGTERM, &told.stop), (SIGUSR1, &told.forget)] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot catch signals")?;
    }
    let mut tap = Tap::attach(options)?;
    let outcome = tap.read(options, &told);
    tap.finish(options, outcome)
}

/// What signals say.
#[derive(Debug, Default)]
struct Told {
    /// Sum up and end.
    stop: Arc<AtomicBool>,
    /// Latencies so far do not count. Taken back once it is done.
    forget: Arc<AtomicBool>,
}

#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) reader: Reader,
    pub(crate) streams: Vec<Stream>,
    unit: CopiedUnit,
    records: u64,
    /// The rings were empty at the last look.
    idle: bool,
    pub(crate) out: BufWriter<io::Stdout>,
    /// How streams are attached at first.
    pub(crate) join: Join,
    /// The producer has gone: when it is looked for again, and how often that was in vain.
    pub(crate) lost: Option<(u64, Retry)>,
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
enum End {
    /// Everything that was asked for was read.
    #[error("done")]
    Done,
    /// The daemon's process has gone.
    #[error("the producer has gone")]
    ProducerGone,
    /// Output failed.
    #[error("cannot write")]
    Output(#[from] io::Error),
}

impl Tap {
    fn attach(options: &Options) -> anyhow::Result<Self> {
        let socket = options.ring_socket();
        let slots = u32::try_from(options.ids.len()).unwrap_or(u32::MAX);
        let bell_interval = Duration::from_millis(options.bell_interval);
        let session =
            consumer::Options { name: "vms-tap".to_owned(), slots, bell_interval, ..Default::default() };
        let reader = Reader::connect(&socket, &session)
            .with_context(|| format!("cannot open a session at {}", socket.display()))?;
        let mut join = Join::new(Class::Archive, options.from.0);
        join.filters.everything = options.everything;
        let mut streams = Vec::with_capacity(options.ids.len());
        for id in &options.ids {
            let file = options.annexb_file(id)?;
            let create = |path: &Path| {
                Elementary::create(path).with_context(|| format!("cannot create {}", path.display()))
            };
            let elementary = file.as_deref().map(create).transpose()?;
            streams.push(Stream::new(id.clone(), elementary, options.stamp));
        }
        let mut tap = Self {
            reader,
            streams,
            unit: CopiedUnit::default(),
            records: 0,
            idle: false,
            out: BufWriter::new(io::stdout()),
            join,
            lost: None,
        };
        for stream in &mut tap.streams {
            let id = &stream.id;
            let (key, answer) =
                tap.reader.attach(id, &join).with_context(|| format!("cannot attach {id}"))?;
            stream.attached(key, answer.epoch);
        }
        Ok(tap)
    }

    fn read(&mut self, options: &Options, told: &Told) -> End {
        let start_ns = mono_ns();
        let mut last_record_ns = start_ns;
        let mut table = options.every.map(|every| Table::new(every, start_ns));
        let is_over = |tap: &Self| !options.reattach && tap.streams.iter().all(|stream| stream.key.is_none());
        while !told.stop.load(Ordering::Relaxed) && !is_over(self) {
            if told.forget.swap(false, Ordering::Relaxed) {
                self.streams.iter_mut().for_each(Stream::forget_latency);
            }
            let now_ns = mono_ns();
            if options.reattach
                && let Err(error) = self.reattach(now_ns, options.json)
            {
                return error.into();
            }
            let over = |limit: Option<Duration>, since_ns: u64| {
                limit.is_some_and(|limit| u128::from(now_ns - since_ns) >= limit.as_nanos())
            };
            let counted = options.count.is_some_and(|count| self.records >= count);
            if counted || over(options.duration, start_ns) || over(options.idle_exit, last_record_ns) {
                break;
            }
            let before = self.records;
            if let Err(end) = self.step(options) {
                return end;
            }
            if self.records > before {
                last_record_ns = mono_ns();
            }
            if let Some(table) = table.as_mut().filter(|table| table.is_due(now_ns))
                && let Err(error) = self.print_table(table, now_ns)
            {
                return error.into();
            }
        }
        End::Done
    }

    /// Takes the next event; waits at most [`NAP`] for it, once all that was read is written out.
    fn step(&mut self, options: &Options) -> Result<(), End> {
        if self.lost.is_some() {
            return Ok(nap()?);
        }
        let wait = if self.idle { NAP } else { Duration::ZERO };
        match self.reader.next(Some(wait)) {
            Event::Unit(unit) => self.unit.copy(&unit, mono_ns()),
            Event::Ended(ended) => {
                self.end(&ended);
                return Ok(());
            }
            Event::Timeout => {
                self.idle = true;
                return Ok(self.out.flush()?);
            }
            Event::ProducerGone if options.reattach => {
                self.lose_producer(mono_ns());
                return Ok(self.out.flush()?);
            }
            Event::ProducerGone => return Err(End::ProducerGone),
        }
        self.idle = false;
        self.records += 1;
        self.take_unit(options)
    }

    fn take_unit(&mut self, options: &Options) -> Result<(), End> {
        let Self { reader, streams, unit, out, .. } = self;
        let Some(key) = unit.stream else { return Ok(()) };
        let Some(stream) = streams.iter_mut().find(|stream| stream.key == Some(key)) else { return Ok(()) };
        let configuration = reader.configuration(key, unit.descriptor.track);
        let gap = stream.gap(&unit.descriptor);
        stream.count(unit, configuration.map(Configuration::codec));
        stream.write(unit, configuration)?;
        if options.json {
            serde_json::to_writer(&mut *out, &Record::new(&stream.id, unit, gap)).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn print_table(&mut self, table: &mut Table, now_ns: u64) -> io::Result<()> {
        self.update_counts();
        let streams: Vec<_> = self.streams.iter().map(Stream::summary).collect();
        self.out.write_all(table.render(now_ns, &streams).as_bytes())?;
        self.out.flush()
    }

    /// Takes over what the reader counted of the streams that are still attached.
    fn update_counts(&mut self) {
        for stream in &mut self.streams {
            if let Some(counts) = stream.key.and_then(|key| self.reader.counts(key)) {
                stream.counts = counts;
            }
        }
    }

    fn end(&mut self, ended: &Ended) {
        let ring = Some(ended.stream);
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.key == ring) else { return };
        eprintln!("{}: the ring ended: {:?}, {:?}", stream.id, ended.state, ended.reason);
        stream.detached(ended.counts);
        // What the producer answers changes nothing for us.
        let _ = self.reader.detach(ended.stream);
    }

    /// Says the summary; whether all was as it should be.
    fn finish(mut self, options: &Options, outcome: End) -> anyhow::Result<bool> {
        self.update_counts();
        for stream in &mut self.streams {
            stream.flush().with_context(|| format!("cannot write the elementary stream of {}", stream.id))?;
        }
        let mut latency = Latency::new();
        self.streams.iter().filter_map(Stream::latency).for_each(|of_stream| latency.add(of_stream));
        let streams = self.streams.iter().map(Stream::summary).collect();
        let summary = Summary::new(streams, latency.percentiles());
        if let End::Output(error) = &outcome
            && error.kind() == ErrorKind::BrokenPipe
        {
            // Whoever read our output has seen enough.
            return Ok(summary.passes());
        }
        if options.json || options.summary {
            writeln!(self.out, "{}", serde_json::to_string(&summary)?)?;
            self.out.flush()?;
        } else {
            summary.streams.iter().for_each(|stream| eprintln!("{stream}"));
        }
        match outcome {
            End::Done => Ok(summary.passes()),
            End::ProducerGone | End::Output(_) => Err(outcome.into()),
        }
    }
}

/// Waits for a moment; a signal ends it.
fn nap() -> io::Result<()> {
    let nap = Timespec { tv_sec: 0, tv_nsec: i64::from(NAP.subsec_nanos()) };
    match poll(&mut [], Some(&nap)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn mono_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The clock counts from boot, so neither part is negative.
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000_000
        + u64::try_from(now.tv_nsec).unwrap_or_default()
}

/// How late a signal or a limit may be noticed.
const NAP: Duration = Duration::from_millis(100);
