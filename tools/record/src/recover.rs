//! What a crash has left, put right before anything is recorded: files that were not finished get their end, files without a row get
//! one, rows without a file go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::catalogue::Catalogue;
use crate::mkv::{ALIGN, Recovered, ScanError, scan};
use crate::recording::{Segment, codec_name};
use crate::storage::StorageError;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that were given an end, or a row: what of them is whole is listed.
    pub recovered: Vec<PathBuf>,
    /// Files without a unit that was on the disk: deleted.
    pub empty: Vec<PathBuf>,
    /// Files that are none of ours, or have no whole header: renamed, so that they are not looked at again.
    pub unreadable: Vec<PathBuf>,
    /// Rows whose file is not there: deleted.
    pub missing: Vec<PathBuf>,
}

/// Puts right the storage at `dir`.
///
/// # Errors
/// [`StorageError`]; what was not put right yet is by the next call.
pub(crate) fn recover(dir: &Path, catalogue: &Catalogue) -> Result<Report, StorageError> {
    let mut report = Report::default();
    let mut known = catalogue.paths()?;
    let mut files = Vec::new();
    walk(dir, &mut files).map_err(|error| StorageError::Io { path: dir.to_owned(), error })?;
    files.sort_unstable();
    for path in files {
        let within = path.strip_prefix(dir).unwrap_or(&path).to_owned();
        if known.remove(&within).is_some() {
            continue;
        }
        match recover_file(dir, &within, u64::MAX, catalogue)? {
            Found::Recording => report.recovered.push(within),
            Found::Nothing => report.empty.push(within),
            Found::Unreadable(renamed) => report.unreadable.push(renamed),
        }
    }
    for (path, id) in known {
        catalogue.remove(id)?;
        report.missing.push(path);
    }
    Ok(report)
}

/// What a file without a row was.
#[derive(Debug)]
pub(crate) enum Found {
    /// It has an end and a row now.
    Recording,
    /// No unit of it had reached the disk: deleted.
    Nothing,
    /// No recording: it has this name now.
    Unreadable(PathBuf),
}

/// Puts right one file of the storage at `dir`, of which so many bytes are wanted at most. One that is listed is left alone.
///
/// # Errors
/// [`StorageError`].
pub(crate) fn recover_file(
    dir: &Path,
    within: &Path,
    len: u64,
    catalogue: &Catalogue,
) -> Result<Found, StorageError> {
    let path = dir.join(within);
    let failed = |error| StorageError::Io { path: path.clone(), error };
    if catalogue.knows(within)? {
        return Ok(Found::Recording);
    }
    match repair(&path, len) {
        Ok(recovered) if recovered.last.is_some() => {
            catalogue.add_segment(&segment(within, &recovered))?;
            Ok(Found::Recording)
        }
        Ok(_) => fs::remove_file(&path).map_err(failed).map(|()| Found::Nothing),
        // It was never made.
        Err(ScanError::Read(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(ScanError::Read(error)) => Err(failed(error)),
        Err(ScanError::Header) if len == 0 || fs::metadata(&path).is_ok_and(|file| file.len() == 0) => {
            fs::remove_file(&path).map_err(failed).map(|()| Found::Nothing)
        }
        Err(ScanError::Header) => {
            let renamed = within.with_extension("mkv.unreadable");
            fs::rename(&path, dir.join(&renamed)).map_err(failed)?;
            Ok(Found::Unreadable(renamed))
        }
    }
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() && entry.path().extension().is_some_and(|extension| extension == "mkv") {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Cuts a file behind its last good checkpoint and gives it its last header. Of a finished file it changes nothing.
fn repair(path: &Path, len: u64) -> Result<Recovered, ScanError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let recovered = scan(&mut (&file).take(len))?;
    let finished = &recovered.finished;
    if file.metadata()?.len() != finished.len {
        file.set_len(finished.len)?;
        file.sync_all()?;
    }
    let (first, rest) = finished.header.split_at(ALIGN.min(finished.header.len()));
    for (at, bytes) in [(first.len() as u64, rest), (0, first)] {
        write_at(&mut file, at, bytes)?;
        file.sync_data()?;
    }
    Ok(recovered)
}

fn write_at(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

/// What can be said of a file by its header and its end.
fn segment(path: &Path, recovered: &Recovered) -> Segment {
    let Recovered { finished, facts, last } = recovered;
    let tag = |name: &str| facts.tags.get(name).map(String::as_str).unwrap_or_default();
    let (epoch, last_seq) = last.unwrap_or_default();
    let clock_source = (0..=3).find(|number| crate::recording::clock_source(*number) == tag("CLOCK_SOURCE"));
    Segment {
        stream: tag("STREAM_ID").to_owned(),
        path: path.to_owned(),
        why: "recovered".to_owned(),
        epoch,
        timeline: tag("TIMELINE").parse().unwrap_or(0),
        codec: codec_name(facts.codec).to_owned(),
        width: facts.width,
        height: facts.height,
        start_utc_ns: facts.start_utc_ns,
        end_utc_ns: facts.start_utc_ns.saturating_add(finished.duration_ns),
        start_pts_ns: tag("FIRST_PTS_NS").parse().unwrap_or(0),
        duration_ns: finished.duration_ns,
        first_seq: tag("FIRST_SEQ").parse().unwrap_or(0),
        last_seq,
        units: finished.units,
        // Not written down anywhere but in the row that was lost.
        damaged: 0,
        bytes: finished.len,
        clock_source: clock_source.unwrap_or(0),
        seek_points: finished.seek_points.clone(),
    }
}
