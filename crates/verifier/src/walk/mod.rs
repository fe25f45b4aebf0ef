//! The walk over all paths: the order of it, and the reasons why paths need not be walked.

pub(crate) mod clean;
pub(crate) mod equal;
pub(crate) mod explore;
pub(crate) mod origin;
pub(crate) mod saved;
pub(crate) mod stack_live;
pub(crate) mod trust;
