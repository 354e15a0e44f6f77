//! Times of day in file names, always UTC: no file name depends on a time zone, and none comes twice when summer ends.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Where a stream's file that begins then, with this unit, is put: a directory a stream and day, names that sort by time. After failures the
/// same unit may begin another file.
pub fn path(stream: &str, utc_ns: i64, seq: u64, failures: u32) -> PathBuf {
    let text = format(utc_ns);
    let day = text.get(..10).unwrap_or_default();
    let name: String = text.chars().filter(|letter| !matches!(letter, '-' | ':')).collect();
    let again = if failures > 0 { format!("-r{failures}") } else { String::new() };
    [stream, day, &format!("{name}-{seq}{again}.mkv")].iter().collect()
}

/// Now.
pub fn now_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// RFC 3339 with milliseconds. What was before 1970 is 1970.
pub fn format(utc_ns: i64) -> String {
    let since = Duration::from_nanos(u64::try_from(utc_ns).unwrap_or(0));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time() {
        let path = |utc_ns| path("yard", utc_ns, 42, 0).to_str().unwrap().to_owned();
        assert_eq!(path(1_700_000_000_123_456_789), "yard/2023-11-14/20231114T221320.123Z-42.mkv");
        assert_eq!(path(-5), "yard/1970-01-01/19700101T000000.000Z-42.mkv");
        assert_eq!(path(i64::MAX), "yard/2262-04-11/22620411T234716.854Z-42.mkv");
        assert!(super::path("yard", 0, 42, 2).ends_with("19700101T000000.000Z-42-r2.mkv"));
        let mut times = [1_700_000_000_000_000_000, 1_699_999_999_999_000_000, 1_700_086_400_000_000_000, 0];
        times.sort_unstable();
        let paths = times.map(path);
        assert!(paths.is_sorted(), "{paths:?}");
    }
}
