//! What a program gets as its context.

/// A context: plain bytes that the program may read and write.
///
/// Implemented for nothing (`()`), for bytes, and for the types with the `BpfType` derive.
pub trait Context {
    /// The context's bytes, in the layout of the C type.
    fn as_bytes_mut(&mut self) -> &mut [u8];
}

impl Context for () {
    fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }
}

impl Context for [u8] {
    fn as_bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Context for Vec<u8> {
    fn as_bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}
