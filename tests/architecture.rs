//! The structure that the documents promise, checked on the source text: which module may use which, what pure
//! modules must not name, and which files may hold `unsafe`.
//!
//! When a test here stops a change, the design is speaking: move the code, or change the table with a decision in
//! `docs/decisions/`.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module of `src/` may name outside of its tests. A module may always name itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("ids", &[]),
    ("limits", &[]),
    ("clock", &["time"]),
    ("socket_path", &[]),
    ("launch", &[]),
    ("rtp", &["time", "limits"]),
    ("codec", &["time", "limits", "rtp"]),
    ("rtsp", &["time", "limits", "codec"]),
    ("ingest", &["time", "limits", "codec", "rtp", "rtsp"]),
    ("io", &["limits"]),
    ("publish", &["time", "limits", "ids", "clock", "socket_path", "codec"]),
    ("shard", &["time", "limits", "ids", "clock", "codec", "ingest", "io", "publish"]),
    (
        "control",
        &[
            "time",
            "limits",
            "ids",
            "clock",
            "socket_path",
            "launch",
            "codec",
            "rtsp",
            "ingest",
            "publish",
            "shard",
            "metrics",
            "config",
        ],
    ),
    ("metrics", &["ids", "shard"]),
    ("config", &["limits", "ids", "ingest"]),
    ("main", &["config", "control", "launch"]),
];

/// Modules that take time and bytes as arguments and touch nothing else.
const PURE: &[&str] = &["time", "ids", "limits", "codec", "rtp", "rtsp", "ingest", "metrics"];

/// The pure files of `ring-abi`: layouts, arithmetic, messages, and who holds which frame.
const PURE_IN_RING_ABI: &[&str] = &[
    "ring-abi/src/handshake/",
    "ring-abi/src/join.rs",
    "ring-abi/src/layout/",
    "ring-abi/src/lease/pool.rs",
    "ring-abi/src/position.rs",
];

/// What a pure module must not name outside of its tests.
const IMPURE_WORDS: &[&str] = &[
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    ".elapsed(",
    "RandomState",
    "std::fs",
    "std::env",
    "std::io",
    "std::thread",
    "std::process",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os",
    "TcpStream",
    "UdpSocket",
    "tokio",
    "rustix",
    "io_uring",
    "ring_abi",
    "thread_local!",
    "static mut",
    "OnceLock",
    "LazyLock",
    "Mutex",
    "AtomicU",
    "println!",
    "eprintln!",
    "tracing::",
];

/// Other names for the crate's root or for `std`, and text from elsewhere: what is named through them is not seen here.
const DISGUISES: &[&str] = &[
    "crate as ",
    "crate::*",
    "vms_media as ",
    "vms_media::*",
    "super as ",
    "self as ",
    "std as ",
    "core as ",
    "std::*",
    "std::time::*",
    "std::time as ",
    "include!(",
    "#[path",
];

/// The files that may hold `unsafe`, each a decision of its own.
const UNSAFE_FILES: &[&str] = &[
    // The bench's floor: a ring without any layer above shared memory, to compare with.
    "benches/ring/src/shared.rs",
    "ring-abi/src/map.rs",
    "ring-abi/src/tests/seals.rs",
    "src/io/uring/buffers.rs",
    "src/io/uring/operations.rs",
    "src/io/uring/ring.rs",
    "tools/record/src/disk/uring.rs",
    // Asks the kernel how its clock is, for which there is no safe door.
    "tools/ctl/src/doctor/adjtimex.rs",
    // Plays a hostile producer: stores anything into memory that it shares with the reader under test.
    "tests/fuzz/src/segment.rs",
];

/// The crates of reader programs: that they build without the daemon's crate proves the ABI is enough.
const READER_CRATES: &[&str] = &["ring-abi", "tools/record", "tools/tap"];

#[test]
fn modules_use_only_what_the_table_allows() {
    assert_none(sources("src").flat_map(|file| wrong_way_imports(&file)).collect());
}

#[test]
fn the_table_allows_nothing_that_is_not_used() {
    let mut unused: Vec<(&str, &str)> =
        MAY_USE.iter().flat_map(|(module, allowed)| allowed.iter().map(|name| (*module, *name))).collect();
    for file in sources("src") {
        let (module, named) = (file.module(), named_modules(&file));
        unused.retain(|(user, used)| *user != module || !named.iter().any(|(_, name)| name == used));
    }
    assert!(unused.is_empty(), "allowed and not used: {unused:?}");
}

