#!/usr/bin/env python3
"""Writes everything that states the ring ABI's layout from the one table layout.toml.

  layout.py           writes the files
  layout.py --check   writes nothing; exit code 1 and a line for each file that is not what the table gives
"""

import pathlib
import re
import struct
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
TYPES = {"u8": ("uint8_t", "B", 1), "u16": ("uint16_t", "H", 2), "u32": ("uint32_t", "I", 4),
         "u64": ("uint64_t", "Q", 8), "i64": ("int64_t", "q", 8)}


class Field:
    """One named place of a struct."""

    def __init__(self, offset: int, kind: str, name: str, writer: str, meaning: str) -> None:
        self.offset, self.kind, self.name, self.writer, self.meaning = offset, kind, name, writer, meaning
        base, _, count = kind.rstrip("]").partition("[")
        self.c_type, self.code, self.unit = TYPES[base]
        self.count = int(count) if count else 0
        self.size = self.unit * (self.count or 1)
        self.end = offset + self.size
        if offset % self.unit:
            sys.exit(f"error: {name} at {offset} is not aligned")

    def python_format(self) -> str:
        return f"{self.count}s" if self.count else self.code


class Struct:
    """A struct of the table, its fields in order and without overlap."""

    def __init__(self, entry: dict) -> None:
        self.name, self.size = entry["name"], entry["size"]
        self.rust, self.base = entry.get("rust"), entry.get("base", 0)
        self.message, self.sender, self.fds = entry.get("message"), entry.get("from", ""), entry.get("fds", "")
        self.fields = [Field(*field) for field in entry["fields"]]
        end = 0
        for field in self.fields:
            if field.offset < end:
                sys.exit(f"error: {self.name}.{field.name} overlaps the field before it")
            end = field.end
        if end > self.size:
            sys.exit(f"error: {self.name} is longer than its size")

    def gaps(self):
        """Each field with the reserved bytes before it; at last None with those behind."""
        end = 0
        for field in self.fields:
            yield field, field.offset - end
            end = field.end
        yield None, self.size - end

    def python_format(self) -> str:
        parts = []
        for field, gap in self.gaps():
            parts.append(f"{gap}x" if gap else "")
            parts.append(field.python_format() if field else "")
        text = "<" + "".join(parts)
        assert struct.calcsize(text) == self.size, self.name
        return text


class Table:
    """The parsed table."""

    def __init__(self) -> None:
        table = tomllib.loads((HERE / "layout.toml").read_text())
        self.constants, self.enums = table["constant"], table["enum"]
        self.structs = [Struct(entry) for entry in table["struct"]]


def value_of(enum: dict, number: int) -> int:
    return 1 << number if enum.get("bits") else number


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


# ------------------------------------------------------------------------------------------------------ Rust

def rust(table: Table) -> str:
    out = ["//! Written by `ring-abi/layout.py` from `ring-abi/layout.toml`; not to be edited. What the table says, asserted of this",
           "//! crate's types at compile time.", "",
           "use std::mem::{offset_of, size_of};", "", "use super::*;", "", "const _: () = {"]
    in_layout = {"MAGIC", "ABI_MAJOR", "ABI_MINOR", "LINE", "CONFIG_DATA_MAX", "UNIT_LEN_MAX", "NALS_PER_UNIT_MAX",
                 "TRACKS_MAX", "SESSION_SLOTS_MAX"}
    out += [f"    assert!({c['name']} == {c['value']});" for c in table.constants if c["name"] in in_layout]
    for item in table.structs:
        if item.rust is None:
            continue
        out.append("")
        out.append(f"    assert!(size_of::<{item.rust}>() == {item.size});")
        out += [f"    assert!(offset_of!({item.rust}, {f.name}) == {f.offset});" for f in item.fields]
    for enum in table.enums:
        if enum.get("rust") not in {None, "RefusalCode"}:
            out.append("")
            for _, number, name, _ in enum["values"]:
                value = f"{enum['rust']}::{name}.0 == 1 << {number}" if enum.get("bits") else f"{enum['rust']}::{name} as u32 == {number}"
                out.append(f"    assert!({value});")
    out.append("")
    out += [f"    assert!({name} == {number});" for e in table.enums if e["name"] == "record_type" for _, number, name, _ in e["values"]]
    out += [f"    assert!({name} == 1 << {number});" for e in table.enums if e["name"] == "feature" for _, number, name, _ in e["values"]]
    out += ["};", "", "#[cfg(all(test, not(loom)))]", "mod tests {",
            "    use crate::handshake::{", "        MESSAGE_LEN_MAX, NAME_LEN_MAX, REASON_LEN_MAX, RefusalCode, STREAM_ID_LEN_MAX, TOKEN_LEN_MAX,",
            "    };", "", "    #[test]", "    fn the_handshake_has_the_numbers_of_the_table() {"]
    wanted = {"MESSAGE_LEN_MAX", "NAME_LEN_MAX", "TOKEN_LEN_MAX", "STREAM_ID_LEN_MAX", "REASON_LEN_MAX"}
    out += [f"        assert_eq!({c['name']}, {c['value']});" for c in table.constants if c["name"] in wanted]
    refusal = next(e for e in table.enums if e["name"] == "refusal")
    out += [f"        assert_eq!(RefusalCode::{name} as u32, {number});" for _, number, name, _ in refusal["values"]]
    out += ["    }", "}"]
    sizes = ", ".join(f"({s.message}, {s.size})" for s in table.structs if s.message)
    count = sum(1 for s in table.structs if s.message)
    out += ["", "/// Number and bytes of each message.", "#[cfg(all(test, not(loom)))]",
            f"pub(crate) const MESSAGE_SIZES: [(u32, usize); {count}] =", f"    [{sizes}];"]
    return "\n".join(out) + "\n"


