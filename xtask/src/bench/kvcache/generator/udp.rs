//! GETs over UDP, in batches: requests of one length leave with one system call, which the kernel cuts into datagrams.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg};

use super::super::data::{DataSet, FRAME, Verdict};
use super::{Client, PATIENCE, Plan, Sets, Totals};

/// Datagrams received at a time.
const RECEIVED: usize = 64;

/// Room for one.
const DATAGRAM: usize = 2048;

/// Datagrams sent at a time, at most.
const BURST: usize = 32;

/// What answers wait in until they are read.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Requests by which one that waits may be overtaken.
const NUMBERS: u16 = 1 << 15;

/// No key was asked for under this number.
const NONE: u32 = u32::MAX;

/// What an answer should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Expected {
    /// The key's value.
    Value,
    /// The request as it was sent.
    Echo,
}

/// A socket, and what was asked through it.
pub(in super::super) struct Udp<'a> {
    data: &'a DataSet,
    socket: UdpSocket,
    sets: Beside<'a>,
    expected: Expected,
    headers: MultiHeaders<SockaddrIn>,
    buffers: Vec<u8>,
    burst: Vec<u8>,
    /// The key that was asked for, by the request's number.
    asked: Vec<u32>,
    /// When, by the same.
    sent: Vec<Instant>,
    /// Of the latest request.
    number: u16,
    /// Of the first that may still be waiting.
    oldest: u16,
    in_flight: usize,
    position: u64,
}

/// SETs that go beside, if the server stores anything.
type Beside<'a> = Option<Sets<'a>>;

impl<'a> Udp<'a> {
    /// A socket for requests to this address.
    pub(in super::super) fn connect(to: SocketAddr) -> anyhow::Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        Ok(socket)
    }

    /// Asks through this socket; without `sets`, nothing is stored.
    pub(in super::super) fn new(
        data: &'a DataSet,
        socket: UdpSocket,
        sets: Beside<'a>,
        expected: Expected,
    ) -> Self {
        Self {
            data,
            socket,
            sets,
            expected,
            headers: MultiHeaders::preallocate(RECEIVED, None),
            buffers: vec![0; RECEIVED * DATAGRAM],
            burst: Vec::with_capacity(BURST * DATAGRAM),
            asked: vec![NONE; 1 << 16],
            sent: vec![Instant::now(); 1 << 16],
            number: 0,
            oldest: 1,
            in_flight: 0,
            position: 0,
        }
    }

    /// Puts the next request behind those of this burst.
    fn push(&mut self, key: u32, now: Instant) {
        self.number = self.number.wrapping_add(1);
        let [high, low] = self.number.to_be_bytes();
        self.burst.extend_from_slice(&[high, low, 0, 0, 0, 1, 0, 0]);
        self.burst.extend_from_slice(self.data.request(key));
        let number = usize::from(self.number);
        if let (Some(asked), Some(sent)) = (self.asked.get_mut(number), self.sent.get_mut(number)) {
            (*asked, *sent) = (key, now);
        }
        self.in_flight += 1;
    }

    /// Takes note of requests that have waited for too long. There are never as many in flight as there are numbers, because one
    /// that others have overtaken is given up here.
    fn look_back(&mut self, now: Instant, totals: &mut Totals) {
        while self.oldest != self.number.wrapping_add(1) {
            let number = usize::from(self.oldest);
            let (Some(asked), Some(sent)) = (self.asked.get_mut(number), self.sent.get(number)) else {
                return;
            };
            if *asked != NONE {
                let numbers = self.number.wrapping_sub(self.oldest);
                if now.saturating_duration_since(*sent) < PATIENCE && numbers < NUMBERS {
                    return;
                }
                *asked = NONE;
                totals.lost += 1;
                self.in_flight -= 1;
            }
            self.oldest = self.oldest.wrapping_add(1);
        }
    }

    /// Sends requests of one length, as many as stand together.
    fn send(&mut self, most: usize, now: Instant) -> anyhow::Result<u64> {
        self.burst.clear();
        let mut count = 0;
        let length = self.data.request(self.data.get(self.position)).len();
        while count < most.min(BURST) {
            let key = self.data.get(self.position);
            if self.data.request(key).len() != length {
                break;
            }
            self.push(key, now);
            self.position += 1;
            count += 1;
        }
        let size = u16::try_from(FRAME + length)?;
        let cut = [ControlMessage::UdpGsoSegments(&size)];
        let cut = if count > 1 { &cut[..] } else { &[] };
        let bytes = [IoSlice::new(&self.burst)];
        match sendmsg::<SockaddrIn>(self.socket.as_raw_fd(), &bytes, cut, MsgFlags::empty(), None) {
            Ok(_) => Ok(count as u64),
            // What the server's end says of an earlier datagram; this one will be counted as lost.
            Err(Errno::ECONNREFUSED) => Ok(count as u64),
            Err(error) => Err(error).context("sending requests"),
        }
    }

    /// Takes the answers that are there; waits for one if there are none.
    fn receive(&mut self, totals: &mut Totals) -> anyhow::Result<()> {
        let mut slices: Vec<_> =
            self.buffers.chunks_exact_mut(DATAGRAM).map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let socket = self.socket.as_raw_fd();
        let mut lengths = [0; RECEIVED];
        let count = match recvmmsg(socket, &mut self.headers, &mut slices, MsgFlags::MSG_WAITFORONE, None) {
            Ok(messages) => {
                let of_messages = messages.map(|message| message.bytes);
                lengths.iter_mut().zip(of_messages).map(|(length, bytes)| *length = bytes).count()
            }
            Err(Errno::EAGAIN) => {
                self.give_up(totals);
                0
            }
            Err(Errno::EINTR | Errno::ECONNREFUSED) => 0,
            Err(error) => return Err(error).context("receiving answers"),
        };
        for (index, length) in lengths.into_iter().enumerate().take(count) {
            let start = index * DATAGRAM;
            let datagram = self.buffers.get(start..start + length).unwrap_or_default();
            if let Some(verdict) = take(self.data, datagram, self.expected, &self.sets, &mut self.asked) {
                totals.count(verdict);
                self.in_flight -= 1;
            }
        }
        Ok(())
    }

    /// Nothing that was asked is answered any more.
    fn give_up(&mut self, totals: &mut Totals) {
        totals.lost += self.in_flight as u64;
        self.in_flight = 0;
        self.asked.fill(NONE);
        self.oldest = self.number.wrapping_add(1);
    }
}