#[test]
fn every_module_stands_in_the_table() {
    let unknown: Vec<_> = sources("src")
        .filter(|file| file.module() != "lib" && !MAY_USE.iter().any(|(module, _)| *module == file.module()))
        .map(|file| file.path)
        .collect();
    assert!(unknown.is_empty(), "not in MAY_USE: {unknown:?}");
}

#[test]
fn pure_modules_name_no_clock_socket_file_or_thread() {
    assert_none(["src", "ring-abi/src"].into_iter().flat_map(sources).flat_map(|f| impurities(&f)).collect());
    for path in PURE_IN_RING_ABI {
        assert!(sources("ring-abi/src").any(|file| file.path.starts_with(path)), "{path} is not there");
    }
}

#[test]
fn modules_are_named_by_their_own_names() {
    assert_none(["src", "ring-abi/src"].into_iter().flat_map(sources).flat_map(|f| disguises(&f)).collect());
}

#[test]
fn unsafe_stands_in_listed_files_only() {
    let all = ["src", "ring-abi", "proto", "tools", "tests", "benches"];
    assert_none(all.into_iter().flat_map(sources).flat_map(|file| unlisted_unsafe(&file)).collect());
}

#[test]
fn listed_unsafe_files_exist_and_hold_unsafe() {
    for path in UNSAFE_FILES {
        let text = fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(text.contains("unsafe"), "{path} is listed but holds no unsafe: take it off the list");
    }
}

#[test]
fn reader_programs_do_not_depend_on_the_daemon() {
    for krate in READER_CRATES {
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        assert!(!manifest.contains("vms-media "), "{krate} depends on the daemon");
        assert!(!manifest.contains("vms-media."), "{krate} depends on the daemon");
    }
}

#[test]
fn what_starts_a_daemon_is_run_on_both_back_ends_or_said_not_to_be() {
    let script = fs::read_to_string(root().join("tools/test")).unwrap();
    let listed: Vec<&str> = ["sockets", "slow_sockets", "not_again"]
        .into_iter()
        .flat_map(|list| bash_array(&script, list))
        .collect();
    for file in sources("tests").filter(|file| file.path.iter().count() == 2) {
        let name = file.path.file_stem().unwrap_or_default().to_string_lossy();
        let times = listed.iter().filter(|listed| **listed == name).count();
        let expected = times.min(1).max(usize::from(file.text.contains("\nmod support;")));
        assert_eq!(times, expected, "{name} in the lists of tools/test");
    }
}

#[test]
fn lint_exceptions_give_their_reason() {
    let silent = |file: &Source| {
        let bare = |line: &&(usize, &str)| line.1.contains("#[allow(") || line.1.contains("#![allow(");
        file.code_lines()
            .filter(|line| bare(&line))
            .map(|line| file.violation(line.0, line.1))
            .collect::<Vec<_>>()
    };
    assert_none(
        ["src", "ring-abi", "proto", "tools"]
            .into_iter()
            .flat_map(sources)
            .flat_map(|f| silent(&f))
            .collect(),
    );
}