# --------------------------------------------------------------------------------------------------------- C

def c_header(table: Table) -> str:
    out = ["/* The layout of the vms-media ring ABI (ring-abi/SPEC.md). Written by layout.py from layout.toml; not to be edited. */",
           "#ifndef VMS_RING_LAYOUT_H", "#define VMS_RING_LAYOUT_H", "", "#include <stddef.h>", "#include <stdint.h>", "",
           "#ifdef __cplusplus", "#define VMS_RING_ASSERT(condition, text) static_assert(condition, text)", "#else",
           "#define VMS_RING_ASSERT(condition, text) _Static_assert(condition, text)", "#endif", ""]
    for constant in table.constants:
        suffix = "ULL" if constant["value"] > 0x7fffffff else ""
        text = f"0x{constant['value']:016x}{suffix}" if suffix else str(constant["value"])
        out.append(f"#define VMS_RING_{constant['name']} {text} /* {constant['meaning']} */")
    for enum in table.enums:
        out += ["", f"enum vms_ring_{enum['name']} {{"]
        for name, number, _, meaning in enum["values"]:
            comment = f" /* {meaning} */" if meaning else ""
            out.append(f"    VMS_RING_{enum['name'].upper()}_{name} = {value_of(enum, number)},{comment}")
        out[-1] = out[-1].replace(",", "", 1) if not enum["values"][-1][3] else re.sub(r",( /\*)", r"\1", out[-1], count=1)
        out.append("};")
    out += ["", "enum vms_ring_message {"]
    messages = [s for s in table.structs if s.message]
    out += [f"    VMS_RING_MESSAGE_{s.name.upper()} = {s.message}{',' if s is not messages[-1] else ''}" for s in messages]
    out.append("};")
    for item in table.structs:
        where = f" Stands at offset {item.base} of its segment." if item.base else ""
        out += ["", f"/* {item.size} bytes.{where} */", f"struct vms_ring_{item.name} {{"]
        if item.message:
            out.append("    struct vms_ring_message_head head;")
        reserved = 0
        for field, gap in item.gaps():
            if item.message and field is not None and field.offset == 16:
                gap = 0
            if gap:
                out.append(f"    uint8_t reserved{reserved}[{gap}];")
                reserved += 1
            if field:
                array = f"[{field.count}]" if field.count else ""
                comment = f" /* {field.meaning} */" if field.meaning else ""
                out.append(f"    {field.c_type} {field.name}{array};{comment}")
        out.append("};")
        c_name = f"struct vms_ring_{item.name}"
        out.append(f"VMS_RING_ASSERT(sizeof({c_name}) == {item.size}, \"{item.name}\");")
        out += [f"VMS_RING_ASSERT(offsetof({c_name}, {f.name}) == {f.offset}, \"{item.name}.{f.name}\");" for f in item.fields]
    out += ["", "#endif"]
    return "\n".join(out) + "\n"


