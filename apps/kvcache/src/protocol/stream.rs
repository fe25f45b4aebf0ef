//! A stream of bytes cut into commands, however the network cuts it.

use memchr::memchr;

use super::command::{self, Command, Head, Parsed};
use super::limits::{LEADING_SPACES_MAX, LINE_MAX, MULTIGET_LINE_MAX};
use super::refusal::{Complaint, Refusal};

/// What comes next in a stream.
#[derive(Debug)]
pub enum Event<'a> {
    /// A command that is complete in its line.
    Command(Command<'a>),
    /// A command with its data.
    Store(Head<'a>, &'a [u8]),
    /// Something to complain about.
    Refused(Refusal),
    /// Nothing, before more bytes arrive.
    Incomplete,
    /// The client speaks the binary protocol, or nothing known: end the connection.
    Hopeless,
    /// The same, but tell it.
    TooLong(Refusal),
}

/// Cuts one stream. It remembers what of a command it has seen, so that no byte is looked at twice: a block of data
/// that arrives in a thousand pieces costs what it costs in one.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The line whose data is being collected.
    line: Vec<u8>,
    data: Vec<u8>,
    /// Length of that data with its line end; 0 while a line is expected.
    need: usize,
    /// `line` and `data` were handed out.
    spent: bool,
    /// Bytes still to be thrown away.
    skip: usize,
    /// Bytes of the pending input in which there is no line end.
    scanned: usize,
    /// The first byte has been seen.
    begun: bool,
}

/// A buffer larger than this is given back when its value has been stored.
const KEEP: usize = 64 << 10;

/// What a request in the binary protocol begins with.
const BINARY_REQUEST: u8 = 0x80;

impl Decoder {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// What `input` begins with, and how many of its bytes are done with. The caller passes the rest again, with
    /// what has arrived meanwhile behind it. `admit` is asked before data is collected.
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        mut admit: impl FnMut(&Head<'_>) -> Option<Complaint>,
    ) -> (usize, Event<'a>) {
        self.forget();
        let skipped = self.skip.min(input.len());
        self.skip -= skipped;
        let input = input.get(skipped..).unwrap_or_default();
        if !self.begun && !input.is_empty() {
            self.begun = true;
            if input.first() == Some(&BINARY_REQUEST) {
                return (skipped, Event::Hopeless);
            }
        }
        if self.need > 0 {
            let (used, event) = self.collect(input);
            return (skipped + used, event);
        }
        let Some(end) = self.line_end(input) else {
            return (skipped, without_end(input));
        };
        let used = skipped + end + 1;
        let line = trimmed(input.get(..end).unwrap_or_default());
        let refusal = match command::parse(line) {
            Ok(Parsed::Whole(command)) => return (used, Event::Command(command)),
            Ok(Parsed::Data(head)) => match admit(&head) {
                None => {
                    let data = input.get(end + 1..).unwrap_or_default();
                    let (taken, event) = self.data_of(head, line, data);
                    return (used + taken, event);
                }
                Some(complaint) => {
                    Refusal { swallow: head.length() + 2, complaint, silent: head.bad_data().silent }
                }
            },
            Err(refusal) => refusal,
        };
        self.skip = refusal.swallow;
        (used, Event::Refused(refusal))
    }

    /// Whether the stream may end here without cutting a command.
    pub fn is_between_commands(&self) -> bool {
        (self.need == 0 || self.spent) && self.skip == 0
    }

    fn forget(&mut self) {
        if self.spent {
            self.spent = false;
            self.need = 0;
            for buffer in [&mut self.line, &mut self.data] {
                buffer.clear();
                buffer.shrink_to(KEEP);
            }
        }
    }

    fn line_end(&mut self, input: &[u8]) -> Option<usize> {
        let seen = self.scanned;
        let end = memchr(b'\n', input.get(seen..)?).map(|at| seen + at);
        self.scanned = if end.is_some() { 0 } else { input.len() };
        end
    }

    /// The data right behind its line: used where it lies if it is all there.
    fn data_of<'a>(&mut self, head: Head<'a>, line: &[u8], data: &'a [u8]) -> (usize, Event<'a>) {
        let need = head.length() + 2;
        if let Some(block) = data.get(..need) {
            return (need, store(head, block));
        }
        self.need = need;
        self.line.extend_from_slice(line);
        self.data.extend_from_slice(data);
        (data.len(), Event::Incomplete)
    }

    fn collect(&mut self, input: &[u8]) -> (usize, Event<'_>) {
        let missing = self.need.saturating_sub(self.data.len());
        let taken = missing.min(input.len());
        self.data.extend_from_slice(input.get(..taken).unwrap_or_default());
        if taken < missing {
            return (taken, Event::Incomplete);
        }
        self.spent = true;
        let event = match command::parse(&self.line) {
            Ok(Parsed::Data(head)) => store(head, &self.data),
            Ok(Parsed::Whole(command)) => Event::Command(command),
            Err(refusal) => Event::Refused(refusal),
        };
        (taken, event)
    }
}

/// Input in which no line ends: more may be on its way, or nothing good.
fn without_end(input: &[u8]) -> Event<'static> {
    if input.len() <= LINE_MAX {
        return Event::Incomplete;
    }
    let spaces = input.iter().take_while(|byte| **byte == b' ').count();
    let text = input.get(spaces..).unwrap_or_default();
    if spaces > LEADING_SPACES_MAX || !(text.starts_with(b"get ") || text.starts_with(b"gets ")) {
        return Event::Hopeless;
    }
    if input.len() > MULTIGET_LINE_MAX {
        return Event::TooLong(Complaint::NoMemoryForRequest.into());
    }
    Event::Incomplete
}

fn store<'a>(head: Head<'a>, block: &'a [u8]) -> Event<'a> {
    match block.strip_suffix(b"\r\n") {
        Some(value) => Event::Store(head, value),
        None => Event::Refused(head.bad_data()),
    }
}

/// A line up to its carriage return, or to a NUL, where memcached sees its end.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    memchr(0, line).and_then(|end| line.get(..end)).unwrap_or(line)
}
