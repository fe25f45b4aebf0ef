//! Objects that programs see through pointers into "the kernel": images of its structures, or of the host's own.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use bpf_object::{Btf, KindTag, TypeId};

use crate::access::{Block, Place};
use crate::runtime::maps::storage;
use crate::typed::value::{self, Value};
use crate::typed::{ArenaType, Bytes, Shape};

/// A structure that a program is given pointers to: of the kernel, by its name alone, or of the host, with its layout.
///
/// Every structure that derives [`ArenaType`] is one. For the kernel's, implement it for a type that only stands for it:
///
/// ```
/// use bpf_arena::host::Structure;
///
/// /// `struct mm_struct`.
/// enum Memory {}
/// impl Structure for Memory {
///     const NAME: &'static str = "mm_struct";
/// }
/// ```
pub trait Structure: 'static {
    /// Its name in C.
    const NAME: &'static str;
    /// Its layout, if it is the host's.
    const SHAPE: Option<Shape> = None;
}

impl<T: ArenaType> Structure for T {
    const NAME: &'static str = match T::SHAPE {
        Shape::Struct(shape) => shape.c_name,
        _ => "",
    };
    const SHAPE: Option<Shape> = Some(T::SHAPE);
}

macro_rules! kernel_structures {
    ($($(#[$doc:meta])* $kind:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $kind {}

        impl Structure for $kind {
            const NAME: &'static str = $name;
        }
    )*};
}

kernel_structures! {
    /// `struct task_struct`.
    Task = "task_struct";
    /// `struct cgroup`.
    Cgroup = "cgroup";
    /// `struct sock`.
    Sock = "sock";
    /// `struct file`.
    File = "file";
}

/// Memory laid out as a structure, which programs may read and never write.
#[derive(Debug)]
pub(crate) struct Image {
    block: Arc<Block>,
    /// The structure's type, if it is not the host's.
    types: Option<(Arc<Btf>, TypeId)>,
    /// What its pointers lead to.
    targets: Mutex<Vec<Arc<Self>>>,
}

impl Drop for Image {
    /// Values that programs attached to it go with it.
    fn drop(&mut self) {
        storage::forget(self.block.address());
    }
}

impl Image {
    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// The structure's type, if it is not the host's.
    pub(crate) fn types(&self) -> Option<&(Arc<Btf>, TypeId)> {
        self.types.as_ref()
    }

    /// The number in a member, if the types have it.
    pub(crate) fn number(&self, path: &str) -> Option<i128> {
        let (types, ty) = self.types.as_ref()?;
        let place = value::Place::whole(types, *ty).ok()?.follow(types, &format!(".{path}")).ok()?;
        let bytes = self.block.place(place.offset, place.size)?.to_vec();
        match value::read(types, value::Place { offset: 0, ..place }, &bytes) {
            Ok(Value::Int(number)) => Some(number),
            _ => None,
        }
    }

    /// The images its pointers lead to.
    pub(crate) fn targets(&self) -> Vec<Arc<Self>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An object that programs can be given a pointer to. Cheap to clone; all clones are the same object.
///
/// Programs read it while the host may write it. A pointer of a program to an object that is gone reads as 0. An object that
/// can be reached from itself by the pointers in it is never freed.
pub struct Object<S> {
    image: Arc<Image>,
    structure: PhantomData<fn() -> S>,
}

/// Why an object has no such member, or the member no such value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The types describe no structure of this name.
    #[error("the types have no `struct {name}`")]
    NoStructure {
        /// The name.
        name: &'static str,
    },
    /// There is no memory for it.
    #[error("no memory for an object of {bytes} bytes")]
    NoMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// The structure is the host's own, which is read and written as a whole.
    #[error("`struct {name}` is read and written as a whole")]
    Own {
        /// The structure's name.
        name: &'static str,
    },
    /// The path leads to no member.
    #[error("{path}: {source}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: value::PathError,
    },
    /// The member cannot have this value.
    #[error("{path}: {source}")]
    Value {
        /// The path.
        path: String,
        /// What is wrong with the value.
        source: value::ParseError,
    },
    /// The member cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The path.
        path: String,
        /// Why.
        source: value::ReadError,
    },
    /// The member is no pointer.
    #[error("{path} is of type `{c_type}`, which is no pointer")]
    NoPointer {
        /// The path.
        path: String,
        /// The member's type.
        c_type: String,
    },
}

impl<S: Structure> Object<S> {
    /// A zeroed object with the layout that `types` give it: a kernel's BTF.
    ///
    /// # Errors
    /// The types have no such structure, or there is no memory.
    pub fn new(types: &Arc<Btf>) -> Result<Self, ObjectError> {
        let no_structure = ObjectError::NoStructure { name: S::NAME };
        let ty = types.find(S::NAME, KindTag::Struct).ok_or(no_structure.clone())?;
        let bytes = types.size_of(ty).ok_or(no_structure)?;
        Self::zeroed(bytes, Some((Arc::clone(types), ty)))
    }

