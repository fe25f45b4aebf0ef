//! stub
use crate::*;
pub(crate) fn program(_o: &Object, name: &str, _: &LinkOptions) -> Result<Program, LinkError> {
    Err(LinkError::NoSuchProgram { name: name.to_owned(), available: Vec::new() })
}
