//! A worker's UDP socket: requests come and answers go in batches, one system call for each.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use crate::commands::{Counter, Counters, Executor, Flow, Shared};
use crate::protocol::{Complaint, Decoder, render, udp};

/// Datagrams taken or sent with one system call.
const BATCH: usize = 32;

/// The longest datagram there is.
const DATAGRAM: usize = 64 << 10;

/// Batches in a row, before connections have their turn.
const TURN: usize = 16;

/// No request by datagram makes the server collect an answer longer than this.
const ANSWER_MAX: usize = 8 << 20;

/// A UDP socket with room for a batch in both directions.
pub(super) struct Datagrams {
    socket: UdpSocket,
    buffers: Vec<u8>,
    receive: MultiHeaders<SockaddrStorage>,
    send: MultiHeaders<SockaddrStorage>,
    /// Lengths and senders of a batch.
    received: Vec<(usize, Option<SockaddrStorage>)>,
    outgoing: Outgoing,
    /// The program's answer to a datagram.
    reply: Vec<u8>,
    /// The answer to a command, before it is cut into datagrams.
    answer: Vec<u8>,
}

/// Datagrams to be sent, one behind the other.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    pieces: Vec<Range<usize>>,
    to: Vec<Option<SockaddrStorage>>,
}

impl Outgoing {
    fn push(&mut self, to: Option<SockaddrStorage>, parts: &[&[u8]]) {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.pieces.push(start..self.bytes.len());
        self.to.push(to);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
        self.to.clear();
    }
}

impl Datagrams {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self {
            socket,
            buffers: vec![0; BATCH * DATAGRAM],
            receive: MultiHeaders::preallocate(BATCH, None),
            send: MultiHeaders::preallocate(BATCH, None),
            received: Vec::with_capacity(BATCH),
            outgoing: Outgoing::default(),
            reply: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Answers what waits. Whether there may be more.
    pub(super) fn serve(
        &mut self,
        executor: &mut Executor<'_>,
        shared: &Shared,
        counters: &Counters,
    ) -> bool {
        for _ in 0..TURN {
            self.receive();
            for index in 0..self.received.len() {
                self.answer_one(index, executor, shared, counters);
            }
            self.send(counters);
            // Fewer than there was room for: the socket was empty, and the next to arrive is told of.
            if self.received.len() < BATCH {
                return false;
            }
        }
        true
    }

    fn receive(&mut self) {
        self.received.clear();
        let mut slices: Vec<_> =
            self.buffers.chunks_exact_mut(DATAGRAM).map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        // An error is an empty socket, or the trace of a datagram that could not be delivered: nothing to be done.
        if let Ok(results) = recvmmsg(self.socket.as_raw_fd(), &mut self.receive, &mut slices, flags, None) {
            self.received.extend(results.map(|message| (message.bytes, message.address)));
        }
    }

    fn answer_one(
        &mut self,
        index: usize,
        executor: &mut Executor<'_>,
        shared: &Shared,
        counters: &Counters,
    ) {
        let Some((length, from)) = self.received.get(index).copied() else { return };
        let start = index * DATAGRAM;
        let Some(datagram) = self.buffers.get(start..start + length) else { return };
        counters.count(Counter::Datagrams);
        counters.add(Counter::BytesRead, u64::try_from(length).unwrap_or(0));
        if shared.fast.answer(datagram, &mut self.reply) {
            counters.count(Counter::DatagramsByProgram);
            self.outgoing.push(from, &[&self.reply]);
            return;
        }
        let Some((frame, mut commands)) = udp::request(datagram) else { return };
        let mut decoder = Decoder::new();
        loop {
            self.answer.clear();
            let (used, event) = decoder.next(commands, |head| Executor::admit(shared, counters, head));
            commands = commands.get(used..).unwrap_or_default();
            let flow = executor.run(event, &mut self.answer, ANSWER_MAX);
            if let Flow::More(_) = flow {
                self.answer.clear();
                render::line(&mut self.answer, Complaint::NoMemoryForAnswer.text());
            }
            for (header, piece) in udp::answer(frame, &self.answer) {
                self.outgoing.push(from, &[&header, piece]);
            }
            if matches!(flow, Flow::Wait | Flow::Close) {
                break;
            }
        }
        self.answer.shrink_to(DATAGRAM);
    }

    fn send(&mut self, counters: &Counters) {
        let mut done = 0;
        while let (Some(pieces), Some(to)) = (self.outgoing.pieces.get(done..), self.outgoing.to.get(done..))
        {
            if pieces.is_empty() {
                break;
            }
            let bytes = &self.outgoing.bytes;
            let slices: Vec<_> = pieces
                .iter()
                .take(BATCH)
                .map(|piece| [IoSlice::new(bytes.get(piece.clone()).unwrap_or_default())])
                .collect();
            let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            match sendmmsg(socket, &mut self.send, &slices, to, [], flags) {
                Ok(sent) => {
                    let sent = sent.count();
                    let bytes: usize = pieces.iter().take(sent).map(ExactSizeIterator::len).sum();
                    counters.add(Counter::BytesWritten, u64::try_from(bytes).unwrap_or(0));
                    done += sent.max(1);
                }
                // This one cannot be sent; it is as if it had been lost on its way.
                Err(_) => done += 1,
            }
        }
        self.outgoing.clear();
        self.outgoing.bytes.shrink_to(BATCH * DATAGRAM);
    }
}
