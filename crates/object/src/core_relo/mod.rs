//! CO-RE ("compile once, run everywhere") relocations: questions about types that are answered from the BTF of the
//! kernel the program is to run on, and the answers written into instructions.
//!
//! One question at a time: the local type and access path ([`path`]) are looked for in each candidate of the target
//! ([`matching`] compares types), every match must give the same [`answer`], and [`patch`] writes it.

mod answer;
mod matching;
mod patch;
mod path;

use std::collections::HashMap;
use std::sync::Arc;

use isa::{InsnIdx, RawInsn};

pub use patch::UNANSWERED_RELOCATION;

use crate::btf::{Btf, CoreRelo, CoreReloKind, Kind, TypeId};
use crate::error::{CoreError, LinkError};
use crate::layout::{Function, Text};
use crate::limits::MAX_CORE_STEPS;
use crate::object::{LinkOptions, Object};
use answer::{Answer, Subject};
use matching::same_kind;

/// Answers the CO-RE relocations of one link.
pub(crate) struct Resolver<'a> {
    local: Option<&'a Btf>,
    target: Option<&'a Btf>,
    modules: &'a [Arc<Btf>],
    strict: bool,
    /// Target types that may stand for a local one. Types that failed an earlier question about the same local type
    /// are not asked again, as in libbpf: a program's questions are about the same type of the kernel.
    candidates: HashMap<TypeId, Vec<Candidate<'a>>>,
    budget: Budget,
}

/// A type of the target.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    btf: &'a Btf,
    id: TypeId,
}

/// Steps left to compare types in.
#[derive(Clone, Copy, Debug)]
struct Budget(usize);

impl Budget {
    fn spend(&mut self) -> Result<(), CoreError> {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(CoreError::TooManySteps { limit: MAX_CORE_STEPS }),
        }
    }
}

/// What is to happen to an instruction.
enum Outcome {
    /// Replace `local` by `target`.
    Replace { local: Answer, target: Answer },
    /// Nothing in the target answers.
    Poison,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(object: &'a Object, options: &'a LinkOptions) -> Self {
        Self {
            local: object.btf.as_deref(),
            target: options.target_btf.as_deref(),
            modules: &options.module_btfs,
            strict: options.strict_core,
            candidates: HashMap::new(),
            budget: Budget(MAX_CORE_STEPS),
        }
    }

    /// Applies the relocations inside `function`, whose slots were just appended at `start`.
    pub(crate) fn apply(
        &mut self,
        function: &Function,
        text: &Text,
        slots: &mut [RawInsn],
        start: u32,
    ) -> Result<(), LinkError> {
        let from = text.core.partition_point(|r| r.offset / 8 < function.start);
        for relo in
            text.core.get(from..).unwrap_or_default().iter().take_while(|r| r.offset / 8 < function.end)
        {
            let slot = relo.offset / 8;
            let at = (slot - function.start + start) as usize;
            let target = slots.get_mut(at..).unwrap_or_default();
            self.one(relo, target).map_err(|error| LinkError::Core {
                section: text.name.clone(),
                insn: InsnIdx(slot),
                error,
            })?;
        }
        Ok(())
    }

    fn one(&mut self, relo: &CoreRelo, slots: &mut [RawInsn]) -> Result<(), CoreError> {
        let Some(local) = self.local else { return Ok(()) };
        match self.resolve(local, relo)? {
            Outcome::Replace { local: old, target: new } => {
                let strict = self.strict;
                patch::write(slots, &old, &new, strict, &|| describe(local, relo), relo.kind)
            }
            Outcome::Poison if self.strict => {
                Err(CoreError::NoMatch { kind: relo.kind, spec: describe(local, relo) })
            }
            Outcome::Poison => patch::poison(slots, &|| describe(local, relo), relo.kind),
        }
    }

    fn resolve(&mut self, local: &'a Btf, relo: &CoreRelo) -> Result<Outcome, CoreError> {
        let subject = Subject::parse(local, relo)?;
        if relo.kind == CoreReloKind::TypeIdLocal {
            let answer = Answer::unchecked(u64::from(relo.ty.0));
            return Ok(Outcome::Replace { local: answer, target: answer });
        }
        let root = local.name(relo.ty);
        let old = answer::found(&subject, relo.kind, root)?;
        let mut first: Option<(TypeId, Answer, u64)> = None;
        let mut matched = Vec::new();
        for candidate in self.candidates(local, relo)? {
            let Some(target) = subject.find_in(candidate.btf, candidate.id, relo.kind, &mut self.budget)?
            else {
                continue;
            };
            let new = answer::found(&target, relo.kind, root)?;
            match first {
                None => first = Some((candidate.id, new, target.bit_offset())),
                Some((_, known, bit_offset))
                    if (known.value, bit_offset) == (new.value, target.bit_offset()) => {}
                Some((first, ..)) => {
                    let (spec, second) = (describe(local, relo), candidate.id);
                    return Err(CoreError::Ambiguous { kind: relo.kind, spec, first, second });
                }
            }
            matched.push(candidate);
        }
        if !matched.is_empty() {
            self.candidates.insert(relo.ty, matched);
        }
        Ok(match first.map(|(_, answer, _)| answer).or_else(|| answer::absent(relo.kind)) {
            Some(target) => Outcome::Replace { local: old, target },
            None => Outcome::Poison,
        })
    }

    /// Types of the target with the kind and essential name of the local type: the kernel's own, or when it has none,
    /// those of its modules.
    fn candidates(&mut self, local: &Btf, relo: &CoreRelo) -> Result<Vec<Candidate<'a>>, CoreError> {
        if let Some(known) = self.candidates.get(&relo.ty) {
            return Ok(known.clone());
        }
        let name = local.name(relo.ty);
        let target = self.target.ok_or_else(|| CoreError::NoTarget { root: name.to_owned() })?;
        if name.is_empty() {
            return Err(CoreError::Anonymous { ty: relo.ty, kind: relo.kind });
        }
        let none = Kind::Void;
        let kind = local.kind(relo.ty).unwrap_or(&none);
        let mut all = Vec::new();
        let budget = &mut self.budget;
        let mut add = |btf: &'a Btf, first: u32, all: &mut Vec<_>| -> Result<(), CoreError> {
            for id in btf.named(name) {
                budget.spend()?;
                if id.0 >= first && btf.kind(id).is_some_and(|k| same_kind(k, kind)) {
                    all.push(Candidate { btf, id });
                }
            }
            Ok(())
        };
        add(target, 1, &mut all)?;
        if all.is_empty() {
            for module in self.modules {
                add(module, module.first_own_id(), &mut all)?;
            }
        }
        self.candidates.insert(relo.ty, all.clone());
        Ok(all)
    }
}

/// A relocation's subject in words: `struct task_struct.pid (0:12)`.
fn describe(local: &Btf, relo: &CoreRelo) -> String {
    let kind = match local.kind(relo.ty) {
        Some(Kind::Struct(_)) => "struct ",
        Some(Kind::Union(_)) => "union ",
        Some(Kind::Enum(_) | Kind::Enum64(_)) => "enum ",
        _ => "",
    };
    let path = Subject::parse(local, relo).map(|s| s.text()).unwrap_or_default();
    format!("{kind}{}{path} ({})", local.name(relo.ty), local.str(relo.access))
}
