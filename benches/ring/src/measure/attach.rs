//! From the request to the first unit: a live stream that retains 8 MiB in groups of 50 units of 20 KB, a reader that enters at the
//! newest keyframe.

use anyhow::{Context, Result, bail, ensure};
use ring_abi::consumer::{Event, Options, Reader};
use ring_abi::join::{From, Join};
use ring_abi::layout::{Class, Flags};

use super::{Bench, payload};
use crate::board::Board;
use crate::host::Host;
use crate::machine::now_ns;
use crate::peer::{Shape, Writer, spawn_on_reader_core, this_program};
use crate::table::{Bound, Row, Series, quantile};

const TIMES: usize = 150;

/// p50 and p99 of both steps.
pub(crate) fn attach(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let mut host = Host::create(&bench.scratch.join("ring"), Shape::one_stream(1, 20 * 1024))?;
    let bytes = payload(20 * 1024);
    for _ in 0..600 {
        host.publish(&bytes)?;
    }
    let mut series = [const { Series(Vec::new()) }; 4];
    for _ in 0..bench.rounds {
        let board = Board::create()?;
        let arguments = ["attacher".to_owned(), board.path().display().to_string(), host.place()];
        let mut child = spawn_on_reader_core(this_program()?.args(arguments))?;
        let status = loop {
            host.serve(5_000_000)?;
            if let Some(status) = child.try_wait()? {
                break status;
            }
        };
        ensure!(status.success(), "the attaching process failed");
        let samples = board.take_samples();
        for (n, step) in [0, 1].into_iter().enumerate() {
            let of: Vec<f64> = samples.iter().skip(step).step_by(2).map(|ns| ns / 1000.0).collect();
            series[n * 2].push(quantile(&of, 0.5));
            series[n * 2 + 1].push(quantile(&of, 0.99));
        }
    }
    let [hello, hello99, first, first99] = series;
    Ok(vec![
        Row::new("connect and open a session", "µs").value("p50", &hello).value("p99", &hello99),
        Row::new("ATTACH to first back-filled unit", "µs").value("p50", &first).value("p99", &first99).check(
            "p50, µs",
            first.clone(),
            Some(Bound::AtMost(1000.0)),
        ),
    ])
}

/// The attaching process: notes both times of each attachment.
pub(crate) fn attacher(board: &Board, place: &str) -> Result<()> {
    let options = Options { name: "bench".into(), ..Options::default() };
    for _ in 0..TIMES {
        let start = now_ns();
        let mut reader = Reader::connect(place, &options)?;
        let connected = now_ns();
        let (key, _) = reader.attach("s0", &Join::new(Class::Archive, From::Keyframe))?;
        let Event::Unit(unit) = reader.next(Some(options.timeout)) else { bail!("no unit came") };
        let first = now_ns();
        ensure!(unit.descriptor.has(Flags::BACKFILL) && unit.payload.len() == 20 * 1024, "a wrong unit");
        board.note(connected - start);
        board.note(first - connected);
        reader.detach(key).context("detach")?;
    }
    Ok(())
}
