//! Comparing a Rust type with the C type that an object's BTF describes.

use std::fmt;

use bpf_object::{Btf, Kind, KindTag, TypeId};

use super::shape::{ArenaType, FieldShape, Shape, StructShape};

/// Types nested deeper than this are not compared further.
const MAX_DEPTH: usize = 32;
/// Pairs of types that one comparison looks at, at most.
const MAX_PAIRS: usize = 4096;

/// A Rust type that does not fit its C counterpart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A field, an element or the type itself is something else in C.
    #[error("{place}: expected {expected}, the object has {found}")]
    Mismatch {
        /// Where: `Node`, or a field in it, `Node.value`.
        place: String,
        /// What the Rust type says.
        expected: String,
        /// What BTF says.
        found: String,
    },
    /// A field lies elsewhere in C.
    #[error("{place}: expected at offset {expected}, the object has it at {found}")]
    Offset {
        /// The field.
        place: String,
        /// Its offset in Rust, in bytes.
        expected: u64,
        /// Its offset in C, in bytes.
        found: u64,
    },
    /// A field that the C structure lacks.
    #[error("{place}: the object's `struct {c_struct}` has no member `{member}`; it has {}", List(known))]
    NoMember {
        /// The field.
        place: String,
        /// Name of the structure in C.
        c_struct: String,
        /// Name looked for.
        member: String,
        /// The members there are.
        known: Vec<String>,
    },
    /// Structures of different sizes.
    #[error("{place}: expected {expected} bytes, the object's `{c_struct}` has {found}")]
    Size {
        /// The structure.
        place: String,
        /// Name of the structure in C.
        c_struct: String,
        /// Bytes in Rust.
        expected: u64,
        /// Bytes in C.
        found: u64,
    },
    /// The object describes no structure with the type's name.
    #[error("{place}: the object's BTF has no `struct {c_struct}`")]
    NoStruct {
        /// The Rust type.
        place: String,
        /// Name looked for.
        c_struct: String,
    },
}

struct List<'a>(&'a [String]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let quoted: Vec<String> = self.0.iter().map(|name| format!("`{name}`")).collect();
        f.write_str(&quoted.join(", "))
    }
}

/// Compares a layout with a type of `btf`, and what both point to.
pub(crate) fn check_shape(btf: &Btf, shape: &Shape, id: TypeId) -> Result<(), LayoutError> {
    Check { btf, seen: Vec::new() }.compare(shape, id, &place_of(shape), MAX_DEPTH)
}

/// Compares `T` with the type `id` of `btf`, or with the structure of its C name for `None`, and what both point to.
///
/// Sizes, offsets, names of members and, for integers of more than one byte, signs have to agree. An enum or a `bool`
/// is the integer of its size. A union fits what any of its members fits.
///
/// # Errors
/// The first difference, by type and field.
pub fn check_layout<T: ArenaType>(btf: &Btf, id: Option<TypeId>) -> Result<(), LayoutError> {
    let shape = T::SHAPE;
    let id = match (id, shape) {
        (Some(id), _) => id,
        (None, Shape::Struct(s)) => btf.find(s.c_name, KindTag::Struct).ok_or_else(|| {
            LayoutError::NoStruct { place: s.name.to_owned(), c_struct: s.c_name.to_owned() }
        })?,
        (None, _) => return Ok(()),
    };
    check_shape(btf, &shape, id)
}

fn place_of(shape: &Shape) -> String {
    match shape {
        Shape::Struct(s) => s.name.to_owned(),
        other => describe_shape(other),
    }
}

struct Check<'a> {
    btf: &'a Btf,
    /// Structures compared or being compared: types may point to themselves.
    seen: Vec<(*const StructShape, TypeId)>,
}

