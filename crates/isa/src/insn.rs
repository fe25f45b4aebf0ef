//! The decoded instruction: one value per BPF instruction, with the RFC's and the kernel's names.

/// Index of an instruction *slot* (8 bytes), counted as the kernel counts: a 16-byte `lddw` takes two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsnIdx(pub u32);

impl InsnIdx {
    /// The slot `delta` slots away, or `None` if that is outside `0..=u32::MAX`.
    #[must_use]
    pub fn offset(self, delta: i64) -> Option<Self> {
        i64::from(self.0).checked_add(delta).and_then(|v| u32::try_from(v).ok()).map(Self)
    }

    /// The index as a `usize`, for tables with one entry per slot.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl core::fmt::Display for InsnIdx {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// A BPF register. `R11` exists only inside the kernel, so it has no value here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it all")]
#[repr(u8)]
pub enum Reg {
    R0 = 0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    /// The read-only frame pointer.
    R10,
}

impl Reg {
    /// Every register, in order.
    pub const ALL: [Self; 11] = [
        Self::R0,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::R6,
        Self::R7,
        Self::R8,
        Self::R9,
        Self::R10,
    ];
    /// The registers a call takes its arguments in.
    pub const ARGS: [Self; 5] = [Self::R1, Self::R2, Self::R3, Self::R4, Self::R5];

    /// Register number `n`, if there is one.
    #[must_use]
    pub fn new(n: u8) -> Option<Self> {
        Self::ALL.get(usize::from(n)).copied()
    }

    /// The register's number, 0 to 10.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The register's number as an index into an array of eleven.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }
}

/// Operand width of arithmetic and comparisons: class `ALU`/`JMP32` or `ALU64`/`JMP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32 bits; results are zero-extended to 64.
    W32,
    /// 64 bits.
    W64,
}

/// Size of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Size {
    /// 1 byte.
    B,
    /// 2 bytes.
    H,
    /// 4 bytes.
    W,
    /// 8 bytes.
    DW,
}

impl Size {
    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u8 {
        match self {
            Self::B => 1,
            Self::H => 2,
            Self::W => 4,
            Self::DW => 8,
        }
    }

    /// The size in bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.bytes() * 8
    }
}

/// A source operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// `BPF_X`: a register.
    Reg(Reg),
    /// `BPF_K`: the sign-extended 32-bit immediate.
    Imm(i32),
}

/// Two-operand arithmetic (RFC 9669 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum AluOp {
    Add,
    Sub,
    Mul,
    /// Unsigned; division by zero gives 0.
    Div,
    /// Signed (`offset` = 1); division by zero gives 0, `MIN / -1` gives `MIN`.
    SDiv,
    Or,
    And,
    Lsh,
    Rsh,
    /// Unsigned; modulo zero leaves `dst` (its low half, zero-extended, at 32 bits).
    Mod,
    /// Signed (`offset` = 1).
    SMod,
    Xor,
    Arsh,
}

impl AluOp {
    /// Every one, in the order of the RFC's table.
    pub const ALL: [Self; 13] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::SDiv,
        Self::Or,
        Self::And,
        Self::Lsh,
        Self::Rsh,
        Self::Mod,
        Self::SMod,
        Self::Xor,
        Self::Arsh,
    ];
}

/// What a byte-swap instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// `le16`, `le32`, `le64`: to little endian (on a little-endian machine: truncate).
    ToLe,
    /// `be16`, `be32`, `be64`: to big endian.
    ToBe,
    /// `bswap16`, `bswap32`, `bswap64`: unconditional (class ALU64).
    Swap,
}

/// Width of a byte swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum SwapBits {
    B16,
    B32,
    B64,
}

/// Condition of a conditional jump (RFC 9669 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum Cond {
    Eq,
    Gt,
    Ge,
    /// `dst & src != 0`.
    Set,
    Ne,
    SGt,
    SGe,
    Lt,
    Le,
    SLt,
    SLe,
}

impl Cond {
    /// Every one, in the order of the RFC's table.
    pub const ALL: [Self; 11] = [
        Self::Eq,
        Self::Gt,
        Self::Ge,
        Self::Set,
        Self::Ne,
        Self::SGt,
        Self::SGe,
        Self::Lt,
        Self::Le,
        Self::SLt,
        Self::SLe,
    ];
}

/// Read-modify-write operation of `STX | ATOMIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the RFC's")]
pub enum AtomicOp {
    Add,
    Or,
    And,
    Xor,
    /// Always fetches.
    Xchg,
    /// Compares with `R0`, which receives the old value. Always fetches.
    CmpXchg,
}

/// Value of a 16-byte `lddw` (RFC 9669 section 5.4, `BPF_PSEUDO_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Imm64 {
    /// `src_reg` 0: the plain 64-bit value.
    Const(u64),
    /// `src_reg` 1, `BPF_PSEUDO_MAP_FD`: a map, by descriptor.
    MapFd(i32),
    /// `src_reg` 2, `BPF_PSEUDO_MAP_VALUE`: an address inside a map's (only) value.
    MapValue {
        /// Descriptor of the map.
        fd: i32,
        /// Byte offset in the value.
        offset: u32,
    },
    /// `src_reg` 3, `BPF_PSEUDO_BTF_ID`: a kernel variable.
    BtfVar {
        /// Type id of the variable.
        btf_id: i32,
        /// BTF object descriptor, 0 for vmlinux.
        btf_fd: u32,
    },
    /// `src_reg` 4, `BPF_PSEUDO_FUNC`: address of a subprogram, relative in slots to the next instruction
    /// (counted from the *first* slot, as for a call: target = index + 1 + offset).
    Func(i32),
    /// `src_reg` 5, `BPF_PSEUDO_MAP_IDX`: a map, by index into the program's map table.
    MapIdx(u32),
    /// `src_reg` 6, `BPF_PSEUDO_MAP_IDX_VALUE`: an address inside such a map's value.
    MapIdxValue {
        /// Index into the program's map table.
        map: u32,
        /// Byte offset in the value.
        offset: u32,
    },
}

