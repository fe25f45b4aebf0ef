//! `bpf_trace_printk`, `bpf_trace_vprintk`, `bpf_stream_vprintk`, `bpf_snprintf`.

use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::format::{Source, Template};
use super::registry::{Row, rows};
use super::{EINVAL, ENOENT, Invocation, errno, errno32, low32};
use crate::Stream;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(6), "bpf_trace_printk" => trace_printk;
    Some(165), "bpf_snprintf" => snprintf;
    Some(177), "bpf_trace_vprintk" => trace_vprintk;
    // Linux 6.18 renamed it.
    None, "bpf_stream_vprintk" => stream_vprintk;
    None, "bpf_stream_vprintk_impl" => stream_vprintk;
};

/// Most arguments in an array (`MAX_BPRINTF_VARARGS`).
const MAX_ARGUMENTS: u64 = 12;

/// Most bytes of a format string without a stated size: it lies in a map's value, and ends with it.
const MAX_FORMAT: usize = 4096;

/// `long bpf_trace_printk(const char *fmt, u32 fmt_size, ...)`: the length of the message.
fn trace_printk(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [format, size, arguments @ ..] = args;
    let Some(format) = sized_format(run, format, size)? else { return Ok(errno(EINVAL)) };
    Ok(match message(run, &format, &arguments) {
        Some(text) => emit(run, Stream::Trace, &text),
        None => errno(EINVAL),
    })
}

/// `long bpf_trace_vprintk(const char *fmt, u32 fmt_size, const void *data, u32 data_len)`.
fn trace_vprintk(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [format, size, data, len, _] = args;
    let Some(arguments) = arguments(run, data, len)? else { return Ok(errno(EINVAL)) };
    let Some(format) = sized_format(run, format, size)? else { return Ok(errno(EINVAL)) };
    Ok(match message(run, &format, &arguments) {
        Some(text) => emit(run, Stream::Trace, &text),
        None => errno(EINVAL),
    })
}

/// `int bpf_stream_vprintk(int stream_id, const char *fmt__str, const void *args, u32 len__sz, void *aux)`.
fn stream_vprintk(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [stream, format, data, len, _] = args;
    let stream = match low32(stream) {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return Ok(errno32(ENOENT)),
    };
    let Some(arguments) = arguments(run, data, len)? else { return Ok(errno32(EINVAL)) };
    let format = run.string(format, MAX_FORMAT).unwrap_or_default();
    Ok(match message(run, &format, &arguments) {
        Some(text) => {
            emit(run, stream, &text);
            0
        }
        None => errno32(EINVAL),
    })
}

/// `long bpf_snprintf(char *str, u32 str_size, const char *fmt, u64 *data, u32 data_len)`: the length of the whole
/// message with its NUL, of which what fits is written.
fn snprintf(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [out, size, format, data, len] = args;
    let Some(arguments) = arguments(run, data, len)? else { return Ok(errno(EINVAL)) };
    let format = run.string(format, MAX_FORMAT).unwrap_or_default();
    let Some(mut text) = message(run, &format, &arguments) else { return Ok(errno(EINVAL)) };
    let needed = text.len() as u64 + 1;
    let size = low32(size);
    if size > 0 {
        let out = run.memory(out, u64::from(size), true)?;
        text.truncate(out.len().saturating_sub(1));
        text.push(0);
        out.write(&text);
    }
    Ok(needed)
}

/// The message of a format in memory of a stated size with its array of arguments, each as address and size; `None` if either
/// is not accepted.
pub(super) fn formatted(
    run: &Invocation<'_>,
    (format, size): (u64, u64),
    (data, len): (u64, u64),
) -> Result<Option<Vec<u8>>, TrapKind> {
    let Some(arguments) = arguments(run, data, len)? else { return Ok(None) };
    let Some(format) = sized_format(run, format, size)? else { return Ok(None) };
    Ok(message(run, &format, &arguments))
}

/// The format string in memory of this size, up to its NUL; `None` if it has none.
fn sized_format(run: &Invocation<'_>, address: u64, size: u64) -> Result<Option<Vec<u8>>, TrapKind> {
    let mut text = run.memory(address, u64::from(low32(size)), false)?.to_vec();
    let end = text.iter().position(|byte| *byte == 0);
    Ok(end.map(|end| {
        text.truncate(end);
        text
    }))
}

/// The array of arguments; `None` if its size is not allowed.
fn arguments(run: &Invocation<'_>, data: u64, len: u64) -> Result<Option<Vec<u64>>, TrapKind> {
    let len = u64::from(low32(len));
    if len % 8 != 0 || len > MAX_ARGUMENTS * 8 || (len != 0 && data == 0) {
        return Ok(None);
    }
    let values =
        (0..len / 8).map(|i| Ok(run.memory(data.wrapping_add(i * 8), 8, false)?.load(Size::DW, Relaxed)));
    values.collect::<Result<_, _>>().map(Some)
}

/// The formatted message; `None` if the format is not accepted or wants more arguments.
fn message(run: &Invocation<'_>, format: &[u8], arguments: &[u64]) -> Option<Vec<u8>> {
    let template = Template::parse(format).ok()?;
    (template.arguments() <= arguments.len()).then(|| template.render(arguments, run))
}

fn emit(run: &Invocation<'_>, stream: Stream, text: &[u8]) -> u64 {
    if let Some(output) = &run.image.options.output {
        output.write(stream, text);
    }
    text.len() as u64
}
