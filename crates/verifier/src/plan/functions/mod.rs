//! Functions: what BTF says a global one is given, what the code of each does, and the stack of call chains.

mod depth;
mod traits;

use bpf_object::{Btf, Kind, TypeId, essential_name};
use isa::Reg;

pub(crate) use depth::check_stack;
pub(crate) use traits::Functions;

use crate::domain::scalar::Scalar;
use crate::kernel_types::{is_number, kind_name, shown_name};
use crate::plan::Plan;
use crate::report::reason::{FunctionFault, Reason};
use crate::rules::programs::ctx_type;
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};
use crate::walk::origin::Origin;

/// A parameter of a global function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    /// An integer or enum.
    Number,
    /// The context.
    Ctx,
    /// `__arg_arena`.
    Arena,
    /// A dynptr, which the function may not change.
    Dynptr,
    /// A pointer to so many bytes.
    Mem { size: u32, nullable: bool },
    /// A pointer to a structure of the kernel, trusted.
    Trusted { ty: TypeId, nullable: bool },
    /// `__arg_untrusted`: anything, read by guarded loads. With a type: a structure of the kernel.
    Untrusted { ty: Option<TypeId> },
}

impl Parameter {
    /// The register a function verified on its own finds in it. `fresh` gives identities.
    pub(crate) fn register(self, fresh: &mut dyn FnMut() -> u32) -> RegState {
        let of = |kind| RegState::pointer(kind, Origin::NONE);
        let or_null = |nullable: bool| if nullable { Flags::MAYBE_NULL } else { Flags::NONE };
        let structure = |ty| of(RegType::PtrToBtfId { of: BtfOwner::Kernel, ty });
        match self {
            Self::Number | Self::Arena => RegState::number(Scalar::UNKNOWN, Origin::NONE),
            Self::Ctx => of(RegType::PtrToCtx),
            Self::Dynptr => RegState { id: fresh(), ..of(RegType::ConstPtrToDynptr) },
            Self::Mem { size, nullable } => {
                let pointer = of(RegType::PtrToMem { size }).with(or_null(nullable));
                RegState { id: fresh(), ..pointer }
            }
            Self::Trusted { ty, nullable } => {
                let pointer = structure(ty).with(Flags::TRUSTED).with(or_null(nullable));
                RegState { id: fresh(), ..pointer }
            }
            Self::Untrusted { ty: Some(ty) } => {
                RegState { id: fresh(), ..structure(ty).with(Flags::UNTRUSTED) }
            }
            Self::Untrusted { ty: None } => {
                let pointer = of(RegType::PtrToMem { size: 0 }).with(Flags::UNTRUSTED).with(Flags::RDONLY);
                RegState { id: fresh(), ..pointer }
            }
        }
    }
}

/// The parameters of a global function, from its BTF (the kernel's `btf_prepare_func_args`).
pub(crate) fn parameters(plan: &Plan<'_>, index: u32) -> Result<Vec<Parameter>, Reason> {
    let subprog = plan.subprog(index).ok_or(Reason::SubprogLayout)?;
    let name = || subprog.name.clone();
    let (Some(btf), Some(func)) = (plan.program.btf.as_deref(), subprog.btf_func) else {
        return Err(FunctionFault::WithoutBtf { name: name() }.into());
    };
    let proto = match btf.kind(func) {
        Some(Kind::Func { proto, .. }) => btf.kind(*proto),
        _ => None,
    };
    let Some(Kind::FuncProto(proto)) = proto else {
        return Err(FunctionFault::WithoutBtf { name: name() }.into());
    };
    let count = proto.params.len();
    if count > Reg::ARGS.len() {
        return Err(FunctionFault::TooManyArguments { name: name(), count }.into());
    }
    if !is_number(btf, proto.ret) {
        return Err(FunctionFault::ReturnType { name: name() }.into());
    }
    let one = |(i, param): (usize, &bpf_object::Param)| {
        let component = u32::try_from(i).ok();
        let tags = btf.decl_tags(func, component).filter_map(|tag| tag.strip_prefix("arg:"));
        let argument = Argument { plan, btf, function: &subprog.name, index: i, ty: param.ty };
        argument.parameter(Tags::read(i, tags)?).map_err(Reason::from)
    };
    proto.params.iter().enumerate().map(one).collect()
}

/// The tags of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tags(u8);

impl Tags {
    const NONE: Self = Self(0);
    const CTX: Self = Self(1);
    const TRUSTED: Self = Self(1 << 1);
    const NONNULL: Self = Self(1 << 2);
    const NULLABLE: Self = Self(1 << 3);
    const ARENA: Self = Self(1 << 4);
    const UNTRUSTED: Self = Self(1 << 5);

    fn read<'t>(argument: usize, tags: impl Iterator<Item = &'t str>) -> Result<Self, FunctionFault> {
        let mut all = Self::NONE;
        for tag in tags {
            all.0 |= match tag {
                "ctx" => Self::CTX.0,
                "trusted" => Self::TRUSTED.0,
                "nonnull" => Self::NONNULL.0,
                "nullable" => Self::NULLABLE.0,
                "arena" => Self::ARENA.0,
                "untrusted" => Self::UNTRUSTED.0,
                _ => return Err(FunctionFault::UnknownTag { argument }),
            };
        }
        Ok(all)
    }

    fn has(self, tag: Self) -> bool {
        self.0 & tag.0 != 0
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn without(self, tag: Self) -> Self {
        Self(self.0 & !tag.0)
    }
}

