//! Maps with keys and values of Rust types.

use std::fmt;
use std::marker::PhantomData;

use bpf_object::{Btf, TypeId};

use super::{ArenaType, Bytes, LayoutError, check_layout};
use crate::error::{MapError, UnknownName};
use crate::map::{BPF_ANY, Map};
use crate::{App, UpdateMode};

/// A map whose keys are `K` and whose values are `V`, which has been compared with what the object says of them.
///
/// Queues, stacks and bloom filters have no keys: `K` is `()`.
///
/// ```
/// # use bpf_arena::typed::ArenaType;
/// # use bpf_arena::{App, MapError};
/// /// `struct flow` of the program.
/// #[derive(ArenaType, Clone, Copy)]
/// #[repr(C)]
/// struct Flow {
///     packets: u64,
///     bytes: u64,
/// }
///
/// fn total(app: &App) -> Result<u64, Box<dyn std::error::Error>> {
///     let flows = app.typed_map::<u32, Flow>("flows")?;
///     let elements: Result<Vec<(u32, Flow)>, MapError> = flows.iter().collect();
///     Ok(elements?.iter().map(|(_, flow)| flow.bytes).sum())
/// }
/// ```
pub struct TypedMap<K, V> {
    map: Map,
    types: PhantomData<fn(K) -> V>,
}

/// Why a map does not have keys and values of these types.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapTypeError {
    /// The object has no such map.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The Rust type is laid out otherwise than the C type that the map was declared with.
    #[error("{what} of `{map}`: {error}")]
    Layout {
        /// The map.
        map: String,
        /// `keys` or `values`.
        what: &'static str,
        /// The first difference.
        error: Box<LayoutError>,
    },
    /// The map was declared with sizes alone, and they are others.
    #[error("{what} of `{map}` have {expected} bytes, the type has {given}")]
    Size {
        /// The map.
        map: String,
        /// `keys` or `values`.
        what: &'static str,
        /// The map's size.
        expected: u32,
        /// The type's size.
        given: usize,
    },
}

impl App {
    /// The map with this name, with keys and values of Rust types. These are compared with the types it was declared with, or
    /// with its sizes if it was declared with sizes alone. For per-CPU maps `V` is the value of one CPU.
    ///
    /// # Errors
    /// There is no such map, or a type does not fit.
    pub fn typed_map<K: ArenaType, V: ArenaType>(&self, name: &str) -> Result<TypedMap<K, V>, MapTypeError> {
        let map = self.map(name)?.clone();
        let spec = map.spec();
        let btf = self.object().btf.as_deref();
        check::<K>(name, "keys", btf.zip(spec.key_btf), spec.key_size)?;
        check::<V>(name, "values", btf.zip(spec.value_btf), spec.value_size)?;
        Ok(TypedMap { map, types: PhantomData })
    }
}

fn check<T: ArenaType>(
    map: &str,
    what: &'static str,
    declared: Option<(&Btf, TypeId)>,
    expected: u32,
) -> Result<(), MapTypeError> {
    if let Some((btf, id)) = declared {
        check_layout::<T>(btf, Some(id)).map_err(|error| MapTypeError::Layout {
            map: map.to_owned(),
            what,
            error: Box::new(error),
        })?;
    }
    let given = T::SHAPE.size();
    if given == expected as usize {
        return Ok(());
    }
    Err(MapTypeError::Size { map: map.to_owned(), what, expected, given })
}

impl<K: ArenaType, V: ArenaType> TypedMap<K, V> {
    /// The map, for what has no types.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// A copy of the value of `key`, `None` if there is none.
    ///
    /// # Errors
    /// Maps of this type have no lookup, or a value for each CPU: [`get_per_cpu`](Self::get_per_cpu).
    pub fn get(&self, key: K) -> Result<Option<V>, MapError> {
        self.only_one()?;
        Ok(self.map.lookup(&to_bytes(key))?.map(|value| from_bytes(&value)))
    }

    /// Inserts or replaces the value of `key`.
    ///
    /// # Errors
    /// The map is full or read-only, or `mode` does not allow it.
    pub fn update(&self, key: K, value: V, mode: UpdateMode) -> Result<(), MapError> {
        self.only_one()?;
        self.map.update(&to_bytes(key), &to_bytes(value), mode)
    }

