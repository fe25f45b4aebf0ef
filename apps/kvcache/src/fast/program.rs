//! The object: loading it over a store's arena, comparing what both think lies there, attaching it.

use bpf_arena::arena::Arena;
use bpf_arena::error::{LoadError, UnknownName};
use bpf_arena::kernel::{AttachError, AttachTarget, Attachment, KernelEngine, KernelError, XdpMode};
use bpf_arena::typed::{GlobalError, LayoutError, MapTypeError, TypedMap, check_layout};
use bpf_arena::{App, Engine, Object, Program, UserEngine};

use super::network::NetworkError;
use crate::layout::{Bucket, Constants, Counters, Header, Item};

const OBJECT: &[u8] = include_bytes!("../../bpf/kvcache.bpf.o");

const XDP: &str = "kvcache_xdp";
const TC: &str = "kvcache_tc";

/// Where the kernel runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In the driver.
    Native,
    /// In the network stack, before it looks at packets.
    Generic,
    /// In traffic control, where packets come in: for what has no XDP.
    Tc,
}

impl Hook {
    /// Its name on the command line and in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tc => "tc",
        }
    }
}

/// Why the program cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FastError {
    /// The object could not be read.
    #[error(transparent)]
    Object(#[from] bpf_arena::error::OpenError),
    /// An engine refused it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no kernel engine here.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The object is not the one that goes with this server.
    #[error(transparent)]
    Missing(#[from] UnknownName),
    /// Program and store have different ideas of what lies in the arena.
    #[error("program and store differ: {0}")]
    Layout(#[from] LayoutError),
    /// The same of the header.
    #[error("program and store differ: {0}")]
    Header(#[from] GlobalError),
    /// The same of the counters.
    #[error("program and store differ: {0}")]
    Counters(#[from] MapTypeError),
    /// They have different numbers for the same thing.
    #[error("program and store differ: {found:?} is not {expected:?}")]
    Constants {
        /// The program's.
        found: Box<Constants>,
        /// The store's.
        expected: Box<Constants>,
    },
    /// The interface is not as it should be.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// It could not be attached.
    #[error("attaching the program ({hook}): {source}", hook = hook.name())]
    Attach {
        /// How.
        hook: Hook,
        /// What the kernel says.
        source: AttachError,
    },
}

/// The loaded object.
#[derive(Debug)]
pub(super) struct Loaded {
    xdp: Program,
    tc: Program,
    counters: TypedMap<u32, Counters>,
    in_kernel: bool,
}

impl Loaded {
    pub(super) fn in_process(arena: &Arena) -> Result<Self, FastError> {
        Self::load(UserEngine::default().arena(arena).into(), false)
    }

    pub(super) fn in_kernel(arena: &Arena) -> Result<Self, FastError> {
        Self::load(KernelEngine::new()?.arena(arena).into(), true)
    }

    fn load(engine: Engine, in_kernel: bool) -> Result<Self, FastError> {
        let app = Object::parse(OBJECT)?.load(engine)?;
        check(&app)?;
        Ok(Self {
            xdp: app.program(XDP)?.clone(),
            tc: app.program(TC)?.clone(),
            counters: app.typed_map("counters")?,
            in_kernel,
        })
    }

    pub(super) fn is_in_kernel(&self) -> bool {
        self.in_kernel
    }

    pub(super) fn xdp(&self) -> &Program {
        &self.xdp
    }

    pub(super) fn tc(&self) -> &Program {
        &self.tc
    }

    pub(super) fn counters(&self) -> Counters {
        let of_cpus = self.counters.get_per_cpu(0).ok().flatten().unwrap_or_default();
        of_cpus.iter().fold(Counters::default(), |sum, of_cpu| Counters {
            answered: sum.answered.wrapping_add(of_cpu.answered),
            hits: sum.hits.wrapping_add(of_cpu.hits),
            misses: sum.misses.wrapping_add(of_cpu.misses),
            foreign: sum.foreign.wrapping_add(of_cpu.foreign),
            other: sum.other.wrapping_add(of_cpu.other),
            too_long: sum.too_long.wrapping_add(of_cpu.too_long),
            contended: sum.contended.wrapping_add(of_cpu.contended),
        })
    }

    /// Attaches the program: where it is asked for, or in the best place that there is.
    pub(super) fn attach(
        &self,
        interface: u32,
        wanted: Option<Hook>,
    ) -> Result<(Hook, Attachment), FastError> {
        let every = [Hook::Native, Hook::Generic];
        let hooks = wanted.as_ref().map_or(&every[..], std::slice::from_ref);
        let mut refused = None;
        for hook in hooks {
            let (program, target) = match hook {
                Hook::Native => (&self.xdp, AttachTarget::Xdp { interface, mode: XdpMode::Native }),
                Hook::Generic => (&self.xdp, AttachTarget::Xdp { interface, mode: XdpMode::Generic }),
                Hook::Tc => (&self.tc, AttachTarget::TcIngress(interface)),
            };
            let attached = program.kernel().ok_or(AttachError::NotInKernel).and_then(|p| p.attach(target));
            match attached {
                Ok(attachment) => return Ok((*hook, attachment)),
                // The reason why the best place is refused tells most.
                Err(source) => refused = refused.or(Some(FastError::Attach { hook: *hook, source })),
            }
        }
        Err(refused.unwrap_or(FastError::Attach { hook: Hook::Generic, source: AttachError::NotInKernel }))
    }

    /// Puts the program in the place of an earlier server's; `false` if that is attached to nothing any more.
    pub(super) fn replace(&self, hook: Hook, attachment: &Attachment) -> Result<bool, FastError> {
        let program = if hook == Hook::Tc { &self.tc } else { &self.xdp };
        let replaced = program.kernel().ok_or(AttachError::NotInKernel).and_then(|p| attachment.replace(p));
        match replaced {
            Ok(()) => Ok(true),
            Err(AttachError::Link(error)) if error.errno() == Some(NOLINK) => Ok(false),
            Err(source) => Err(FastError::Attach { hook, source }),
        }
    }
}

/// What the kernel says of a link whose interface is gone.
const NOLINK: bpf_arena::kernel::Errno = bpf_arena::kernel::Errno::NOLINK;

/// Compares the types and numbers that the object was compiled with to the store's.
fn check(app: &App) -> Result<(), FastError> {
    app.global_ptr::<Header>("kv")?;
    if let Some(btf) = app.object().btf.as_deref() {
        check_layout::<Item>(btf, None)?;
        check_layout::<Bucket>(btf, None)?;
    }
    let found: Constants = app.global("constants")?;
    if found != Constants::OWN {
        return Err(FastError::Constants { found: Box::new(found), expected: Box::new(Constants::OWN) });
    }
    Ok(())
}
