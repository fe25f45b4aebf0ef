//! The kernel engine: the same objects, loaded through bpf(2).
