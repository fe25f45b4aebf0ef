//! Global variables by name.

use bpf_object::{Btf, Kind, Linkage, MapType, Object, TypeId, Variable};

use super::value::{self, ParseError, PathError, Place, ReadError, Value};
use super::{ArenaPtr, ArenaType, Bytes, LayoutError, check_layout};
use crate::arena::{ArenaError, ArenaOffset, UserAddr};
use crate::error::UnknownName;
use crate::{App, MapError};

/// Most bytes of one variable that are read or set at once.
pub const MAX_VARIABLE_BYTES: u64 = 16 << 20;

/// Most nodes of a list that is read by name.
pub const MAX_LIST_NODES: usize = 1 << 16;

/// Why a global variable cannot be read or set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GlobalError {
    /// The object has no such variable.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The object says nothing about the variable's type.
    #[error("the type of `{name}` is not known: the object has no BTF for it (compile with -g)")]
    NoType {
        /// The variable.
        name: String,
    },
    /// The variable is known, the part of it is not.
    #[error("`{path}`: {error}")]
    Path {
        /// What was asked for.
        path: String,
        /// What is wrong with it.
        error: PathError,
    },
    /// The Rust type does not fit the variable.
    #[error("`{path}`: {error}")]
    Layout {
        /// What was asked for.
        path: String,
        /// The first difference.
        error: LayoutError,
    },
    /// A text that is no value of the variable's type.
    #[error("`{path}`: {error}")]
    Parse {
        /// What was to be set.
        path: String,
        /// What is wrong with the text.
        error: ParseError,
    },
    /// The variable is too large to be handled as one value.
    #[error("`{path}`: {error}")]
    Read {
        /// What was asked for.
        path: String,
        /// What is too large.
        error: ReadError,
    },
    /// The part has more bytes than are read or set at once; ask for a member or an element.
    #[error("`{path}` has {bytes} bytes, more than the {MAX_VARIABLE_BYTES} that are handled as one value")]
    TooLarge {
        /// What was asked for.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// A bit field: there is no address, and no Rust type for it.
    #[error("`{path}` is a bit field")]
    BitField {
        /// What was asked for.
        path: String,
    },
    /// A list with more nodes than are read, or without an end.
    #[error("the list at `{path}` has more than {MAX_LIST_NODES} nodes, or no end")]
    Endless {
        /// Its head.
        path: String,
    },
    /// Only variables in the arena have an address there.
    #[error("`{name}` does not lie in the arena")]
    NotInArena {
        /// The variable.
        name: String,
    },
    /// The arena could not be accessed.
    #[error("`{path}`: {error}")]
    Arena {
        /// What was asked for.
        path: String,
        /// Why.
        error: ArenaError,
    },
    /// The data section could not be accessed: a variable in `.rodata` cannot be written once it is loaded.
    #[error("`{path}`: {error}")]
    Map {
        /// What was asked for.
        path: String,
        /// Why.
        error: MapError,
    },
}

/// A part of a variable: what `table.buckets[3]` stands for.
#[derive(Clone, Copy)]
struct Part<'a> {
    path: &'a str,
    variable: &'a Variable,
    btf: &'a Btf,
    place: Place,
}

fn find<'a>(object: &'a Object, path: &'a str) -> Result<Part<'a>, GlobalError> {
    let (name, rest) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
    let variable = object.variable(name.trim()).ok_or_else(|| UnknownName {
        kind: "variable",
        name: name.trim().to_owned(),
        known: object.variables.iter().map(|v| v.name.clone()).collect(),
    })?;
    let no_type = || GlobalError::NoType { name: variable.name.clone() };
    let btf = object.btf.as_deref().ok_or_else(no_type)?;
    let ty = variable.ty.ok_or_else(no_type)?;
    let place = Place::whole(btf, ty).and_then(|whole| whole.follow(btf, rest));
    let place = place.map_err(|error| GlobalError::Path { path: path.to_owned(), error })?;
    Ok(Part { path, variable, btf, place })
}

impl Part<'_> {
    fn offset(&self) -> u64 {
        u64::from(self.variable.offset).saturating_add(self.place.offset)
    }

    fn buffer(&self) -> Result<Vec<u8>, GlobalError> {
        let bytes = self.place.size;
        let size = usize::try_from(bytes).ok().filter(|_| bytes <= MAX_VARIABLE_BYTES);
        let size = size.ok_or_else(|| GlobalError::TooLarge { path: self.path.to_owned(), bytes })?;
        Ok(vec![0; size])
    }

    /// Checks that a `T` is what lies here.
    fn check<T: ArenaType>(&self) -> Result<(), GlobalError> {
        let path = || self.path.to_owned();
        if self.place.bits.is_some() {
            return Err(GlobalError::BitField { path: path() });
        }
        check_layout::<T>(self.btf, Some(self.place.ty))
            .map_err(|error| GlobalError::Layout { path: path(), error })
    }

    fn arena_error(&self, error: ArenaError) -> GlobalError {
        GlobalError::Arena { path: self.path.to_owned(), error }
    }

    fn map_error(&self, error: MapError) -> GlobalError {
        GlobalError::Map { path: self.path.to_owned(), error }
    }
}

