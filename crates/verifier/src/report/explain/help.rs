//! What usually helps, one text for each kind of mistake.

pub(super) const INITIALISE: &str = "give the variable a value on every path that leads here";
pub(super) const AFTER_CALL: &str =
    "keep what is still needed in a variable: a call leaves nothing in the registers of its arguments";
pub(super) const RETURN: &str =
    "give what is returned a value on every path; end every path of a function with `return`";
pub(super) const NULL_CHECK: &str =
    "compare the pointer with NULL first and use it only where it is not: `if (!p) return 0;`";
pub(super) const NUMBER_AS_POINTER: &str = "follow only pointers the verifier knows: to the context, the stack, map values and what helpers return; memory at \
     another address is read with `bpf_probe_read_kernel()` or `bpf_probe_read_user()`";
pub(super) const ARENA_CAST: &str = "declare pointers into the arena with `__arena`, so that the compiler casts them before they are followed; where it \
     does not, cast by hand with `cast_kern(p)`";
pub(super) const ARENA_FORGETS: &str = "keep only arena pointers and numbers in the arena; to get at a map value or another kernel object again, keep its key and look \
     it up";
pub(super) const ARENA_MISSING: &str = "declare an arena (a map of type BPF_MAP_TYPE_ARENA) and refer to it in this program, for example by an arena \
     variable or `bpf_arena_alloc_pages(&arena, ...)`";
pub(super) const BOUND_INDEX: &str = "compare the index with the size first: `if (i >= N) return 0;`; make it unsigned, or compare with 0, too";
pub(super) const BOUND_SIZE: &str =
    "compare the size with what the buffer holds first: `if (len > sizeof(buf)) return 0;`; make it unsigned";
pub(super) const WITHIN_VALUE: &str =
    "make the map's value type as large as what is read and written, or access less";
pub(super) const WITHIN_STACK: &str = "give the buffer the size that is used; a function's stack has 512 bytes, all of them below the frame pointer";
pub(super) const STACK_INDEX: &str =
    "mask or compare the index so that every value it may have lies in the array, or keep the array in a map";
pub(super) const PACKET_CHECK: &str = "compare with the end of the packet first: `if (data + offset + size > data_end) return ...;`, with the same pointer that is then followed";
pub(super) const CONTEXT_MEMBER: &str = "access members of the context by their names and in their size; some are read-only or not there for this program type";
pub(super) const CONTEXT_POINTER: &str = "keep the context pointer as it was given and name the member: `ctx->member`; pass values, not pointers to members, to functions";
pub(super) const SCALE_NUMBER: &str = "only add numbers to pointers and subtract them; to compute with an address, copy it into an integer first";
pub(super) const SLEEP: &str =
    "call a variant of the function that does not sleep, or use a program type that may";
pub(super) const NOT_WHILE_HELD: &str = "do it before the section begins or after it has ended";
pub(super) const HELPER_PROGRAM: &str = "use a helper that this program type has, or another program type; the list is in the manual of the program type";
pub(super) const ARGUMENT: &str =
    "compare the call with the function's prototype: order of arguments, `&` in front of maps and keys";
pub(super) const LICENSE: &str =
    "if the program's licence allows it, say so: `char LICENSE[] SEC(\"license\") = \"GPL\";`";
pub(super) const RETURN_RANGE: &str = "return one of the values that mean something here, on every path";
pub(super) const LOOP: &str = "count the loop with a variable that the verifier can follow (`for (i = 0; i < N; i++)`), or let the run time count it: `bpf_for()`, \
     `bpf_loop()`, `while (... && can_loop)`";
pub(super) const COMPLEX: &str = "walk the loop once instead of every turn: `bpf_for()`, `bpf_loop()` or `can_loop` in its condition; or move a part into a global \
     function, which is verified once";
pub(super) const GLOBAL: &str = "global functions are verified without knowing their callers: check pointers for NULL inside, tag arguments (`__arg_nonnull`, \
     `__arg_ctx`, `__arg_arena`, ...), or make the function `static`";
pub(super) const SPILL: &str = "write other data to other variables: a pointer on the stack is read back as it was written, as a whole, or not at all";
pub(super) const DYNPTR: &str = "make the dynptr first (`bpf_dynptr_from_mem()`, `bpf_ringbuf_reserve_dynptr()`, ...), check that this worked, and hand it on only by its \
     own address";
pub(super) const UNLOCK: &str = "give the lock back on every path, those that return early too";
pub(super) const READ_ONLY: &str = "copy what is to be changed to the stack or a map of its own";
pub(super) const ALIGN: &str = "access the member in its own size and at its own alignment; `__attribute__((packed))` needs byte accesses";
pub(super) const STACK_TOO_DEEP: &str =
    "keep large buffers in a map (an array with one value for each CPU), or call fewer functions deep";
pub(super) const ONE_POINTER: &str =
    "give each kind of pointer an access of its own, for example by a branch around each";

/// What functions that do not say so in their names take, and what gives it back.
const RELEASES: [(&str, &str); 7] = [
    ("bpf_ringbuf_reserve", "bpf_ringbuf_submit()` or `bpf_ringbuf_discard"),
    ("bpf_ringbuf_reserve_dynptr", "bpf_ringbuf_submit_dynptr()` or `bpf_ringbuf_discard_dynptr"),
    ("bpf_sk_lookup_tcp", "bpf_sk_release"),
    ("bpf_skc_lookup_tcp", "bpf_sk_release"),
    ("bpf_sk_lookup_udp", "bpf_sk_release"),
    ("bpf_obj_new_impl", "bpf_obj_drop"),
    ("bpf_percpu_obj_new_impl", "bpf_percpu_obj_drop"),
];

/// What gives back what this function took.
fn releaser(acquired_by: &str) -> Option<String> {
    let known = RELEASES.iter().find(|(name, _)| *name == acquired_by).map(|(_, by)| (*by).to_owned());
    known
        .or_else(|| acquired_by.strip_suffix("_new").map(|stem| format!("{stem}_destroy")))
        .or_else(|| acquired_by.strip_suffix("_acquire").map(|stem| format!("{stem}_release")))
}

/// Whether what this function gives must be given back.
pub(super) fn is_acquired(function: &str) -> bool {
    releaser(function).is_some()
}

/// How to give back what a function took.
pub(super) fn release(acquired_by: &str) -> String {
    match releaser(acquired_by) {
        Some(by) => format!("call `{by}()` on every path that has it, those that return early too"),
        None => "give it back on every path that has it, those that return early too".to_owned(),
    }
}
