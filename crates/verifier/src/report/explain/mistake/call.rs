//! Mistakes with calls: arguments, helpers, kernel functions, functions of the program.

use isa::Reg;

use super::{Mistake, mistake, of_reason};
use crate::report::explain::{About, help};
use crate::report::reason::{CallFault, FunctionFault, KfuncFault, ObjectFault, Reason};

/// Arguments of functions.
pub(super) fn argument(about: &About<'_>, reason: &Reason) -> Option<Mistake> {
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

/// Helpers.
pub(super) fn call(about: &About<'_>, fault: &CallFault) -> Option<Mistake> {
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

/// Functions of the program.
pub(super) fn function(about: &About<'_>, fault: &FunctionFault) -> Option<Mistake> {
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

/// Kernel functions.
pub(super) fn kfunc(about: &About<'_>, fault: &KfuncFault) -> Option<Mistake> {
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

/// Dynptrs, locks, lists and what else is managed.
pub(super) fn object(about: &About<'_>, fault: &ObjectFault) -> Option<Mistake> {
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
