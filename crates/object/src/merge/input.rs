//! One object, read as far as linking needs it.

use std::collections::HashMap;

use super::error::StaticLinkError;
use crate::btf::{Btf, BtfExt, BtfLinkage, Kind, Type, TypeId};
use crate::elf::Elf;
use crate::error::ObjectError;

/// Section of declarations without `__ksym` or the like, which only a linker resolves.
const EXTERN_SECTION: &str = ".extern";

/// An object to be linked.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) name: String,
    pub(super) elf: Elf<'a>,
    pub(super) btf: Btf,
    pub(super) ext: BtfExt,
    /// Functions and variables that are not static, by name.
    described: HashMap<String, Described>,
}

/// What BTF says about a symbol.
#[derive(Clone, Debug)]
pub(super) struct Described {
    /// `VAR` or `FUNC`.
    pub(super) id: TypeId,
    /// Name of the `DATASEC` it is listed in, if it is in one that means a place.
    pub(super) section: Option<String>,
}

impl<'a> Input<'a> {
    pub(super) fn parse(name: &str, bytes: &'a [u8]) -> Result<Self, StaticLinkError> {
        let bad = |error| StaticLinkError::Object { object: name.to_owned(), error: Box::new(error) };
        let elf = Elf::parse(bytes).map_err(bad)?;
        let btf = match elf.section(".BTF") {
            Some((_, section)) => {
                Btf::parse(section.data).map_err(|error| bad(ObjectError::Btf { section: ".BTF", error }))?
            }
            None => Btf::default(),
        };
        let ext = match elf.section(".BTF.ext") {
            Some((_, section)) => BtfExt::parse(section.data, &btf)
                .map_err(|error| bad(ObjectError::Btf { section: ".BTF.ext", error }))?,
            None => BtfExt::default(),
        };
        let described = described(&btf);
        Ok(Self { name: name.to_owned(), elf, btf, ext, described })
    }

    /// What BTF says about the function or variable of this name, unless it is static.
    pub(super) fn described(&self, name: &str) -> Option<&Described> {
        self.described.get(name)
    }
}

/// Whether the type is a function or variable that other objects may know.
pub(super) fn is_visible(ty: &Type) -> bool {
    match &ty.kind {
        Kind::Func { linkage, .. } | Kind::Var { linkage, .. } => *linkage != BtfLinkage::Static,
        _ => false,
    }
}

fn described(btf: &Btf) -> HashMap<String, Described> {
    let mut found: HashMap<String, Described> = HashMap::new();
    for (id, ty) in btf.own_types().filter(|(_, ty)| is_visible(ty)) {
        found.entry(btf.str(ty.name).to_owned()).or_insert(Described { id, section: None });
    }
    for (_, ty) in btf.own_types() {
        let Kind::DataSec { vars, .. } = &ty.kind else { continue };
        let section = btf.str(ty.name);
        for var in vars.iter().filter(|v| btf.get(v.ty).is_some_and(is_visible)) {
            if section != EXTERN_SECTION
                && let Some(described) = found.get_mut(btf.name(var.ty))
            {
                *described = Described { id: var.ty, section: Some(section.to_owned()) };
            }
        }
    }
    found
}
