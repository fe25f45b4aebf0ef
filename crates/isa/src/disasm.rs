//! Text of instructions, as the kernel's verifier log and bpftool print it.

use std::borrow::Cow;
use std::fmt;

use crate::form::Fields;
use crate::helpers::helper_name;
use crate::template::{Hole, Piece, pieces};
use crate::{CallTarget, Code, Form, Imm64, Insn, InsnIdx};

/// What a disassembler may know beyond the instructions: every answer replaces a number by a name. The kernel
/// calls these callbacks `cb_call` and `cb_imm`.
///
/// `()` knows nothing, which gives the text of a kernel without callbacks. Text with names can be assembled
/// again by giving the same names to [`assemble_with`](crate::assemble_with).
pub trait Names {
    /// Name of a called function: printed as `call NAME` for a subprogram, as `call NAME#number` for a helper
    /// or kfunc. Helpers known to Linux have their names without being asked for.
    fn call(&self, at: InsnIdx, target: CallTarget) -> Option<Cow<'_, str>> {
        let _ = (at, target);
        None
    }

    /// What to print for the value of a `lddw`.
    fn imm64(&self, at: InsnIdx, value: Imm64) -> Option<Cow<'_, str>> {
        let _ = (at, value);
        None
    }

    /// Label of a jump target, printed in place of `pc+3`.
    fn label(&self, target: InsnIdx) -> Option<Cow<'_, str>> {
        let _ = target;
        None
    }
}

impl Names for () {}

/// An instruction's text: what [`Insn::text`] gives.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a, N: ?Sized> {
    insn: Insn,
    at: InsnIdx,
    names: &'a N,
}

impl Insn {
    /// The instruction as text, with names. `at` is its place, which the names of jump targets depend on.
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use bpf_arena_isa::{CallTarget, Insn, InsnIdx, Names};
    ///
    /// struct Kfuncs;
    /// impl Names for Kfuncs {
    ///     fn call(&self, _: InsnIdx, target: CallTarget) -> Option<Cow<'_, str>> {
    ///         matches!(target, CallTarget::Kfunc { btf_id: 7, .. }).then(|| "bpf_arena_alloc_pages".into())
    ///     }
    /// }
    /// let call = Insn::Call { target: CallTarget::Kfunc { btf_id: 7, module: 0 } };
    /// assert_eq!(call.to_string(), "call kernel-function#7");
    /// assert_eq!(call.text(InsnIdx(0), &Kfuncs).to_string(), "call bpf_arena_alloc_pages#7");
    /// ```
    #[must_use]
    pub fn text<'a, N: Names + ?Sized>(&self, at: InsnIdx, names: &'a N) -> Text<'a, N> {
        Text { insn: *self, at, names }
    }
}

impl fmt::Display for Insn {
    /// The kernel's text without names: `r1 = *(u64 *)(r10 -8)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text(InsnIdx(0), &()).fmt(f)
    }
}

impl<N: Names + ?Sized> fmt::Display for Text<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((form, fields)) = Form::of(&self.insn) else {
            return write!(f, "<no encoding: {:?}>", self.insn);
        };
        if let Insn::LoadImm64 { dst, value } = self.insn
            && let Some(name) = self.names.imm64(self.at, value)
        {
            return write!(f, "r{} = {name}", dst.number());
        }
        for piece in pieces(form.syntax) {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Hole(hole) => self.hole(f, hole, &fields)?,
            }
        }
        Ok(())
    }
}

impl<N: Names + ?Sized> Text<'_, N> {
    fn hole(&self, f: &mut fmt::Formatter<'_>, hole: Hole, fields: &Fields) -> fmt::Result {
        let raw = fields.raw;
        let imm = raw.imm;
        let (low, next) = (imm.cast_unsigned(), fields.next_imm.cast_unsigned());
        match hole {
            Hole::Dst => write!(f, "{}", raw.dst_reg),
            Hole::Src => write!(f, "{}", raw.src_reg),
            Hole::Off => write!(f, "{:+}", raw.offset),
            Hole::Imm | Hole::Imm32 | Hole::Dec => write!(f, "{imm}"),
            Hole::Hex => write!(f, "{imm:#x}"),
            Hole::Uint => write!(f, "{low}"),
            Hole::Next => write!(f, "{next}"),
            Hole::Wide | Hole::Any64 => write!(f, "{:#x}", u64::from(next) << 32 | u64::from(low)),
            Hole::DstAs => write!(f, "{}", low >> 16),
            Hole::SrcAs => write!(f, "{}", low & 0xffff),
            Hole::Near => self.target(f, raw.offset.into(), "pc"),
            Hole::Func => self.target(f, imm, ""),
            Hole::Far => self.target(f, imm, "pc"),
            Hole::Helper | Hole::Kfunc => self.callee(f, fields),
        }
    }

    /// A place in the program, as distance from the next slot.
    fn target(&self, f: &mut fmt::Formatter<'_>, distance: i32, prefix: &str) -> fmt::Result {
        let name = match self.insn {
            Insn::Call { target } => self.names.call(self.at, target),
            _ => None,
        };
        let label = || self.names.label(self.at.offset(i64::from(distance) + 1)?);
        match name.or_else(label) {
            Some(name) => f.write_str(&name),
            None => write!(f, "{prefix}{distance:+}"),
        }
    }

    fn callee(&self, f: &mut fmt::Formatter<'_>, fields: &Fields) -> fmt::Result {
        let Insn::Call { target } = self.insn else { return Ok(()) };
        let known = match target {
            CallTarget::Helper(number) => helper_name(number).map(Cow::Borrowed),
            _ => None,
        };
        let (fallback, module) = match target {
            CallTarget::Kfunc { module, .. } => ("kernel-function", module),
            _ => ("unknown", 0),
        };
        let name = known.or_else(|| self.names.call(self.at, target)).unwrap_or(Cow::Borrowed(fallback));
        write!(f, "{name}#{}", fields.raw.imm)?;
        if module == 0 { Ok(()) } else { write!(f, "@{module}") }
    }
}

/// A whole program's text: what [`Code::text`] gives.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a, N: ?Sized> {
    code: &'a Code,
    names: &'a N,
}

impl Code {
    /// One instruction per line, numbered and with its opcode, as in the verifier's log: `0: (b7) r0 = 0`.
    /// The assembler reads it again.
    #[must_use]
    pub fn text<'a, N: Names + ?Sized>(&'a self, names: &'a N) -> Listing<'a, N> {
        Listing { code: self, names }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text(&()).fmt(f)
    }
}

impl<N: Names + ?Sized> fmt::Display for Listing<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, insn) in self.code.iter() {
            let opcode = insn.form().map_or(0, |form| form.opcode);
            writeln!(f, "{at}: ({opcode:02x}) {}", insn.text(at, self.names))?;
        }
        Ok(())
    }
}
