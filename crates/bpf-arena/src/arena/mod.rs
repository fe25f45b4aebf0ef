//! Arenas: creation, pages, host access.
