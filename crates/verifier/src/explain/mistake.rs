//! What is wrong, by the rule that was broken.

use isa::{AluOp, Insn, Reg};

use super::{About, help};
use crate::error::LoadedFrom;
use crate::reason::{
    Access, BoundsFault, CallFault, ContextFault, FunctionFault, KfuncFault, MemoryFault, ObjectFault,
    Reason, TypeName, Unsupported,
};

/// A mistake in words.
pub(super) struct Mistake {
    pub(super) title: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
    /// Whether where the value at fault comes from is part of the story.
    pub(super) explains_value: bool,
}

fn mistake(title: impl Into<String>, label: impl Into<String>, help: &str) -> Mistake {
    let help = (!help.is_empty()).then(|| help.to_owned());
    Mistake { title: title.into(), label: label.into(), help, explains_value: true }
}

impl Mistake {
    /// It is not the value that is wrong, but what is done here.
    fn about_place(self) -> Self {
        Self { explains_value: false, ..self }
    }

    fn helped_by(self, help: String) -> Self {
        Self { help: Some(help), ..self }
    }
}

/// The mistake.
pub(super) fn of(about: &About<'_>) -> Mistake {
    of_reason(about, about.rejection.reason())
}

fn of_reason(about: &About<'_>, reason: &Reason) -> Mistake {
    let found = match reason {
        Reason::Unsupported(fault) => unsupported(fault),
        Reason::Call(fault) => call(about, fault),
        Reason::Context(fault) => context(about, fault),
        Reason::Function(fault) => function(about, fault),
        Reason::Kfunc(fault) => kfunc(about, fault),
        Reason::Memory(fault) => stack(about, fault),
        Reason::Object(fault) => object(about, fault),
        _ => None,
    };
    found
        .or_else(|| structure(reason))
        .or_else(|| arithmetic(about, reason))
        .or_else(|| memory(about, reason))
        .or_else(|| argument(about, reason))
        .or_else(|| exit(about, reason))
        .unwrap_or_else(|| mistake("the verifier refuses this", reason.to_string(), "").about_place())
}

fn unsupported(fault: &Unsupported) -> Option<Mistake> {
    let text = "the verifier does not know this, so it cannot say that it is safe";
    Some(mistake(fault.to_string(), text, "").about_place())
}

/// Functions, loops and sizes of the program as a whole.
fn structure(reason: &Reason) -> Option<Mistake> {
    let found = match reason {
        Reason::InfiniteLoop { .. } => mistake(
            "this loop may never end",
            "after one turn everything is as it was before: the loop goes on for ever",
            help::LOOP,
        ),
        Reason::TooComplex { walked } => mistake(
            "the program is too complex to be verified",
            format!("here the verifier gave up, after walking {walked} instructions along all paths"),
            help::COMPLEX,
        ),
        Reason::TooManyBranches { pending } => mistake(
            "the program is too complex to be verified",
            format!(
                "here {pending} paths wait to be walked: each turn of a loop whose end is unknown adds one"
            ),
            help::COMPLEX,
        ),
        Reason::TooManyStates { .. } => mistake(
            "the program is too complex to be verified",
            "here the states to be remembered took too much memory",
            help::COMPLEX,
        ),
        Reason::TooManyFrames { frames } => mistake(
            "functions call each other too deeply",
            format!("here {frames} functions are entered; 8 are allowed"),
            help::STACK_TOO_DEEP,
        ),
        Reason::StackTooDeep { frames, bytes } => mistake(
            "the functions need too much stack",
            format!("a chain of {frames} functions needs {bytes} bytes of stack; there are 512"),
            help::STACK_TOO_DEEP,
        ),
        Reason::Unreachable { .. } => {
            mistake("this code cannot be reached", "no path leads here", "remove it").about_place()
        }
        Reason::CastWithoutArena => mistake(
            "an arena pointer is used in a program without an arena",
            "this casts a pointer into the arena, but the program refers to no arena",
            help::ARENA_MISSING,
        ),
        _ => return None,
    };
    Some(found.about_place())
}

