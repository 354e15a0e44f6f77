//! One bell a turn and session, against a wake for each unit: many streams, read by sessions that sleep.
//!
//! A turn publishes one unit of 1 KB on every stream; then the readers take all and go to sleep again.

use anyhow::Result;

use super::{Bench, payload};
use crate::board::Mode;
use crate::host::Host;
use crate::machine::{now_ns, spin_until};
use crate::peer::{Peer, ReaderProcess, Shape};
use crate::table::{Row, Series, quantile};

const STREAMS: usize = 64;
const TURNS: usize = 60;

/// How readers learn of units.
#[derive(Clone, Copy, Debug)]
enum Signal {
    /// One bell a session at the turn's end, and a wake if it sleeps.
    Turn,
    /// A bell a unit, and a wake if it sleeps at that moment.
    UnitIfAsleep,
    /// A bell and a wake a unit.
    Unit,
}

/// Costs of the three, for 1 and 3 sessions.
pub(crate) fn bells(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for sessions in [1, 3] {
        let shape = Shape { readers: 1, streams: STREAMS, spare: 0, payload_max: 1024, arena_len: 256 << 10 };
        let mut host = Host::create(&bench.scratch.join("ring"), shape)?;
        let readers = (0..sessions)
            .map(|_| ReaderProcess::start(Peer::Ours, &mut host, shape))
            .collect::<Result<Vec<_>>>()?;
        let all = [Signal::Turn, Signal::UnitIfAsleep, Signal::Unit];
        let mut producer = [const { Series(Vec::new()) }; 3];
        let mut total = [const { Series(Vec::new()) }; 3];
        for round in 0..=bench.rounds {
            for (n, signal) in all.into_iter().enumerate() {
                let (p, t) = turns(&mut host, &readers, signal)?;
                if round > 0 {
                    producer[n].push(p);
                    total[n].push(t);
                }
            }
        }
        for (what, s) in [("producer", &producer), ("producer and readers", &total)] {
            rows.push(
                Row::new(format!("{STREAMS} streams, {sessions} session(s): {what}"), "ns a unit")
                    .value("bell a turn", &s[0])
                    .value("wake a unit, if asleep", &s[1])
                    .value("wake a unit", &s[2])
                    .check("a unit, if asleep/a turn", s[1].over(&s[0]), None)
                    .check("a unit/a turn", s[2].over(&s[0]), None),
            );
        }
    }
    Ok(rows)
}

/// Time a unit: of the producer, and of the processors in all, ns.
fn turns(host: &mut Host, readers: &[ReaderProcess], signal: Signal) -> Result<(f64, f64)> {
    let bytes = payload(1024);
    let cpu = || readers.iter().map(|r| r.board.cpu_ns()).sum::<u64>();
    let cpu_before = cpu();
    for reader in readers {
        reader.board.set_mode(Mode::WaitLatency)?;
    }
    let mut spent = Vec::new();
    for _ in 0..TURNS {
        host.read_clock();
        // Long enough for every reader to be asleep.
        spin_until(now_ns() + 150_000);
        let expected: Vec<u64> = readers.iter().map(|r| r.board.taken() + STREAMS as u64).collect();
        let since = now_ns();
        for stream in 0..STREAMS {
            host.publish_to(stream, &bytes)?;
            match signal {
                Signal::Turn => {}
                Signal::UnitIfAsleep => host.ring_for(stream, false),
                Signal::Unit => host.ring_for(stream, true),
            }
        }
        host.end_turn();
        spent.push((now_ns() - since) as f64);
        for (reader, expected) in readers.iter().zip(expected) {
            reader.board.wait_taken(expected)?;
        }
    }
    for reader in readers {
        reader.board.set_mode(Mode::Idle)?;
        reader.board.take_samples();
    }
    let producer = quantile(&spent, 0.5) / STREAMS as f64;
    let readers = cpu().saturating_sub(cpu_before) as f64 / (TURNS * STREAMS) as f64;
    Ok((producer, producer + readers))
}
