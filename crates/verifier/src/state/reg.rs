//! What is known of one register.

use bpf_object::TypeId;

use crate::domain::scalar::Scalar;
use crate::report::reason::TypeName;
use crate::walk::origin::Origin;

/// What kind of value a register holds. The names are the kernel's (`enum bpf_reg_type`); what the kernel adds to a type
/// as a modifier is in [`Flags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegType {
    /// Nothing was written to it.
    #[doc(alias = "NOT_INIT")]
    NotInit,
    /// A number, or something the program may not use as a pointer.
    #[doc(alias = "SCALAR_VALUE")]
    Scalar,
    /// The context.
    #[doc(alias = "PTR_TO_CTX")]
    PtrToCtx,
    /// An address in the stack of a frame of this call chain.
    #[doc(alias = "PTR_TO_STACK")]
    PtrToStack { frame: u8 },
    /// A map itself: for helpers, and to read its structure.
    #[doc(alias = "CONST_PTR_TO_MAP")]
    ConstPtrToMap { map: u32 },
    /// A value of a map.
    #[doc(alias = "PTR_TO_MAP_VALUE")]
    PtrToMapValue { map: u32 },
    /// A key of a map, in a callback.
    #[doc(alias = "PTR_TO_MAP_KEY")]
    PtrToMapKey { map: u32 },
    /// Any 32-bit number, used as an offset into the arena.
    #[doc(alias = "PTR_TO_ARENA")]
    PtrToArena,
    /// Memory of a known size.
    #[doc(alias = "PTR_TO_MEM")]
    PtrToMem { size: u32 },
    /// A buffer of a size known only when the program is attached; accesses are counted.
    #[doc(alias = "PTR_TO_BUF")]
    PtrToBuf,
    /// The buffer of a writable raw tracepoint.
    #[doc(alias = "PTR_TO_TP_BUFFER")]
    PtrToTpBuffer,
    /// A subprogram, for helpers that call back.
    #[doc(alias = "PTR_TO_FUNC")]
    PtrToFunc { subprog: u32 },
    /// The bytes of a packet; [`RegState::range`] of them are known to be there.
    #[doc(alias = "PTR_TO_PACKET")]
    PtrToPacket,
    /// The metadata in front of a packet.
    #[doc(alias = "PTR_TO_PACKET_META")]
    PtrToPacketMeta,
    /// The end of a packet: only to compare with.
    #[doc(alias = "PTR_TO_PACKET_END")]
    PtrToPacketEnd,
    /// What the flow dissector has found.
    #[doc(alias = "PTR_TO_FLOW_KEYS")]
    PtrToFlowKeys,
    /// `struct bpf_sock` of a full socket.
    #[doc(alias = "PTR_TO_SOCKET")]
    PtrToSocket,
    /// The part of `struct bpf_sock` that every socket has.
    #[doc(alias = "PTR_TO_SOCK_COMMON")]
    PtrToSockCommon,
    /// `struct bpf_tcp_sock`.
    #[doc(alias = "PTR_TO_TCP_SOCK")]
    PtrToTcpSock,
    /// `struct bpf_xdp_sock`.
    #[doc(alias = "PTR_TO_XDP_SOCK")]
    PtrToXdpSock,
    /// A structure described by BTF.
    #[doc(alias = "PTR_TO_BTF_ID")]
    PtrToBtfId { of: BtfOwner, ty: TypeId },
    /// A dynptr that the kernel made, given to a callback or a global function.
    #[doc(alias = "CONST_PTR_TO_DYNPTR")]
    ConstPtrToDynptr,
}

/// Whose BTF a type is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BtfOwner {
    /// The kernel's.
    Kernel,
    /// The object's own.
    Object,
}

