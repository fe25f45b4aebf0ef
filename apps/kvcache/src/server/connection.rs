//! One TCP connection: bytes in, commands, bytes out.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::commands::{Counter, Counters, Executor, Flow, Shared, Unfinished};
use crate::protocol::Decoder;

/// While this much waits to be sent, no further command is carried out: a client that does not read its answers does
/// not make the server collect them.
const HIGH_WATER: usize = 256 << 10;

/// Reads in a row, before other connections have their turn.
const TURN: usize = 16;

/// Answers longer than this are not kept room for.
const KEEP: usize = 64 << 10;

/// What a connection is to be called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// When the network has something to say.
    Event,
    /// Soon: there is more to do, and others wait.
    Turn,
    /// Never again.
    End,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    /// Bytes of which no command could be made yet.
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// A retrieval whose answer is longer than may wait to be sent.
    unfinished: Option<Unfinished>,
    /// Nothing more is read; what is left to send still is.
    closing: bool,
    /// The worker's second in which it was last heard of.
    pub(super) last_heard: u64,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: u64) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            unfinished: None,
            closing: false,
            last_heard: now,
        }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Does what can be done now. `buffer` is the worker's, for bytes on their way in.
    pub(super) fn serve(
        &mut self,
        executor: &mut Executor<'_>,
        shared: &Shared,
        counters: &Counters,
        buffer: &mut [u8],
    ) -> Next {
        for _ in 0..TURN {
            if !self.flush(counters) {
                return Next::End;
            }
            if self.backlog() >= HIGH_WATER {
                return Next::Event;
            }
            if self.closing {
                return if self.backlog() == 0 { Next::End } else { Next::Event };
            }
            // What could not be carried out for want of room comes before what is still in the socket.
            if self.carry_out_pending(executor, shared, counters) {
                continue;
            }
            match self.stream.read(buffer) {
                // It asks for nothing more, but may still listen.
                Ok(0) => self.closing = true,
                Ok(count) => {
                    counters.add(Counter::BytesRead, u64::try_from(count).unwrap_or(0));
                    self.take(buffer.get(..count).unwrap_or_default(), executor, shared, counters);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Event,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Next::End,
            }
        }
        if !self.flush(counters) {
            return Next::End;
        }
        counters.count(Counter::Yields);
        Next::Turn
    }

    /// Reads nothing more.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    fn backlog(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Carries out the commands in what has arrived; straight from the buffer, unless older bytes wait before it.
    fn take(&mut self, bytes: &[u8], executor: &mut Executor<'_>, shared: &Shared, counters: &Counters) {
        if self.input.is_empty() {
            let used = self.carry_out(bytes, executor, shared, counters);
            self.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            self.input.extend_from_slice(bytes);
            self.carry_out_pending(executor, shared, counters);
        }
    }

    /// Whether there was anything that could be carried out.
    fn carry_out_pending(
        &mut self,
        executor: &mut Executor<'_>,
        shared: &Shared,
        counters: &Counters,
    ) -> bool {
        let answered = self.output.len();
        let input = std::mem::take(&mut self.input);
        let used = self.carry_out(&input, executor, shared, counters);
        self.input = input;
        self.input.drain(..used);
        if self.input.is_empty() {
            self.input.shrink_to(KEEP);
        }
        used > 0 || self.output.len() > answered
    }

    fn carry_out(
        &mut self,
        bytes: &[u8],
        executor: &mut Executor<'_>,
        shared: &Shared,
        counters: &Counters,
    ) -> usize {
        let mut used = 0;
        while self.backlog() < HIGH_WATER && !self.closing {
            let limit = self.sent + HIGH_WATER;
            if let Some(unfinished) = &mut self.unfinished {
                if executor.resume(unfinished, &mut self.output, limit) {
                    self.unfinished = None;
                }
                continue;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            let (taken, event) = self.decoder.next(rest, |head| Executor::admit(shared, counters, head));
            used += taken;
            match executor.run(event, &mut self.output, limit) {
                Flow::Continue => {}
                Flow::More(unfinished) => self.unfinished = Some(unfinished),
                Flow::Wait => break,
                Flow::Close => self.closing = true,
            }
        }
        used
    }

    /// Sends what waits, as far as the network takes it. Whether the connection is still there.
    fn flush(&mut self, counters: &Counters) -> bool {
        while self.backlog() > 0 {
            match self.stream.write(self.output.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return false,
                Ok(count) => {
                    counters.add(Counter::BytesWritten, u64::try_from(count).unwrap_or(0));
                    self.sent += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.output.clear();
        self.output.shrink_to(KEEP);
        self.sent = 0;
        true
    }
}

/// Tells a client that there are too many.
pub(super) fn turn_away(mut stream: &TcpStream) {
    // It is told if it can be told at once; it is turned away in any case.
    let _ = stream.write(b"ERROR Too many open connections\r\n");
    let _ = stream.shutdown(Shutdown::Both);
}
