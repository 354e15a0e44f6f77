//! Instructions a unit of the hot path, from a camera's bytes to a reader, counted by callgrind: `./tools/bench instructions`.
//!
//! Times on a shared machine differ from minute to minute; the instructions of the same program are the same every time, so that one
//! percent more shows. They say nothing of caches and other cores: `benches/ring` measures those.
//!
//! ```text
//!  count ── for each case ──▶ valgrind ── vms-instructions work CASE      (this program again)
//!    ▲                            │            pair   ▶ phases::append, commit, bell, take, look
//!    │                            │            camera ▶ phases::frame, depacketize, receive, feed
//!    └── inclusive cost a phase ──┘
//!    └── beside baseline.json: exit code 1 when a phase takes more than there
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `phases` | the cases, and one function a phase, named in the profile |
//! | `camera` | a camera's bytes, and the parts of ingest that work on them |
//! | `time` | how long the camera's phases take |
//! | `pair` | producers and readers in one process |
//! | `callgrind` | running this program under callgrind and reading what it counted |
//! | `baseline` | counts beside those that were committed |

mod baseline;
mod callgrind;
mod camera;
mod pair;
mod phases;
mod time;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use baseline::Counts;
use phases::{Case, TABLES};

const HELP: &str = "\
Usage: vms-instructions count BASELINE [--update]   print instructions a unit; compare with the file, or write it
       vms-instructions work CASE                   one case, for profilers
       vms-instructions time                        how long a camera's unit takes";

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["count", path] => compare(Path::new(path)),
        ["count", path, "--update"] => {
            let counts = count()?;
            println!("{}", counts.tables(None));
            counts.write(Path::new(path))?;
            Ok(ExitCode::SUCCESS)
        }
        ["work", case] => {
            Case::named(case).with_context(|| format!("there is no case {case:?}"))?.work()?;
            Ok(ExitCode::SUCCESS)
        }
        ["time"] => {
            println!("{}", time::table()?);
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("{HELP}"),
    }
}

/// Counts, and says whether a phase takes more instructions than the committed baseline says.
fn compare(path: &Path) -> Result<ExitCode> {
    let before = Counts::read(path)?;
    let counts = count()?;
    println!("{}", counts.tables(Some(&before)));
    let worse = counts.worse_than(&before);
    for line in &worse {
        eprintln!("more than the baseline: {line}");
    }
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn count() -> Result<Counts> {
    let mut counts = Counts::default();
    for (phases, cases) in TABLES {
        for case in cases {
            eprintln!("{} ...", case.name);
            counts.add(case.name, callgrind::count(case.name, phases)?);
        }
    }
    Ok(counts)
}
