//! The records of a jitdump file, as `tools/perf/Documentation/jitdump-specification.txt` of the kernel defines them.

use super::machine;
use super::table::{CodeFunction, CodeTable};

/// Bytes of the file's header.
const HEADER: u32 = 40;
/// Bytes that each record begins with: what it is, how long it is, when it was written.
const PREFIX: usize = 16;

const JIT_CODE_LOAD: u32 = 0;
const JIT_CODE_DEBUG_INFO: u32 = 2;

/// The header of a file. Times are `CLOCK_MONOTONIC` in nanoseconds, which `perf record -k mono` has too.
pub(super) fn header(pid: u32, time: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The letters "JiTD" as a number, which tells the order of bytes as well; the version.
    bytes.extend(0x4a69_5444_u32.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(HEADER.to_le_bytes());
    bytes.extend(u32::from(machine::ELF_MACHINE.0).to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(pid.to_le_bytes());
    bytes.extend(time.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes
}

/// Who writes, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) time: u64,
}

/// The records of a program's functions, numbered from `first` on.
pub(super) fn records(table: &CodeTable<'_>, first: u64, moment: Moment) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (function, index) in table.functions.iter().zip(first..) {
        // The lines come before the code that they are of.
        debug_info(&mut bytes, function, moment);
        code_load(&mut bytes, &table.program, function, index, moment);
    }
    bytes
}

fn debug_info(bytes: &mut Vec<u8>, function: &CodeFunction<'_>, moment: Moment) {
    let lines = function.places.iter().filter_map(|place| Some((place.address, place.line.as_ref()?)));
    let mut entries = Vec::new();
    let mut count = 0_u64;
    for (address, line) in lines {
        entries.extend(address.to_le_bytes());
        entries.extend(line.line.to_le_bytes());
        // No discriminator.
        entries.extend(0_u32.to_le_bytes());
        entries.extend(line.file.as_bytes());
        entries.push(0);
        count += 1;
    }
    if count == 0 {
        return;
    }
    let mut body = Vec::with_capacity(16 + entries.len());
    body.extend(function.start.to_le_bytes());
    body.extend(count.to_le_bytes());
    body.extend(entries);
    record(bytes, JIT_CODE_DEBUG_INFO, &body, moment);
}

fn code_load(bytes: &mut Vec<u8>, program: &str, function: &CodeFunction<'_>, index: u64, moment: Moment) {
    let mut body = Vec::new();
    body.extend(moment.pid.to_le_bytes());
    body.extend(moment.tid.to_le_bytes());
    body.extend(function.start.to_le_bytes());
    body.extend(function.start.to_le_bytes());
    body.extend((function.code.len() as u64).to_le_bytes());
    body.extend(index.to_le_bytes());
    body.extend(super::full_name(program, function).into_bytes());
    body.push(0);
    body.extend(function.code);
    record(bytes, JIT_CODE_LOAD, &body, moment);
}

fn record(bytes: &mut Vec<u8>, id: u32, body: &[u8], moment: Moment) {
    // Names and code are bounded, so that it fits.
    let size = u32::try_from(PREFIX + body.len()).unwrap_or(u32::MAX);
    bytes.extend(id.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend(moment.time.to_le_bytes());
    bytes.extend(body);
}