/// Registers and arithmetic.
fn arithmetic(about: &About<'_>, reason: &Reason) -> Option<Mistake> {
    let subject = about.subject();
    Some(match reason {
        Reason::Uninitialised { reg } => uninitialised(about, *reg),
        Reason::PointerArithmeticMaybeNull { .. } => {
            mistake("a pointer that may be NULL is moved", format!("this is {subject}"), help::NULL_CHECK)
        }
        Reason::PointerArithmetic32 { .. } => mistake(
            "only half of a pointer is computed with",
            format!("32-bit arithmetic on {subject} cuts off its upper half"),
            help::SCALE_NUMBER,
        ),
        Reason::PointerArithmetic { .. } => mistake(
            "this pointer must not be moved",
            format!("this does arithmetic on {subject}"),
            "use the pointer as it was given",
        ),
        Reason::PointerOperator { .. } | Reason::PointerBits { .. } | Reason::PointerPointer { .. } => {
            mistake(
                format!("a pointer cannot be {}", operation(about)),
                format!("this is {subject}"),
                help::SCALE_NUMBER,
            )
        }
        Reason::ScalarMinusPointer { .. } => {
            mistake("a pointer is subtracted from a number", format!("this is {subject}"), help::SCALE_NUMBER)
        }
        Reason::OffsetUnbounded { found } => mistake(
            format!("a number without bounds is added to {}", pointer_words(*found)),
            format!("what is added here is {subject}"),
            help::BOUND_INDEX,
        ),
        Reason::OffsetTooLarge { found, value } | Reason::OffsetOutOfBounds { found, value } => mistake(
            format!("{} is moved far outside", pointer_words(*found)),
            format!("this adds up to {value}"),
            help::BOUND_INDEX,
        ),
        _ => return None,
    })
}

fn uninitialised(about: &About<'_>, reg: Reg) -> Mistake {
    let r = reg.number();
    match about.insn() {
        Some(Insn::Exit) => mistake(
            "the return value was never set",
            "on a path that ends here nothing was written to r0, which holds the return value",
            help::RETURN,
        ),
        Some(Insn::Call { .. }) => mistake(
            format!("argument {r} of {} was never set", about.callee_text()),
            format!("r{r} has no value on the path that leads here"),
            help::INITIALISE,
        ),
        _ if !about.rejection.causes().is_empty() => mistake(
            "a value is read that a call has destroyed",
            format!("r{r} has no value any more"),
            help::AFTER_CALL,
        ),
        _ => mistake(
            "a variable is read before it has a value",
            format!("nothing was written to r{r} on the path that leads here"),
            help::INITIALISE,
        ),
    }
}

