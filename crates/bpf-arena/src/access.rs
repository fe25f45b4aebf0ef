//! Reads and writes of memory that programs share with the host, by width. One of the two files with `unsafe`.