    fn zeroed(bytes: u64, types: Option<(Arc<Btf>, TypeId)>) -> Result<Self, ObjectError> {
        let block = usize::try_from(bytes).ok().and_then(Block::new);
        let block = Arc::new(block.ok_or(ObjectError::NoMemory { bytes })?);
        Ok(Self::from_image(Arc::new(Image { block, types, targets: Mutex::default() })))
    }

    /// Sets the member that `path` (`pid`, `se.vruntime`, `comm`, `cpus_mask.bits[0]`) leads to. The value is what its text
    /// is in C: a number, the name of a constant, `true`, any text for an array of `char`.
    ///
    /// # Errors
    /// There is no such member, or it cannot have this value.
    pub fn set(&self, path: &str, value: impl fmt::Display) -> Result<&Self, ObjectError> {
        let (types, _) = self.types()?;
        let (place, range) = self.member(path)?;
        let mut bytes = range.to_vec();
        value::write(types, place, &value.to_string(), &mut bytes)
            .map_err(|source| ObjectError::Value { path: path.to_owned(), source })?;
        range.write(&bytes);
        Ok(self)
    }

    /// Makes the pointer that `path` leads to point to another object, which lives as long as this one.
    ///
    /// # Errors
    /// There is no such member, or it is no pointer.
    pub fn point<T>(&self, path: &str, to: &Object<T>) -> Result<&Self, ObjectError> {
        let (types, _) = self.types()?;
        let (place, range) = self.member(path)?;
        if !matches!(types.kind(place.ty), Some(bpf_object::Kind::Ptr(_))) {
            let c_type = value::c_type(types, place.ty);
            return Err(ObjectError::NoPointer { path: path.to_owned(), c_type });
        }
        range.write(&to.address().to_le_bytes());
        if !Arc::ptr_eq(&self.image, &to.image) {
            let mut targets = self.image.targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets.push(Arc::clone(&to.image));
        }
        Ok(self)
    }

    /// The value that `path` leads to.
    ///
    /// # Errors
    /// There is no such member.
    pub fn get(&self, path: &str) -> Result<Value, ObjectError> {
        let (types, _) = self.types()?;
        let (place, range) = self.member(path)?;
        let at_start = value::Place { offset: 0, ..place };
        value::read(types, at_start, &range.to_vec())
            .map_err(|source| ObjectError::Read { path: path.to_owned(), source })
    }

    fn types(&self) -> Result<&(Arc<Btf>, TypeId), ObjectError> {
        self.image.types.as_ref().ok_or(ObjectError::Own { name: S::NAME })
    }

    /// A member, and its bytes.
    fn member(&self, path: &str) -> Result<(value::Place, Place<'_>), ObjectError> {
        let (types, ty) = self.types()?;
        let failed = |source| ObjectError::Path { path: path.to_owned(), source };
        let place = value::Place::whole(types, *ty).map_err(failed)?;
        let place = place.follow(types, &format!(".{path}")).map_err(failed)?;
        let range = self.image.block.place(place.offset, place.size);
        let range = range.ok_or(ObjectError::NoStructure { name: S::NAME })?;
        Ok((place, range))
    }
}

impl<S: ArenaType> Object<S> {
    /// An object with this value.
    ///
    /// # Errors
    /// There is no memory.
    pub fn with_value(value: S) -> Result<Self, ObjectError> {
        let object = Self::zeroed(S::SHAPE.size() as u64, None)?;
        object.write(value);
        Ok(object)
    }

    /// Its value.
    #[must_use]
    pub fn read(&self) -> S {
        let mut bytes = vec![0; S::SHAPE.size()];
        if let Some(place) = self.image.block.place(0, bytes.len() as u64) {
            place.read(&mut bytes);
        }
        S::load_from(&Bytes::new(&mut bytes), 0).unwrap_or(S::ZERO)
    }

    /// Changes its value.
    pub fn write(&self, value: S) {
        let mut bytes = vec![0; S::SHAPE.size()];
        // It has as many bytes as the type.
        let _ = value.store_to(&Bytes::new(&mut bytes), 0);
        if let Some(place) = self.image.block.place(0, bytes.len() as u64) {
            place.write(&bytes);
        }
    }
}

impl<S> Object<S> {
    pub(crate) fn from_image(image: Arc<Image>) -> Self {
        Self { image, structure: PhantomData }
    }

    pub(crate) fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// An object of which nothing can be seen.
    pub(crate) fn opaque() -> Option<Self> {
        let block = Arc::new(Block::new(1)?);
        Some(Self::from_image(Arc::new(Image { block, types: None, targets: Mutex::default() })))
    }

    /// Its address, as programs see it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.image.block.address()
    }
}

impl<S> Clone for Object<S> {
    fn clone(&self) -> Self {
        Self::from_image(Arc::clone(&self.image))
    }
}

impl<S> PartialEq for Object<S> {
    /// Whether it is the same object.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.image, &other.image)
    }
}

impl<S> Eq for Object<S> {}

impl<S: Structure> fmt::Debug for Object<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "struct {} at {:#x}", S::NAME, self.address())
    }
}
