//! stub
use crate::*;
pub(crate) fn object(_bytes: &[u8]) -> Result<Object, ObjectError> {
    Err(ObjectError::BigEndian)
}
