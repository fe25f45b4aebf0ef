//! The object's type information in the kernel.

use std::collections::HashMap;

use bpf_object::{Btf, BtfLinkage, Composite, Int, Kind, Member, Object, SecVar, Type, TypeId};
use sys::bpf::BtfFd;

use super::KernelError;

/// Loaded type information, with what line information needs of it.
#[derive(Debug)]
pub(super) struct LoadedBtf {
    pub(super) fd: BtfFd,
    /// Offset of every string: line information refers to file names and source lines by it.
    strings: HashMap<Box<[u8]>, u32>,
}

impl LoadedBtf {
    /// Loads the object's BTF; `None` if it has none. Kinds that an older kernel does not know are replaced by
    /// older ones of the same size.
    pub(super) fn of(object: &Object) -> Result<Option<Self>, KernelError> {
        let Some(btf) = object.btf.as_deref() else { return Ok(None) };
        let btf = &for_kernel(btf);
        let bytes = btf.to_bytes();
        let fd = match BtfFd::load(&bytes) {
            Ok(fd) => fd,
            // The kernel's reason for the unchanged BTF is the one worth reading.
            Err(error) => [Age::Linux5_2, Age::Linux4_18]
                .into_iter()
                .find_map(|age| BtfFd::load(&sanitised(btf, age).to_bytes()).ok())
                .ok_or(KernelError::Btf(error))?,
        };
        // Replacing kinds only appends strings: offsets are those of the original.
        Ok(Some(Self { fd, strings: string_offsets(&bytes) }))
    }

    /// Offset of this text in the string section.
    pub(super) fn string(&self, text: &str) -> Option<u32> {
        self.strings.get(text.as_bytes()).copied()
    }
}

/// A BTF in which nothing is defined elsewhere: the kernel does not know externs. Functions and variables become
/// global; `.ksyms` becomes a section of integers, which is what libbpf makes of it.
fn for_kernel(btf: &Btf) -> Btf {
    let mut out = btf.clone();
    let types: Vec<(TypeId, Type)> = btf.own_types().map(|(id, ty)| (id, ty.clone())).collect();
    let mut dummy = None;
    for (id, Type { name, kind }) in types {
        let kind = match kind {
            // Nameless parameters (`int prog(void *)`) are not to the kernel's taste either.
            Kind::Func { proto, linkage } => {
                name_parameters(&mut out, proto);
                let linkage = if linkage == BtfLinkage::Extern { BtfLinkage::Global } else { linkage };
                Kind::Func { proto, linkage }
            }
            Kind::Var { ty, linkage: BtfLinkage::Extern } => Kind::Var { ty, linkage: BtfLinkage::Global },
            Kind::DataSec { vars, .. } if btf.str(name) == ".ksyms" => {
                let dummy = *dummy.get_or_insert_with(|| push_dummy(&mut out));
                let rows = (0_u32..).zip(&vars);
                let vars: Vec<_> = rows.map(|(i, _)| SecVar { ty: dummy, offset: 4 * i, size: 4 }).collect();
                Kind::DataSec { size: u32::try_from(4 * vars.len()).unwrap_or(u32::MAX), vars }
            }
            _ => continue,
        };
        out.replace(id, Type { name, kind });
    }
    out
}

/// A global `int` variable that stands for every kernel symbol.
fn push_dummy(btf: &mut Btf) -> TypeId {
    let name = btf.add_str("__bpf_arena_ksym");
    let int =
        btf.push(Type { name, kind: Kind::Int(Int { size: 4, bits: 32, signed: true, ..Int::default() }) });
    btf.push(Type { name, kind: Kind::Var { ty: int, linkage: BtfLinkage::Global } })
}

/// Functions must have names for their parameters.
fn name_parameters(btf: &mut Btf, proto: TypeId) {
    let Some(Type { name, kind: Kind::FuncProto(mut function) }) = btf.get(proto).cloned() else { return };
    let nameless = |p: &bpf_object::Param| p.ty != TypeId::VOID && p.name.0 == 0;
    if !function.params.iter().any(nameless) {
        return;
    }
    let param = btf.add_str("param");
    for each in function.params.iter_mut().filter(|p| nameless(p)) {
        each.name = param;
    }
    btf.replace(proto, Type { name, kind: Kind::FuncProto(function) });
}

/// A kernel's knowledge of BTF.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    /// `INT` to `FUNC_PROTO`.
    Linux4_18,
    /// `VAR` and `DATASEC`, but not `FLOAT` (5.13), `DECL_TAG`, `TYPE_TAG` (5.16, 5.17), `ENUM64` (6.0) or functions with
    /// a linkage (5.6).
    Linux5_2,
}

