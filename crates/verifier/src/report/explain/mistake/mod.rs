//! What is wrong, by the rule that was broken.

mod call;
mod memory;

use isa::{AluOp, Insn, Reg};

use super::{About, help};
use crate::report::reason::{Reason, TypeName, Unsupported};

/// A mistake in words.
pub(in crate::report::explain) struct Mistake {
    pub(in crate::report::explain) title: String,
    pub(in crate::report::explain) label: String,
    pub(in crate::report::explain) help: Option<String>,
    /// Whether where the value at fault comes from is part of the story.
    pub(in crate::report::explain) explains_value: bool,
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
pub(in crate::report::explain) fn of(about: &About<'_>) -> Mistake {
    of_reason(about, about.rejection.reason())
}

fn of_reason(about: &About<'_>, reason: &Reason) -> Mistake {
    let found = match reason {
        Reason::Unsupported(fault) => unsupported(fault),
        Reason::Call(fault) => call::call(about, fault),
        Reason::Context(fault) => memory::context(about, fault),
        Reason::Function(fault) => call::function(about, fault),
        Reason::Kfunc(fault) => call::kfunc(about, fault),
        Reason::Memory(fault) => memory::stack(about, fault),
        Reason::Object(fault) => call::object(about, fault),
        _ => None,
    };
    found
        .or_else(|| structure(reason))
        .or_else(|| arithmetic(about, reason))
        .or_else(|| memory::memory(about, reason))
        .or_else(|| call::argument(about, reason))
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