impl Check<'_> {
    fn compare(&mut self, shape: &Shape, id: TypeId, place: &str, depth: usize) -> Result<(), LayoutError> {
        let Some(depth) = depth.checked_sub(1) else { return Ok(()) };
        let (named, id) = (id, self.btf.resolve(id));
        let mismatch = || LayoutError::Mismatch {
            place: place.to_owned(),
            expected: describe_shape(shape),
            found: describe(self.btf, named),
        };
        let Some(kind) = self.btf.kind(id) else { return Err(mismatch()) };
        match (shape, kind) {
            (Shape::Opaque, _) => Ok(()),
            (_, Kind::Union(union)) => {
                let plain = matches!(shape, Shape::Int { .. } | Shape::Array { .. });
                let fits = u64::from(union.size) == shape.size() as u64
                    && (plain || union.members.iter().any(|m| self.fits(shape, m.ty, place, depth)));
                if fits { Ok(()) } else { Err(mismatch()) }
            }
            (Shape::Int { bytes, signed }, _) => {
                let fits = integer(kind).is_some_and(|(size, sign)| {
                    size as usize == *bytes && (*bytes == 1 || sign.is_none_or(|s| s == *signed))
                });
                if fits { Ok(()) } else { Err(mismatch()) }
            }
            (Shape::Pointer { target }, Kind::Ptr(to)) => {
                let target = target();
                match (&target, self.btf.kind(self.btf.resolve(*to))) {
                    // `void *` and `struct declared_elsewhere *` say nothing about the target.
                    (_, None | Some(Kind::Void | Kind::Fwd { .. })) => Ok(()),
                    (Shape::Struct(s), _) => self.compare(&target, *to, s.name, depth),
                    _ => self.compare(&target, *to, &format!("{place} (target)"), depth),
                }
            }
            (Shape::Array { element, len }, Kind::Array(array)) if array.len as usize == *len => {
                self.compare(element, array.element, &format!("{place}[]"), depth)
            }
            (Shape::Struct(s), Kind::Struct(_)) => self.compare_struct(s, id, place, depth),
            _ => Err(mismatch()),
        }
    }

    /// Whether the types agree; leaves no trace if they do not.
    fn fits(&mut self, shape: &Shape, id: TypeId, place: &str, depth: usize) -> bool {
        let seen = self.seen.len();
        let fits = self.compare(shape, id, place, depth).is_ok();
        if !fits {
            self.seen.truncate(seen);
        }
        fits
    }

    fn compare_struct(
        &mut self,
        shape: &'static StructShape,
        id: TypeId,
        place: &str,
        depth: usize,
    ) -> Result<(), LayoutError> {
        let pair = (std::ptr::from_ref(shape), id);
        if self.seen.contains(&pair) || self.seen.len() >= MAX_PAIRS {
            return Ok(());
        }
        self.seen.push(pair);
        for field in shape.fields {
            self.compare_field(field, id, &format!("{place}.{}", field.name), depth)?;
        }
        let found = self.btf.size_of(id).unwrap_or(0);
        if found == shape.size as u64 {
            return Ok(());
        }
        let c_struct = describe(self.btf, id);
        Err(LayoutError::Size { place: place.to_owned(), c_struct, expected: shape.size as u64, found })
    }

    fn compare_field(
        &mut self,
        field: &FieldShape,
        id: TypeId,
        place: &str,
        depth: usize,
    ) -> Result<(), LayoutError> {
        let Some(name) = field.c_name else { return Ok(()) };
        let Some((member, bit_offset)) = self.btf.member(id, name) else {
            let members = self.btf.composite(id).map(|c| c.members.as_slice()).unwrap_or_default();
            return Err(LayoutError::NoMember {
                place: place.to_owned(),
                c_struct: self.btf.name(id).to_owned(),
                member: name.to_owned(),
                known: members
                    .iter()
                    .map(|m| self.btf.str(m.name).to_owned())
                    .filter(|n| !n.is_empty())
                    .collect(),
            });
        };
        if let Some(bits) = self.btf.bit_field(member) {
            return Err(LayoutError::Mismatch {
                place: place.to_owned(),
                expected: describe_shape(&field.shape),
                found: format!("a bit field of {bits} bits"),
            });
        }
        self.compare(&field.shape, member.ty, place, depth)?;
        if bit_offset == field.offset as u64 * 8 {
            return Ok(());
        }
        Err(LayoutError::Offset {
            place: place.to_owned(),
            expected: field.offset as u64,
            found: bit_offset / 8,
        })
    }
}

