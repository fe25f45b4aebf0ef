//! What iterators write (`iter/..` programs): `bpf_seq_printf`, `bpf_seq_write`.

use super::print;
use super::registry::{Row, rows};
use super::{EINVAL, EOVERFLOW, Invocation, errno, low32};
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(126), "bpf_seq_printf" => seq_printf;
    Some(127), "bpf_seq_write" => seq_write;
};

/// Most bytes that a program writes for one element: the kernel's buffer (`PAGE_SIZE << 3`), of which a text keeps a byte.
const BUFFER_BYTES: usize = 8 << 12;

/// The file that an iterator's programs write to.
#[derive(Debug)]
pub(crate) struct Seq {
    /// Address of its `struct seq_file`.
    pub(crate) address: u64,
    /// What was written for this element.
    pub(crate) text: Vec<u8>,
    /// Whether there was no room for something.
    pub(crate) overflowed: bool,
}

impl Seq {
    /// An empty one at this address.
    pub(crate) fn new(address: u64) -> Self {
        Self { address, text: Vec::new(), overflowed: false }
    }

    /// Adds all of it or nothing, with `reserve` bytes kept free.
    fn add(&mut self, bytes: &[u8], reserve: usize) -> u64 {
        if self.text.len() + bytes.len() + reserve > BUFFER_BYTES {
            self.overflowed = true;
            return errno(EOVERFLOW);
        }
        self.text.extend_from_slice(bytes);
        0
    }
}

/// The run's file, if this is it.
fn seq<'s>(
    run: &'s mut Invocation<'_>,
    address: u64,
    function: &'static str,
) -> Result<&'s mut Seq, TrapKind> {
    let unknown = TrapKind::BadArgument { function, argument: 1, value: address };
    run.seq.as_mut().filter(|seq| seq.address == address).ok_or(unknown)
}

/// `long bpf_seq_printf(struct seq_file *m, const char *fmt, u32 fmt_size, const void *data, u32 data_len)`.
fn seq_printf(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [file, format, size, data, len] = args;
    let text = print::formatted(run, (format, size), (data, len))?;
    let seq = seq(run, file, "bpf_seq_printf")?;
    // The kernel wants room for the NUL it does not keep.
    Ok(text.map_or(errno(EINVAL), |text| seq.add(&text, 1)))
}

/// `long bpf_seq_write(struct seq_file *m, const void *data, u32 len)`.
fn seq_write(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [file, data, len, ..] = args;
    let bytes = run.memory(data, u64::from(low32(len)), false)?.to_vec();
    Ok(seq(run, file, "bpf_seq_write")?.add(&bytes, 0))
}