/// A BTF with the same ids and sizes made of the kinds of that age.
fn sanitised(btf: &Btf, age: Age) -> Btf {
    let mut out = btf.clone();
    let word = Int { size: 8, bits: 64, ..Int::default() };
    let word_name = out.add_str("__bpf_arena_u64");
    let word_id = out.push(Type { name: word_name, kind: Kind::Int(word) });
    let types: Vec<(TypeId, Type)> = btf.own_types().map(|(id, ty)| (id, ty.clone())).collect();
    for (id, mut ty) in types {
        let byte = Kind::Int(Int { size: 1, bits: 8, ..Int::default() });
        let block = |size| Kind::Struct(Composite { size, ..Composite::default() });
        let kind = match &ty.kind {
            Kind::Float { size } => block(*size),
            Kind::DeclTag { .. } => byte,
            Kind::TypeTag { ty, .. } => Kind::Const(*ty),
            Kind::Enum64(e) => {
                let member = |&(name, _): &(_, u64)| Member { name, ty: word_id, ..Member::default() };
                let members = e.values.iter().map(member).collect();
                Kind::Union(Composite { size: e.size, members, kind_flag: false })
            }
            Kind::Func { proto, linkage: BtfLinkage::Global | BtfLinkage::Extern } => {
                Kind::Func { proto: *proto, linkage: BtfLinkage::Static }
            }
            Kind::Var { .. } if age < Age::Linux5_2 => byte,
            Kind::DataSec { size, .. } if age < Age::Linux5_2 => block(*size),
            _ => continue,
        };
        let anonymous = matches!(kind, Kind::Const(_));
        // Section names (`.bss`) and tags are no identifiers, which structs and integers must have.
        if anonymous || matches!(ty.kind, Kind::DataSec { .. } | Kind::DeclTag { .. }) {
            ty.name = if anonymous { bpf_object::StrId(0) } else { word_name };
        }
        out.replace(id, Type { name: ty.name, kind });
    }
    out
}

/// Offsets of the strings of a `.BTF` section's bytes, the first of equal ones.
fn string_offsets(bytes: &[u8]) -> HashMap<Box<[u8]>, u32> {
    // struct btf_header: hdr_len at 4, str_off at 16, str_len at 20; little endian as it was written.
    let word = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        four.try_into().ok().map(u32::from_le_bytes)
    };
    let (Some(header), Some(start), Some(len)) = (word(4), word(16), word(20)) else { return HashMap::new() };
    let start = header as usize + start as usize;
    let Some(section) = bytes.get(start..start + len as usize) else { return HashMap::new() };
    let mut offsets = HashMap::new();
    let mut at = 0_u32;
    for text in section.split(|&b| b == 0) {
        offsets.entry(text.into()).or_insert(at);
        at = at.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX)).saturating_add(1);
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_get_old_kinds() {
        let mut btf = Btf::default();
        let name = btf.add_str("x");
        let float = btf.push(Type { name, kind: Kind::Float { size: 8 } });
        let tag =
            btf.push(Type { name, kind: Kind::DeclTag { target: float, component: None, attribute: false } });
        let var = btf.push(Type { name, kind: Kind::Var { ty: float, linkage: BtfLinkage::Global } });
        let newer = sanitised(&btf, Age::Linux5_2);
        assert!(matches!(newer.kind(float), Some(Kind::Struct(c)) if c.size == 8));
        assert!(matches!(newer.kind(tag), Some(Kind::Int(_))));
        assert!(matches!(newer.kind(var), Some(Kind::Var { .. })));
        let older = sanitised(&btf, Age::Linux4_18);
        assert!(matches!(older.kind(var), Some(Kind::Int(_))));
        assert_eq!(Btf::parse(&older.to_bytes()).map(|b| b.end_id()), Ok(older.end_id()));
    }

    #[test]
    fn strings_have_their_offsets() {
        let mut btf = Btf::default();
        let (first, second) = (btf.add_str("first"), btf.add_str("second"));
        let offsets = string_offsets(&btf.to_bytes());
        assert_eq!(offsets.get(&b"first"[..]), Some(&first.0));
        assert_eq!(offsets.get(&b"second"[..]), Some(&second.0));
        assert_eq!(offsets.get(&b""[..]), Some(&0));
        assert!(string_offsets(&[0; 10]).is_empty());
    }
}
