//! The server: sockets, workers, and an orderly end.
//!
//! One thread accepts connections and hands them to the workers in turn; each worker has an epoll instance, its
//! connections, and a UDP socket of its own on the shared port. Workers share the store and nothing else.

mod connection;
mod datagrams;
mod listen;
mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use tracing::{debug, info, warn};

pub use listen::{ListenError, UdpSockets};

use crate::commands::Shared;
use worker::{Mailbox, Worker};

const LISTENER: Token = Token(0);
const SIGNAL: Token = Token(1);

/// How often the store does what is due, and idle connections are looked for.
const TICK: Duration = Duration::from_secs(1);

/// A server whose sockets are bound, and which serves once it is run.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    tcp: Option<TcpListener>,
    udp: Option<UdpSockets>,
}

impl Server {
    /// Binds the sockets. Port 0 of `tcp` or `udp` takes any free port; `None` does without.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn bind(
        shared: Arc<Shared>,
        address: IpAddr,
        tcp: Option<u16>,
        udp: Option<u16>,
    ) -> Result<Self, ListenError> {
        let tcp = tcp.map(|port| listen::tcp(SocketAddr::new(address, port))).transpose()?;
        let count = shared.settings.threads;
        let udp = udp.map(|port| listen::udp(SocketAddr::new(address, port), count)).transpose()?;
        Ok(Self { shared, tcp: tcp.map(TcpListener::from_std), udp })
    }

    /// Where TCP is served.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// Where UDP is served.
    pub fn udp_address(&self) -> Option<SocketAddr> {
        self.udp.as_ref()?.address()
    }

    /// Serves until a byte can be read from `stop`, then ends connections and workers: what has been asked is still
    /// answered, to those who read their answers within a second.
    ///
    /// # Errors
    /// The operating system refuses what a server needs.
    pub fn run(self, stop: UnixStream) -> io::Result<()> {
        let Self { shared, mut tcp, udp } = self;
        let mut poll = Poll::new()?;
        let mut stop = mio::net::UnixStream::from_std(stop);
        poll.registry().register(&mut stop, SIGNAL, Interest::READABLE)?;
        if let Some(listener) = &mut tcp {
            poll.registry().register(listener, LISTENER, Interest::READABLE)?;
        }
        let workers = Workers::start(&shared, udp)?;
        let result = accept(&mut poll, tcp.as_ref(), &shared, &workers);
        info!("stopping");
        workers.stop();
        result
    }
}

/// The workers' threads.
struct Workers {
    threads: Vec<JoinHandle<()>>,
    mailboxes: Vec<Arc<Mailbox>>,
    next: AtomicUsize,
    ending: Arc<AtomicBool>,
}

impl Workers {
    fn start(shared: &Arc<Shared>, udp: Option<UdpSockets>) -> io::Result<Self> {
        let mut sockets = udp.map(UdpSockets::into_sockets).unwrap_or_default().into_iter();
        let ending = Arc::new(AtomicBool::new(false));
        let mut workers =
            Self { threads: Vec::new(), mailboxes: Vec::new(), next: AtomicUsize::new(0), ending };
        for index in 0..shared.settings.threads {
            let ending = Arc::clone(&workers.ending);
            let poll = Poll::new()?;
            let mailbox = Arc::new(Mailbox::new(&poll)?);
            workers.mailboxes.push(Arc::clone(&mailbox));
            let (shared, socket) = (Arc::clone(shared), sockets.next());
            let body = move || match Worker::new(&shared, index, poll, &mailbox, socket) {
                Ok(mut worker) => worker.run(&ending),
                Err(error) => warn!(%error, index, "a worker cannot start"),
            };
            workers.threads.push(std::thread::Builder::new().name(format!("worker-{index}")).spawn(body)?);
        }
        Ok(workers)
    }

    fn hand_over(&self, stream: mio::net::TcpStream) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let index = next.checked_rem(self.mailboxes.len()).unwrap_or(0);
        if let Some(mailbox) = self.mailboxes.get(index) {
            mailbox.put(stream);
        }
    }

    fn stop(self) {
        self.ending.store(true, Ordering::Release);
        for mailbox in &self.mailboxes {
            mailbox.wake();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                warn!("a worker ended in a panic");
            }
        }
    }
}

/// Accepts until told to stop.
fn accept(poll: &mut Poll, tcp: Option<&TcpListener>, shared: &Shared, workers: &Workers) -> io::Result<()> {
    let mut events = Events::with_capacity(16);
    let mut last = std::time::Instant::now();
    loop {
        match poll.poll(&mut events, Some(TICK)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        if events.iter().any(|event| event.token() == SIGNAL) {
            return Ok(());
        }
        if let Some(listener) = tcp
            && events.iter().any(|event| event.token() == LISTENER)
        {
            accept_all(listener, shared, workers);
        }
        if last.elapsed() >= TICK {
            last = std::time::Instant::now();
            shared.store.maintain();
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Shared, workers: &Workers) {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => admit(stream, peer, shared, workers),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                // Out of descriptors, most likely: those that close make room, and a pause keeps us from spinning.
                warn!(%error, "cannot accept a connection");
                std::thread::sleep(Duration::from_millis(10));
                return;
            }
        }
    }
}

fn admit(stream: mio::net::TcpStream, peer: SocketAddr, shared: &Shared, workers: &Workers) {
    let connections = &shared.connections;
    if connections.current.load(Ordering::Relaxed) >= shared.settings.max_connections {
        connections.rejected.fetch_add(1, Ordering::Relaxed);
        connection::turn_away(&stream);
        return;
    }
    connections.current.fetch_add(1, Ordering::Relaxed);
    connections.total.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, %peer, "small answers may be delayed");
    }
    workers.hand_over(stream);
}
