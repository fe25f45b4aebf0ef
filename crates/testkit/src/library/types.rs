//! The structures of `bpf/sched/sched.h` and `stress.h`. Reading one compares it with the object's types.

use bpf_arena::typed::{ArenaPtr, ArenaType};

/// Threads that the programs have room for.
pub const MAX_THREADS: usize = 16;
/// Objects and bits that a thread holds at most.
pub(super) const SLOTS: usize = 32;
/// CPUs that a thread holds at most.
pub(super) const CPU_SLOTS: usize = 4;
/// Pointers in a segment of a stack allocator.
pub(super) const STACK_POINTERS: usize = 500;
/// Block sizes of the buddy allocator.
pub(super) const BUDDY_ORDERS: usize = 11;
/// Smallest blocks of the buddy allocator.
pub(super) const BUDDY_BLOCKS: usize = 1024;
/// Least children of a node of the B-tree that is not the root.
pub(super) const BTREE_LEAST: u64 = 4;
/// Most keys of a node of the B-tree.
pub(super) const BTREE_KEYS: usize = 7;

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Lock {
    pub(super) held: u32,
    pub(super) pad: u32,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct SlabObject {
    pub(super) next: ArenaPtr<SlabObject>,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct SlabPage {
    pub(super) next: ArenaPtr<SlabPage>,
    pub(super) previous: ArenaPtr<SlabPage>,
    pub(super) free: ArenaPtr<SlabObject>,
    pub(super) live: u64,
    pub(super) total: u64,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Slab {
    pub(super) lock: Lock,
    pub(super) partial: ArenaPtr<SlabPage>,
    pub(super) full: ArenaPtr<SlabPage>,
    pub(super) object_size: u64,
    pub(super) pages: u64,
    pub(super) live: u64,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct StackSegment {
    pub(super) below: ArenaPtr<StackSegment>,
    pub(super) count: u64,
    pub(super) objects: [u64; STACK_POINTERS],
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Stack {
    pub(super) lock: Lock,
    pub(super) top: ArenaPtr<StackSegment>,
    pub(super) spare: ArenaPtr<StackSegment>,
    pub(super) object_size: u64,
    pub(super) created: u64,
    pub(super) live: u64,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct BuddyBlock {
    pub(super) next: u16,
    pub(super) previous: u16,
    pub(super) order: u8,
    pub(super) state: u8,
    pub(super) pad: u16,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Buddy {
    pub(super) lock: Lock,
    pub(super) base: u64,
    pub(super) live: u64,
    pub(super) live_blocks: u64,
    pub(super) free: [u16; BUDDY_ORDERS],
    pub(super) pad: [u16; 5],
    pub(super) blocks: [BuddyBlock; BUDDY_BLOCKS],
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RbNode {
    pub(super) child: [ArenaPtr<RbNode>; 2],
    pub(super) parent: ArenaPtr<RbNode>,
    pub(super) key: u64,
    pub(super) value: u64,
    pub(super) red: u64,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RbTree {
    pub(super) lock: Lock,
    pub(super) root: ArenaPtr<RbNode>,
    pub(super) nil: ArenaPtr<RbNode>,
    pub(super) count: u64,
    pub(super) nodes: Slab,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct BtreeNode {
    pub(super) count: u64,
    pub(super) leaf: u64,
    pub(super) keys: [u64; BTREE_KEYS],
    pub(super) values: [u64; BTREE_KEYS],
    pub(super) children: [ArenaPtr<BtreeNode>; BTREE_KEYS + 1],
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Btree {
    pub(super) lock: Lock,
    pub(super) root: ArenaPtr<BtreeNode>,
    pub(super) count: u64,
    pub(super) nodes: Stack,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct HeapItem {
    pub(super) key: u64,
    pub(super) value: u64,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct MinHeap {
    pub(super) lock: Lock,
    pub(super) count: u64,
    pub(super) items: [HeapItem; 1024],
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct QueueCell {
    pub(super) sequence: u64,
    pub(super) value: u64,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Queue {
    pub(super) head: u64,
    pub(super) pad1: [u64; 7],
    pub(super) tail: u64,
    pub(super) pad2: [u64; 7],
    pub(super) cells: [QueueCell; 256],
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Bitmap {
    pub(super) words: [u64; 16],
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Domain {
    pub(super) parent: ArenaPtr<Domain>,
    pub(super) children: [ArenaPtr<Domain>; 4],
    pub(super) child_count: u64,
    pub(super) level: u64,
    pub(super) first_cpu: u64,
    pub(super) cpus: u64,
    pub(super) idle: u64,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Topology {
    pub(super) root: ArenaPtr<Domain>,
    pub(super) cpus: u64,
    pub(super) domains: u64,
    pub(super) leaves: [u64; 64],
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct TaskRecord {
    pub(super) next: ArenaPtr<TaskRecord>,
    pub(super) pid: u64,
    pub(super) uses: u64,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct TaskRecords {
    pub(super) lock: Lock,
    pub(super) first: ArenaPtr<TaskRecord>,
    pub(super) count: u64,
    pub(super) records: Slab,
}

#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct TimerState {
    pub(super) armed: u64,
    pub(super) fired: u64,
    pub(super) count: u64,
}

/// What a thread holds and has done.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct ThreadState {
    pub(super) slab: [u64; SLOTS],
    pub(super) stack: [u64; SLOTS],
    pub(super) buddy: [u64; SLOTS],
    pub(super) buddy_size: [u64; SLOTS],
    pub(super) bits: [u64; SLOTS],
    pub(super) cpus: [u64; CPU_SLOTS],
    pub(super) rb_inserted: u64,
    pub(super) rb_removed: u64,
    pub(super) btree_inserted: u64,
    pub(super) btree_removed: u64,
    pub(super) heap_pushed: u64,
    pub(super) heap_popped: u64,
    pub(super) heap_sum: u64,
    pub(super) queue_pushed: u64,
    pub(super) queue_popped: u64,
    pub(super) queue_sum: u64,
    pub(super) task_uses: u64,
    pub(super) popped_value: u64,
    pub(super) popped_item: HeapItem,
}

/// The context of the programs.
#[derive(ArenaType, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Stress {
    pub(super) seed: u64,
    pub(super) thread: u32,
    pub(super) rounds: u32,
    pub(super) done: u64,
}
