//! Functions of the host that programs call, and objects they are given: kfuncs of your own, and stand-ins for those that
//! need a kernel.
//!
//! A closure is a kfunc: its types are its signature, which is compared with the `extern` declaration in the object's BTF when
//! that is loaded, and which the verifier checks each call against.
//!
//! | C | Rust, as parameter | Rust, as result |
//! | --- | --- | --- |
//! | integers | `u8` to `i64`, `bool` | the same |
//! | `struct point *p`: memory of the program's | [`Ptr<Point>`](Ptr) | |
//! | `void *data, u32 size` | [`Buffer`], for both | |
//! | `const char *text`, a constant | `String` | |
//! | `struct node __arena *n` | [`ArenaPtr<Node>`](crate::typed::ArenaPtr) | the same |
//! | the program's context | [`Ctx`] | |
//! | `struct session *s`: an object that is not the program's | [`Object<Session>`](Object), [`Released<Session>`](Released) | the same, [`Acquired<Session>`](Acquired) |
//! | NULL as well | `Option` of a pointer | `Option` of an object |
//! | `void` | | `()` |
//!
//! Each may also return `Result<_, CallError>`: an error ends the run with [`RunError::Host`](crate::RunError::Host).
//!
//! # Stand-ins
//!
//! [`UserEngine::mock`] takes the place of a kernel's function: of a kfunc such as `bpf_task_from_pid`, whose prototype and
//! rules come from the kernel's BTF that the engine was given ([`UserEngine::env`]), or of a helper. Objects that it hands out are
//! [`Object`]s with the layout of that BTF.

pub(crate) mod argument;
mod call;
mod function;
mod object;
mod signature;
pub(crate) mod tasks;
mod types;
pub(crate) mod variables;
mod world;

use std::fmt;
use std::sync::Arc;

pub use argument::Argument;
pub use call::{Buffer, Call, CallError, Ctx, Ptr};
pub use function::{Acquired, Function, Param, Released, Returned};
use object::Image;
pub use object::{Cgroup, File, Object, ObjectError, Sock, Structure, Task};
pub use signature::{
    ObjectParam, ParamType, ResultType, Signature, SignatureError, SignatureFault, SignaturePlace,
};
use variables::HostVariables;
pub(crate) use world::World;

use bpf_object::Btf;

use crate::UserEngine;

impl UserEngine {
    /// Gives programs a kfunc of this name.
    ///
    /// ```
    /// use bpf_arena::Engine;
    /// use bpf_arena::host::Call;
    ///
    /// // extern int host_add(u32 a, s64 b) __ksym;
    /// let engine = Engine::user().kfunc("host_add", |_: &mut Call<'_>, a: u32, b: i64| -> i32 {
    ///     i32::try_from(i64::from(a) + b).unwrap_or(-1)
    /// });
    /// ```
    ///
    /// A later function of the same name takes the place of an earlier one. The names of this engine's own kfuncs are
    /// refused when a program is loaded that calls them: see [`UserEngine::mock`].
    #[must_use]
    pub fn kfunc<Args, F: Function<Args>>(self, name: &'static str, function: F) -> Self {
        self.provide(HostCode::new(name, Role::Own, function))
    }

    /// Takes the place of a function of the kernel, kfunc or helper, with this behaviour.
    ///
    /// Where the kernel's BTF describes a kfunc, its prototype is the kernel's and the closure's types must agree with it. A helper's
    /// prototype is fixed; the closure gets its registers by the types it names.
    #[must_use]
    pub fn mock<Args, F: Function<Args>>(self, name: &'static str, function: F) -> Self {
        let role = isa::helper_number(name).map_or(Role::Mock, Role::Helper);
        self.provide(HostCode::new(name, role, function))
    }

    /// The kernel that programs are for, by its types (`/sys/kernel/btf/vmlinux`): CO-RE relocations are answered by them, and
    /// programs verified against them. Objects made with them ([`Object::new`]) lie where programs look.
    #[must_use]
    pub fn kernel_types(self, types: Arc<Btf>) -> Self {
        let env = self.verifier_env().clone().with_kernel(Arc::clone(&types));
        self.env(env).target_btf(types)
    }

    fn provide(mut self, code: HostCode) -> Self {
        self.set().host.insert(code);
        self
    }
}

/// What a function of the host is to programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A kfunc that no kernel has.
    Own,
    /// A kfunc of the kernel's.
    Mock,
    /// The helper of this number.
    Helper(u32),
}

/// A function of the host.
pub(crate) struct HostCode {
    pub(crate) role: Role,
    pub(crate) signature: Signature,
    call: Box<CallFn>,
}

type CallFn = dyn Fn(&mut Call<'_>, [u64; 5]) -> Result<u64, CallError> + Send + Sync;

impl HostCode {
    fn new<Args, F: Function<Args>>(name: &'static str, role: Role, function: F) -> Self {
        let call = Box::new(move |call: &mut Call<'_>, registers| function.call(call, registers));
        Self { role, signature: F::signature(name), call }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.signature.name
    }

    /// Calls it.
    pub(crate) fn call(&self, call: &mut Call<'_>, registers: [u64; 5]) -> Result<u64, CallError> {
        (self.call)(call, registers)
    }
}

impl fmt::Debug for HostCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCode").field("role", &self.role).field("signature", &self.signature).finish()
    }
}

/// The functions that an engine's host provides.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostFunctions {
    list: Vec<Arc<HostCode>>,
    variables: HostVariables,
}

impl HostFunctions {
    fn insert(&mut self, code: HostCode) {
        self.list.retain(|known| known.name() != code.name());
        self.list.push(Arc::new(code));
    }

    /// The kfunc with this name.
    pub(crate) fn kfunc(&self, name: &str) -> Option<&Arc<HostCode>> {
        self.list.iter().find(|code| code.name() == name && !matches!(code.role, Role::Helper(_)))
    }

    /// What takes the place of the helper with this number.
    pub(crate) fn helper(&self, number: u32) -> Option<&Arc<HostCode>> {
        self.list.iter().find(|code| code.role == Role::Helper(number))
    }

    /// The object that stands in for the variable of this name.
    pub(crate) fn variable(&self, name: &str) -> Option<&Arc<Image>> {
        self.variables.get(name)
    }

    fn kfuncs(&self) -> impl Iterator<Item = &Arc<HostCode>> {
        self.list.iter().filter(|code| !matches!(code.role, Role::Helper(_)))
    }

    /// The structures of objects that the kernel does not describe.
    pub(crate) fn types(&self, kernel: Option<&Arc<Btf>>) -> Option<Arc<Btf>> {
        types::of(self.kfuncs().map(|code| &code.signature), kernel)
    }

    /// What programs are verified against: `env` with these functions.
    pub(crate) fn verifier_env(&self, env: &verifier::Env) -> verifier::Env {
        let function = |code: &Arc<HostCode>| {
            let mut function = code.signature.to_verifier();
            function.stands_in = code.role == Role::Mock;
            function
        };
        let functions: Vec<_> = self.kfuncs().map(function).collect();
        env.clone().with_host(verifier::Host::new(functions, self.types(env.kernel.as_ref())))
    }
}