/// One argument of a global function.
struct Argument<'a> {
    plan: &'a Plan<'a>,
    btf: &'a Btf,
    function: &'a str,
    index: usize,
    ty: TypeId,
}

impl Argument<'_> {
    fn parameter(&self, tags: Tags) -> Result<Parameter, FunctionFault> {
        let (btf, argument) = (self.btf, self.index);
        let resolved = btf.resolve(self.ty);
        let Some(Kind::Ptr(target)) = btf.kind(resolved) else {
            return if tags != Tags::NONE {
                Err(FunctionFault::TagOfNumber { argument })
            } else if is_number(btf, self.ty) {
                Ok(Parameter::Number)
            } else {
                let (kind, name) = (kind_name(btf, resolved), self.function.to_owned());
                Err(FunctionFault::ArgumentType { argument, kind, name })
            };
        };
        let only = |allowed: Tags| {
            let fault = FunctionFault::Tags { argument };
            if tags.without(allowed) == Tags::NONE { Ok(()) } else { Err(fault) }
        };
        let prog_type = self.plan.rules.prog_type;
        if tags.has(Tags::CTX) || ctx_type::is_named(prog_type, btf, *target) {
            only(Tags::CTX)?;
            if tags.has(Tags::CTX) {
                let checked = ctx_type::check_tagged(prog_type, self.plan.attach, btf, *target);
                checked.map_err(|fault| ctx_fault(argument, fault))?;
            }
            return Ok(Parameter::Ctx);
        }
        let pointee = btf.resolve(*target);
        let structure = matches!(btf.kind(pointee), Some(Kind::Struct(_) | Kind::Fwd { .. }));
        if structure && btf.name(pointee) == "bpf_dynptr" {
            only(Tags::NONE)?;
            return Ok(Parameter::Dynptr);
        }
        if tags.has(Tags::TRUSTED) {
            only(Tags::TRUSTED.or(Tags::NULLABLE))?;
            return Ok(Parameter::Trusted {
                ty: self.kernel_type(pointee)?,
                nullable: tags.has(Tags::NULLABLE),
            });
        }
        if tags.has(Tags::UNTRUSTED) {
            return self.untrusted(tags, pointee);
        }
        if tags.has(Tags::ARENA) {
            let alone = tags == Tags::ARENA;
            return if alone { Ok(Parameter::Arena) } else { Err(FunctionFault::ArenaTags { argument }) };
        }
        only(Tags::NONNULL)?;
        let size = btf.size_of(pointee).and_then(|size| u32::try_from(size).ok());
        let sized =
            !matches!(btf.kind(pointee), None | Some(Kind::Void | Kind::Fwd { .. } | Kind::FuncProto(_)));
        match size.filter(|_| sized) {
            Some(size) => Ok(Parameter::Mem { size, nullable: !tags.has(Tags::NONNULL) }),
            None => {
                let (kind, name) = (kind_name(btf, pointee), btf.name(pointee).to_owned());
                Err(FunctionFault::ArgumentSize { argument, kind, name })
            }
        }
    }

    fn untrusted(&self, tags: Tags, pointee: TypeId) -> Result<Parameter, FunctionFault> {
        let argument = self.index;
        if tags != Tags::UNTRUSTED {
            return Err(FunctionFault::UntrustedTags { argument });
        }
        let plain = matches!(self.btf.kind(pointee), None | Some(Kind::Void | Kind::Float { .. }));
        if plain || is_number(self.btf, pointee) {
            return Ok(Parameter::Untrusted { ty: None });
        }
        let ty = self.kernel_type(pointee)?;
        let kernel = self.plan.kernel();
        if kernel.is_some_and(|kernel| matches!(kernel.kind(ty), Some(Kind::Struct(_)))) {
            return Ok(Parameter::Untrusted { ty: Some(ty) });
        }
        let kind = kernel.map_or("UNKNOWN", |kernel| kind_name(kernel, ty));
        Err(FunctionFault::UntrustedType { argument, kind, name: shown_name(self.btf, pointee).to_owned() })
    }

    /// The kernel's type of the same kind and name. What follows three underscores in the name does not count.
    fn kernel_type(&self, pointee: TypeId) -> Result<TypeId, FunctionFault> {
        let (kind, name) = (kind_name(self.btf, pointee), self.btf.name(pointee).to_owned());
        let tag = self.btf.kind(pointee).map(Kind::tag);
        let found = tag.and_then(|tag| self.plan.kernel()?.find(essential_name(&name), tag));
        found.ok_or(FunctionFault::NotInKernel { argument: self.index, kind, name })
    }
}

fn ctx_fault(argument: usize, fault: ctx_type::Fault) -> FunctionFault {
    match fault {
        ctx_type::Fault::Nameless => FunctionFault::CtxWithoutName { argument },
        ctx_type::Fault::NotVoid => FunctionFault::CtxNotVoid { argument },
        ctx_type::Fault::NotStruct(expected) => FunctionFault::CtxNotStruct { argument, expected },
    }
}
