//! Which symbols there are, and which definition each name stands for.

use std::collections::HashMap;

use super::compatible::{self, Budget};
use super::error::StaticLinkError;
use super::input::Input;
use super::sections::{Placement, Sections};
use crate::TypeId;
use crate::elf::{Place, Symbol, SymbolKind};

/// A symbol of the linked object.
#[derive(Clone, Debug)]
pub(super) struct OutSymbol {
    pub(super) name: String,
    pub(super) place: OutPlace,
    pub(super) value: u64,
    pub(super) size: u64,
    /// `STT_*`.
    pub(super) raw_kind: u8,
    pub(super) binding: Binding,
    pub(super) hidden: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutPlace {
    Undefined,
    /// Index of a section of the linked object.
    Section(usize),
    /// `SHN_*`.
    Special(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    Local,
    Weak,
    Global,
}

/// A name that objects share.
#[derive(Clone, Debug)]
pub(super) struct Global {
    /// Index in the table of symbols.
    pub(super) symbol: usize,
    /// The object that speaks for it: that of the definition in force, or the first one that declares it.
    pub(super) object: usize,
    /// What BTF says about it there: `VAR` or `FUNC`.
    pub(super) ty: Option<TypeId>,
    pub(super) defined: bool,
    /// Whether the definition in force may be replaced.
    weak: bool,
    /// The section it is or will be in, as far as that is known.
    section: Option<String>,
}

/// Symbols of the linked object.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    pub(super) table: Vec<OutSymbol>,
    pub(super) globals: Vec<Global>,
    /// Names of `globals`.
    by_name: HashMap<String, usize>,
    /// For each object, what its symbols became.
    of_object: Vec<Vec<Option<usize>>>,
    /// The symbol of each section that has one.
    section_symbols: HashMap<usize, usize>,
    budget: Budget,
}

impl Symbols {
    /// Resolves the symbols of all objects.
    pub(super) fn resolve(inputs: &[Input<'_>], sections: &Sections) -> Result<Self, StaticLinkError> {
        let mut symbols = Self::default();
        for (object, input) in inputs.iter().enumerate() {
            let mut became = Vec::with_capacity(input.elf.symbols.len());
            for (index, symbol) in input.elf.symbols.iter().enumerate() {
                became.push(match index {
                    0 => None,
                    _ => symbols.add(inputs, sections, object, symbol)?,
                });
            }
            symbols.of_object.push(became);
        }
        Ok(symbols)
    }

    /// What a symbol of an object became; `None` if it is not part of the linked object.
    pub(super) fn of_object(&self, object: usize, symbol: usize) -> Option<usize> {
        *self.of_object.get(object)?.get(symbol)?
    }

    /// Index of the shared name.
    pub(super) fn global(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn add(
        &mut self,
        inputs: &[Input<'_>],
        sections: &Sections,
        object: usize,
        symbol: &Symbol,
    ) -> Result<Option<usize>, StaticLinkError> {
        let placement = match symbol.place {
            Place::Section(section) => match sections.placement(object, section) {
                Some(placement) => Some(placement),
                None => return Ok(None),
            },
            _ => None,
        };
        let place = match (symbol.place, placement) {
            (Place::Special(number), _) => OutPlace::Special(number),
            (_, Some(placement)) => OutPlace::Section(placement.section),
            _ => OutPlace::Undefined,
        };
        let out = OutSymbol {
            name: symbol.name.clone(),
            place,
            value: symbol.value.wrapping_add(placement.map_or(0, |p| p.offset)),
            size: symbol.size,
            raw_kind: symbol.raw_kind,
            binding: match symbol {
                Symbol { local: true, .. } => Binding::Local,
                Symbol { weak: true, .. } => Binding::Weak,
                _ => Binding::Global,
            },
            hidden: symbol.hidden,
        };
        match placement {
            _ if !symbol.local => self.add_global(inputs, sections, object, out).map(Some),
            _ if place == OutPlace::Undefined => Ok(None),
            Some(placement) if symbol.kind == SymbolKind::Section => {
                Ok(Some(self.section_symbol(placement, out)))
            }
            _ => Ok(Some(self.push(out))),
        }
    }

    fn push(&mut self, symbol: OutSymbol) -> usize {
        self.table.push(symbol);
        self.table.len() - 1
    }

    /// The one symbol that stands for a section's start.
    fn section_symbol(&mut self, placement: Placement, symbol: OutSymbol) -> usize {
        if let Some(&known) = self.section_symbols.get(&placement.section) {
            return known;
        }
        let index = self.push(OutSymbol { value: 0, ..symbol });
        self.section_symbols.insert(placement.section, index);
        index
    }

    fn add_global(
        &mut self,
        inputs: &[Input<'_>],
        sections: &Sections,
        object: usize,
        symbol: OutSymbol,
    ) -> Result<usize, StaticLinkError> {
        let Some(input) = inputs.get(object) else { return Ok(0) };
        if let OutPlace::Special(_) = symbol.place {
            return Err(StaticLinkError::NoPlace { object: input.name.clone(), symbol: symbol.name });
        }
        let described = input.described(&symbol.name);
        let elf_section = match symbol.place {
            OutPlace::Section(index) => sections.out.get(index).map(|s| s.name.clone()),
            _ => None,
        };
        let new = Global {
            symbol: self.table.len(),
            object,
            ty: described.map(|d| d.id),
            defined: symbol.place != OutPlace::Undefined,
            weak: symbol.binding == Binding::Weak,
            section: elf_section.or_else(|| described.and_then(|d| d.section.clone())),
        };
        let Some(known) = self.by_name.get(&symbol.name).and_then(|&i| self.globals.get_mut(i)) else {
            self.by_name.insert(symbol.name.clone(), self.globals.len());
            self.globals.push(new);
            return Ok(self.push(symbol));
        };
        let index = known.symbol;
        check(&mut self.budget, inputs, &symbol.name, known, &new)?;
        let Some(out) = self.table.get_mut(index) else { return Ok(index) };
        // One strong mention makes the name strong, one hidden mention hides it.
        if symbol.binding == Binding::Global {
            out.binding = Binding::Global;
        }
        out.hidden |= symbol.hidden;
        if new.defined && (!known.defined || (known.weak && !new.weak)) {
            let (place, value, size, raw_kind) = (symbol.place, symbol.value, symbol.size, symbol.raw_kind);
            *out = OutSymbol { place, value, size, raw_kind, ..out.clone() };
            *known = Global { symbol: index, ..new };
        } else if known.section.is_none() && !known.defined {
            known.section = new.section;
        }
        Ok(index)
    }
}

/// Whether two objects may mean the same thing by a name.
fn check(
    budget: &mut Budget,
    inputs: &[Input<'_>],
    symbol: &str,
    known: &Global,
    new: &Global,
) -> Result<(), StaticLinkError> {
    let (Some(first), Some(second)) = (inputs.get(known.object), inputs.get(new.object)) else {
        return Ok(());
    };
    let names = || (symbol.to_owned(), first.name.clone(), second.name.clone());
    if known.defined && new.defined && !known.weak && !new.weak {
        let (symbol, first, second) = names();
        return Err(StaticLinkError::DuplicateSymbol { symbol, first, second });
    }
    let (Some(first_type), Some(second_type)) = (known.ty, new.ty) else {
        let (symbol, first, second) = names();
        let (object, other) = if known.ty.is_none() { (first, second) } else { (second, first) };
        return Err(StaticLinkError::NoType { symbol, object, other });
    };
    // A weak variable and the one that replaces it may well be in `.bss` and in `.data`. A declaration that names a
    // section means it: what is in `.ksyms` is the kernel's.
    let sections = (known.section.as_deref(), new.section.as_deref());
    if let (Some(one), Some(other)) = sections
        && one != other
        && !(known.defined && new.defined)
    {
        let (symbol, first, second) = names();
        let (first_section, second_section) = (one.to_owned(), other.to_owned());
        return Err(StaticLinkError::PlaceMismatch { symbol, first, first_section, second, second_section });
    }
    if sections.0.or(sections.1) == Some(".maps") {
        return compatible::maps(budget, symbol, (first, first_type), (second, second_type));
    }
    compatible::types(budget, (&first.btf, first_type), (&second.btf, second_type)).map_err(|mismatch| {
        let (symbol, first, second) = names();
        StaticLinkError::TypeMismatch { symbol, first, second, mismatch: Box::new(mismatch) }
    })
}
