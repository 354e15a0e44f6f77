//! What the kernel has and allows, out of what it says: pure.

use vms_media::io::Features;

use super::finding::Finding;

/// The oldest kernel whose io_uring is used.
const URING: (u32, u32) = (6, 1);
/// Bytes that TCP should be able to buffer for a camera: a key frame of a 4K camera, twice.
const TCP_BUFFER_MIN: u64 = 1024 * 1024;
/// Bit of `adjtimex(2)`'s status: the clock is not synchronised.
const STA_UNSYNC: i32 = 0x40;
/// 2024-01-01: a clock before that was never set.
const CLOCK_MIN_S: i64 = 1_704_067_200;

/// The kernel's version, from `uname -r`.
pub(crate) fn version(release: &str) -> Finding {
    let found = format!("Linux {release}");
    match parse_version(release) {
        Some(version) if version >= URING => Finding::ok("kernel", found),
        Some(_) => Finding::warn("kernel", found)
            .why("Linux before 6.1 has no io_uring that can be used: epoll carries the streams, at more processor time")
            .fix("use a distribution with Linux 6.1 or newer, such as Debian 12 or Ubuntu 24.04"),
        None => Finding::warn("kernel", found).why("it is not known what this kernel can do").fix("uname -r"),
    }
}

/// The first two numbers.
fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether io_uring works, as it was tried out: what it has, or why not. `setting` is `kernel.io_uring_disabled`, `is_filtered` whether
/// a seccomp filter watches this process.
pub(crate) fn io_uring(tried: Result<Features, String>, setting: Option<&str>, is_filtered: bool) -> Finding {
    const WHY: &str = "epoll carries the streams instead, which takes four times as many system calls";
    match tried {
        Ok(features) => Finding::ok("io_uring", format!("works; {}", features_words(features))),
        Err(why) => {
            let fix = match setting.map(str::trim) {
                Some("1" | "2") => "sudo sysctl -w kernel.io_uring_disabled=0",
                _ if is_filtered => {
                    "docker run --security-opt seccomp=PROFILE.json …   (the default profile, with io_uring_setup, io_uring_enter and \
                     io_uring_register added)"
                }
                _ => "use Linux 6.1 or newer, with io_uring; vms-media --io epoll if it is to stay so",
            };
            Finding::warn("io_uring", why).why(WHY).fix(fix)
        }
    }
}

fn features_words(features: Features) -> String {
    let Features { no_sqarray, futex_wake, min_timeout } = features;
    let all = [
        (true, "DEFER_TASKRUN (6.1)"),
        (no_sqarray, "NO_SQARRAY (6.6)"),
        (futex_wake, "futex wake (6.7)"),
        (min_timeout, "minimum wait (6.12)"),
    ];
    let words = |wanted| {
        let words = all.iter().filter(|(has, _)| *has == wanted).map(|(_, word)| *word);
        words.collect::<Vec<_>>().join(", ")
    };
    match words(false) {
        missing if missing.is_empty() => format!("has {}", words(true)),
        missing => format!("has {}; a newer kernel saves some time: {missing}", words(true)),
    }
}

/// Whether epoll works, which is what is left without io_uring.
pub(crate) fn epoll(tried: Result<(), String>) -> Finding {
    match tried {
        Ok(()) => Finding::ok("epoll", "works: what is used where io_uring is not allowed"),
        Err(why) => Finding::fail("epoll", why)
            .why("without io_uring and epoll there is no way to receive from cameras")
            .fix("see that the seccomp profile allows epoll_create1, epoll_ctl and eventfd2; ulimit -n"),
    }
}

/// Whether a stream's memory can be made as it is for readers: a sealed memfd.
pub(crate) fn shared_memory(tried: Result<(), String>) -> Finding {
    match tried {
        Ok(()) => Finding::ok("shared memory", "a sealed memfd can be made"),
        Err(why) => Finding::fail("shared memory", why)
            .why("streams are published into memfds; without them there are none")
            .fix("see that the seccomp profile allows memfd_create, ftruncate and fcntl (F_ADD_SEALS)"),
    }
}

/// Size of the pages that arenas will lie on.
pub(crate) fn huge_pages(page_len: u64) -> Finding {
    if page_len > 4096 {
        return Finding::ok("huge pages", format!("arenas lie on pages of {} KiB", page_len >> 10));
    }
    Finding::warn("huge pages", "arenas lie on pages of 4 KiB")
        .why("pages of 2 MiB save about a quarter of the time to take in and publish a picture")
        .fix("echo advise | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled")
}