    /// Removes `key`; whether it was there.
    ///
    /// # Errors
    /// Maps of this type have no removal.
    pub fn remove(&self, key: K) -> Result<bool, MapError> {
        match self.map.delete(&to_bytes(key)) {
            Ok(()) => Ok(true),
            Err(MapError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Copies the value of `key` and removes it; `None` if there is none.
    ///
    /// # Errors
    /// Maps of this type cannot do both at once.
    pub fn take(&self, key: K) -> Result<Option<V>, MapError> {
        self.only_one()?;
        Ok(self.map.lookup_and_delete(&to_bytes(key), 0)?.map(|value| from_bytes(&value)))
    }

    /// The values of `key` of all possible CPUs, `None` if there is none.
    ///
    /// # Errors
    /// The map has one value for all CPUs.
    pub fn get_per_cpu(&self, key: K) -> Result<Option<Vec<V>>, MapError> {
        let stride = self.stride()?;
        let values = self.map.lookup(&to_bytes(key))?;
        Ok(values.map(|values| values.chunks_exact(stride).map(from_bytes).collect()))
    }

    /// Inserts or replaces the values of `key` of all possible CPUs.
    ///
    /// # Errors
    /// The map has one value for all CPUs, there are not as many values as CPUs, or as for [`update`](Self::update).
    pub fn update_per_cpu(&self, key: K, values: &[V], mode: UpdateMode) -> Result<(), MapError> {
        let stride = self.stride()?;
        let mut bytes = Vec::with_capacity(values.len().saturating_mul(stride));
        for value in values {
            bytes.extend(to_bytes(*value));
            bytes.resize(bytes.len().next_multiple_of(stride), 0);
        }
        self.map.update(&to_bytes(key), &bytes, mode)
    }

    /// The elements, in the map's order. Those that come and go meanwhile may be missed.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K, V), MapError>> + '_ {
        self.map.keys().filter_map(|key| {
            let element = key.and_then(|key| {
                self.only_one()?;
                Ok(self.map.lookup(&key)?.map(|value| (from_bytes(&key), from_bytes(&value))))
            });
            element.transpose()
        })
    }

    /// Whether there is one value for each CPU.
    fn is_per_cpu(&self) -> bool {
        use bpf_object::MapType as T;
        let kind = self.map.spec().map_type;
        matches!(kind, T::PercpuArray | T::PercpuHash | T::LruPercpuHash | T::PercpuCgroupStorage)
    }

    fn only_one(&self) -> Result<(), MapError> {
        if self.is_per_cpu() { Err(MapError::Unsupported) } else { Ok(()) }
    }

    /// Bytes from one CPU's value to the next one's.
    fn stride(&self) -> Result<usize, MapError> {
        let bytes = V::SHAPE.size().next_multiple_of(8);
        if self.is_per_cpu() && bytes > 0 { Ok(bytes) } else { Err(MapError::Unsupported) }
    }
}

impl<V: ArenaType> TypedMap<(), V> {
    /// Appends a value to a queue or stack, or adds it to a bloom filter.
    ///
    /// # Errors
    /// The map is full.
    pub fn push(&self, value: V) -> Result<(), MapError> {
        self.map.push(&to_bytes(value), BPF_ANY)
    }

    /// Takes the next value of a queue or stack; `None` if it is empty.
    ///
    /// # Errors
    /// The map is none of these.
    pub fn pop(&self) -> Result<Option<V>, MapError> {
        Ok(self.map.pop()?.map(|value| from_bytes(&value)))
    }

    /// A copy of the next value of a queue or stack; `None` if it is empty.
    ///
    /// # Errors
    /// The map is none of these.
    pub fn peek(&self) -> Result<Option<V>, MapError> {
        Ok(self.map.peek()?.map(|value| from_bytes(&value)))
    }

    /// Whether a bloom filter may contain a value; `false` is certain.
    ///
    /// # Errors
    /// The map is no bloom filter.
    pub fn may_contain(&self, value: V) -> Result<bool, MapError> {
        self.map.may_contain(&to_bytes(value))
    }
}

/// The value in the layout of its C type, padding zeroed: maps compare the bytes of keys.
fn to_bytes<T: ArenaType>(value: T) -> Vec<u8> {
    let mut bytes = vec![0; T::SHAPE.size()];
    // There are as many bytes as the type has.
    let _ = value.store_to(&Bytes::new(&mut bytes), 0);
    bytes
}

/// The value in these bytes; those that are missing are zero.
fn from_bytes<T: ArenaType>(bytes: &[u8]) -> T {
    T::load_from(&Bytes::new(&mut bytes.to_vec()), 0).unwrap_or(T::ZERO)
}

impl<K, V> Clone for TypedMap<K, V> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone(), types: PhantomData }
    }
}

impl<K, V> fmt::Debug for TypedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedMap").field(&self.map).finish()
    }
}