/// What a call instruction calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallTarget {
    /// `src_reg` 0: the helper with this number (`enum bpf_func_id`).
    Helper(u32),
    /// `src_reg` 1, `BPF_PSEUDO_CALL`: a subprogram; target = index + 1 + offset, in slots.
    Local(i32),
    /// `src_reg` 2, `BPF_PSEUDO_KFUNC_CALL`: a kernel function by BTF id.
    Kfunc {
        /// BTF id of the function. In a linked program: index into its extern table.
        btf_id: i32,
        /// Index of a module's BTF in the descriptor array, 0 for vmlinux.
        module: i16,
    },
    /// Class `JMP`, source `X`: `callx`, the address is in the register. Clang emits it for calls through
    /// pointers; no kernel accepts it.
    Register(Reg),
}

/// Which encoding an unconditional jump has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JumpForm {
    /// `ja`: class JMP, 16-bit offset.
    Short,
    /// `gotol`: class JMP32, 32-bit offset.
    Long,
}

/// Addressing of the legacy packet loads (RFC 9669 section 5.5, conformance group `packet`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketBase {
    /// `BPF_ABS`.
    Abs,
    /// `BPF_IND`: the register is added to the immediate.
    Ind(Reg),
}

/// One BPF instruction. Jump offsets are in slots, relative to the slot after the jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Insn {
    /// `dst = dst op src`.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    Alu { width: Width, op: AluOp, dst: Reg, src: Operand },
    /// `dst = -dst`.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    Neg { width: Width, dst: Reg },
    /// `dst = src`.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    Mov { width: Width, dst: Reg, src: Operand },
    /// `dst = (s8|s16|s32)src`; `from` is `B` or `H`, or `W` at 64 bits.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    MovSx { width: Width, from: Size, dst: Reg, src: Reg },
    /// `dst = swap(dst)`.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    ByteSwap { order: ByteOrder, bits: SwapBits, dst: Reg },
    /// `dst = addr_space_cast(src, dst_as, src_as)`; space 0 is the kernel's (or host's), 1 the arena's.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    AddrSpaceCast { dst: Reg, src: Reg, dst_as: u16, src_as: u16 },
    /// `dst = imm64 ll`: the only instruction of two slots.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    LoadImm64 { dst: Reg, value: Imm64 },
    /// `dst = *(size *)(base + offset)`; `sign_extend` is `MEMSX` (never with `DW`).
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    Load { size: Size, sign_extend: bool, dst: Reg, base: Reg, offset: i16 },
    /// `*(size *)(base + offset) = src`: class `STX`, or `ST` with an immediate.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    Store { size: Size, base: Reg, offset: i16, src: Operand },
    /// Atomic read-modify-write of `*(size *)(base + offset)`; `size` is `W` or `DW`. With `fetch`, `src`
    /// (for `CmpXchg`: `R0`) receives the old value.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    Atomic { size: Size, op: AtomicOp, fetch: bool, base: Reg, offset: i16, src: Reg },
    /// `dst = load_acquire((size *)(base + offset))`.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    LoadAcquire { size: Size, dst: Reg, base: Reg, offset: i16 },
    /// `store_release((size *)(base + offset), src)`.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    StoreRelease { size: Size, base: Reg, offset: i16, src: Reg },
    /// `r0 = *(size *)skb[imm (+ reg)]`, big endian; `size` is `B`, `H` or `W`.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    LoadPacket { size: Size, from: PacketBase, imm: i32 },
    /// Unconditional jump.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    Jump { form: JumpForm, offset: i32 },
    /// `if dst cond src goto offset`.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    Branch { width: Width, cond: Cond, dst: Reg, src: Operand, offset: i16 },
    /// `may_goto`: jumps once the loop budget is spent (`BPF_JCOND`, source 0).
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    MayGoto { offset: i16 },
    /// `gotox`: jump to the address in a register (decoded; accepted by no engine yet).
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    IndirectJump { target: Reg },
    /// Call of a helper, subprogram or kfunc.
    #[allow(missing_docs, reason = "fields named as in the RFC")]
    Call { target: CallTarget },
    /// Return from the (sub)program with `R0`.
    Exit,
}

impl Insn {
    /// Slots the instruction takes: 2 for `LoadImm64`, 1 for all others.
    #[must_use]
    pub fn slots(&self) -> u32 {
        if matches!(self, Self::LoadImm64 { .. }) { 2 } else { 1 }
    }

    /// Offset of the jump this instruction may take, in slots from the next slot.
    #[must_use]
    pub fn jump_offset(&self) -> Option<i32> {
        match *self {
            Self::Jump { offset, .. } => Some(offset),
            Self::Branch { offset, .. } | Self::MayGoto { offset } => Some(i32::from(offset)),
            _ => None,
        }
    }

    /// Whether execution may go on with the next instruction.
    #[must_use]
    pub fn falls_through(&self) -> bool {
        !matches!(self, Self::Jump { .. } | Self::IndirectJump { .. } | Self::Exit)
    }
}
