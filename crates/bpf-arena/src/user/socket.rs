//! Contexts with pointers in them, other than packets': made for a run, so that no pointer is the caller's.

use std::sync::atomic::Ordering::Relaxed;

use bpf_object::{ProgType, Program};
use isa::Size;

use super::image::{Instance, Setup};
use crate::Outcome;
use crate::access::Place;
use crate::error::RunError;
use crate::runtime::Invocation;
use crate::runtime::packets::Blocks;
use crate::runtime::packets::socket::{self, AF_INET, AF_INET6};
use crate::socket::{Socket, SocketError, SocketRun};
use crate::typed::{ArenaType, Bytes};

/// A context about a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of the structure.
    bytes: usize,
    /// Where the pointer to the socket is.
    socket: usize,
    /// Whether it may be NULL.
    socket_or_null: bool,
    /// Where the pointers to the data's beginning and end are.
    data: Option<[usize; 2]>,
    /// More pointers, which are NULL.
    null: Option<usize>,
}

const fn layout(bytes: usize, socket: usize) -> Layout {
    Layout { bytes, socket, socket_or_null: false, data: None, null: None }
}

impl Layout {
    /// Of programs of this type; `None` if they are not about a socket.
    pub(super) fn of(prog_type: ProgType) -> Option<Self> {
        let null = |layout| Self { socket_or_null: true, ..layout };
        let data = |at, layout| Self { data: Some([at, at + 8]), ..layout };
        match prog_type {
            ProgType::CgroupSockAddr => Some(layout(72, 64)),
            ProgType::CgroupSockopt => Some(data(8, layout(40, 0))),
            ProgType::SockOps => Some(data(192, null(layout(224, 184)))),
            ProgType::SkLookup => Some(null(layout(72, 0))),
            ProgType::SkReuseport => Some(Self { null: Some(48), ..data(0, layout(56, 40)) }),
            ProgType::SkMsg => Some(data(0, layout(80, 72))),
            _ => None,
        }
    }

    /// Where its pointers are.
    fn pointers(&self) -> impl Iterator<Item = usize> {
        [Some(self.socket), self.null].into_iter().flatten().chain(self.data.into_iter().flatten())
    }
}

impl Instance {
    /// Runs a program that is about a socket.
    ///
    /// # Errors
    /// The context does not fit, programs of this type are not about a socket, or the run was ended.
    pub fn run_socket(&self, run: &mut SocketRun<'_>) -> Result<Outcome, RunError> {
        self.repeat_socket(run, 1)
    }

    /// The same, `count` times.
    pub(super) fn repeat_socket(&self, run: &mut SocketRun<'_>, count: u32) -> Result<Outcome, RunError> {
        let mut stage = Stage::new(self.program(), run)?;
        let outcome = self.run_prepared(&mut stage, count)?;
        run.ctx.iter_mut().zip(&stage.context).for_each(|(to, from)| *to = *from);
        run.data.iter_mut().zip(&stage.data).for_each(|(to, from)| *to = *from);
        Ok(outcome)
    }
}

/// A run with a socket: what goes in, and then what came out.
pub(super) struct Stage {
    layout: Layout,
    context: Vec<u8>,
    socket: Option<Socket>,
    /// The context is a question of which the program sees a part and which it cannot change.
    is_lookup: bool,
    data: Vec<u8>,
    /// Where the context and the data are.
    addresses: [u64; 2],
}

impl Stage {
    /// Checks what can be checked beforehand.
    pub(super) fn new(program: &Program, run: &SocketRun<'_>) -> Result<Self, SocketError> {
        let prog_type = program.kind.prog_type;
        let layout = prog_type.and_then(Layout::of).ok_or(SocketError::ProgramType)?;
        if layout.data.is_none() && !run.data.is_empty() {
            return Err(SocketError::NoData);
        }
        let tail = run.ctx.get(layout.bytes..).unwrap_or_default();
        if tail.iter().any(|byte| *byte != 0) {
            return Err(SocketError::ContextTooLong { limit: layout.bytes });
        }
        let mut context = vec![0; layout.bytes];
        context.iter_mut().zip(&*run.ctx).for_each(|(to, from)| *to = *from);
        for at in layout.pointers() {
            let given = context.get(at..at + 8).unwrap_or_default();
            if let Some(byte) = given.iter().position(|byte| *byte != 0) {
                return Err(SocketError::ContextField { offset: at + byte });
            }
        }
        let is_lookup = prog_type == Some(ProgType::SkLookup);
        if is_lookup {
            check_lookup(&context)?;
        }
        Ok(Self {
            layout,
            context,
            socket: run.socket,
            is_lookup,
            data: run.data.to_vec(),
            addresses: [0; 2],
        })
    }