/// How much the kernel buffers for a connection: `net.ipv4.tcp_rmem`; and for a datagram socket: `net.core.rmem_max`.
pub(crate) fn receive_buffers(tcp_rmem: Option<&str>, rmem_max: Option<&str>) -> Finding {
    let number = |text: &str| text.parse::<u64>().ok();
    let datagrams = rmem_max.map(str::trim).and_then(number);
    let datagrams = datagrams
        .map_or_else(String::new, |max| format!("; {} KiB a datagram socket (not used yet)", max >> 10));
    let Some(max) = tcp_rmem.and_then(|text| text.split_whitespace().nth(2)).and_then(number) else {
        return Finding::ok("receive buffers", format!("of TCP: not known{datagrams}"));
    };
    let found = format!("up to {} KiB a TCP connection{datagrams}", max >> 10);
    if max >= TCP_BUFFER_MIN {
        return Finding::ok("receive buffers", found);
    }
    Finding::warn("receive buffers", found)
        .why("a camera that sends a large key frame at once finds the window full and drops packets")
        .fix("sudo sysctl -w net.ipv4.tcp_rmem='4096 131072 6291456'")
}

/// What the kernel says of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockState {
    /// Bits of `status`.
    pub(crate) status: i32,
    /// How far it may be off, in microseconds.
    pub(crate) max_error_us: i64,
}

/// The wall clock: `now_s` seconds since 1970, and its state if that may be asked.
pub(crate) fn clock(now_s: i64, state: Option<ClockState>) -> Finding {
    const WHY: &str = "each picture carries the time at which it was taken, and recordings are found by it";
    const FIX: &str = "sudo timedatectl set-ntp true   (or install chrony)";
    match state {
        _ if now_s < CLOCK_MIN_S => {
            Finding::fail("clock", format!("says {now_s} s since 1970: it was never set")).why(WHY).fix(FIX)
        }
        None => Finding::ok("clock", "set; whether it is synchronised is not told here"),
        Some(state) if state.status & STA_UNSYNC != 0 => {
            Finding::warn("clock", "set, but not synchronised").why(WHY).fix(FIX)
        }
        Some(state) => {
            let micros = state.max_error_us;
            Finding::ok("clock", format!("synchronised, to within {}.{:03} ms", micros / 1000, micros % 1000))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn kernels() {
        for (release, level) in [
            ("6.18.44-fc", Level::Ok),
            ("6.1.0-38-amd64", Level::Ok),
            ("7.0", Level::Ok),
            ("5.15.0-generic", Level::Warn),
            ("6", Level::Warn),
            ("x", Level::Warn),
            ("", Level::Warn),
        ] {
            assert_eq!(version(release).level, level, "{release}");
        }
    }

    #[test]
    fn io_uring_that_is_not_allowed_has_advice_that_fits_the_reason() {
        let all = Features { no_sqarray: true, futex_wake: true, min_timeout: true };
        let works = io_uring(Ok(all), Some("0\n"), true);
        assert_eq!(works.level, Level::Ok);
        assert!(works.found.contains("minimum wait") && !works.found.contains("newer kernel"), "{works:?}");
        let older = io_uring(Ok(Features { min_timeout: false, ..all }), None, false);
        assert!(older.found.contains("newer kernel saves some time: minimum wait (6.12)"), "{older:?}");

        let denied = |setting, is_filtered| {
            let finding = io_uring(Err("io_uring is forbidden here".to_owned()), setting, is_filtered);
            assert_eq!((finding.level, finding.found.as_str()), (Level::Warn, "io_uring is forbidden here"));
            finding.fix.unwrap()
        };
        assert!(denied(Some("2\n"), true).contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(denied(Some("0\n"), true).contains("--security-opt seccomp"));
        assert!(denied(None, false).contains("--io epoll"));
    }

    #[test]
    fn what_cannot_be_made_fails() {
        assert_eq!(epoll(Ok(())).level, Level::Ok);
        assert_eq!(epoll(Err("no".into())).level, Level::Fail);
        assert_eq!(shared_memory(Ok(())).level, Level::Ok);
        assert_eq!(shared_memory(Err("no".into())).level, Level::Fail);
    }

    #[test]
    fn pages_and_buffers() {
        assert_eq!([huge_pages(4096).level, huge_pages(2 << 20).level], [Level::Warn, Level::Ok]);
        let usual = receive_buffers(Some("4096\t131072\t6291456\n"), Some("212992\n"));
        assert_eq!(usual.level, Level::Ok);
        assert!(usual.found.starts_with("up to 6144 KiB a TCP connection; 208 KiB a datagram"), "{usual:?}");
        assert_eq!(receive_buffers(Some("4096 87380 262144"), None).level, Level::Warn);
        assert_eq!(receive_buffers(Some("x"), Some("y")).level, Level::Ok, "what is not known is no fault");
    }

    #[test]
    fn clocks() {
        let state = |status| Some(ClockState { status, max_error_us: 12_045 });
        assert_eq!(clock(0, state(0)).level, Level::Fail);
        let now = 1_795_000_000;
        assert_eq!(clock(now, state(STA_UNSYNC | 1)).level, Level::Warn);
        assert_eq!(clock(now, state(1)).found, "synchronised, to within 12.045 ms");
        assert_eq!(clock(now, None).level, Level::Ok);
    }
}
