//! The headers and programs under four compilers that warn of everything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::{STRICT, compile, crate_dir};

/// Compilers and the standards that the headers promise.
const C: [&str; 2] = ["gcc", "clang"];
const CPP: [&str; 2] = ["g++", "clang++"];

#[test]
fn headers_stand_alone_in_c_and_in_cpp() {
    for header in ["vms_ring_layout.h", "vms_ring_core.h", "vms_ring_message.h", "vms_ring.h"] {
        let text = format!("#include \"{header}\"\n#include \"{header}\"\nint main(void) {{ return 0; }}\n");
        let directory = directory(header);
        let (c, cpp) = (directory.join("header.c"), directory.join("header.cc"));
        fs::write(&c, &text).unwrap();
        fs::write(&cpp, &text).unwrap();
        C.iter().for_each(|compiler| check(compiler, "-std=c11", "-O0", &c));
        CPP.iter().for_each(|compiler| check(compiler, "-std=c++17", "-O0", &cpp));
        fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn every_function_compiles_when_it_is_used() {
    let programs = crate_dir().join("tests/c");
    CPP.iter().for_each(|compiler| check(compiler, "-std=c++17", "-O2", &programs.join("loop.cc")));
    C.iter().for_each(|compiler| check(compiler, "-std=c11", "-O2", &programs.join("fuzz.c")));
    for source in ["c/tap.c", "c/replay.c"] {
        C.iter().for_each(|compiler| check(compiler, "-std=c11", "-O2", &crate_dir().join(source)));
    }
}

/// A header without globals is included in as many files of a program as one likes.
#[test]
fn two_files_of_one_program_include_the_header() {
    let directory = directory("two");
    fs::write(directory.join("one.cc"), "#include \"vms_ring.h\"\nint main() { return 0; }\n").unwrap();
    fs::write(directory.join("two.cc"), "#include \"vms_ring.h\"\nint two() { return 0; }\n").unwrap();
    let mut command = Command::new("g++");
    command.args(STRICT).arg("-I").arg(crate_dir().join("include")).arg("-o").arg(directory.join("program"));
    compile(command.arg(directory.join("one.cc")).arg(directory.join("two.cc")));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn examples_are_built_from_a_copy_of_their_two_directories() {
    let copy = directory("copy");
    for part in ["include", "c"] {
        fs::create_dir_all(copy.join(part)).unwrap();
        for entry in fs::read_dir(crate_dir().join(part)).unwrap() {
            let entry = entry.unwrap();
            let is_source = entry.path().extension().is_some_and(|end| end == "c" || end == "h")
                || entry.file_name() == "Makefile";
            if is_source {
                fs::copy(entry.path(), copy.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
    let output = Command::new("make").arg("-C").arg(copy.join("c")).env_remove("MAKEFLAGS").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(copy.join("c/tap").exists() && copy.join("c/replay").exists());
    fs::remove_dir_all(copy).unwrap();
}

/// A program that included something else first and hides what the header needs is told so.
#[test]
fn a_wrong_order_of_includes_is_named() {
    let directory = directory("order");
    let source = directory.join("order.c");
    fs::write(&source, "#include <stdio.h>\n#include \"vms_ring.h\"\nint main(void) { return 0; }\n")
        .unwrap();
    for (define, works) in [("-D_NOTHING", false), ("-D_GNU_SOURCE", true)] {
        let mut command = Command::new("gcc");
        command.args(["-std=c11", define, "-fsyntax-only", "-I"]).arg(crate_dir().join("include"));
        let output = command.arg(&source).output().unwrap();
        assert_eq!(output.status.success(), works, "{define}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.contains("include vms_ring.h first"), !works, "{said}");
    }
    fs::remove_dir_all(directory).unwrap();
}

fn check(compiler: &str, standard: &str, level: &str, source: &Path) {
    let mut command = Command::new(compiler);
    command.args([standard, level]).args(STRICT).arg("-I").arg(crate_dir().join("include"));
    compile(command.args(["-c", "-o", "/dev/null"]).arg(source));
}

fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compile-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}
