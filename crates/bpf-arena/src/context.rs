//! What a program gets as its context.

use crate::typed::{ArenaType, Bytes};

/// A context: plain bytes that the program may read and write.
///
/// Implemented for every [`ArenaType`]: nothing (`()`), integers, arrays, and structures that derive it, which are
/// copied to the layout of their C type and back. Bytes (`[u8]`, `Vec<u8>`) are used where they lie.
pub trait Context {
    /// Calls `run` with the context's bytes in the layout of the C type, which it may change.
    fn with_bytes<R>(&mut self, run: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// Contexts up to this size take no allocation.
const SMALL_BYTES: usize = 128;

impl<T: ArenaType> Context for T {
    fn with_bytes<R>(&mut self, run: impl FnOnce(&mut [u8]) -> R) -> R {
        let size = T::SHAPE.size();
        let mut small = [0; SMALL_BYTES];
        let mut large;
        let bytes = if let Some(bytes) = small.get_mut(..size) {
            bytes
        } else {
            large = vec![0; size];
            large.as_mut_slice()
        };
        // The copies cannot fail: there are as many bytes as the type has.
        let _ = self.store_to(&Bytes::new(bytes), 0);
        let result = run(bytes);
        if let Ok(changed) = T::load_from(&Bytes::new(bytes), 0) {
            *self = changed;
        }
        result
    }
}

impl Context for [u8] {
    fn with_bytes<R>(&mut self, run: impl FnOnce(&mut [u8]) -> R) -> R {
        run(self)
    }
}

impl Context for Vec<u8> {
    fn with_bytes<R>(&mut self, run: impl FnOnce(&mut [u8]) -> R) -> R {
        run(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(ArenaType, Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Request {
        key: u8,
        value: i64,
    }

    #[test]
    fn a_structure_is_bytes_to_the_program() {
        let mut request = Request { key: 7, value: -1 };
        request.with_bytes(|bytes| {
            assert_eq!(bytes, [7, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
            bytes[8] = 0;
        });
        assert_eq!(request, Request { key: 7, value: -256 });
    }

    #[test]
    fn sizes_from_nothing_to_large() {
        ().with_bytes(|bytes| assert!(bytes.is_empty()));
        [1u32; 500].with_bytes(|bytes| assert_eq!(bytes.len(), 2000));
        vec![1u8, 2].with_bytes(|bytes| assert_eq!(bytes, [1, 2]));
        [3u8; 4][..2].with_bytes(|bytes| assert_eq!(bytes, [3, 3]));
    }
}