/// Size and sign of an integer type; no sign for types that are compared by size alone.
fn integer(kind: &Kind) -> Option<(u32, Option<bool>)> {
    match kind {
        Kind::Int(int) if int.is_bool || int.is_char => Some((int.size, None)),
        Kind::Int(int) => Some((int.size, Some(int.signed))),
        Kind::Enum(e) => Some((e.size, None)),
        Kind::Enum64(e) => Some((e.size, None)),
        _ => None,
    }
}

pub(crate) fn describe_shape(shape: &Shape) -> String {
    match shape {
        Shape::Int { bytes, signed } => format!("{}{}", if *signed { 'i' } else { 'u' }, bytes * 8),
        Shape::Pointer { target } => format!("ArenaPtr<{}>", describe_shape(&target())),
        Shape::Array { element, len } => format!("[{}; {len}]", describe_shape(element)),
        Shape::Struct(s) => format!("struct {}", s.name),
        Shape::Opaque => "()".to_owned(),
    }
}

/// A type as C writes it, e.g. `struct node *`.
pub(crate) fn describe(btf: &Btf, id: TypeId) -> String {
    describe_within(btf, id, MAX_DEPTH)
}

fn describe_within(btf: &Btf, id: TypeId, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "...".to_owned() };
    let named = |keyword: &str| match btf.name(id) {
        "" => format!("anonymous {keyword}"),
        name => format!("{keyword} {name}"),
    };
    match btf.kind(id) {
        Some(Kind::Void) => "void".to_owned(),
        Some(Kind::Ptr(to)) => match describe_within(btf, *to, depth) {
            text if text.ends_with('*') => format!("{text}*"),
            text => format!("{text} *"),
        },
        Some(Kind::Array(array)) => {
            // The outer length comes first in C: `int[2][3]`.
            let element = describe_within(btf, array.element, depth);
            let (base, rest) = element.split_at(element.find('[').unwrap_or(element.len()));
            format!("{base}[{}]{rest}", array.len)
        }
        Some(Kind::Struct(_)) => named("struct"),
        Some(Kind::Union(_)) => named("union"),
        Some(Kind::Enum(_) | Kind::Enum64(_)) => named("enum"),
        Some(Kind::Fwd { is_union }) => named(if *is_union { "union" } else { "struct" }),
        Some(Kind::Const(to)) => format!("const {}", describe_within(btf, *to, depth)),
        Some(Kind::Volatile(to)) => format!("volatile {}", describe_within(btf, *to, depth)),
        Some(Kind::Restrict(ty) | Kind::TypeTag { ty, .. }) => describe_within(btf, *ty, depth),
        Some(Kind::FuncProto(_)) => "function".to_owned(),
        Some(_) => btf.name(id).to_owned(),
        None => "nothing".to_owned(),
    }
}

/// The declaration of a variable as C writes it, e.g. `struct point grid[2][3]`.
pub(crate) fn declare(btf: &Btf, id: TypeId, name: &str) -> String {
    let (mut id, mut lengths) = (id, String::new());
    for _ in 0..MAX_DEPTH {
        match btf.kind(id) {
            Some(Kind::Array(array)) => {
                lengths += &format!("[{}]", array.len);
                id = array.element;
            }
            _ => break,
        }
    }
    match describe(btf, id) {
        pointer if pointer.ends_with('*') => format!("{pointer}{name}{lengths}"),
        text => format!("{text} {name}{lengths}"),
    }
}
