//! What one reader that is stopped or killed does to the producer and to the other reader: nothing, it is promised.
//!
//! The producer publishes 20 KB units as fast as reader A takes them (32 may be outstanding). Reader B is not there, reads too, is
//! stopped by SIGSTOP, or is killed with SIGKILL as the window begins. A has the readers' core for itself but for the windows in
//! which B reads, so "B is not there" is the strictest thing to compare with. A cycle is 32 units published and taken; rates are
//! of the cycle that a tenth of a window's cycles stay below: what other programs of the machine take does not count, what B costs
//! every cycle does. What it might cost now and then shows in the longest cycle, which stands beside them.

use anyhow::Result;
use rustix::process::Signal;

use super::{Bench, payload};
use crate::board::{Board, Mode};
use crate::host::Host;
use crate::iox::IoxWriter;
use crate::machine::now_ns;
use crate::peer::{Peer, ReaderProcess, Shape, Writer};
use crate::table::{Bound, Row, Series, quantile};

const WINDOW_NS: u64 = 50_000_000;
const OUTSTANDING: u64 = 32;

/// Rates, relative to B not being there.
pub(crate) fn isolation(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let shape = Shape { spare: 6, ..Shape::one_stream(1, 20 * 1024) };
    let mut host = Host::create(&bench.scratch.join("ring"), shape)?;
    let mut rows = one_peer(bench, Peer::Ours, &mut host, shape)?;
    let mut iox = IoxWriter::create(&bench.scratch.join("iceoryx2"), shape)?;
    rows.extend(one_peer(bench, Peer::Iceoryx2, &mut iox, shape)?);
    Ok(rows)
}

/// Of each window: units a second that A took, the producer's time a unit, the longest cycle.
#[derive(Debug, Default)]
struct Rates {
    per_second: Series,
    busy_ns: Series,
    longest_ms: Series,
}

impl Rates {
    fn push(&mut self, window: Window) {
        self.per_second.push(window.per_second);
        self.busy_ns.push(window.busy_ns);
        self.longest_ms.push(window.longest_ms);
    }
}

#[derive(Clone, Copy, Debug)]
struct Window {
    per_second: f64,
    busy_ns: f64,
    longest_ms: f64,
}

impl Window {
    fn between(self, other: Self) -> Self {
        Self {
            per_second: (self.per_second + other.per_second) / 2.0,
            busy_ns: (self.busy_ns + other.busy_ns) / 2.0,
            longest_ms: self.longest_ms.max(other.longest_ms),
        }
    }
}

fn one_peer<W: Writer>(bench: &Bench<'_>, peer: Peer, writer: &mut W, shape: Shape) -> Result<Vec<Row>> {
    let a = ReaderProcess::start(peer, writer, shape)?;
    a.board.set_mode(Mode::Poll)?;
    let bytes = payload(shape.payload_max);
    window(writer, &a.board, &bytes)?;
    let (mut alone, mut reading) = (Rates::default(), Rates::default());
    let (mut stopped, mut killed) = (Rates::default(), Rates::default());
    for _ in 0..bench.rounds * 2 {
        let before = window(writer, &a.board, &bytes)?;
        let b = ReaderProcess::start(peer, writer, shape)?;
        b.board.set_mode(Mode::Poll)?;
        reading.push(window(writer, &a.board, &bytes)?);
        b.signal(Signal::STOP)?;
        // Until B's ring is full and its pace is that of a reader that has stopped.
        window(writer, &a.board, &bytes)?;
        stopped.push(window(writer, &a.board, &bytes)?);
        b.signal(Signal::CONT)?;
        window(writer, &a.board, &bytes)?;
        b.signal(Signal::KILL)?;
        killed.push(window(writer, &a.board, &bytes)?);
        drop(b);
        let after = window(writer, &a.board, &bytes)?;
        alone.push(before.between(after));
    }
    let name = peer.name();
    let bound = (peer == Peer::Ours).then_some(Bound::AtLeast(0.99));
    let row = |what: &str, rates: &Rates| {
        Row::new(format!("{name}: B {what}"), "")
            .value("A, units/s", &rates.per_second)
            .value("producer, ns a unit", &rates.busy_ns)
            .value("longest cycle, ms", &rates.longest_ms)
    };
    let judged =
        |what: &str, rates: &Rates| {
            row(what, rates)
                .check("A's rate/B not there", rates.per_second.over(&alone.per_second), bound)
                .check("producer's speed/B not there", alone.busy_ns.over(&rates.busy_ns), bound)
        };
    Ok(vec![
        row("not there", &alone),
        row("reads", &reading),
        judged("stopped", &stopped),
        judged("killed", &killed),
    ])
}

fn window<W: Writer>(writer: &mut W, a: &Board, bytes: &[u8]) -> Result<Window> {
    let start = now_ns();
    let mut taken = a.taken();
    let (mut busy, mut cycles) = (Vec::new(), Vec::new());
    while now_ns() < start + WINDOW_NS {
        let begin = now_ns();
        writer.tick()?;
        let since = now_ns();
        for _ in 0..OUTSTANDING {
            writer.publish(bytes)?;
        }
        busy.push((now_ns() - since) as f64);
        taken += OUTSTANDING;
        a.wait_taken(taken)?;
        cycles.push((now_ns() - begin) as f64);
    }
    let units = OUTSTANDING as f64;
    Ok(Window {
        per_second: units * 1e9 / quantile(&cycles, 0.1),
        busy_ns: quantile(&busy, 0.1) / units,
        longest_ms: quantile(&cycles, 1.0) / 1e6,
    })
}