impl RegType {
    /// As the kernel's log names it, without what [`Flags`] add.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotInit => "?",
            Self::Scalar => "scalar",
            Self::PtrToCtx => "ctx",
            Self::PtrToStack { .. } => "fp",
            Self::ConstPtrToMap { .. } => "map_ptr",
            Self::PtrToMapValue { .. } => "map_value",
            Self::PtrToMapKey { .. } => "map_key",
            Self::PtrToArena => "arena",
            Self::PtrToMem { .. } => "mem",
            Self::PtrToBuf => "buf",
            Self::PtrToTpBuffer => "tp_buffer",
            Self::PtrToFunc { .. } => "func",
            Self::PtrToPacket => "pkt",
            Self::PtrToPacketMeta => "pkt_meta",
            Self::PtrToPacketEnd => "pkt_end",
            Self::PtrToFlowKeys => "flow_keys",
            Self::PtrToSocket => "sock",
            Self::PtrToSockCommon => "sock_common",
            Self::PtrToTcpSock => "tcp_sock",
            Self::PtrToXdpSock => "xdp_sock",
            Self::PtrToBtfId { .. } => "ptr_",
            Self::ConstPtrToDynptr => "dynptr_ptr",
        }
    }

    pub(crate) fn is_pointer(self) -> bool {
        !matches!(self, Self::NotInit | Self::Scalar)
    }

    /// Whether the pointer is one again when it comes back from the stack (`is_spillable_regtype`).
    pub(crate) fn is_spillable(self) -> bool {
        self.is_pointer() && !matches!(self, Self::PtrToTpBuffer | Self::ConstPtrToDynptr)
    }

    /// What functions take with anything added to it (`check_func_arg_reg_off`).
    pub(crate) fn may_be_moved(self) -> bool {
        matches!(
            self,
            Self::Scalar
                | Self::PtrToStack { .. }
                | Self::PtrToPacket
                | Self::PtrToPacketMeta
                | Self::PtrToMapKey { .. }
                | Self::PtrToMapValue { .. }
                | Self::PtrToMem { .. }
                | Self::PtrToBuf
                | Self::PtrToArena
        )
    }

    /// A pointer into a packet or its metadata (`type_is_pkt_pointer`).
    pub(crate) fn is_packet(self) -> bool {
        matches!(self, Self::PtrToPacket | Self::PtrToPacketMeta)
    }

    /// A pointer to one of the socket structures (`type_is_sk_pointer`).
    pub(crate) fn is_socket(self) -> bool {
        matches!(self, Self::PtrToSocket | Self::PtrToSockCommon | Self::PtrToTcpSock | Self::PtrToXdpSock)
    }
}

/// What modifies the type of a pointer (`enum bpf_type_flag`), as a set.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flags(u16);

impl Flags {
    /// No modifier.
    pub(crate) const NONE: Self = Self(0);
    /// The pointer may be NULL; only comparing it is allowed.
    #[doc(alias = "PTR_MAYBE_NULL")]
    pub(crate) const MAYBE_NULL: Self = Self(1);
    /// Memory that may not be written.
    #[doc(alias = "MEM_RDONLY")]
    pub(crate) const RDONLY: Self = Self(1 << 1);
    /// Memory from a ring buffer's reservation.
    #[doc(alias = "MEM_RINGBUF")]
    pub(crate) const RINGBUF: Self = Self(1 << 2);
    /// Memory of user space.
    #[doc(alias = "MEM_USER")]
    pub(crate) const USER: Self = Self(1 << 3);
    /// A per-CPU variable, to be turned into an address by a helper.
    #[doc(alias = "MEM_PERCPU")]
    pub(crate) const PERCPU: Self = Self(1 << 4);
    /// Valid as long as the RCU read section lasts.
    #[doc(alias = "MEM_RCU")]
    pub(crate) const RCU: Self = Self(1 << 5);
    /// May point anywhere: loads are guarded.
    #[doc(alias = "PTR_UNTRUSTED")]
    pub(crate) const UNTRUSTED: Self = Self(1 << 6);
    /// Valid, and may be given to kernel functions.
    #[doc(alias = "PTR_TRUSTED")]
    pub(crate) const TRUSTED: Self = Self(1 << 7);
    /// An object the program allocated.
    #[doc(alias = "MEM_ALLOC")]
    pub(crate) const ALLOC: Self = Self(1 << 8);
    /// A reference that others own: dies with the lock.
    pub(crate) const NON_OWN_REF: Self = Self(1 << 9);
    /// The program does not own it, and it may be written under a lock only (a dynptr's packet data).
    #[doc(alias = "DYNPTR_TYPE_SKB")]
    pub(crate) const PACKET_DATA: Self = Self(1 << 10);
    /// A number: [`RegState::offset`] was added to what it is linked with.
    #[doc(alias = "BPF_ADD_CONST64")]
    pub(crate) const DISPLACED: Self = Self(1 << 11);
    /// A number: the same by 32-bit arithmetic.
    #[doc(alias = "BPF_ADD_CONST32")]
    pub(crate) const DISPLACED32: Self = Self(1 << 12);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of these is set.
    pub(crate) fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl core::fmt::Debug for Flags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.prefix())?;
        f.write_str(if self.has(Self::MAYBE_NULL) { "or_null" } else { "" })
    }
}

impl Flags {
    /// What the kernel's log puts in front of a type's name, for the combinations that occur.
    pub(crate) fn prefix(self) -> &'static str {
        const NAMES: [(Flags, &str); 7] = [
            (Flags::RDONLY, "rdonly_"),
            (Flags::RINGBUF, "ringbuf_"),
            (Flags::USER, "user_"),
            (Flags::PERCPU, "percpu_"),
            (Flags::RCU, "rcu_"),
            (Flags::UNTRUSTED, "untrusted_"),
            (Flags::TRUSTED, "trusted_"),
        ];
        match self {
            f if f.has(Self::RDONLY.with(Self::UNTRUSTED)) => "rdonly_untrusted_",
            f if f.has(Self::PERCPU.with(Self::RCU)) => "percpu_rcu_",
            f if f.has(Self::PERCPU.with(Self::TRUSTED)) => "percpu_trusted_",
            f if f.has(Self::RCU.with(Self::TRUSTED)) => "rcu_trusted_",
            f if f.has(Self::RCU.with(Self::UNTRUSTED)) => "rcu_untrusted_",
            f if f.has(Self::USER.with(Self::UNTRUSTED)) => "user_untrusted_",
            f => NAMES.iter().find(|(flag, _)| f.has(*flag)).map_or("", |(_, name)| name),
        }
    }
}