/// What the arithmetic at fault does, as a participle.
fn operation(about: &About<'_>) -> &'static str {
    match about.insn() {
        Some(Insn::Alu { op, .. }) => match op {
            AluOp::Div | AluOp::SDiv => "divided",
            AluOp::Mod | AluOp::SMod => "divided for the remainder",
            AluOp::Mul => "multiplied",
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => "shifted",
            AluOp::And | AluOp::Or | AluOp::Xor => "masked",
            AluOp::Add => "added to another",
            AluOp::Sub => "subtracted from another",
        },
        Some(Insn::Neg { .. }) => "negated",
        _ => "computed with like this",
    }
}

/// Loads and stores.
fn memory(about: &About<'_>, reason: &Reason) -> Option<Mistake> {
    let subject = about.subject();
    Some(match reason {
        Reason::InvalidAccess { found, .. } => invalid_access(about, *found, &subject),
        Reason::MixedPointers => mistake(
            "one instruction accesses different kinds of memory",
            "on one path the pointer leads to another kind of memory than on another",
            help::ONE_POINTER,
        ),
        Reason::CtxAccess { offset, size } => mistake(
            format!("the context of `{}` programs has nothing to access here", about.section()),
            format!("this accesses {} at offset {offset} of the context", bytes(*size)),
            help::CONTEXT_MEMBER,
        )
        .about_place(),
        Reason::ModifiedPointer { found, .. } | Reason::VariableOffset { found, .. } => mistake(
            format!("{} was moved before it is followed", pointer_words(*found)),
            format!("this is {subject}"),
            if found.base() == "ctx" { help::CONTEXT_POINTER } else { "use the pointer as it was given" },
        ),
        Reason::Bounds { fault, region, offset, size, .. } => {
            bounds(about, *fault, (*region, *offset, *size), &subject)
        }
        Reason::MapPermission { access, map, .. } => mistake(
            format!(
                "map `{map}` does not let programs {} it",
                if *access == Access::Write { "write" } else { "read" }
            ),
            format!("this {} its value", verb(*access)),
            "leave out BPF_F_RDONLY_PROG or BPF_F_WRONLY_PROG where the map is declared",
        )
        .about_place(),
        Reason::MapStruct { .. } => {
            mistake("a map's own structure is accessed wrongly", reason.to_string(), help::READ_ONLY)
        }
        Reason::ReadOnly { .. } => {
            mistake("memory that may only be read is written", format!("this is {subject}"), help::READ_ONLY)
        }
        Reason::AtomicTarget { .. } => mistake(
            "this memory takes no atomic operations",
            format!("this is {subject}"),
            "use atomic operations on map values, the stack or the arena",
        ),
        Reason::SpecialField { field, map, .. } => mistake(
            format!("`{field}` in map `{map}` is accessed directly"),
            "only the helpers that belong to it may touch it",
            "access the other members one by one instead of copying the whole value",
        ),
        _ => return None,
    })
}

fn stack(about: &About<'_>, fault: &MemoryFault) -> Option<Mistake> {
    let subject = about.subject();
    Some(match fault {
        MemoryFault::Misaligned { size, .. } | MemoryFault::MisalignedPacket { size, .. } => mistake(
            "this access is not aligned",
            format!("{size} bytes are accessed at an offset that may be no multiple of {size}"),
            help::ALIGN,
        ),
        MemoryFault::StackBounds { access, offset, size, .. } => {
            let place = if *offset < 0 {
                format!("{} bytes below its upper end", offset.unsigned_abs())
            } else {
                "above its upper end".to_owned()
            };
            mistake(
                "an access leaves the stack",
                format!("this {} {} of the stack, beginning {place}", verb(*access), bytes(*size)),
                help::WITHIN_STACK,
            )
            .about_place()
        }
        MemoryFault::StackVariableBounds { .. }
        | MemoryFault::StackUnbounded { .. }
        | MemoryFault::StackVariableAtomic { .. } => mistake(
            "an array on the stack is accessed outside",
            format!("this is {subject}"),
            help::STACK_INDEX,
        ),
        MemoryFault::StackRead { .. } | MemoryFault::StackVariableRead { .. } => mistake(
            "the stack is read where nothing was written",
            "not all of these bytes have a value",
            help::INITIALISE,
        ),
        MemoryFault::SpillSize { .. } => mistake(
            "a pointer on the stack was overwritten in part",
            "what is read here is neither the pointer that was stored nor plain data",
            help::SPILL,
        ),
        MemoryFault::SpillToCaller { .. } => mistake(
            "a pointer into a stack is stored in the stack of the caller",
            "the stack it points into is gone when this function returns",
            "let the caller pass a pointer to its own buffer",
        ),
    })
}

/// So many bytes.
fn bytes(count: impl Into<i128>) -> String {
    let count = count.into();
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

fn verb(access: Access) -> &'static str {
    match access {
        Access::Read => "reads",
        Access::Write => "writes",
    }
}

fn invalid_access(about: &About<'_>, found: TypeName, subject: &str) -> Mistake {
    if found.maybe_null() {
        return mistake(
            "a pointer that may be NULL is followed",
            format!("this is {subject}"),
            help::NULL_CHECK,
        );
    }
    if found.base() != "scalar" {
        let title = format!("{} cannot be followed like this", pointer_words(found));
        return mistake(
            title,
            format!("this is {subject}"),
            "use the helpers that this kind of pointer is for",
        );
    }
    let label = "to the verifier this is a number, not a pointer";
    let uses_arena = about.program.maps.iter().any(|m| m.map_type == bpf_object::MapType::Arena);
    match about.rejection.loaded_from() {
        Some(LoadedFrom::Arena) => mistake(
            "a pointer that was kept in the arena is followed",
            "what is loaded from the arena is a number: anybody may have changed it",
            help::ARENA_FORGETS,
        ),
        Some(LoadedFrom::Stack) => mistake(
            "what is left of a pointer on the stack is followed",
            "to the verifier this is a number: the pointer that lay there was overwritten in part",
            help::SPILL,
        ),
        _ if about.given_back() => mistake(
            "a pointer is followed after what it points to was given back",
            "what this points to no longer belongs to the program",
            "use it before it is given back",
        ),
        _ if uses_arena => mistake("a number is followed as a pointer", label, help::ARENA_CAST),
        _ => mistake("a number is followed as a pointer", label, help::NUMBER_AS_POINTER),
    }
}

fn bounds(
    about: &About<'_>,
    fault: BoundsFault,
    (region, offset, size): (u32, i64, u64),
    subject: &str,
) -> Mistake {
    let fixed = about
        .rejection
        .register()
        .and_then(|reg| about.rejection.value(reg))
        .is_none_or(|value| value.scalar.as_constant().is_some());
    if fixed {
        return mistake(
            "an access leaves the memory it begins in",
            format!("this accesses {} at offset {offset} of memory that has {region}", bytes(size)),
            help::WITHIN_VALUE,
        );
    }
    let text = match fault {
        BoundsFault::Negative | BoundsFault::Min => format!("the index may be negative: this is {subject}"),
        BoundsFault::Max => format!(
            "the index may be too large: this accesses {} at offsets up to {offset} of memory that has {region}",
            bytes(size)
        ),
        BoundsFault::Unbounded => format!("the index has no upper bound: this is {subject}"),
    };
    mistake("an index may lead outside of the memory", text, help::BOUND_INDEX)
}

/// Arguments of functions.
fn argument(about: &About<'_>, reason: &Reason) -> Option<Mistake> {
    let (subject, callee) = (about.subject(), about.callee_text());
    let wrong = |reg: Reg, expected: String, help: &str| {
        mistake(
            format!("argument {} of {callee} is of the wrong kind", reg.number()),
            format!("this passes {subject}, where {expected} is expected"),
            help,
        )
    };
    Some(match reason {
        Reason::ArgumentType { reg, found, .. } if found.maybe_null() => mistake(
            format!("argument {} of {callee} may be NULL", reg.number()),
            format!("this passes {subject}"),
            help::NULL_CHECK,
        ),
        Reason::ArgumentType { reg, expected, .. } | Reason::KfuncArgument { reg, expected, .. } => {
            wrong(*reg, expected_words(expected), help::ARGUMENT)
        }
        Reason::NotArena { reg } => wrong(*reg, "an arena pointer".to_owned(), help::GLOBAL),
        Reason::NotScalar { reg } => wrong(*reg, "a number".to_owned(), help::ARGUMENT),
        Reason::NotFunction { reg, .. } => wrong(*reg, "a function".to_owned(), help::ARGUMENT),
        Reason::NotConstString { reg } => {
            wrong(*reg, "a constant string".to_owned(), "use a string literal or a `const` array")
        }
        Reason::NotConstant { reg } => wrong(
            *reg,
            "a number known when the program is verified".to_owned(),
            "pass a constant; branch on the value if several are possible",
        ),
        Reason::NegativeSize { reg } | Reason::UnboundedSize { reg } | Reason::ZeroSize { reg, .. } => {
            mistake(
                format!("the size that {callee} gets in argument {} has no useful bounds", reg.number()),
                format!("this passes {subject}"),
                help::BOUND_SIZE,
            )
        }
        Reason::NotSleepable { function } => sleeps(about, function),
        Reason::NotAllowedHere { what, region } => {
            mistake(format!("{what} are not allowed {region}"), "this is one", help::NOT_WHILE_HELD)
                .about_place()
        }
        Reason::SleepsHere { function, region } => mistake(
            format!("`{function}` may sleep, which is forbidden within {region}"),
            "this call may sleep",
            help::NOT_WHILE_HELD,
        )
        .about_place(),
        Reason::GlobalCallback { name } => mistake(
            format!("`{name}` is called back, but it is a global function"),
            "this takes its address",
            "make the function `static`",
        )
        .about_place(),
        Reason::IteratorInUse { .. } | Reason::IteratorNotInitialised { .. } => mistake(
            "an iterator is not used in its order",
            reason.to_string(),
            "begin with `bpf_iter_..._new()` and end with `bpf_iter_..._destroy()`, or use `bpf_for_each()`",
        ),
        _ => return None,
    })
}

fn sleeps(about: &About<'_>, function: &str) -> Mistake {
    let found = mistake(
        format!("`{function}` may sleep, but this program may not"),
        format!("`{}` programs run where sleeping is forbidden", about.section()),
        help::SLEEP,
    )
    .about_place();
    match about.sleepable_section() {
        Some(section) => {
            found.helped_by(format!("make the program one that may sleep: `SEC(\"{section}\")`"))
        }
        None => found,
    }
}

/// The end of programs and functions.
fn exit(about: &About<'_>, reason: &Reason) -> Option<Mistake> {
    let subject = about.subject();
    Some(match reason {
        Reason::Return { min, max, .. } => mistake(
            "the return value may be one that means nothing here",
            format!("this returns {subject}; allowed is {min} to {max}"),
            help::RETURN_RANGE,
        ),
        Reason::ReturnType { .. } | Reason::SubprogReturn { .. } | Reason::CallbackReturnType { .. } => {
            mistake("the return value is no number", format!("this returns {subject}"), help::RETURN_RANGE)
        }
        Reason::ReturnsStackPointer => mistake(
            "a function returns a pointer into its own stack",
            "the stack of a function is gone when it returns",
            "let the caller pass a pointer to its own buffer",
        ),
        Reason::UnreleasedReference { at, .. } => {
            let taken = super::callee(about.program, *at);
            let by = taken.as_ref().map_or_else(|| "an object".to_owned(), |f| format!("what `{f}` gave"));
            mistake(
                "something that was taken is not given back",
                format!("the program ends here, still holding {by}"),
                "",
            )
            .about_place()
            .helped_by(help::release(taken.as_deref().unwrap_or_default()))
        }
        Reason::StillHeld { region, .. } => mistake(
            match *region {
                "bpf_spin_lock" | "bpf_res_spin_lock" | "bpf_lock" => "a lock is still held".to_owned(),
                region => format!("`{region}` is still in force"),
            },
            match about.insn() {
                Some(Insn::Exit) => "on a path that ends here it was not given back",
                _ => "this must not happen while it is held",
            },
            help::UNLOCK,
        )
        .about_place(),
        Reason::PreemptUnbalanced | Reason::RcuUnbalanced => mistake(
            "a section is ended that was not begun",
            reason.to_string(),
            "begin it on every path that leads here",
        )
        .about_place(),
        _ => return None,
    })
}

fn call(about: &About<'_>, fault: &CallFault) -> Option<Mistake> {
    let (subject, callee) = (about.subject(), about.callee_text());
    let found = match fault {
        CallFault::NotForProgram { name, .. } => mistake(
            format!("`{}` programs cannot call `{name}`", about.section()),
            "this helper is not for programs of this type",
            help::HELPER_PROGRAM,
        )
        .about_place(),
        CallFault::NoSuchHelper { number } => {
            mistake(format!("there is no helper #{number}"), "no kernel has this helper", "").about_place()
        }
        CallFault::NotGpl { .. } => mistake(
            format!("{callee} is for programs under the GPL"),
            "this program's licence is another",
            help::LICENSE,
        )
        .about_place(),
        CallFault::MightSleep { function } => sleeps(about, function),
        CallFault::SleepsHere { function, region, .. } => mistake(
            format!("`{function}` may sleep, which is forbidden within {region}"),
            "this call may sleep",
            help::NOT_WHILE_HELD,
        )
        .about_place(),
        CallFault::PossiblyNull { reg } => mistake(
            format!("argument {} of {callee} may be NULL", reg.number()),
            format!("this passes {subject}"),
            help::NULL_CHECK,
        ),
        CallFault::ZeroRead { .. } | CallFault::SizeNotConstant { .. } => mistake(
            format!("the size that {callee} gets has no useful bounds"),
            format!("this passes {subject}"),
            help::BOUND_SIZE,
        ),
        CallFault::StackRead { .. } => mistake(
            format!("{callee} would read more of the stack than has a value"),
            "not all of the bytes it reads were written",
            help::WITHIN_STACK,
        ),
        CallFault::MayWrite { .. } | CallFault::MapReadOnly { .. } => mistake(
            format!("{callee} may write where nothing may be written"),
            format!("this passes {subject}"),
            help::READ_ONLY,
        ),
        CallFault::WrongStructure { expected, .. } => mistake(
            format!("{callee} gets a pointer to the wrong structure"),
            format!("this passes {subject}, where `{expected}` is expected"),
            help::ARGUMENT,
        ),
        CallFault::MapForFunction { .. } => mistake(
            format!("{callee} does not work with maps of this type"),
            "this map is of a type that has its own helpers",
            help::ARGUMENT,
        )
        .about_place(),
        _ => mistake(format!("{callee} cannot be called like this"), fault.to_string(), help::ARGUMENT),
    };
    Some(found)
}

fn context(about: &About<'_>, fault: &ContextFault) -> Option<Mistake> {
    let subject = about.subject();
    Some(match fault {
        ContextFault::PacketBounds { offset, size, range, .. } => {
            let known = match range {
                ..=0 => "the program has not compared this pointer with the end of the packet".to_owned(),
                range => format!("the packet is known to have only {} from there on", bytes(*range)),
            };
            mistake(
                "the packet may end before these bytes",
                format!("this accesses {} at offset {offset}, but {known}", bytes(*size)),
                help::PACKET_CHECK,
            )
        }
        ContextFault::NegativeIndex { .. } => {
            mistake("an index may be negative", format!("this is {subject}"), help::BOUND_INDEX)
        }
        ContextFault::VariableOffset { found, .. } | ContextFault::NegativeOffset { found, .. } => mistake(
            format!("{} was moved before it is followed", pointer_words(*found)),
            format!("this is {subject}"),
            help::CONTEXT_POINTER,
        ),
        ContextFault::PacketWrite | ContextFault::PacketForHelper => mistake(
            format!("`{}` programs cannot do this with the packet", about.section()),
            fault.to_string(),
            "use `bpf_skb_load_bytes()` and `bpf_skb_store_bytes()`",
        ),
        _ => return None,
    })
}

fn function(about: &About<'_>, fault: &FunctionFault) -> Option<Mistake> {
    use FunctionFault as F;
    Some(match fault {
        F::Memory { cause, .. } => of_reason(about, cause),
        F::Arguments { name, cause, .. } => {
            let cause = of_reason(about, cause);
            mistake(
                format!("global function `{name}` gets an argument that it was not verified for"),
                format!("{}: {}", cause.title, cause.label),
                help::GLOBAL,
            )
        }
        F::SleepingGlobal { name } | F::GlobalUnderLock { name } => mistake(
            format!("global function `{name}` is called where it must not be"),
            "a global function is verified without knowing what its callers hold",
            "make the function `static`, or call it before the section begins or after it has ended",
        )
        .about_place(),
        F::WithoutBtf { name } | F::TooManyArguments { name, .. } | F::ReturnType { name } => mistake(
            format!("global function `{name}` cannot be verified on its own"),
            fault.to_string(),
            help::GLOBAL,
        )
        .about_place(),
        F::TooManyFrames { frames } => mistake(
            "functions call each other too deeply",
            format!("here {frames} functions are entered; 8 are allowed"),
            help::STACK_TOO_DEEP,
        )
        .about_place(),
        F::NotCtx { .. } | F::MaybeNull { .. } => mistake(
            format!("{} gets an argument that it was not verified for", about.callee_text()),
            format!("this passes {}: {fault}", about.subject()),
            help::GLOBAL,
        ),
        _ => mistake("this function cannot be verified or called like this", fault.to_string(), help::GLOBAL)
            .about_place(),
    })
}

fn kfunc(about: &About<'_>, fault: &KfuncFault) -> Option<Mistake> {
    let (subject, callee) = (about.subject(), about.callee_text());
    Some(match fault {
        KfuncFault::NotAllowed { name } => mistake(
            format!("`{}` programs cannot call `{name}`", about.section()),
            "this kernel function is not for programs of this type",
            help::HELPER_PROGRAM,
        )
        .about_place(),
        KfuncFault::NotSleepable { name } => sleeps(about, name),
        KfuncFault::License => mistake(
            format!("{callee} is for programs under the GPL"),
            "this program's licence is another",
            help::LICENSE,
        )
        .about_place(),
        KfuncFault::PossiblyNull { index, .. } => mistake(
            format!("argument {} of {callee} may be NULL", index + 1),
            format!("this passes {subject}"),
            help::NULL_CHECK,
        ),
        KfuncFault::NotTrusted { .. } | KfuncFault::NotRcu { .. } => mistake(
            format!("{callee} needs a pointer that is sure to be valid"),
            format!("this passes {subject}"),
            "take a reference first (`..._acquire()`), or use a pointer that the kernel gave as an argument",
        ),
        KfuncFault::OutsideRcu { .. } | KfuncFault::IteratorOutsideRcu { .. } => mistake(
            format!("{callee} needs an RCU read section"),
            "this is outside of one",
            "call `bpf_rcu_read_lock()` first and `bpf_rcu_read_unlock()` afterwards",
        )
        .about_place(),
        _ => mistake(
            format!("kernel function {callee} cannot be used like this"),
            fault.to_string(),
            help::ARGUMENT,
        ),
    })
}

fn object(about: &About<'_>, fault: &ObjectFault) -> Option<Mistake> {
    use ObjectFault as F;
    let (subject, callee) = (about.subject(), about.callee_text());
    Some(match fault {
        F::ReleaseUnowned { .. } | F::NotAcquired { .. } => mistake(
            format!("{callee} is to give back something that the program does not hold"),
            format!("this passes {subject}"),
            "give back only what was taken, once, and exactly that pointer",
        ),
        F::DynptrPlace { .. }
        | F::DynptrInUse { .. }
        | F::DynptrConst { .. }
        | F::DynptrMissing { .. }
        | F::DynptrKind { .. }
        | F::DynptrOverwritten { .. }
        | F::DynptrOverlap { .. }
        | F::DynptrUnowned { .. }
        | F::DynptrReleaseConst { .. }
        | F::DynptrMemory { .. } => mistake(
            match about.callee() {
                Some(name) => format!("the dynptr given to `{name}` is not what it must be"),
                None => "a dynptr is overwritten".to_owned(),
            },
            dynptr(fault),
            help::DYNPTR,
        )
        .about_place(),
        F::LockNested | F::LockAgain => mistake(
            "a second lock is taken while one is held",
            "only one `bpf_spin_lock` may be held at a time",
            help::UNLOCK,
        )
        .about_place(),
        F::UnlockWithoutLock { .. } | F::UnlockOther { .. } | F::UnlockOrder { .. } => mistake(
            "a lock is given back that was not the last one taken",
            fault.to_string(),
            "take and give back locks in pairs, through the same pointer",
        )
        .about_place(),
        F::RootUnlocked { .. } => mistake(
            "a list or tree is changed without its lock",
            fault.to_string(),
            "hold the `bpf_spin_lock` that is next to the root, in the same value",
        ),
        _ => mistake(
            match about.callee() {
                Some(name) => format!("`{name}` cannot be called like this"),
                None => "this special field cannot be accessed like this".to_owned(),
            },
            fault.to_string(),
            help::ARGUMENT,
        ),
    })
}

fn dynptr(fault: &ObjectFault) -> String {
    match fault {
        ObjectFault::DynptrMissing { .. } => "this dynptr was not made yet, or is gone already".to_owned(),
        ObjectFault::DynptrInUse { .. } => "this dynptr is in use already".to_owned(),
        ObjectFault::DynptrOverwritten { .. } => {
            "this writes over a dynptr that has not been given back".to_owned()
        }
        other => other.to_string(),
    }
}

/// The kernel's name of a kind of pointer, in words.
fn pointer_words(found: TypeName) -> String {
    let words = match found.base() {
        "ctx" => "the context pointer",
        "fp" => "a pointer into the stack",
        "map_value" => "a pointer to a map value",
        "map_ptr" => "a map",
        "map_key" => "a pointer to a map key",
        "pkt" => "a pointer into the packet",
        "pkt_end" => "the end of the packet",
        "mem" | "buf" => "a pointer to memory",
        "sock" | "sock_common" | "tcp_sock" | "xdp_sock" => "a pointer to a socket",
        "func" => "the address of a function",
        "ptr_" => "a pointer into the kernel",
        _ => "this pointer",
    };
    words.to_owned()
}

/// What the kernel lists as expected, in words.
fn expected_words(expected: &str) -> String {
    let one = |name: &str| match name {
        "fp" => "a pointer into the stack",
        "scalar" => "a number",
        "ctx" => "the context",
        "map_ptr" => "a map",
        "map_value" => "a pointer to a map value",
        "func" => "a function",
        "mem" => "a pointer to memory",
        "sock" | "sock_common" | "tcp_sock" => "a socket",
        _ => "another kind of pointer",
    };
    let names: Vec<&str> = expected.split(", ").map(str::trim).filter(|n| !n.is_empty()).collect();
    match names.as_slice() {
        [] => "something else".to_owned(),
        [name] => one(name).to_owned(),
        names if names.contains(&"fp") && names.contains(&"map_value") => {
            "a pointer to memory (on the stack, in a map value, ...)".to_owned()
        }
        names => names.iter().map(|n| one(n)).collect::<Vec<_>>().join(" or "),
    }
}
