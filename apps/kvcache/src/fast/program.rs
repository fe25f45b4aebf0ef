//! The object: loading it over a store's arena, and comparing what both think lies there.

use std::path::PathBuf;

use bpf_arena::arena::Arena;
use bpf_arena::error::{LoadError, UnknownName};
use bpf_arena::kernel::{AttachError, KernelEngine, KernelError};
use bpf_arena::typed::{GlobalError, LayoutError, check_layout};
use bpf_arena::{App, Engine, Object, Program, UserEngine};

use super::attach::Hook;
use super::network::NetworkError;
use crate::layout::{Bucket, Constants, Header, Item};

const OBJECT: &[u8] = include_bytes!("../../bpf/kvcache.bpf.o");

const XDP: &str = "kvcache_xdp";
const TC: &str = "kvcache_tc";

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
    /// What an earlier server left attached cannot be had, given a name or taken away.
    #[error("{}: {source}", path.display())]
    Link {
        /// Its name.
        path: PathBuf,
        /// Why not.
        source: AttachError,
    },
    /// Its name cannot be removed.
    #[error("{}: {source}", path.display())]
    Name {
        /// The name.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The loaded object.
#[derive(Debug)]
pub(super) struct Loaded {
    xdp: Program,
    tc: Program,
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
        Ok(Self { xdp: app.program(XDP)?.clone(), tc: app.program(TC)?.clone(), in_kernel })
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
}

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
