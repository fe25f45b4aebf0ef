//! One call of a function of the host: what it may look at, and what it is given.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::object::{Image, Object};
use crate::access::Place;
use crate::arena::Arena;
use crate::error::TrapKind;
use crate::runtime::Invocation;
use crate::typed::{ArenaType, Bytes};

/// Longest string that is read of a program's read-only data.
const MAX_TEXT: u64 = 1 << 16;

/// The run that calls a function of the host.
pub struct Call<'c> {
    run: &'c mut dyn Run,
    function: &'static str,
}

/// Why a function of the host cannot go on: the run ends with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// A pointer that is not one of this run.
    #[error("{size} bytes at {address:#x} are no memory of this run")]
    Memory {
        /// The address.
        address: u64,
        /// Bytes asked for.
        size: u64,
    },
    /// A pointer to an object that the host never gave away, or that was given back.
    #[error("no object of the host is at {address:#x}")]
    NoObject {
        /// The address.
        address: u64,
    },
    /// The function's own reason.
    #[error(transparent)]
    Other(#[from] Box<dyn std::error::Error + Send + Sync>),
}

impl CallError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Other(message.into().into())
    }

    pub(crate) fn memory(kind: TrapKind) -> Self {
        match kind {
            TrapKind::OutOfBounds { address, size, .. } => Self::Memory { address, size },
            other => Self::new(other.to_string()),
        }
    }
}

/// What a call needs of its run.
trait Run {
    fn memory(&self, address: u64, len: u64, write: bool) -> Result<Place<'_>, CallError>;
    fn arena(&self) -> Option<&Arena>;
    fn program(&self) -> &str;
    fn cpu(&mut self) -> u32;
    fn hand_out(&self, image: &Arc<Image>, acquired: bool);
    fn object(&self, address: u64) -> Option<Arc<Image>>;
    fn release(&self, image: &Arc<Image>) -> bool;
    fn is_to_end(&self) -> bool;
}

impl Run for Invocation<'_> {
    fn memory(&self, address: u64, len: u64, write: bool) -> Result<Place<'_>, CallError> {
        Invocation::memory(self, address, len, write).map_err(CallError::memory)
    }

    fn arena(&self) -> Option<&Arena> {
        self.image.maps.arena()
    }

    fn program(&self) -> &str {
        &self.image.name
    }

    fn cpu(&mut self) -> u32 {
        self.cpu.get()
    }

    fn hand_out(&self, image: &Arc<Image>, acquired: bool) {
        self.image.options.world.hand_out(image, acquired);
        if acquired {
            self.owned.gain(image.block().address());
        }
    }

    fn object(&self, address: u64) -> Option<Arc<Image>> {
        self.image.options.world.find(address)
    }

    fn release(&self, image: &Arc<Image>) -> bool {
        self.owned.lose(image.block().address());
        self.image.options.world.release(image)
    }

    fn is_to_end(&self) -> bool {
        self.signal.is_raised()
    }
}

impl<'c> Call<'c> {
    pub(crate) fn new<'r: 'c>(run: &'c mut Invocation<'r>, function: &'static str) -> Self {
        Self { run, function }
    }