/// What the pointer at `place` points to.
fn pointer_target(btf: &Btf, place: Place) -> Result<TypeId, PathError> {
    match btf.kind(place.ty) {
        Some(Kind::Ptr(target)) => Ok(btf.resolve(*target)),
        _ => Err(PathError::NoPointer { c_type: value::c_type(btf, place.ty) }),
    }
}

/// Where a variable lies once its object is loaded.
enum Home<'a> {
    Arena(&'a crate::arena::Arena, UserAddr),
    Map(&'a crate::Map),
}

/// Global variables: those in `.data`, `.bss`, `.rodata` and like sections, and those in the arena. A name may go on to a
/// part of the variable: `table.buckets[3].key`.
impl App {
    /// A copy of a global variable. Its type is compared with the object's BTF first.
    ///
    /// # Errors
    /// There is none of this name, `T` is not its type, or its memory cannot be read.
    pub fn global<T: ArenaType>(&self, path: &str) -> Result<T, GlobalError> {
        let part = find(self.object(), path)?;
        part.check::<T>()?;
        match self.home(&part)? {
            Home::Arena(arena, at) => {
                arena.read(ArenaPtr::from_raw(at.get())).map_err(|e| part.arena_error(e))
            }
            Home::Map(map) => {
                let mut bytes = part.buffer()?;
                map.read_at(part.offset(), &mut bytes).map_err(|e| part.map_error(e))?;
                let len = bytes.len() as u64;
                // The check saw to the size; an error here would be a size that it let pass.
                T::load_from(&Bytes::new(&mut bytes), 0)
                    .map_err(|_| GlobalError::TooLarge { path: path.to_owned(), bytes: len })
            }
        }
    }

    /// Sets a global variable. Its type is compared with the object's BTF first.
    ///
    /// # Errors
    /// As [`global`](Self::global), and for a variable that may not be written any more (`.rodata`).
    pub fn set_global<T: ArenaType>(&self, path: &str, value: T) -> Result<(), GlobalError> {
        let part = find(self.object(), path)?;
        part.check::<T>()?;
        match self.home(&part)? {
            Home::Arena(arena, at) => {
                arena.write(ArenaPtr::from_raw(at.get()), value).map_err(|e| part.arena_error(e))
            }
            Home::Map(map) => {
                // What lies there now is kept where the type has padding.
                let mut bytes = part.buffer()?;
                map.read_at(part.offset(), &mut bytes).map_err(|e| part.map_error(e))?;
                let len = bytes.len() as u64;
                value
                    .store_to(&Bytes::new(&mut bytes), 0)
                    .map_err(|_| GlobalError::TooLarge { path: path.to_owned(), bytes: len })?;
                map.write_at(part.offset(), &bytes).map_err(|e| part.map_error(e))
            }
        }
    }

    /// Where a global variable of the arena lies, for atomic operations and for structures too large to copy.
    ///
    /// # Errors
    /// There is none of this name, `T` is not its type, or it does not lie in the arena.
    pub fn global_ptr<T: ArenaType>(&self, path: &str) -> Result<ArenaPtr<T>, GlobalError> {
        let part = find(self.object(), path)?;
        part.check::<T>()?;
        match self.home(&part)? {
            Home::Arena(_, at) => Ok(ArenaPtr::from_raw(at.get())),
            Home::Map(_) => Err(GlobalError::NotInArena { name: part.variable.name.clone() }),
        }
    }

    /// A copy of a global variable of any type.
    ///
    /// # Errors
    /// There is none of this name, its type is not known or too large, or its memory cannot be read.
    pub fn global_value(&self, path: &str) -> Result<Value, GlobalError> {
        let part = find(self.object(), path)?;
        let mut bytes = part.buffer()?;
        match self.home(&part)? {
            Home::Arena(arena, at) => arena.read_bytes(at, &mut bytes).map_err(|e| part.arena_error(e))?,
            Home::Map(map) => {
                map.read_at(part.offset(), &mut bytes).map_err(|e| part.map_error(e))?;
            }
        }
        value::read(part.btf, Place { offset: 0, ..part.place }, &bytes)
            .map_err(|error| GlobalError::Read { path: path.to_owned(), error })
    }

    /// Walks a linked list of structures of any type: `head` is a pointer to the first, `link` the member that points to
    /// the next. Gives copies of the structures.
    ///
    /// # Errors
    /// There is no such variable or member, it is no pointer to a structure, a link leads out of the arena, or the
    /// list has more than [`MAX_LIST_NODES`] nodes, as one that leads back to itself has.
    pub fn list_values(&self, head: &str, link: &str) -> Result<Vec<Value>, GlobalError> {
        let part = find(self.object(), head)?;
        let error = |error| GlobalError::Path { path: format!("{head}->{link}"), error };
        let no_head = |error| GlobalError::Path { path: head.to_owned(), error };
        let target = pointer_target(part.btf, part.place).map_err(no_head)?;
        let node = Place::whole(part.btf, target).map_err(error)?;
        let link = node.follow(part.btf, &format!(".{link}")).map_err(error)?;
        pointer_target(part.btf, link).map_err(error)?;
        let arena = self.arena()?;
        let mut bytes = Part { place: node, ..part }.buffer()?;
        let mut nodes = Vec::new();
        let Value::Pointer { address: mut next, .. } = self.global_value(head)? else { return Ok(nodes) };
        while !ArenaPtr::<()>::from_raw(next).is_null() {
            if nodes.len() >= MAX_LIST_NODES {
                return Err(GlobalError::Endless { path: head.to_owned() });
            }
            arena.read_bytes(UserAddr::new(next), &mut bytes).map_err(|e| part.arena_error(e))?;
            let read = |place| {
                value::read(part.btf, place, &bytes)
                    .map_err(|error| GlobalError::Read { path: head.to_owned(), error })
            };
            nodes.push(read(node)?);
            next = match read(link)? {
                Value::Pointer { address, .. } => address,
                _ => 0,
            };
        }
        Ok(nodes)
    }

    fn home(&self, part: &Part<'_>) -> Result<Home<'_>, GlobalError> {
        let unknown = || UnknownName {
            kind: "map of variable",
            name: part.variable.name.clone(),
            known: self.maps().iter().map(|m| m.name().to_owned()).collect(),
        };
        let map = self.maps().get(part.variable.map).ok_or_else(unknown)?;
        if map.spec().map_type != MapType::Arena {
            return Ok(Home::Map(map));
        }
        let arena = self.arena()?;
        let out = || ArenaError::OutOfBounds { at: arena.user_vm_start(), bytes: part.offset() };
        let at = arena.addr_of(ArenaOffset::new(part.offset())).ok_or_else(|| part.arena_error(out()))?;
        Ok(Home::Arena(arena, at))
    }
}

/// Sets the initial value of a variable in an object that is not loaded yet: the only way to set what programs see as
/// constants (`.rodata`). `path` is as in [`App::global`], `text` as in [`value::write`].
///
/// # Errors
/// There is none of this name, its type is not known, or `text` is no value of it.
pub fn set_initial(object: &mut Object, path: &str, text: &str) -> Result<(), GlobalError> {
    let part = find(object, path)?;
    let (map, offset) = (part.variable.map, part.offset());
    let mut bytes = part.buffer()?;
    let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(bytes.len())?));
    let too_large = || GlobalError::TooLarge { path: path.to_owned(), bytes: offset };
    let range = range.filter(|r| r.end as u64 <= MAX_VARIABLE_BYTES).ok_or_else(too_large)?;
    let mut maps = object.maps.to_vec();
    let initial = maps.get_mut(map).map(|m| &mut m.initial).ok_or_else(too_large)?;
    if initial.len() < range.end {
        initial.resize(range.end, 0);
    }
    let home = initial.get_mut(range).ok_or_else(too_large)?;
    bytes.copy_from_slice(home);
    value::write(part.btf, part.place, text, &mut bytes)
        .map_err(|error| GlobalError::Parse { path: path.to_owned(), error })?;
    home.copy_from_slice(&bytes);
    object.maps = maps.into();
    Ok(())
}

/// The names of an object's variables that a person would want to see: global ones, then static ones, by name. Static
/// variables of the same name, which linked objects may have, are one name: that of the first of them.
#[must_use]
pub fn variable_names(object: &Object) -> Vec<String> {
    let rank = |v: &&Variable| (v.linkage == Linkage::Static, v.name.clone());
    let mut variables: Vec<&Variable> = object.variables.iter().filter(|v| v.ty.is_some()).collect();
    variables.sort_by_key(rank);
    let mut names: Vec<String> = variables.into_iter().map(|v| v.name.clone()).collect();
    names.dedup();
    names
}
