//! Which files go: those that are too old, and the oldest where there is too much. Pure.

/// How much is kept on a storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Files that ended before so long go, ns.
    pub age_ns: Option<i64>,
    /// So many bytes at most, files that are being written included.
    pub bytes: Option<u64>,
    /// So many bytes of the file system stay free.
    pub reserve: u64,
}

/// A finished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its row.
    pub id: i64,
    /// Capture of its last unit, UTC.
    pub end_utc_ns: i64,
    /// Of the file.
    pub bytes: u64,
    /// Kept whatever the limits say.
    pub locked: bool,
}

/// How full a storage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of files that are being written.
    pub open_bytes: u64,
    /// Bytes of the file system that are free.
    pub free: u64,
}

/// What is to be deleted, and whether that is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Rows of the files, in the order in which they are to go.
    pub delete: Vec<i64>,
    /// Everything that may go does, and it is still too much: the rest is locked, or others' files.
    pub is_short: bool,
}

/// Decides; `files` are the storage's, the oldest first.
pub fn decide(files: &[Kept], usage: Usage, now_utc_ns: i64, limits: Limits) -> Verdict {
    let oldest_ns = limits.age_ns.map(|age_ns| now_utc_ns.saturating_sub(age_ns));
    let mut kept = files.iter().fold(usage.open_bytes, |sum, file| sum.saturating_add(file.bytes));
    let mut free = usage.free;
    let is_too_much =
        |kept: u64, free: u64| limits.bytes.is_some_and(|bytes| kept > bytes) || free < limits.reserve;
    let mut delete = Vec::new();
    for file in files.iter().filter(|file| !file.locked) {
        let is_too_old = oldest_ns.is_some_and(|oldest_ns| file.end_utc_ns < oldest_ns);
        if is_too_old || is_too_much(kept, free) {
            delete.push(file.id);
            kept = kept.saturating_sub(file.bytes);
            free = free.saturating_add(file.bytes);
        }
    }
    Verdict { delete, is_short: is_too_much(kept, free) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five files of 10 bytes that end at 100, 200, ...
    fn files() -> Vec<Kept> {
        (1..=5).map(|id| Kept { id, end_utc_ns: id * 100, bytes: 10, locked: false }).collect()
    }

    const ROOMY: Usage = Usage { open_bytes: 0, free: 1000 };

    fn deleted(files: &[Kept], usage: Usage, limits: Limits) -> (Vec<i64>, bool) {
        let verdict = decide(files, usage, 600, limits);
        (verdict.delete, verdict.is_short)
    }

    #[test]
    fn without_limits_everything_stays() {
        assert_eq!(
            deleted(&files(), Usage { open_bytes: u64::MAX, free: 0 }, Limits::default()),
            (vec![], false)
        );
    }

    #[test]
    fn old_files_go() {
        let limits = Limits { age_ns: Some(350), ..Limits::default() };
        assert_eq!(deleted(&files(), ROOMY, limits), (vec![1, 2], false));
        assert_eq!(deleted(&files(), ROOMY, Limits { age_ns: Some(i64::MAX), ..limits }), (vec![], false));
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits_with_what_is_being_written() {
        let limits = Limits { bytes: Some(45), ..Limits::default() };
        assert_eq!(deleted(&files(), ROOMY, limits), (vec![1], false));
        assert_eq!(deleted(&files(), Usage { open_bytes: 10, ..ROOMY }, limits), (vec![1, 2], false));
        assert_eq!(deleted(&files(), Usage { open_bytes: 46, ..ROOMY }, limits), (vec![1, 2, 3, 4, 5], true));
    }

    #[test]
    fn the_oldest_go_until_the_reserve_is_free() {
        let limits = Limits { reserve: 30, ..Limits::default() };
        let usage = |free| Usage { open_bytes: 0, free };
        assert_eq!(deleted(&files(), usage(30), limits), (vec![], false));
        assert_eq!(deleted(&files(), usage(15), limits), (vec![1, 2], false));
    }

    #[test]
    fn what_is_locked_stays_and_the_next_one_goes_for_it() {
        let mut files = files();
        files[0].locked = true;
        let limits = Limits { age_ns: Some(450), bytes: Some(40), ..Limits::default() };
        assert_eq!(deleted(&files, ROOMY, limits), (vec![2], false));
        files.iter_mut().for_each(|file| file.locked = true);
        assert_eq!(deleted(&files, ROOMY, limits), (vec![], true));
    }
}