    /// Name of the function that is called.
    #[must_use]
    pub fn function(&self) -> &'static str {
        self.function
    }

    /// Name of the program that calls.
    #[must_use]
    pub fn program(&self) -> &str {
        self.run.program()
    }

    /// Whether the run is to end, because it was cancelled or has reached its time limit. A function that takes long should then
    /// return: nothing can interrupt it.
    #[must_use]
    pub fn is_to_end(&self) -> bool {
        self.run.is_to_end()
    }

    /// Number of the CPU that the run has to itself, below the number of possible CPUs.
    pub fn cpu(&mut self) -> u32 {
        self.run.cpu()
    }

    /// The program's arena, which pointers into it are read with.
    #[must_use]
    pub fn arena(&self) -> Option<&Arena> {
        self.run.arena()
    }

    pub(crate) fn memory(&self, address: u64, len: u64, write: bool) -> Result<Place<'_>, CallError> {
        self.run.memory(address, len, write)
    }

    pub(crate) fn hand_out<S>(&self, object: &Object<S>, acquired: bool) -> u64 {
        self.run.hand_out(object.image(), acquired);
        object.address()
    }

    pub(crate) fn object<S>(&self, address: u64) -> Result<Object<S>, CallError> {
        let found = self.run.object(address).map(Object::from_image);
        found.ok_or(CallError::NoObject { address })
    }

    pub(crate) fn release<S>(&self, object: &Object<S>) -> Result<(), CallError> {
        let released = self.run.release(object.image());
        if released { Ok(()) } else { Err(CallError::NoObject { address: object.address() }) }
    }

    /// Full user address of an arena pointer, of which only the low half counts.
    pub(crate) fn arena_address(&self, register: u64) -> u64 {
        let low = register & 0xffff_ffff;
        let high = self.run.arena().map_or(0, Arena::user_vm_high);
        if low == 0 { 0 } else { high | low }
    }

    /// The NUL-terminated text at an address.
    pub(crate) fn text(&self, address: u64) -> Result<String, CallError> {
        let mut text = Vec::new();
        for offset in 0..MAX_TEXT {
            let mut byte = [0];
            self.memory(address.wrapping_add(offset), 1, false)?.read(&mut byte);
            match byte {
                [0] => break,
                [other] => text.push(other),
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("function", &self.function).field("program", &self.program()).finish()
    }
}

/// A pointer to a value of the program's: on its stack, in a map. Good for one call.
pub struct Ptr<T> {
    address: u64,
    target: PhantomData<fn() -> T>,
}

impl<T: ArenaType> Ptr<T> {
    pub(crate) fn new(address: u64) -> Self {
        Self { address, target: PhantomData }
    }

    /// Copies the value.
    ///
    /// # Errors
    /// It is kept from another call.
    pub fn read(&self, call: &Call<'_>) -> Result<T, CallError> {
        let mut bytes = vec![0; T::SHAPE.size()];
        call.memory(self.address, bytes.len() as u64, false)?.read(&mut bytes);
        // There are as many bytes as the type has.
        Ok(T::load_from(&Bytes::new(&mut bytes), 0).unwrap_or(T::ZERO))
    }

    /// Writes the value. Padding keeps what it was.
    ///
    /// # Errors
    /// It is kept from another call.
    pub fn write(&self, call: &Call<'_>, value: T) -> Result<(), CallError> {
        let mut bytes = vec![0; T::SHAPE.size()];
        let place = call.memory(self.address, bytes.len() as u64, true)?;
        place.read(&mut bytes);
        // As above.
        let _ = value.store_to(&Bytes::new(&mut bytes), 0);
        place.write(&bytes);
        Ok(())
    }
}

impl<T> fmt::Debug for Ptr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.address)
    }
}

/// Memory of the program's, of a size that the program says. Good for one call.
#[derive(Debug)]
pub struct Buffer {
    address: u64,
    len: u64,
}

impl Buffer {
    pub(crate) fn new(address: u64, len: u64) -> Self {
        Self { address, len }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies all of it.
    ///
    /// # Errors
    /// It is kept from another call.
    pub fn read(&self, call: &Call<'_>) -> Result<Vec<u8>, CallError> {
        Ok(call.memory(self.address, self.len, false)?.to_vec())
    }

    /// Writes its first bytes; bytes that it has no room for are left out.
    ///
    /// # Errors
    /// It is kept from another call.
    pub fn write(&self, call: &Call<'_>, bytes: &[u8]) -> Result<(), CallError> {
        call.memory(self.address, self.len, true)?.write(bytes);
        Ok(())
    }
}

/// The program's context. Good for one call.
#[derive(Debug)]
pub struct Ctx {
    address: u64,
}

impl Ctx {
    pub(crate) fn new(address: u64) -> Self {
        Self { address }
    }

    /// Copies the beginning of it, or all.
    ///
    /// # Errors
    /// It is smaller than the type, or kept from another call.
    pub fn read<T: ArenaType>(&self, call: &Call<'_>) -> Result<T, CallError> {
        Ptr::new(self.address).read(call)
    }

    /// Writes the beginning of it, or all.
    ///
    /// # Errors
    /// It is smaller than the type, or kept from another call.
    pub fn write<T: ArenaType>(&self, call: &Call<'_>, value: T) -> Result<(), CallError> {
        Ptr::new(self.address).write(call, value)
    }
}