/// What a datagram answers; `None` if nobody asks that any more.
fn take(
    data: &DataSet,
    datagram: &[u8],
    expected: Expected,
    sets: &Beside<'_>,
    asked: &mut [u32],
) -> Option<Verdict> {
    let (frame, text) = datagram.split_first_chunk::<FRAME>()?;
    let [high, low, rest @ ..] = frame;
    let asked = asked.get_mut(usize::from(u16::from_be_bytes([*high, *low])))?;
    let key = Some(std::mem::replace(asked, NONE)).filter(|key| *key != NONE)?;
    if expected == Expected::Echo {
        return Some(if text == data.request(key) { Verdict::Hit } else { Verdict::Wrong });
    }
    let newest = sets.as_ref().map_or(0, Sets::newest);
    let (verdict, length) = data.check(key, text, newest);
    let is_alone = rest == &[0, 0, 0, 1, 0, 0] && length == text.len();
    Some(if is_alone { verdict } else { Verdict::Wrong })
}

impl Client for Udp<'_> {
    fn load(&mut self, plan: &Plan<'_>) -> anyhow::Result<Totals> {
        let (mut totals, end) = (Totals::default(), plan.end());
        while let Some(now) = plan.now(end)? {
            self.look_back(now, &mut totals);
            let mut gets = 0;
            let waits = plan.is_mixed && self.sets.as_ref().is_some_and(Sets::are_behind);
            // A few at a time are not worth a system call, unless nothing else is on its way.
            while !waits && (self.in_flight + BURST <= plan.window || self.in_flight == 0) {
                gets += self.send(plan.window - self.in_flight, now)?;
            }
            if let Some(sets) = self.sets.as_mut().filter(|_| plan.is_mixed) {
                sets.turn(gets, &mut totals)?;
            }
            if self.in_flight > 0 {
                self.receive(&mut totals)?;
            }
        }
        while self.in_flight > 0 {
            self.look_back(Instant::now(), &mut totals);
            self.receive(&mut totals)?;
        }
        if let Some(sets) = &mut self.sets {
            sets.finish(&mut totals)?;
        }
        Ok(totals)
    }

    fn one_by_one(&mut self, plan: &Plan<'_>, times: &mut Histogram<u64>) -> anyhow::Result<Totals> {
        let (mut totals, end) = (Totals::default(), plan.end());
        let mut buffer = [0; DATAGRAM];
        while let Some(begin) = plan.now(end)? {
            self.look_back(begin, &mut totals);
            self.burst.clear();
            let key = self.data.get(self.position);
            self.position += 1;
            self.push(key, begin);
            self.socket.send(&self.burst)?;
            while self.in_flight > 0 {
                match self.socket.recv(&mut buffer) {
                    Ok(length) => {
                        let time = u64::try_from(begin.elapsed().as_nanos())?;
                        let datagram = buffer.get(..length).unwrap_or_default();
                        let verdict = take(self.data, datagram, self.expected, &self.sets, &mut self.asked);
                        if let Some(verdict) = verdict {
                            totals.count(verdict);
                            self.in_flight -= 1;
                            times.saturating_record(time);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.give_up(&mut totals),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error).context("receiving an answer"),
                }
            }
        }
        Ok(totals)
    }
}
