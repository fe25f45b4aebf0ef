//! Dynptrs over packets: how they are made, and how their data is reached.

use bpf_object::ProgType;

use super::super::dynptr::{Done, Dynptr, Kind, MAX_SIZE};
use super::super::registry::{Row, rows};
use super::super::{E2BIG, EFAULT, EINVAL, Invocation, errno32};
use super::{Errno, Packet};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    None, "bpf_dynptr_from_skb" => from_skb;
    None, "bpf_dynptr_from_skb_meta" => from_skb_meta;
    None, "bpf_dynptr_from_xdp" => from_xdp;
};

/// `int bpf_dynptr_from_skb(struct __sk_buff *s, u64 flags, struct bpf_dynptr *ptr__uninit)`: read-only for programs that may not
/// write packets.
fn from_skb(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, flags, dynptr, ..] = args;
    let size = run.skb("bpf_dynptr_from_skb", context)?.len();
    make(run, dynptr, flags, Kind::Skb, context, size)
}

/// `int bpf_dynptr_from_skb_meta(struct __sk_buff *skb, u64 flags, struct bpf_dynptr *ptr__uninit)`: packets have no metadata once
/// they are in the network stack, unless a driver's program gave them some.
fn from_skb_meta(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, flags, dynptr, ..] = args;
    run.skb("bpf_dynptr_from_skb_meta", context)?;
    make(run, dynptr, flags, Kind::SkbMeta, context, 0)
}

/// `int bpf_dynptr_from_xdp(struct xdp_md *x, u64 flags, struct bpf_dynptr *ptr__uninit)`.
fn from_xdp(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [context, flags, dynptr, ..] = args;
    let Some(Packet::Xdp(xdp)) = &run.packet else {
        return Err(TrapKind::BadArgument { function: "bpf_dynptr_from_xdp", argument: 1, value: context });
    };
    let size = xdp.len();
    make(run, dynptr, flags, Kind::Xdp, context, size)
}

fn make(
    run: &Invocation<'_>,
    dynptr: u64,
    flags: u64,
    kind: Kind,
    context: u64,
    size: usize,
) -> Result<u64, TrapKind> {
    let dynptr = Dynptr::at(run, dynptr)?;
    let size = u32::try_from(size).ok().filter(|size| *size <= MAX_SIZE);
    let error = match (flags, size) {
        (0, Some(size)) if may_write_packets(run) => {
            dynptr.set(kind, context, size);
            return Ok(0);
        }
        (0, Some(size)) => {
            dynptr.set_read_only(kind, context, size);
            return Ok(0);
        }
        (0, None) => E2BIG,
        _ => EINVAL,
    };
    dynptr.set_null();
    Ok(errno32(error))
}

/// Whether programs of this type may write packets in place (`may_access_direct_pkt_data`).
fn may_write_packets(run: &Invocation<'_>) -> bool {
    matches!(
        run.program().kind.prog_type,
        Some(ProgType::SchedCls | ProgType::SchedAct | ProgType::Xdp | ProgType::LwtXmit | ProgType::SkSkb)
    )
}

impl<'r> Invocation<'r> {
    /// Copies bytes of the packet, from this position on; what it does not have is an error.
    pub(in crate::runtime) fn load_packet_bytes(&self, position: u64, dst: &Place<'_>) -> Done {
        let Some(packet) = &self.packet else { return Err(EFAULT) };
        let missing = match packet {
            Packet::Skb(_) => EFAULT,
            Packet::Xdp(_) => EINVAL,
        };
        let mut bytes = vec![0; dst.len()];
        let position = usize::try_from(position).map_err(|_| missing)?;
        packet.read(position, &mut bytes).ok_or(missing)?;
        dst.write(&bytes);
        Ok(())
    }

    /// Overwrites bytes of a packet that the network stack has, as `bpf_skb_store_bytes`.
    pub(in crate::runtime) fn store_skb_bytes(&mut self, position: u64, bytes: &[u8], flags: u64) -> Done {
        let Some(Packet::Skb(skb)) = &self.packet else { return Err(EFAULT) };
        let mut skb = *skb;
        let position = usize::try_from(position).map_err(|_| EFAULT)?;
        let result = super::bytes::store(&mut skb, position, bytes, flags);
        skb.show();
        self.packet = Some(Packet::Skb(skb));
        result.map_err(|Errno(number)| number)
    }

    /// Overwrites bytes of a packet that a driver has.
    pub(in crate::runtime) fn store_xdp_bytes(&self, position: u64, bytes: &[u8]) -> Done {
        let Some(Packet::Xdp(xdp)) = &self.packet else { return Err(EFAULT) };
        let position = usize::try_from(position).map_err(|_| EINVAL)?;
        if position.checked_add(bytes.len()).is_none_or(|end| end > xdp.len()) {
            return Err(EINVAL);
        }
        let mut rest = bytes;
        for piece in xdp.pieces(position, bytes.len()) {
            let (now, later) = rest.split_at_checked(piece.len()).unwrap_or_default();
            piece.write(now);
            rest = later;
        }
        Ok(())
    }

    /// A part of the packet, if it lies in one piece.
    pub(in crate::runtime) fn packet_piece(&self, position: u64, len: u64) -> Option<Place<'r>> {
        match self.packet.as_ref()? {
            Packet::Skb(skb) => skb.part(usize::try_from(position).ok()?, usize::try_from(len).ok()?),
            Packet::Xdp(xdp) => xdp.part(u32::try_from(position).ok()?, u32::try_from(len).ok()?).ok()?,
        }
    }
}