# ---------------------------------------------------------------------------------------------------- Python

def python(table: Table) -> str:
    out = ['"""The layout of the vms-media ring ABI. Written by layout.py from layout.toml; not to be edited."""', "",
           "import enum", "import struct", "from typing import Final, NamedTuple", ""]
    for constant in table.constants:
        out.append(f"{constant['name']}: Final = {constant['value']:#x}" if constant["value"] > 0xffffffff
                   else f"{constant['name']}: Final = {constant['value']}")
        out.append(f'"""{constant["meaning"]}"""' if not constant["meaning"].startswith('"') else f"# {constant['meaning']}")
    for item in table.enums:
        base = "enum.IntFlag" if item.get("bits") else "enum.IntEnum"
        out += ["", "", f"class {camel(item['name'])}({base}):", f'    """Numbers of `{item["name"]}`."""', ""]
        for name, number, _, meaning in item["values"]:
            out.append(f"    {name} = {value_of(item, number)}")
            if meaning:
                out.append(f'    """{meaning}"""')
    for item in table.structs:
        out += ["", "", f"class {camel(item.name)}(NamedTuple):", f'    """{item.size} bytes."""', ""]
        for field in item.fields:
            out.append(f"    {field.name}: {'bytes' if field.count else 'int'}")
            if field.meaning:
                out.append(f'    """{field.meaning}"""')
        out += ["", "", f'{item.name.upper()}: Final = struct.Struct("{item.python_format()}")']
        out += [f"{item.name.upper()}_{f.name.upper()}: Final = {item.base + f.offset}" for f in item.fields]
    out += ["", "", "MESSAGES: Final = {"]
    out += [f"    {s.message}: ({s.name.upper()}, {camel(s.name)})," for s in table.structs if s.message]
    out += ["}", '"""Format and fields of each message, by its number."""']
    return "\n".join(out) + "\n"


# ------------------------------------------------------------------------------------------------------ SPEC

def spec(table: Table, text: str) -> str:
    blocks = {}
    for item in table.structs:
        rows = ["| off | type | field | writer, store | |", "|---|---|---|---|---|"]
        if item.message:
            rows = ["| off | type | field | |", "|---|---|---|---|"]
        for field in item.fields:
            writer = "" if item.message else f"{field.writer} | "
            rows.append(f"| {item.base + field.offset} | {field.kind} | {field.name} | {writer}{field.meaning} |")
        blocks[item.name] = rows
    for item in table.enums:
        head = "bit" if item.get("bits") else "number"
        blocks[item["name"]] = [f"| {head} | {item['name']} | |", "|---|---|---|"] + [
            f"| {number} | {name} | {meaning} |" for name, number, _, meaning in item["values"]]
    blocks["constants"] = ["| constant | value | |", "|---|---|---|"] + [
        f"| {c['name']} | {c['value']:#x} | {c['meaning']} |" if c["value"] > 0xffffffff else
        f"| {c['name']} | {c['value']} | {c['meaning']} |" for c in table.constants]
    blocks["messages"] = ["| type | name | from | bytes | descriptors |", "|---|---|---|---|---|"] + [
        f"| {s.message} | {s.name.upper()} | {s.sender} | {s.size} | {s.fds} |" for s in table.structs if s.message]
    found = set()

    def fill(match: re.Match) -> str:
        name = match[1]
        if name not in blocks:
            sys.exit(f"error: SPEC.md asks for the unknown table {name}")
        found.add(name)
        return f"<!-- layout: {name} -->\n" + "\n".join(blocks[name]) + "\n<!-- end -->"

    text = re.sub(r"<!-- layout: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)
    missing = sorted(set(blocks) - found)
    if missing:
        sys.exit(f"error: SPEC.md shows no table of {', '.join(missing)}")
    return text


def main() -> int:
    table = Table()
    spec_path = HERE / "SPEC.md"
    files = {
        HERE / "src/layout/table.rs": rust(table),
        HERE / "include/vms_ring_layout.h": c_header(table),
        HERE / "python/src/vms_ring/_layout.py": python(table),
        spec_path: spec(table, spec_path.read_text()),
    }
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(HERE)} is not what layout.toml gives: run ring-abi/layout.py")
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
