//! Bound sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// What datagrams may wait in: a burst of requests must not be lost while a worker is busy.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({protocol}): {error}")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// Why.
    pub error: io::Error,
}

/// One UDP socket for each worker, all on one port; the kernel spreads clients over them.
#[derive(Debug)]
pub struct UdpSockets(Vec<UdpSocket>);

impl UdpSockets {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.0.first()?.local_addr().ok()
    }

    pub(super) fn into_sockets(self) -> Vec<UdpSocket> {
        self.0
    }
}

pub(super) fn tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|error| ListenError { address, protocol: "TCP", error })
}

pub(super) fn udp(address: SocketAddr, count: usize) -> Result<UdpSockets, ListenError> {
    let open = || {
        // The port is to be shared among our sockets, not with another server that shares as readily: the first one
        // asks for it alone.
        let alone = bound_udp(address, false)?;
        let address = alone.local_addr()?;
        drop(alone);
        (0..count).map(|_| bound_udp(address, true)).collect::<io::Result<Vec<_>>>()
    };
    open().map(UdpSockets).map_err(|error| ListenError { address, protocol: "UDP", error })
}

fn bound_udp(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