#[test]
fn planted_violations_are_found() {
    let planted = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let wrong_way = planted("src/rtp/header.rs", "use crate::ingest::Camera;\n");
    assert_eq!(wrong_way_imports(&wrong_way).len(), 1);
    let grouped = planted("src/io/mod.rs", "use crate::{limits, publish::Publisher};\n");
    assert_eq!(wrong_way_imports(&grouped).len(), 1);
    let spread = planted(
        "src/io/mod.rs",
        "use crate::{\n    limits,\n    publish::{\n        Publisher,\n    },\n};\n",
    );
    assert_eq!(wrong_way_imports(&spread).len(), 1);
    for (path, text) in [
        ("src/rtp/mod.rs", "use super::publish::Publisher;\n"),
        ("src/rtp/packet.rs", "use super::super::publish::Publisher;\n"),
        ("src/rtp/packet.rs", "use super::super::{limits, publish};\n"),
    ] {
        assert_eq!(wrong_way_imports(&planted(path, text)).len(), 1, "{text}");
    }
    let sibling = planted("src/rtp/packet.rs", "use super::publish::Publisher;\n");
    assert!(wrong_way_imports(&sibling).is_empty(), "that is `rtp::publish`");
    let fine = planted(
        "src/publish/mod.rs",
        "use crate::{time::Mono, limits};\n// crate::control is not named here\n",
    );
    assert!(wrong_way_imports(&fine).is_empty());

    let clock = planted("src/codec/h264.rs", "fn f() { let now = Instant::now(); }\n");
    assert_eq!(impurities(&clock).len(), 1);
    let grouped =
        planted("src/codec/h264.rs", "use std::{\n    collections::VecDeque,\n    fs, thread,\n};\n");
    assert_eq!(impurities(&grouped).len(), 2);
    let clock_in_test = planted("src/codec/h264.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }\n");
    assert!(impurities(&clock_in_test).is_empty());

    for text in [
        "use std::time::Instant as Clock;\n",
        "use std::time::{Duration, Instant as Clock};\n",
        "fn f() -> u64 { std::time::UNIX_EPOCH.elapsed().as_secs() }\n",
        "fn f(start: Start) -> Duration { start.0.elapsed() }\n",
        "fn f() -> u64 { std::hash::RandomState::new().build_hasher().finish() }\n",
        "use std::collections::hash_map::RandomState;\n",
    ] {
        assert!(!impurities(&planted("src/codec/h264.rs", text)).is_empty(), "{text}");
    }
    let span = planted("src/rtp/media_clock.rs", "let elapsed = ticks_of(elapsed_ns);\n");
    assert!(impurities(&span).is_empty());
    for text in [
        "use crate as c;\nuse c::shard::Shard;\n",
        "use crate::{self as c, time::Mono};\n",
        "use super as up;\n",
        "use super::{self as up};\n",
        "use crate::*;\n",
        "use vms_media as v;\n",
        "use std as s;\n",
        "use ::std as s;\n",
        "extern crate std as s;\n",
        "use std::{self as s};\n",
        "use std::time as t;\n",
        "use std::time::*;\n",
        "include!(\"../shard/mod.rs\");\n",
        "#[path = \"../shard/mod.rs\"]\nmod shard;\n",
    ] {
        assert_eq!(disguises(&planted("src/rtp/mod.rs", text)).len(), 1, "{text}");
    }
    for text in ["fn number(self) -> u32 { self as u32 }\n", "use crate::time::Mono as Time;\n"] {
        assert!(disguises(&planted("src/rtp/mod.rs", text)).is_empty(), "{text}");
    }

    let socket = planted("ring-abi/src/handshake/wire.rs", "use std::io::Write;\n");
    assert_eq!(impurities(&socket).len(), 1);
    let after_test_items = planted("src/io/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::publish::X;\n");
    assert_eq!(wrong_way_imports(&after_test_items).len(), 1);

    let block = planted("src/shard/mod.rs", "fn f() { unsafe { g() } }\n");
    assert_eq!(unlisted_unsafe(&block).len(), 1);
    let words = planted("src/shard/mod.rs", "// unsafe is not used\n#![forbid(unsafe_code)]\n");
    assert!(unlisted_unsafe(&words).is_empty());
}

fn wrong_way_imports(file: &Source) -> Vec<Violation> {
    let Some((_, allowed)) = MAY_USE.iter().find(|(module, _)| *module == file.module()) else {
        return Vec::new();
    };
    let permitted = |name: &str| name == file.module() || allowed.contains(&name);
    let named = named_modules(file).into_iter();
    named
        .filter(|(_, name)| !permitted(name))
        .map(|(line, name)| file.violation(line, &format!("names `{name}`")))
        .collect()
}

/// The modules of `src/` that the file names outside of its tests, and where.
fn named_modules(file: &Source) -> Vec<(usize, String)> {
    let code: String = file.product_lines().flat_map(|(_, line)| [line, "\n"]).collect();
    let mut named = Vec::new();
    for (start, _) in code.match_indices("crate::").chain(code.match_indices("vms_media::")) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[start..];
        let rest = &rest[rest.find("::").unwrap() + 2..];
        let line = code[..start].lines().count().max(1);
        let modules = first_segments(rest).into_iter();
        named.extend(modules.filter(|name| is_module(name)).map(|name| (line, name)));
    }
    for (start, _) in code.match_indices("super::") {
        let path = &code[start..];
        let rest = path.trim_start_matches("super::");
        let supers = (path.len() - rest.len()) / "super::".len();
        if supers == file.depth() && !code[..start].ends_with("super::") {
            let line = code[..start].lines().count().max(1);
            let modules = first_segments(rest).into_iter();
            named.extend(modules.filter(|name| is_module(name)).map(|name| (line, name)));
        }
    }
    named
}

fn is_module(name: &str) -> bool {
    MAY_USE.iter().any(|(module, _)| *module == name)
}

