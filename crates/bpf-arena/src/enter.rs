//! Entering generated code, and generated code entering the runtime. One of the two files with `unsafe`.
