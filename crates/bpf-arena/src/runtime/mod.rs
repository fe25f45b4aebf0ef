//! What programs call at run time: helpers, kfuncs, maps, streams.

mod format;
