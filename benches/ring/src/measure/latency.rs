//! How long a unit of 64 bytes is on its way: stamped before it is published, looked at when the reader has its copy.

use anyhow::Result;

use super::{Bench, Trio, Triple, payload};
use crate::board::Mode;
use crate::machine::{now_ns, spin_until};
use crate::peer::{ReaderProcess, Shape, Writer};
use crate::table::{Bound, Row, quantile};

/// A reader that polls.
pub(crate) fn polling(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let measured = alternate(bench, Mode::PollLatency, 8000, (2_000, 3_000))?;
    Ok(rows(&measured, "busy-poll", "ns", 1.0, [1.3, 0.5]))
}

/// A reader that sleeps; units come every 300 to 500 µs.
pub(crate) fn sleeping(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let measured = alternate(bench, Mode::WaitLatency, 600, (300_000, 200_000))?;
    let mut rows = rows(&measured, "futex", "µs", 1000.0, [1.2, 0.6]);
    let t = &measured[2];
    rows.push(
        Row::new("producer's publish and wake, p50", "µs")
            .value("ours", &scaled(&t.ours, 1000.0))
            .value("floor", &scaled(&t.floor, 1000.0))
            .value("iceoryx2", &scaled(&t.iox, 1000.0))
            .check("ours/floor", t.ours.over(&t.floor), None)
            .check("ours/iceoryx2", t.ours.over(&t.iox), None),
    );
    Ok(rows)
}

/// p50 and p99 of the age, and p50 of the producer's time.
fn alternate(bench: &Bench<'_>, mode: Mode, units: u64, pace: (u64, u64)) -> Result<[Triple; 3]> {
    let Trio { mut ours, mut floor, mut iox } = Trio::start(bench.scratch, Shape::one_stream(1, 64))?;
    let mut measured = [Triple::default(), Triple::default(), Triple::default()];
    for round in 0..=bench.rounds {
        let units = if round == 0 { units / 8 } else { units };
        let o = ages(&mut ours, mode, units, pace)?;
        let f = ages(&mut floor, mode, units, pace)?;
        let i = ages(&mut iox, mode, units, pace)?;
        if round > 0 {
            for (n, t) in measured.iter_mut().enumerate() {
                t.ours.push(o[n]);
                t.floor.push(f[n]);
                t.iox.push(i[n]);
            }
        }
    }
    Ok(measured)
}

fn ages<W: Writer>(
    (writer, reader): &mut (W, ReaderProcess),
    mode: Mode,
    units: u64,
    (pause, spread): (u64, u64),
) -> Result<[f64; 3]> {
    let board = &reader.board;
    board.set_mode(mode)?;
    board.take_samples();
    let mut bytes = payload(64);
    let mut costs = Vec::new();
    let mut expected = board.taken();
    for unit in 0..units {
        writer.tick()?;
        // A fixed sequence of uneven pauses, the same for each peer.
        spin_until(now_ns() + pause + unit * 7919 % spread);
        let since = now_ns();
        bytes[..8].copy_from_slice(&since.to_le_bytes());
        writer.publish(&bytes)?;
        if mode == Mode::WaitLatency {
            writer.wake()?;
        }
        costs.push((now_ns() - since) as f64);
        expected += 1;
        board.wait_taken(expected)?;
    }
    board.set_mode(Mode::Idle)?;
    let ages = board.take_samples();
    Ok([quantile(&ages, 0.5), quantile(&ages, 0.99), quantile(&costs, 0.5)])
}

fn rows(measured: &[Triple; 3], what: &str, unit: &'static str, scale: f64, bounds: [f64; 2]) -> Vec<Row> {
    let [p50, p99, _] = measured;
    let row = |share: &str, t: &Triple, [floor, iox]: [Option<Bound>; 2]| {
        Row::new(format!("{what} one-way, {share}"), unit)
            .value("ours", &scaled(&t.ours, scale))
            .value("floor", &scaled(&t.floor, scale))
            .value("iceoryx2", &scaled(&t.iox, scale))
            .check("ours/floor", t.ours.over(&t.floor), floor)
            .check("ours/iceoryx2", t.ours.over(&t.iox), iox)
    };
    vec![row("p50", p50, bounds.map(|b| Some(Bound::AtMost(b)))), row("p99", p99, [None, None])]
}

fn scaled(series: &crate::table::Series, by: f64) -> crate::table::Series {
    crate::table::Series(series.0.iter().map(|v| v / by).collect())
}