/// The first path segment, or, for a group `{a::b, c}`, the first segment of each of its members.
fn first_segments(path: &str) -> Vec<String> {
    let ident =
        |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else {
        return vec![ident(path)];
    };
    let mut segments = Vec::new();
    let mut depth = 1;
    let mut at_start = true;
    for (index, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => at_start = true,
            _ if at_start && !c.is_whitespace() => {
                segments.push(ident(&group[index..]));
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    segments
}

fn impurities(file: &Source) -> Vec<Violation> {
    let is_pure = if file.path.starts_with("src") {
        PURE.contains(&file.module().as_str())
    } else {
        PURE_IN_RING_ABI.iter().any(|pure| file.path.starts_with(pure))
    };
    if !is_pure {
        return Vec::new();
    }
    let named = file.product_lines().flat_map(|(number, line)| {
        let words = IMPURE_WORDS.iter().filter(move |word| line.contains(**word));
        words.map(move |word| file.violation(number, &format!("names `{word}`")))
    });
    named.chain(impure_groups(file)).collect()
}

/// `std::{fs, thread}` names `std::fs` without writing it.
fn impure_groups(file: &Source) -> Vec<Violation> {
    let code: String = file.product_lines().flat_map(|(_, line)| [line, "\n"]).collect();
    let groups = code.match_indices("std::{").map(|(start, group)| (start, start + group.len() - 1));
    groups
        .flat_map(|(start, members)| {
            let line = code[..start].lines().count().max(1);
            let names = first_segments(&code[members..]).into_iter().map(|name| format!("std::{name}"));
            names
                .filter(|name| IMPURE_WORDS.contains(&name.as_str()))
                .map(move |name| file.violation(line, &format!("names `{name}`")))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Other names for the roots of paths. `self as` stands in expressions too, so only in lines that import.
fn disguises(file: &Source) -> Vec<Violation> {
    let is_import = |line: &str| ["use ", "extern crate ", "{self as"].iter().any(|word| line.contains(word));
    let named = file.product_lines().flat_map(|(number, line)| {
        let words = DISGUISES.iter().filter(move |word| line.contains(**word));
        words
            .filter(move |word| **word != "self as " || is_import(line))
            .map(move |word| file.violation(number, &format!("has `{}`", word.trim())))
    });
    named.collect()
}

fn unlisted_unsafe(file: &Source) -> Vec<Violation> {
    let path = file.path.to_string_lossy();
    // This file has the word in its planted examples.
    if UNSAFE_FILES.contains(&path.as_ref()) || path == "tests/architecture.rs" {
        return Vec::new();
    }
    let is_word =
        |line: &str| line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe");
    file.code_lines()
        .filter(|(_, line)| is_word(line))
        .map(|(number, line)| file.violation(number, line))
        .collect()
}

/// The words of `NAME=(…)`.
fn bash_array<'a>(script: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (_, rest) = script.split_once(&format!("\n{name}=(")).unwrap();
    rest.split(')').next().unwrap_or_default().split_whitespace()
}

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The top-level module of `src/` that the file belongs to.
    fn module(&self) -> String {
        let name = self.path.iter().nth(1).unwrap_or_default().to_string_lossy();
        name.trim_end_matches(".rs").to_owned()
    }

    /// How often `super` leads from the file's own module to the crate's root.
    fn depth(&self) -> usize {
        let file = self.path.file_stem().unwrap_or_default();
        let folders = self.path.iter().count().saturating_sub(2);
        if file == "mod" { folders } else { folders + 1 }
    }

    /// Lines (numbered from 1) with `//` comments cut off.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| {
            let end = line
                .match_indices("//")
                .find(|(at, _)| !line[..*at].ends_with(':'))
                .map_or(line.len(), |m| m.0);
            (index + 1, &line[..end])
        })
    }

    /// The lines of [`code_lines`](Self::code_lines) before the file's tests, which stand at its end.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = self.path.file_name().is_some_and(|name| name == "tests.rs");
        let lines: Vec<&str> = self.text.lines().collect();
        let opens_tests = |pair: &[&str]| {
            pair[0].trim_start().starts_with("#[cfg(test)]")
                && pair[1].contains("mod ")
                && pair[1].contains('{')
        };
        let end = lines.windows(2).position(opens_tests).unwrap_or(lines.len());
        self.code_lines().take(if is_test_file { 0 } else { end })
    }

    fn violation(&self, line: usize, what: &str) -> Violation {
        Violation { path: self.path.clone(), line, what: what.trim().to_owned() }
    }
}

struct Violation {
    path: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

fn assert_none(violations: Vec<Violation>) {
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} violation(s):\n{}", list.len(), list.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder of the repository, with paths from its root.
fn sources(folder: &str) -> impl Iterator<Item = Source> + use<> {
    let mut files = Vec::new();
    collect(&root().join(folder), &mut files);
    files.into_iter().map(|path| Source {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().to_owned(),
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
