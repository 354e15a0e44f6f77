//! Looks at this machine: reads files, tries things out. What it means is said in `kernel`, `limits` and `sockets`.

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::SystemTime;

use rustix::process::{Resource, getrlimit};
use rustix::thread::sched_getaffinity;
use vms_media::control::{self, StreamMemory};
use vms_media::ids::StreamUid;
use vms_media::io::{self, Backend, BackendKind};
use vms_media::publish::Publisher;

use super::finding::Finding;
use super::limits::{Quota, throttled_permille};
use super::{adjtimex, kernel, limits};

/// The smallest arena there is: it is made, and dropped again.
const ARENA_LEN: usize = 64 * 1024;

/// All that can be said without a daemon and without a camera, for a daemon that is to carry `streams`.
pub(super) fn findings(streams: u64) -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let status = read("/proc/self/status").unwrap_or_default();
    let uring_setting = read("/proc/sys/kernel/io_uring_disabled");
    let tried = io::probe().map_err(|error| error.to_string());
    let StreamMemory { bytes_max, bytes_per_stream } = control::stream_memory();
    let (quota, throttled) = quota(|path| fs::read_to_string(path).ok());
    vec![
        kernel::version(release.trim()),
        kernel::io_uring(tried, uring_setting.as_deref(), limits::is_filtered(&status)),
        kernel::epoll(try_epoll()),
        kernel::shared_memory(try_shared_memory()),
        kernel::huge_pages(control::arena_page_len()),
        limits::memory(bytes_max, bytes_per_stream, streams),
        limits::cores(cores(), quota, throttled),
        limits::open_files(getrlimit(Resource::Nofile).maximum, streams),
        limits::locked_memory(getrlimit(Resource::Memlock).current),
        kernel::receive_buffers(
            read("/proc/sys/net/ipv4/tcp_rmem").as_deref(),
            read("/proc/sys/net/core/rmem_max").as_deref(),
        ),
        limits::confinement(&status),
        kernel::clock(now_s(), adjtimex::clock_state()),
    ]
}

fn try_epoll() -> Result<(), String> {
    let config = io::Config { buffers: 1, buffer_len: 4096, sockets_max: 1 };
    Backend::new(BackendKind::Epoll, config).map(drop).map_err(|error| error.to_string())
}

fn try_shared_memory() -> Result<(), String> {
    Publisher::create(StreamUid(0), 0, ARENA_LEN).map(drop).map_err(|error| error.to_string())
}

/// Cores that this process may run on, whatever its quota.
fn cores() -> usize {
    let allowed = sched_getaffinity(None).map(|set| usize::try_from(set.count()).unwrap_or(0));
    allowed.unwrap_or_else(|_| available_parallelism().map_or(1, std::num::NonZero::get)).max(1)
}

/// The tightest quota of processor time on the way up from this process's cgroup, and how often that group was held up.
fn quota(read: impl Fn(&Path) -> Option<String>) -> (Option<Quota>, Option<u64>) {
    let own = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let groups = |is_it: fn(&str) -> bool, root: &'static str| {
        let mut lines = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(":/"));
        let path = lines.find(|(controllers, _)| is_it(controllers)).map(|(_, path)| path.to_owned());
        let paths = path.into_iter().flat_map(|path| {
            Path::new(&path).ancestors().map(|part| Path::new(root).join(part)).collect::<Vec<_>>()
        });
        paths.collect::<Vec<_>>()
    };
    let version_2 = groups(str::is_empty, "/sys/fs/cgroup")
        .into_iter()
        .filter_map(|group| Some((Quota::of_version_2(&read(&group.join("cpu.max"))?)?, group)));
    let is_cpu = |controllers: &str| controllers.split(',').any(|name| name == "cpu");
    let version_1 = groups(is_cpu, "/sys/fs/cgroup/cpu").into_iter().filter_map(|group| {
        let (quota, period) =
            (read(&group.join("cpu.cfs_quota_us"))?, read(&group.join("cpu.cfs_period_us"))?);
        Some((Quota::of_version_1(&quota, &period)?, group))
    });
    let Some((quota, group)) = version_2.chain(version_1).min_by_key(|(quota, _)| quota.millicores) else {
        return (None, None);
    };
    (Some(quota), read(&group.join("cpu.stat")).and_then(|text| throttled_permille(&text)))
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the clock itself is what is looked at")]
fn now_s() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.ok().and_then(|span| i64::try_from(span.as_secs()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn quota_of(files: &[(&str, &str)]) -> (Option<Quota>, Option<u64>) {
        quota(|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let told = quota_of(&[
            ("/proc/self/cgroup", "0::/a.slice/b.service\n"),
            ("/sys/fs/cgroup/a.slice/b.service/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/a.slice/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/a.slice/cpu.stat", "nr_periods 100\nnr_throttled 50\n"),
            ("/sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ]);
        assert_eq!(told, (Some(Quota { millicores: 1500 }), Some(500)));
        let version_1 = quota_of(&[
            ("/proc/self/cgroup", "4:memory:/x\n2:cpu,cpuacct:/docker/1\n0::/\n"),
            ("/sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "50000\n"),
            ("/sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(version_1, (Some(Quota { millicores: 500 }), None));
        assert_eq!(quota_of(&[("/proc/self/cgroup", "1:name=systemd:/\n")]), (None, None));
    }

    #[test]
    fn this_machine_is_looked_at() {
        let findings = findings(1);
        let failed: Vec<_> = findings.iter().filter(|finding| finding.level == Level::Fail).collect();
        assert!(failed.is_empty(), "this machine runs the tests, so it can carry a stream: {failed:?}");
    }
}
