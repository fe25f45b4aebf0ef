//! Types that can lie in shared memory, and what is known of their layout.

use isa::Size;

use super::Memory;

/// A plain type: every bit pattern is a value, and the layout is C's.
///
/// Implemented for integers of 1 to 8 bytes, arrays, [`ArenaPtr`](super::ArenaPtr) and, through
/// `#[derive(ArenaType)]`, for `#[repr(C)]` structures of such fields. The derive also gives each structure constants
/// named as its fields, for [`ArenaPtr::field`](super::ArenaPtr::field).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot lie in an arena",
    label = "only integers, arrays, ArenaPtr<T> and structures with #[derive(ArenaType)] can",
    note = "the program and other processes write an arena: every bit pattern has to be a value of the type"
)]
pub trait ArenaType: Copy + 'static {
    /// Its layout, which is compared with the object's BTF.
    const SHAPE: Shape;

    /// The value of zeroed memory.
    const ZERO: Self;

    /// Copies a value out of `memory`, integer by integer in ascending order.
    ///
    /// # Errors
    /// The memory's own, of the first integer that cannot be read.
    fn load_from<M: Memory + ?Sized>(memory: &M, at: u64) -> Result<Self, M::Error>;

    /// Copies the value into `memory`, integer by integer in ascending order. Padding is not written.
    ///
    /// # Errors
    /// The memory's own, of the first integer that cannot be written; those before it are written by then.
    fn store_to<M: Memory + ?Sized>(&self, memory: &M, at: u64) -> Result<(), M::Error>;
}

/// The layout of an [`ArenaType`].
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// An integer.
    Int {
        /// Size in bytes: 1, 2, 4 or 8.
        bytes: usize,
        /// Whether it is signed.
        signed: bool,
    },
    /// A pointer into the arena.
    Pointer {
        /// What it points to; a function, because types may point to themselves.
        target: fn() -> Shape,
    },
    /// An array.
    Array {
        /// Layout of an element.
        element: &'static Shape,
        /// Number of elements.
        len: usize,
    },
    /// A structure.
    Struct(&'static StructShape),
    /// Nothing is known or asked: the target of an `ArenaPtr<()>`.
    Opaque,
}

/// The layout of a structure.
#[derive(Debug)]
pub struct StructShape {
    /// Its name in Rust.
    pub name: &'static str,
    /// Its name in C.
    pub c_name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields in order.
    pub fields: &'static [FieldShape],
}

/// A field of a [`StructShape`].
#[derive(Debug)]
pub struct FieldShape {
    /// Its name in Rust.
    pub name: &'static str,
    /// Its name in C, or `None` if it stands for any members.
    pub c_name: Option<&'static str>,
    /// Its offset in bytes.
    pub offset: usize,
    /// Its layout.
    pub shape: Shape,
}

impl Shape {
    /// Size in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        match self {
            Self::Int { bytes, .. } => *bytes,
            Self::Pointer { .. } => 8,
            Self::Array { element, len } => element.size() * *len,
            Self::Struct(shape) => shape.size,
            Self::Opaque => 0,
        }
    }
}

/// An integer that the arena's atomic operations work on: of 4 or 8 bytes.
pub trait ArenaInt: ArenaType {
    /// Its size.
    const SIZE: Size;

    /// Its bits, zero-extended.
    fn to_bits(self) -> u64;

    /// The integer with these low bits.
    fn from_bits(bits: u64) -> Self;
}

macro_rules! integers {
    ($($int:ident $unsigned:ident $size:ident $signed:literal;)*) => {$(
        impl ArenaType for $int {
            const SHAPE: Shape = Shape::Int { bytes: size_of::<$int>(), signed: $signed };
            const ZERO: Self = 0;

            fn load_from<M: Memory + ?Sized>(memory: &M, at: u64) -> Result<Self, M::Error> {
                let bits = memory.load(at, Size::$size)?;
                #[allow(clippy::cast_possible_truncation, reason = "a load of this size has no higher bits")]
                Ok(bits as $int)
            }

            fn store_to<M: Memory + ?Sized>(&self, memory: &M, at: u64) -> Result<(), M::Error> {
                memory.store(at, Size::$size, u64::from(*self as $unsigned))
            }
        }
    )*};
}

macro_rules! atomic_integers {
    ($($int:ident $unsigned:ident $size:ident;)*) => {$(
        impl ArenaInt for $int {
            const SIZE: Size = Size::$size;

            fn to_bits(self) -> u64 {
                u64::from(self as $unsigned)
            }

            #[allow(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
            fn from_bits(bits: u64) -> Self {
                bits as $int
            }
        }
    )*};
}

integers! {
    u8 u8 B false;
    i8 u8 B true;
    u16 u16 H false;
    i16 u16 H true;
    u32 u32 W false;
    i32 u32 W true;
    u64 u64 DW false;
    i64 u64 DW true;
}

atomic_integers! {
    u32 u32 W;
    i32 u32 W;
    u64 u64 DW;
    i64 u64 DW;
}

impl ArenaType for () {
    const SHAPE: Shape = Shape::Opaque;
    const ZERO: Self = ();

    fn load_from<M: Memory + ?Sized>(_memory: &M, _at: u64) -> Result<Self, M::Error> {
        Ok(())
    }

    fn store_to<M: Memory + ?Sized>(&self, _memory: &M, _at: u64) -> Result<(), M::Error> {
        Ok(())
    }
}

impl<T: ArenaType, const N: usize> ArenaType for [T; N] {
    const SHAPE: Shape = Shape::Array { element: &T::SHAPE, len: N };
    const ZERO: Self = [T::ZERO; N];

    fn load_from<M: Memory + ?Sized>(memory: &M, at: u64) -> Result<Self, M::Error> {
        let mut array = Self::ZERO;
        for (element, at) in array.iter_mut().zip(element_addresses::<T>(at)) {
            *element = T::load_from(memory, at)?;
        }
        Ok(array)
    }

    fn store_to<M: Memory + ?Sized>(&self, memory: &M, at: u64) -> Result<(), M::Error> {
        self.iter().zip(element_addresses::<T>(at)).try_for_each(|(element, at)| element.store_to(memory, at))
    }
}

fn element_addresses<T: ArenaType>(first: u64) -> impl Iterator<Item = u64> {
    (0u64..).map(move |index| first.wrapping_add(index.wrapping_mul(T::SHAPE.size() as u64)))
}
