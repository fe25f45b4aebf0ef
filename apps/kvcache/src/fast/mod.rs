//! Answers by the program: `bpf/kvcache.bpf.c`, which reads the store's arena beside its threads.
//!
//! One object for both engines. In the kernel it is attached to an interface and answers before the network stack sees a packet; in
//! this process it is run on each datagram that the server receives, in a frame that is put around it. What it does not answer
//! comes to the server as if it were not there.

mod attach;
mod frame;
mod network;
mod program;

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bpf_arena::PacketRun;

pub use attach::Hook;
pub(crate) use attach::forget;
pub use network::NetworkError;
pub use program::FastError;

use self::attach::Attached;
use self::frame::{FRAME_MAX, HEADERS};
use self::program::Loaded;
use crate::store::Store;

/// `XDP_TX`: the packet is an answer.
pub const XDP_TX: u32 = 3;

/// Most bytes of a datagram, memcached's frame included: as memcached cuts its answers.
pub const DATAGRAM_MAX: u32 = 1400;

/// Who runs the program.
#[derive(Clone, Debug, Default)]
pub enum EngineKind {
    /// Nobody.
    None,
    /// This process, on each datagram.
    #[default]
    User,
    /// The kernel, at an interface.
    Kernel(AttachTo),
}

/// What the kernel engine answers, and where.
#[derive(Clone, Debug)]
pub struct AttachTo {
    /// The interface's name, in this process's network namespace.
    pub interface: String,
    /// The UDP port.
    pub port: u16,
    /// The address that is answered for; unspecified: those of the interface.
    pub address: IpAddr,
    /// Where the program runs. At XDP: and behind it in traffic control, for answers that a packet has no room for. `None`: at XDP, in
    /// the driver if that can, otherwise in the network stack; on an interface that is no device, in traffic control.
    pub hook: Option<Hook>,
}

/// The program that answers requests out of the store's arena.
#[derive(Debug)]
pub struct FastPath {
    loaded: Option<Loaded>,
    attached: Attached,
}

thread_local! {
    /// A frame, and the one that answers it.
    static BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = RefCell::new((Vec::new(), vec![0; FRAME_MAX]));
}

impl FastPath {
    /// No program: everything is the server's.
    #[must_use]
    pub fn none() -> Self {
        Self { loaded: None, attached: Attached::new() }
    }

    /// The program in this process.
    ///
    /// # Errors
    /// It cannot be loaded over this arena.
    pub fn user(store: &Store) -> Result<Self, FastError> {
        let loaded = Loaded::in_process(store.arena())?;
        store.answer_for(frame::PORT, &[], DATAGRAM_MAX);
        Ok(Self { loaded: Some(loaded), attached: Attached::new() })
    }

    /// The program in the kernel, attached to an interface.
    ///
    /// # Errors
    /// It cannot be loaded or attached, or the interface is not there.
    pub fn kernel(store: &Store, to: &AttachTo) -> Result<Self, FastError> {
        Self::kernel_over(store, to, None)
    }

    /// The same, in the place of an earlier server's program if there is one under its names in this folder; names are given there.
    pub(crate) fn kernel_over(
        store: &Store,
        to: &AttachTo,
        folder: Option<&Path>,
    ) -> Result<Self, FastError> {
        let loaded = Loaded::in_kernel(store.arena())?;
        let network = network::look_up(to)?;
        store.answer_for(to.port, &network.addresses, network.datagram_max.min(DATAGRAM_MAX));
        let attached = attach::attach(store, &loaded, &network, to.hook, folder)?;
        Ok(Self { loaded: Some(loaded), attached })
    }

    /// The program in the kernel, attached nowhere: for test runs, on any address and this port.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub fn kernel_unattached(store: &Store, port: u16) -> Result<Self, FastError> {
        let loaded = Loaded::in_kernel(store.arena())?;
        store.answer_for(port, &[], DATAGRAM_MAX);
        Ok(Self { loaded: Some(loaded), attached: Attached::new() })
    }

    /// Where the kernel runs it, the first to see a packet first.
    pub fn hooks(&self) -> impl Iterator<Item = Hook> {
        self.attached.iter().map(|(hook, _)| *hook)
    }

    /// Runs the program of the user engine on a datagram (the memcached frame and what follows). Whether it answered: then
    /// `reply` is the datagram to send back. The kernel's program has seen the packet before: that is not asked again.
    pub fn answer(&self, datagram: &[u8], reply: &mut Vec<u8>) -> bool {
        reply.clear();
        let Some(loaded) = self.loaded.as_ref().filter(|loaded| !loaded.is_in_kernel()) else { return false };
        BUFFERS.with_borrow_mut(|(packet, out)| {
            if !frame::wrap(datagram, packet) {
                return false;
            }
            let mut run = PacketRun { data: packet, data_out: out, ..PacketRun::default() };
            let Ok(outcome) = loaded.xdp().run_packet(&mut run) else { return false };
            if outcome.return_value != XDP_TX {
                return false;
            }
            let answer = out.get(HEADERS..outcome.data_len);
            reply.extend_from_slice(answer.unwrap_or_default());
            answer.is_some()
        })
    }

    /// The program at XDP, to be run on packets; `None` without a program.
    #[must_use]
    pub fn xdp(&self) -> Option<&bpf_arena::Program> {
        self.loaded.as_ref().map(Loaded::xdp)
    }

    /// The program at traffic control, to be run on packets; `None` without a program.
    #[must_use]
    pub fn tc(&self) -> Option<&bpf_arena::Program> {
        self.loaded.as_ref().map(Loaded::tc)
    }
}

/// A store with the program that answers from it, opened together.
#[derive(Debug)]
pub struct Cache {
    /// The store.
    pub store: Arc<Store>,
    /// The program's half.
    pub fast: FastPath,
}
