//! A worker: one thread, one epoll instance, its connections and its UDP socket.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use tracing::{debug, warn};

use super::TICK;
use super::connection::{Connection, Next};
use super::datagrams::Datagrams;
use crate::commands::{Counter, Counters, Executor, Shared};

const WAKE: Token = Token(usize::MAX);
const UDP: Token = Token(usize::MAX - 1);

/// Bytes read from a connection at a time.
const READ: usize = 64 << 10;

/// How long connections may take to receive what they asked for before the end.
const GRACE: Duration = Duration::from_secs(1);

/// How new connections reach a worker.
#[derive(Debug)]
pub(super) struct Mailbox {
    waker: Waker,
    streams: Mutex<Vec<TcpStream>>,
}

impl Mailbox {
    pub(super) fn new(poll: &Poll) -> io::Result<Self> {
        Ok(Self { waker: Waker::new(poll.registry(), WAKE)?, streams: Mutex::default() })
    }

    pub(super) fn put(&self, stream: TcpStream) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        self.wake();
    }

    pub(super) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            warn!(%error, "cannot wake a worker");
        }
    }

    fn take(&self) -> Vec<TcpStream> {
        std::mem::take(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A worker.
pub(super) struct Worker<'a> {
    shared: &'a Shared,
    counters: &'a Counters,
    executor: Executor<'a>,
    poll: Poll,
    mailbox: &'a Mailbox,
    connections: Slab<Connection>,
    /// Connections that have more to do, and waited so that others had their turn.
    turns: Vec<usize>,
    datagrams: Option<Datagrams>,
    /// There may be datagrams that no event will tell of again.
    datagrams_wait: bool,
    buffer: Vec<u8>,
    started: Instant,
    swept: u64,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        index: usize,
        poll: Poll,
        mailbox: &'a Mailbox,
        socket: Option<UdpSocket>,
    ) -> io::Result<Self> {
        let missing = || io::Error::other("more workers than counters");
        let counters = shared.workers().nth(index).ok_or_else(missing)?;
        if let Some(socket) = &socket {
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), UDP, Interest::READABLE)?;
        }
        Ok(Self {
            shared,
            counters,
            executor: Executor::new(shared, counters),
            poll,
            mailbox,
            connections: Slab::new(),
            turns: Vec::new(),
            datagrams: socket.map(Datagrams::new),
            datagrams_wait: false,
            buffer: vec![0; READ],
            started: Instant::now(),
            swept: 0,
        })
    }

    /// Serves until `ending` is set and the mailbox rings.
    pub(super) fn run(&mut self, ending: &AtomicBool) {
        let mut events = Events::with_capacity(1024);
        while !ending.load(Ordering::Acquire) {
            let timeout = if self.is_busy() { Some(Duration::ZERO) } else { self.sweep_interval() };
            self.round(&mut events, timeout);
            self.sweep();
        }
        self.finish(&mut events);
    }

    /// Answers what has been asked, to those who take it in time.
    fn finish(&mut self, events: &mut Events) {
        let end = Instant::now() + GRACE;
        self.serve_all();
        for (_, connection) in &mut self.connections {
            connection.close();
        }
        self.serve_all();
        while !self.connections.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.round(events, Some(left));
        }
        self.shared.connections.current.fetch_sub(self.connections.len(), Ordering::Relaxed);
        self.connections.clear();
    }

    fn is_busy(&self) -> bool {
        self.datagrams_wait || !self.turns.is_empty()
    }

    fn sweep_interval(&self) -> Option<Duration> {
        (self.shared.settings.idle_timeout > 0).then_some(TICK)
    }

    /// Waits, then gives everyone who has something to do one turn.
    fn round(&mut self, events: &mut Events, timeout: Option<Duration>) {
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            warn!(%error, "cannot wait for events");
            std::thread::sleep(Duration::from_millis(10));
            return;
        }
        let waited = std::mem::take(&mut self.turns);
        for event in &*events {
            match event.token() {
                WAKE => self.welcome(),
                UDP => self.datagrams_wait = true,
                Token(key) => self.serve(key),
            }
        }
        for key in waited {
            self.serve(key);
        }
        if self.datagrams_wait
            && let Some(datagrams) = &mut self.datagrams
        {
            self.datagrams_wait = datagrams.serve(&mut self.executor, self.shared, self.counters);
        }
    }

    fn welcome(&mut self) {
        for stream in self.mailbox.take() {
            let connection = Connection::new(stream, self.seconds());
            let entry = self.connections.vacant_entry();
            let key = entry.key();
            let interest = Interest::READABLE.add(Interest::WRITABLE);
            let connection = entry.insert(connection);
            if let Err(error) = self.poll.registry().register(connection.stream(), Token(key), interest) {
                warn!(%error, "cannot watch a connection");
                self.end(key);
                continue;
            }
            if self.shared.verbosity() > 0 {
                debug!(key, "connected");
            }
            self.serve(key);
        }
    }

    fn serve(&mut self, key: usize) {
        let now = self.seconds();
        // An event of a connection that ended in this very round finds nobody, or a newcomer whom it does no harm.
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.last_heard = now;
        match connection.serve(&mut self.executor, self.shared, self.counters, &mut self.buffer) {
            Next::Event => {}
            Next::Turn => self.turns.push(key),
            Next::End => self.end(key),
        }
    }

    fn serve_all(&mut self) {
        let keys: Vec<_> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.serve(key);
        }
    }

    fn end(&mut self, key: usize) {
        if self.connections.try_remove(key).is_some() {
            // Closing the descriptor takes it out of the epoll instance.
            self.shared.connections.current.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends connections that were silent for too long.
    fn sweep(&mut self) {
        let limit = self.shared.settings.idle_timeout;
        let now = self.seconds();
        if limit == 0 || now == self.swept {
            return;
        }
        self.swept = now;
        let idle = |connection: &Connection| now.saturating_sub(connection.last_heard) > limit;
        let keys: Vec<_> =
            self.connections.iter().filter(|(_, connection)| idle(connection)).map(|(key, _)| key).collect();
        for key in keys {
            self.counters.count(Counter::IdleKicks);
            self.end(key);
        }
    }

    fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}
