//! What a program may use where it is going to run.

/// The environment a program is verified against: which helpers and kfuncs the caller knows to execute is *not*
/// part of it; those are loading errors of an engine. Privileges are root's with `CAP_BPF` and `CAP_PERFMON`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Env {
    /// Bytes of context a `SEC("syscall")` program may be given at most; 0 stands for the kernel's own bound.
    pub max_ctx_bytes: u32,
}
