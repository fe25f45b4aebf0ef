//! `bpf_arena_alloc_pages`, `bpf_arena_free_pages`, `bpf_arena_reserve_pages`.

use super::registry::{Row, rows};
use super::{Invocation, low32};
use crate::arena::Arena;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    None, "bpf_arena_alloc_pages" => alloc_pages;
    None, "bpf_arena_free_pages" => free_pages;
    None, "bpf_arena_reserve_pages" => reserve_pages;
};

/// `void *bpf_arena_alloc_pages(void *map, void *addr, u32 page_cnt, int node_id, u64 flags)`: the user address of the
/// first page, or NULL.
fn alloc_pages(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, address, count, node, flags] = args;
    let arena = arena(run, "bpf_arena_alloc_pages", map)?;
    Ok(arena.kfunc_alloc(address, low32(count), low32(node).cast_signed(), flags))
}

/// `void bpf_arena_free_pages(void *map, void *ptr, u32 page_cnt)`.
fn free_pages(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, address, count, _, _] = args;
    arena(run, "bpf_arena_free_pages", map)?.kfunc_free(address, low32(count));
    Ok(0)
}

/// `int bpf_arena_reserve_pages(void *map, void *ptr, u32 page_cnt)`: 0 or a negative error number.
fn reserve_pages(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [map, address, count, _, _] = args;
    let result = arena(run, "bpf_arena_reserve_pages", map)?.kfunc_reserve(address, low32(count));
    Ok(u64::from(result.cast_unsigned()))
}

/// The arena behind a map argument; verification excludes other maps.
fn arena<'r>(run: &Invocation<'r>, function: &'static str, map: u64) -> Result<&'r Arena, TrapKind> {
    run.image.maps.arena_of(map).ok_or(TrapKind::BadArgument { function, argument: 1, value: map })
}