    /// The socket in memory; NULL where there is none.
    fn socket(&self, run: &Invocation<'_>) -> Option<u64> {
        let socket = match self.socket {
            Some(socket) => socket,
            None if self.layout.socket_or_null => return Some(0),
            None => Socket::default(),
        };
        let mut bytes = [0; size_of::<Socket>()];
        socket.store_to(&Bytes::new(&mut bytes), 0).ok()?;
        run.new_socket(&bytes)
    }
}

impl Setup for Stage {
    fn before(&mut self, run: &mut Invocation<'_>) -> Option<u64> {
        let block = run.block(self.layout.bytes)?;
        let context = block.place(0, self.layout.bytes as u64)?;
        context.write(&self.context);
        if self.is_lookup {
            show_lookup(context);
        }
        set(context, self.layout.socket, self.socket(run)?);
        let data = run.block(self.data.len())?;
        if let Some([start, end]) = self.layout.data {
            data.place(0, self.data.len() as u64)?.write(&self.data);
            set(context, start, data.address());
            set(context, end, data.address() + self.data.len() as u64);
        }
        self.addresses = [block.address(), data.address()];
        Some(block.address())
    }

    fn after(&mut self, run: &mut Invocation<'_>) -> Option<()> {
        let [context, data] = self.addresses;
        let context = run.memory(context, self.layout.bytes as u64, true).ok()?;
        run.memory(data, self.data.len() as u64, true).ok()?.read(&mut self.data);
        if self.is_lookup {
            // The socket it has chosen is known by its cookie.
            let chosen = context.load(Size::DW, Relaxed);
            let cookie = run.socket_at(chosen).map_or(0, socket::cookie);
            self.context.iter_mut().zip(cookie.to_ne_bytes()).for_each(|(to, from)| *to = from);
            return Some(());
        }
        for at in self.layout.pointers() {
            set(context, at, 0);
        }
        context.read(&mut self.context);
        Some(())
    }
}

/// Stores a pointer of the context.
fn set(context: Place<'_>, at: usize, address: u64) {
    if let Some(place) = context.at(at) {
        place.store(Size::DW, address, Relaxed);
    }
}

/// What the program sees of a lookup: families and protocols of sixteen bits, and addresses of its family alone.
fn show_lookup(context: Place<'_>) {
    const V4: [(usize, usize); 2] = [(16, 4), (40, 4)];
    const V6: [(usize, usize); 2] = [(20, 16), (44, 16)];
    let family = context.at(8).map_or(0, |place| place.load(Size::H, Relaxed));
    let other = if family == u64::from(AF_INET) { V6 } else { V4 };
    // Behind family, protocol and the remote port, there are two bytes each that the kernel has not.
    for (at, len) in [(10, 2), (14, 2), (38, 2)].into_iter().chain(other) {
        if let Some(place) = context.at(at) {
            place.write(&vec![0; len]);
        }
    }
}

/// What the kernel checks of the context of a lookup (`bpf_prog_test_run_sk_lookup`).
fn check_lookup(context: &[u8]) -> Result<(), SocketError> {
    /// `ingress_ifindex`, which a test run cannot give.
    const BEHIND: usize = 64;
    let word = |at: usize| {
        let bytes = context.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let rest = context.get(BEHIND..).unwrap_or_default();
    if let Some(byte) = rest.iter().position(|byte| *byte != 0) {
        return Err(SocketError::ContextField { offset: BEHIND + byte });
    }
    let port = word(60);
    if port > u32::from(u16::MAX) {
        return Err(SocketError::Port { port });
    }
    #[allow(clippy::cast_possible_truncation, reason = "the kernel keeps sixteen bits")]
    let family = word(8) as u16;
    if [AF_INET, AF_INET6].contains(&u32::from(family)) {
        Ok(())
    } else {
        Err(SocketError::Family { family })
    }
}