/// One register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegState {
    pub(crate) kind: RegType,
    /// What modifies the type.
    pub(crate) flags: Flags,
    /// Bytes from the register's id on that a packet is known to have ([`RegType::PtrToPacket`]).
    pub(crate) range: i32,
    /// Numbers with the same id (not 0) differ by the difference of their offsets; pointers are NULL together.
    pub(crate) id: u32,
    /// The reference (not 0) without which the pointer is dead.
    pub(crate) ref_id: u32,
    /// Which lookup of an outer map gave the inner map this pointer belongs to; 0 for maps that the program names.
    pub(crate) map_uid: u32,
    /// The dynptr (not 0) the pointer was taken from.
    pub(crate) dynptr_id: u32,
    /// Constant part of a pointer's offset; for a number, what was added since it was linked with others.
    pub(crate) offset: i32,
    /// The number; for a pointer the variable part of its offset.
    pub(crate) scalar: Scalar,
    /// What the value was made of.
    pub(crate) origin: Origin,
}

impl RegState {
    /// Never written.
    pub(crate) const NOT_INIT: Self = Self {
        kind: RegType::NotInit,
        flags: Flags::NONE,
        range: 0,
        id: 0,
        ref_id: 0,
        map_uid: 0,
        dynptr_id: 0,
        offset: 0,
        scalar: Scalar::UNKNOWN,
        origin: Origin::NONE,
    };

    pub(crate) fn number(scalar: Scalar, origin: Origin) -> Self {
        Self { kind: RegType::Scalar, scalar, origin, ..Self::NOT_INIT }
    }

    /// A pointer with offset 0.
    pub(crate) fn pointer(kind: RegType, origin: Origin) -> Self {
        Self { kind, scalar: Scalar::ZERO, origin, ..Self::NOT_INIT }
    }

    /// An arena pointer: nothing but its kind is ever known.
    pub(crate) fn arena(origin: Origin) -> Self {
        Self { kind: RegType::PtrToArena, scalar: Scalar::UNKNOWN, origin, ..Self::NOT_INIT }
    }

    pub(crate) fn is_scalar(&self) -> bool {
        self.kind == RegType::Scalar
    }

    pub(crate) fn is_pointer(&self) -> bool {
        self.kind.is_pointer()
    }

    pub(crate) fn is_arena(&self) -> bool {
        self.kind == RegType::PtrToArena
    }

    /// Whether the pointer may be NULL.
    pub(crate) fn maybe_null(&self) -> bool {
        self.flags.has(Flags::MAYBE_NULL)
    }

    /// The same, with these modifiers besides.
    #[must_use]
    pub(crate) fn with(self, flags: Flags) -> Self {
        Self { flags: self.flags.with(flags), ..self }
    }

    /// The same, without these modifiers.
    #[must_use]
    pub(crate) fn without(self, flags: Flags) -> Self {
        Self { flags: self.flags.without(flags), ..self }
    }

    /// Whether the number differs from those it is linked with by something that was added to it.
    pub(crate) fn is_displaced(&self) -> bool {
        self.flags.any(Flags::DISPLACED.with(Flags::DISPLACED32))
    }

    /// The same number, linked with no other.
    #[must_use]
    pub(crate) fn unlinked(&self) -> Self {
        let flags = self.flags.without(Flags::DISPLACED.with(Flags::DISPLACED32));
        Self { id: 0, offset: 0, flags, ..*self }
    }

    /// Whether the pointer is valid as it stands: owned, or trusted and nothing against it (`is_trusted_reg`).
    pub(crate) fn is_trusted(&self) -> bool {
        let unsafe_flags = Flags::MAYBE_NULL
            .with(Flags::RDONLY)
            .with(Flags::USER)
            .with(Flags::PERCPU)
            .with(Flags::RCU)
            .with(Flags::UNTRUSTED);
        let trusted = Flags::ALLOC.with(Flags::TRUSTED).with(Flags::NON_OWN_REF);
        self.ref_id != 0 || (self.flags.any(trusted) && !self.flags.any(unsafe_flags))
    }

    /// The number 0.
    pub(crate) fn is_null(&self) -> bool {
        self.is_scalar() && self.scalar.is_zero()
    }

    pub(crate) fn type_name(&self) -> TypeName {
        TypeName { base: self.kind.name(), prefix: self.flags.prefix(), maybe_null: self.maybe_null() }
    }
}
