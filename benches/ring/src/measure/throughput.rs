//! Reader programs of any language, as fast as they go: 20 KB units, copied out and validated.
//!
//! Each program is a command that reads one stream until it is killed. It is measured from the producer's side, so it needs
//! to print nothing: the producer publishes as long as the program's ring has room, and counts the records. A program that
//! is faster than the producer sleeps now and then; its processor time a unit tells how fast it could be.

use std::process::{Child, Command};

use anyhow::{Context, Result, bail, ensure};

use super::{Bench, payload};
use crate::host::Host;
use crate::machine::now_ns;
use crate::peer::{Shape, Writer, spawn_on_reader_core};
use crate::table::{Bound, Row, Series};

const WINDOW_NS: u64 = 200_000_000;
/// Units between two bells.
const TURN: usize = 8;

/// A reader program: its name, and its command with `{socket}` and `{stream}` in it.
#[derive(Clone, Debug)]
pub(crate) struct ReaderCommand {
    pub(crate) name: String,
    pub(crate) command: String,
}

#[derive(Debug)]
struct Program {
    host: Host,
    child: Child,
    rate: Series,
    cpu_ns: Series,
}

/// A row for each program; one that does not run has a row that says why.
pub(crate) fn readers(bench: &Bench<'_>, commands: &[ReaderCommand]) -> Result<Vec<Row>> {
    let mut programs: Vec<_> =
        commands.iter().map(|command| (command, Program::start(bench, command))).collect();
    let bytes = payload(20 * 1024);
    for round in 0..=bench.rounds {
        for (_, state) in &mut programs {
            let Ok(program) = state else { continue };
            match program.run(&bytes) {
                Ok((rate, cpu)) if round > 0 => {
                    program.rate.push(rate);
                    program.cpu_ns.push(cpu);
                }
                Ok(_) => {}
                Err(error) => *state = Err(error),
            }
        }
    }
    let bound = |name: &str| (name == "python").then_some(Bound::AtLeast(20_000.0));
    let row = |(command, state): (&ReaderCommand, Result<Program>)| match state {
        Ok(program) => Row::new(format!("{} reader, 20 KB", command.name), "")
            .value("units/s", &program.rate)
            .value("its processor time, ns a unit", &program.cpu_ns)
            .check("units/s", program.rate.clone(), bound(&command.name)),
        Err(error) => Row::new(format!("{} reader: not measured, {error:#}", command.name), ""),
    };
    Ok(programs.into_iter().map(row).collect())
}

impl Program {
    fn start(bench: &Bench<'_>, command: &ReaderCommand) -> Result<Self> {
        let socket = bench.scratch.join(format!("ring-{}", command.name));
        let mut host = Host::create(&socket, Shape::one_stream(1, 20 * 1024))?;
        let text = command.command.replace("{socket}", &host.place()).replace("{stream}", "s0");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec {text}")).stdout(std::process::Stdio::null());
        let mut child = spawn_on_reader_core(&mut shell)?;
        let end = now_ns() + 10_000_000_000;
        while host.producer().readers().is_empty() {
            host.serve(5_000_000)?;
            if let Some(status) = child.try_wait()? {
                bail!("it ended with {status}: {text}");
            }
            ensure!(now_ns() < end, "it did not attach within 10 s: {text}");
        }
        Ok(Self { host, child, rate: Series::default(), cpu_ns: Series::default() })
    }

    /// Units a second, and processor time a unit, over a window.
    fn run(&mut self, bytes: &[u8]) -> Result<(f64, f64)> {
        self.host.tick()?;
        let (start, cpu, first) = (now_ns(), self.cpu_ns()?, self.pushed());
        while now_ns() < start + WINDOW_NS {
            for _ in 0..TURN {
                self.host.publish(bytes)?;
            }
            self.host.end_turn();
            self.wait_for_room()?;
        }
        let units = (self.pushed() - first) as f64;
        Ok((units * 1e9 / (now_ns() - start) as f64, (self.cpu_ns()? - cpu) / units))
    }

    /// Feeds the ring until it has everything, as fast as the reader makes room.
    fn wait_for_room(&mut self) -> Result<()> {
        let end = now_ns() + 5_000_000_000;
        while let Some(due) = self.host.producer().next_feed() {
            self.host.producer().feed(due);
            self.host.end_turn();
            ensure!(now_ns() < end, "the reader made no room for 5 s");
        }
        ensure!(!self.host.producer().readers().is_empty(), "the reader has gone");
        Ok(())
    }

    fn pushed(&mut self) -> u64 {
        self.host.producer().readers().iter().map(ring_abi::producer::ReaderRing::pushed).sum()
    }

    /// Processor time of the program so far, ns.
    fn cpu_ns(&self) -> Result<f64> {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = std::fs::read_to_string(&path).context(path)?;
        Ok(text.split(' ').next().unwrap_or_default().parse()?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It reads until it is killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
