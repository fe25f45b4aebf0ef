//! GETs over TCP, on several connections, each of which has a share of the window.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::data::{DataSet, Verdict};
use super::{Client, PATIENCE, Plan, Sets, Totals};

/// Bytes read at a time.
const READ: usize = 64 << 10;

/// Some connections, and one for SETs.
pub(in super::super) struct Tcp<'a> {
    data: &'a DataSet,
    connections: Vec<Connection>,
    sets: Sets<'a>,
    position: u64,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// Keys that were asked for and not answered.
    asked: VecDeque<u32>,
    /// The beginning of an answer whose end has not come.
    input: Vec<u8>,
    output: Vec<u8>,
}

impl<'a> Tcp<'a> {
    /// Connects to a server.
    pub(in super::super) fn new(
        data: &'a DataSet,
        to: SocketAddr,
        count: usize,
        sets: Sets<'a>,
    ) -> anyhow::Result<Self> {
        let connect = |_| {
            let stream = TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            Ok(Connection { stream, asked: VecDeque::new(), input: Vec::new(), output: Vec::new() })
        };
        let connections = (0..count).map(connect).collect::<anyhow::Result<_>>()?;
        Ok(Self { data, connections, sets, position: 0, buffer: vec![0; READ] })
    }

    /// Asks for this many more on a connection.
    fn ask(&mut self, index: usize, count: usize) -> anyhow::Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        connection.output.clear();
        for _ in 0..count {
            let key = self.data.get(self.position);
            self.position += 1;
            connection.asked.push_back(key);
            connection.output.extend_from_slice(self.data.request(key));
        }
        // Much less than a socket takes at once.
        connection.stream.write_all(&connection.output).context("sending requests")
    }

    /// Takes what has arrived on a connection; whether everything that was asked there is answered.
    fn take(&mut self, index: usize, totals: &mut Totals) -> anyhow::Result<bool> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(false) };
        let count = match connection.stream.read(&mut self.buffer) {
            Ok(0) => bail!("the server ends a connection"),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error).context("receiving answers"),
        };
        connection.input.extend_from_slice(self.buffer.get(..count).unwrap_or_default());
        let mut used = 0;
        while let Some(key) = connection.asked.front() {
            let text = connection.input.get(used..).unwrap_or_default();
            let (verdict, length) = self.data.check(*key, text, self.sets.newest());
            match verdict {
                Verdict::Incomplete => break,
                // Where the next answer begins is not known.
                Verdict::Wrong if length == 0 => bail!("no answer: {}", String::from_utf8_lossy(text)),
                _ => totals.count(verdict),
            }
            used += length;
            connection.asked.pop_front();
        }
        connection.input.drain(..used);
        Ok(connection.asked.is_empty())
    }

    /// The connections on which something has arrived.
    fn wait(&self) -> anyhow::Result<Vec<usize>> {
        let mut waiting: Vec<_> = self
            .connections
            .iter()
            .map(|connection| PollFd::new(&connection.stream, PollFlags::IN))
            .collect();
        let patience = Timespec::try_from(PATIENCE)?;
        match poll(&mut waiting, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for answers"),
        }
        let is_ready =
            |(index, waiting): (usize, &PollFd<'_>)| (!waiting.revents().is_empty()).then_some(index);
        Ok(waiting.iter().enumerate().filter_map(is_ready).collect())
    }

    fn in_flight(&self) -> usize {
        self.connections.iter().map(|connection| connection.asked.len()).sum()
    }
}

impl Client for Tcp<'_> {
    fn load(&mut self, plan: &Plan<'_>) -> anyhow::Result<Totals> {
        let (mut totals, end) = (Totals::default(), plan.end());
        let share = (plan.window / self.connections.len().max(1)).max(1);
        let all: Vec<usize> = (0..self.connections.len()).collect();
        let mut idle = all;
        while plan.now(end)?.is_some() {
            let mut gets = 0;
            if !(plan.is_mixed && self.sets.are_behind()) {
                for index in idle.drain(..) {
                    self.ask(index, share)?;
                    gets += share as u64;
                }
            }
            if plan.is_mixed {
                self.sets.turn(gets, &mut totals)?;
            }
            for index in self.wait()? {
                if self.take(index, &mut totals)? {
                    idle.push(index);
                }
            }
        }
        let last = Instant::now() + 50 * PATIENCE;
        while self.in_flight() > 0 {
            ensure!(Instant::now() < last, "{} requests are not answered", self.in_flight());
            for index in self.wait()? {
                self.take(index, &mut totals)?;
            }
        }
        self.sets.finish(&mut totals)?;
        Ok(totals)
    }

    fn one_by_one(&mut self, plan: &Plan<'_>, times: &mut Histogram<u64>) -> anyhow::Result<Totals> {
        let (mut totals, end) = (Totals::default(), plan.end());
        while let Some(begin) = plan.now(end)? {
            self.ask(0, 1)?;
            while !self.take(0, &mut totals)? {}
            times.saturating_record(u64::try_from(begin.elapsed().as_nanos())?);
        }
        Ok(totals)
    }
}
