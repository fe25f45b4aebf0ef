//! Closures as functions that programs call: their types are the signature.

use super::call::{Buffer, Call, CallError, Ctx, Ptr};
use super::object::{Object, Structure};
use super::signature::{ObjectParam, ParamType, ResultType, Signature};
use crate::typed::{ArenaPtr, ArenaType};

/// A type of parameter that a function of the host can have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a function that programs call",
    label = "only integers, bool, Ptr<T>, Buffer, String, ArenaPtr<T>, Ctx, Object<S> and Released<S> can"
)]
pub trait Param: Sized {
    /// Registers that it is passed in.
    #[doc(hidden)]
    const REGISTERS: usize = 1;

    /// What it is in C.
    #[doc(hidden)]
    fn declare(params: &mut Vec<ParamType>);

    /// Takes it out of the registers.
    #[doc(hidden)]
    fn take(call: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError>;
}

/// A type of result that a function of the host can have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a function that programs call",
    label = "only (), integers, bool, ArenaPtr<T>, Object<S>, Acquired<S>, Option of those two, and Result of all can"
)]
pub trait Returned {
    /// What it is in C.
    #[doc(hidden)]
    fn declare() -> ResultType;

    /// Puts it into `R0`.
    #[doc(hidden)]
    fn give(self, call: &Call<'_>) -> Result<u64, CallError>;
}

/// A closure that programs can call: `Fn(&mut Call, ..) -> R` with up to five parameters.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no function that programs can call",
    label = "`|call: &mut Call<'_>, a: u32, ..| ..` with at most five parameters, each with its type, is one"
)]
pub trait Function<Args>: Send + Sync + 'static {
    /// Its types.
    #[doc(hidden)]
    fn signature(name: &'static str) -> Signature;

    /// Calls it.
    #[doc(hidden)]
    fn call(&self, call: &mut Call<'_>, registers: [u64; 5]) -> Result<u64, CallError>;
}

/// `r1` to `r5` on their way to the parameters.
#[doc(hidden)]
#[derive(Debug)]
pub struct Registers(std::array::IntoIter<u64, 5>);

impl Registers {
    fn next(&mut self) -> u64 {
        self.0.next().unwrap_or(0)
    }
}

/// A parameter: an object whose reference the program gives back. It may not use its pointer any more.
#[derive(Debug)]
pub struct Released<S: Structure>(pub Object<S>);

/// A result: an object with a reference that the program has to give back before it ends, to a function that takes it as
/// [`Released`], or keep in a map.
#[derive(Debug)]
pub struct Acquired<S: Structure>(pub Object<S>);

macro_rules! numbers {
    ($($int:ident $bytes:literal $signed:literal $wide:ident;)*) => {$(
        impl Param for $int {
            fn declare(params: &mut Vec<ParamType>) {
                params.push(ParamType::Int { bytes: $bytes, signed: $signed });
            }

            #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the high bits do not count")]
            fn take(_: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
                Ok(registers.next() as $int)
            }
        }

        impl Returned for $int {
            fn declare() -> ResultType {
                ResultType::Int { bytes: $bytes, signed: $signed }
            }

            /// Extended to 32 bits by its sign as the C type promotes, and to 64 with zeroes as 32-bit code leaves it.
            #[allow(clippy::cast_sign_loss, clippy::cast_lossless, reason = "bits, not numbers")]
            fn give(self, _: &Call<'_>) -> Result<u64, CallError> {
                Ok(u64::from(self as $wide))
            }
        }
    )*};
}

numbers! {
    u8 1 false u32;
    i8 1 true u32;
    u16 2 false u32;
    i16 2 true u32;
    u32 4 false u32;
    i32 4 true u32;
    u64 8 false u64;
    i64 8 true u64;
}

impl Param for bool {
    fn declare(params: &mut Vec<ParamType>) {
        params.push(ParamType::Bool);
    }

    fn take(_: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        Ok(registers.next() & 0xff != 0)
    }
}

impl Returned for bool {
    fn declare() -> ResultType {
        ResultType::Bool
    }

    fn give(self, _: &Call<'_>) -> Result<u64, CallError> {
        Ok(u64::from(self))
    }
}

impl<T: ArenaType> Param for Ptr<T> {
    fn declare(params: &mut Vec<ParamType>) {
        params.push(ParamType::Memory { shape: T::SHAPE, nullable: false });
    }

    fn take(_: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        Ok(Self::new(registers.next()))
    }
}

impl<T: ArenaType> Param for Option<Ptr<T>> {
    fn declare(params: &mut Vec<ParamType>) {
        params.push(ParamType::Memory { shape: T::SHAPE, nullable: true });
    }

    fn take(_: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        let address = registers.next();
        Ok((address != 0).then(|| Ptr::new(address)))
    }
}

impl Param for Buffer {
    const REGISTERS: usize = 2;

    fn declare(params: &mut Vec<ParamType>) {
        params.extend([ParamType::Buffer { nullable: false }, ParamType::Size]);
    }

    fn take(_: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        Ok(Self::new(registers.next(), registers.next()))
    }
}

impl Param for Option<Buffer> {
    const REGISTERS: usize = 2;

    fn declare(params: &mut Vec<ParamType>) {
        params.extend([ParamType::Buffer { nullable: true }, ParamType::Size]);
    }

    fn take(_: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        let (address, len) = (registers.next(), registers.next());
        Ok((address != 0).then(|| Buffer::new(address, len)))
    }
}

impl Param for String {
    fn declare(params: &mut Vec<ParamType>) {
        params.push(ParamType::Text);
    }

    fn take(call: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        call.text(registers.next())
    }
}

impl Param for Ctx {
    fn declare(params: &mut Vec<ParamType>) {
        params.push(ParamType::Context);
    }

    fn take(_: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        Ok(Self::new(registers.next()))
    }
}

impl<T: ArenaType> Param for ArenaPtr<T> {
    fn declare(params: &mut Vec<ParamType>) {
        params.push(ParamType::Arena { shape: T::SHAPE });
    }

    fn take(call: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        Ok(Self::from_raw(call.arena_address(registers.next())))
    }
}

impl<T: ArenaType> Returned for ArenaPtr<T> {
    fn declare() -> ResultType {
        ResultType::Arena { shape: T::SHAPE }
    }

    fn give(self, _: &Call<'_>) -> Result<u64, CallError> {
        Ok(self.raw())
    }
}

fn object<S: Structure>(nullable: bool, released: bool) -> ParamType {
    ParamType::Object(ObjectParam { name: S::NAME, shape: S::SHAPE, nullable, released })
}

impl<S: Structure> Param for Object<S> {
    fn declare(params: &mut Vec<ParamType>) {
        params.push(object::<S>(false, false));
    }

    fn take(call: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        call.object(registers.next())
    }
}

impl<S: Structure> Param for Option<Object<S>> {
    fn declare(params: &mut Vec<ParamType>) {
        params.push(object::<S>(true, false));
    }

    fn take(call: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        match registers.next() {
            0 => Ok(None),
            address => call.object(address).map(Some),
        }
    }
}

impl<S: Structure> Param for Released<S> {
    fn declare(params: &mut Vec<ParamType>) {
        params.push(object::<S>(false, true));
    }

    fn take(call: &Call<'_>, registers: &mut Registers) -> Result<Self, CallError> {
        let object = call.object(registers.next())?;
        call.release(&object)?;
        Ok(Self(object))
    }
}

impl Returned for () {
    fn declare() -> ResultType {
        ResultType::Nothing
    }

    fn give(self, _: &Call<'_>) -> Result<u64, CallError> {
        Ok(0)
    }
}

/// The declaration of a result that is an object.
fn object_result<S: Structure>(nullable: bool, acquired: bool) -> ResultType {
    ResultType::Object { name: S::NAME, shape: S::SHAPE, nullable, acquired }
}

impl<S: Structure> Returned for Object<S> {
    fn declare() -> ResultType {
        object_result::<S>(false, false)
    }

    fn give(self, call: &Call<'_>) -> Result<u64, CallError> {
        Ok(call.hand_out(&self, false))
    }
}

impl<S: Structure> Returned for Acquired<S> {
    fn declare() -> ResultType {
        object_result::<S>(false, true)
    }

    fn give(self, call: &Call<'_>) -> Result<u64, CallError> {
        Ok(call.hand_out(&self.0, true))
    }
}

impl<S: Structure> Returned for Option<Object<S>> {
    fn declare() -> ResultType {
        object_result::<S>(true, false)
    }

    fn give(self, call: &Call<'_>) -> Result<u64, CallError> {
        self.map_or(Ok(0), |object| object.give(call))
    }
}

impl<S: Structure> Returned for Option<Acquired<S>> {
    fn declare() -> ResultType {
        object_result::<S>(true, true)
    }

    fn give(self, call: &Call<'_>) -> Result<u64, CallError> {
        self.map_or(Ok(0), |object| object.give(call))
    }
}

impl<R: Returned> Returned for Result<R, CallError> {
    fn declare() -> ResultType {
        R::declare()
    }

    fn give(self, call: &Call<'_>) -> Result<u64, CallError> {
        self?.give(call)
    }
}

macro_rules! functions {
    ($($($param:ident)*;)*) => {$(
        impl<F, R, $($param,)*> Function<($($param,)*)> for F
        where
            F: Fn(&mut Call<'_>, $($param),*) -> R + Send + Sync + 'static,
            R: Returned,
            $($param: Param,)*
        {
            #[allow(unused_mut, reason = "there may be no parameter")]
            fn signature(name: &'static str) -> Signature {
                const {
                    assert!(0 $(+ $param::REGISTERS)* <= 5, "the parameters take more than five registers");
                }
                let mut params = Vec::new();
                $($param::declare(&mut params);)*
                Signature { name, params, result: R::declare() }
            }

            #[allow(non_snake_case, unused_mut, unused_variables, reason = "a parameter is named as its type; there may be none")]
            fn call(&self, call: &mut Call<'_>, registers: [u64; 5]) -> Result<u64, CallError> {
                let mut registers = Registers(registers.into_iter());
                $(let $param = $param::take(call, &mut registers)?;)*
                self(call, $($param),*).give(call)
            }
        }
    )*};
}

functions! {
    ;
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
}
