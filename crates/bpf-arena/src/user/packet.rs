//! Test runs with packets, by the rules of `BPF_PROG_TEST_RUN`.

use std::time::Instant;

use bpf_object::{AttachType, ProgType, Program};

use super::image::{Instance, Setup};
use crate::error::RunError;
use crate::network::{Device, Network};
use crate::packet::{PacketError, PacketOutcome, PacketRun, Redirect};
use crate::runtime::Invocation;
use crate::runtime::packets::context::{self, Image, flow_keys, skb as skb_field, xdp as xdp_field};
use crate::runtime::packets::skb::{self, ETH_P_IP, ETH_P_IPV6, ETHERNET_BYTES};
use crate::runtime::packets::socket::{self, SockImage};
use crate::runtime::packets::{Blocks, Packet, Skb, Xdp, xdp};

/// The packet of a run that was given none: the shortest that every program type takes.
pub(crate) const EMPTY_PACKET: [u8; 64] = [0; 64];

/// Computes the sum of the packet beforehand, and wants it right afterwards.
const CHECKSUM_COMPLETE: u32 = 1 << 2;

/// Most bytes of a context, behind which nothing is looked at.
const MAX_CONTEXT: usize = 4096;

/// Most bytes of a packet that stands for several (`GSO_LEGACY_MAX_SIZE`).
const MAX_WIRE_LEN: u32 = 65536;

/// Most segments (`GSO_MAX_SEGS`).
const MAX_SEGMENTS: u32 = 65535;

/// Where `struct bpf_flow_keys` has the flags, which alone are given.
const FLAGS_OF_KEYS: std::ops::Range<usize> = 48..52;

/// How programs of a type get their packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As `struct __sk_buff`.
    Skb {
        /// From the Ethernet header on, instead of the network header.
        ethernet: bool,
        /// With the end of the packet known to the program.
        ends: bool,
    },
    /// As `struct xdp_md`.
    Xdp,
    /// As `struct __sk_buff` of which only the packet and `flow_keys` are there.
    FlowDissector,
}

impl Kind {
    /// Of programs of this type; `None` if they do not run on packets.
    pub(crate) fn of(prog_type: ProgType) -> Option<Self> {
        let skb = |ethernet, ends| Some(Self::Skb { ethernet, ends });
        match prog_type {
            ProgType::SchedCls | ProgType::SchedAct => skb(true, true),
            ProgType::LwtIn | ProgType::LwtOut | ProgType::LwtXmit | ProgType::CgroupSkb => skb(false, true),
            ProgType::SocketFilter | ProgType::LwtSeg6local => skb(false, false),
            // The kernel has no test run for these; they are given what they get from a stream of one packet.
            ProgType::SkSkb => skb(false, true),
            ProgType::Xdp => Some(Self::Xdp),
            ProgType::FlowDissector => Some(Self::FlowDissector),
            _ => None,
        }
    }

    /// Bytes of the structure that the program's context is.
    fn context_bytes(self) -> usize {
        match self {
            Self::Skb { .. } => skb_field::BYTES,
            Self::Xdp => xdp_field::BYTES,
            Self::FlowDissector => flow_keys::BYTES,
        }
    }
}

impl Instance {
    /// Runs the program with a packet.
    ///
    /// # Errors
    /// The packet or its context does not fit, programs of this type do not run on packets, or the run was ended.
    pub fn run_packet(&self, run: &mut PacketRun<'_>) -> Result<PacketOutcome, RunError> {
        let network = &self.inner.image.options.network;
        let mut test = TestRun::new(self.program(), network, run)?;
        let rounds = run.repeat.max(1);
        let begin = Instant::now();
        let outcome = self.run_prepared(&mut test, rounds)?;
        let duration = begin.elapsed() / rounds;
        let TestRun { data, context, wrong_checksum, redirect, .. } = test;
        if wrong_checksum {
            return Err(PacketError::WrongChecksum.into());
        }
        copy_both(run.data_out, &data);
        // Where the packet has no room the kernel leaves the context alone.
        if run.data_out.is_empty() || run.data_out.len() >= data.len() {
            copy_both(run.ctx, &context);
        }
        Ok(PacketOutcome {
            return_value: outcome.return_value,
            duration,
            data_len: data.len(),
            faults: outcome.faults,
            redirect,
        })
    }
}

/// Copies as many bytes as both have.
fn copy_both(to: &mut [u8], from: &[u8]) {
    let len = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) {
        to.copy_from_slice(from);
    }
}

/// A run with a packet: what goes in, and then what came out.
pub(super) struct TestRun {
    kind: Kind,
    /// The packet before the run; afterwards what the run gives back.
    data: Vec<u8>,
    /// The context as it was given, in full length; afterwards as it is given back.
    context: Vec<u8>,
    has_context: bool,
    flags: u32,
    wrong_checksum: bool,
    redirect: Option<Redirect>,
}

impl TestRun {
    /// Checks what can be checked beforehand.
    pub(super) fn new(
        program: &Program,
        network: &Network,
        run: &PacketRun<'_>,
    ) -> Result<Self, PacketError> {
        let prog_type = program.kind.prog_type.ok_or(PacketError::ProgramType)?;
        let kind = Kind::of(prog_type).ok_or(PacketError::ProgramType)?;
        let allowed = if matches!(kind, Kind::Skb { .. }) { CHECKSUM_COMPLETE } else { 0 };
        if run.flags & !allowed != 0 {
            return Err(PacketError::Flags { flags: run.flags });
        }
        if kind == Kind::Xdp && is_inside_of_redirect(program) {
            return Err(PacketError::ProgramType);
        }
        if kind != Kind::Xdp {
            check_length(kind, run.data.len())?;
        }
        let context = full_context(kind, run.ctx)?;
        let test = Self {
            kind,
            data: run.data.to_vec(),
            context,
            has_context: !run.ctx.is_empty(),
            flags: run.flags,
            wrong_checksum: false,
            redirect: None,
        };
        match kind {
            Kind::Skb { .. } => test.check_skb(network)?,
            Kind::Xdp => test.check_xdp(network)?,
            Kind::FlowDissector => test.check_zero(std::slice::from_ref(&FLAGS_OF_KEYS))?,
        }
        Ok(test)
    }

    /// A field of the context that was given.
    fn given(&self, field: context::Field) -> u32 {
        let bytes = self.context.get(usize::from(field.offset)..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// The index of the device on which the packet arrives.
    fn device(&self) -> u32 {
        let field = if self.kind == Kind::Xdp { xdp_field::INGRESS_IFINDEX } else { skb_field::IFINDEX };
        self.given(field).max(Device::LOOPBACK.index)
    }

    fn set_given(&mut self, field: context::Field, value: u32) {
        let at = usize::from(field.offset);
        self.context.iter_mut().skip(at).zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
    }

    /// Every byte of the context must be zero outside of these ranges.
    fn check_zero(&self, allowed: &[std::ops::Range<usize>]) -> Result<(), PacketError> {
        let wrong =
            |(offset, byte): &(usize, &u8)| **byte != 0 && !allowed.iter().any(|r| r.contains(offset));
        match self.context.iter().enumerate().find(wrong) {
            Some((offset, _)) => Err(PacketError::ContextField { offset }),
            None => Ok(()),
        }
    }

    fn check_skb(&self, network: &Network) -> Result<(), PacketError> {
        let ifindex = self.device();
        if network.find_device(ifindex).is_none() {
            return Err(PacketError::NoDevice { ifindex });
        }
        let needed = match skb::ethertype(self.data.get(12..).unwrap_or_default()) {
            ETH_P_IP => ETHERNET_BYTES + 20,
            ETH_P_IPV6 => ETHERNET_BYTES + 40,
            _ => 0,
        };
        if self.data.len() < needed {
            return Err(PacketError::TooShort { needed, given: self.data.len() });
        }
        // mark, priority to ifindex, cb, tstamp to gso_segs, gso_size, hwtstamp
        self.check_zero(&[8..12, 32..44, skb_field::CB, 152..168, 176..180, 184..192])?;
        let wire_len = self.given(skb_field::WIRE_LEN);
        let len = u32::try_from(self.visible_len()).unwrap_or(u32::MAX);
        if wire_len != 0 && !(len..=MAX_WIRE_LEN).contains(&wire_len) {
            return Err(PacketError::ContextValue { field: "wire_len", value: wire_len });
        }
        let segments = self.given(skb_field::GSO_SEGS);
        if segments > MAX_SEGMENTS {
            return Err(PacketError::ContextValue { field: "gso_segs", value: segments });
        }
        Ok(())
    }

    fn check_xdp(&self, network: &Network) -> Result<(), PacketError> {
        let value = |field, name| {
            let value = self.given(field);
            PacketError::ContextValue { field: name, value }
        };
        let (data, data_end) =
            (self.given(xdp_field::DATA) as usize, self.given(xdp_field::DATA_END) as usize);
        if self.has_context {
            if self.given(xdp_field::DATA_META) != 0 {
                return Err(value(xdp_field::DATA_META, "data_meta"));
            }
            if data_end > self.data.len() {
                return Err(value(xdp_field::DATA_END, "data_end"));
            }
            if data > data_end || !xdp::meta_is_valid(data) || data > xdp::HEADROOM - xdp::KERNEL_HEAD {
                return Err(value(xdp_field::DATA, "data"));
            }
        }
        if self.data.len() - data < ETHERNET_BYTES {
            return Err(PacketError::TooShort { needed: data + ETHERNET_BYTES, given: self.data.len() });
        }
        if self.given(xdp_field::EGRESS_IFINDEX) != 0 {
            return Err(value(xdp_field::EGRESS_IFINDEX, "egress_ifindex"));
        }
        let ifindex = self.given(xdp_field::INGRESS_IFINDEX);
        if ifindex != 0 && network.find_device(ifindex).is_none() {
            return Err(PacketError::NoDevice { ifindex });
        }
        // Devices have one queue.
        if self.given(xdp_field::RX_QUEUE_INDEX) != 0 {
            return Err(value(xdp_field::RX_QUEUE_INDEX, "rx_queue_index"));
        }
        let pages = (self.data.len() - self.linear_len()).div_ceil(xdp::PAGE);
        if pages > xdp::MAX_FRAGMENTS {
            return Err(PacketError::TooManyPages { limit: xdp::MAX_FRAGMENTS + 1, given: self.data.len() });
        }
        Ok(())
    }

    /// Bytes of an skb that the program sees.
    fn visible_len(&self) -> usize {
        let hidden = if matches!(self.kind, Kind::Skb { ethernet: true, .. }) { 0 } else { ETHERNET_BYTES };
        self.data.len() - hidden
    }

    /// Bytes of XDP metadata and packet that lie in the first page.
    fn linear_len(&self) -> usize {
        let meta = self.given(xdp_field::DATA) as usize;
        let wanted =
            if self.has_context { self.given(xdp_field::DATA_END) as usize } else { self.data.len() };
        wanted.min(xdp::PAGE - xdp::KERNEL_TAIL - xdp::HEADROOM + meta)
    }

    /// The packet as the network stack hands it over, and what the context shows of it.
    fn prepare_skb<'r>(&mut self, image: Image<'r>, run: &Invocation<'r>) -> Option<Skb<'r>> {
        let block = run.block(skb::block_bytes(self.data.len()))?;
        let mut packet = Skb::received(image, block, &self.data)?;
        for (range, at) in [(8..12, 8), (32..44, 32), (skb_field::CB, 48), (152..168, 152), (184..192, 184)] {
            image.write(at, self.context.get(range)?);
        }
        image.set(skb_field::IFINDEX, self.device());
        // Sixteen bits, of which the kernel keeps no more.
        image.set(skb_field::GSO_SIZE, self.given(skb_field::GSO_SIZE) & 0xffff);
        let protocol = skb::ethertype(self.data.get(12..)?);
        packet.set_protocol(protocol);
        image.set(skb_field::PKT_TYPE, packet_type(&self.data));
        let sock = self.socket(protocol);
        image.set(skb_field::SK, run.new_socket(&sock.to_bytes())?);
        show_socket(image, &sock);
        let Kind::Skb { ethernet, ends } = self.kind else { return None };
        if ethernet {
            packet.push(ETHERNET_BYTES, run).ok()?;
        }
        if self.has_context && self.given(skb_field::WIRE_LEN) == 0 {
            image.set(skb_field::WIRE_LEN, packet.len() as u64);
        }
        if ends {
            packet.show()
        } else {
            packet.show_start()
        }
        if self.flags & CHECKSUM_COMPLETE != 0 {
            packet.sum_up();
        }
        Some(packet)
    }

    /// The socket that the packet is said to belong to: of its addresses, and of no protocol.
    fn socket(&self, protocol: u16) -> SockImage {
        let mut sock = SockImage { state: socket::CLOSED, rx_queue_mapping: -1, ..SockImage::default() };
        let network = self.data.get(ETHERNET_BYTES..).unwrap_or_default();
        let (family, source, destination) = match protocol {
            ETH_P_IP => (socket::AF_INET, network.get(12..16), network.get(16..20)),
            ETH_P_IPV6 => (socket::AF_INET6, network.get(8..24), network.get(24..40)),
            _ => (0, None, None),
        };
        sock.family = family;
        let put = |to: &mut [u8; 16], from: Option<&[u8]>| {
            to.iter_mut().zip(from.unwrap_or_default()).for_each(|(to, from)| *to = *from);
        };
        put(&mut sock.src, source);
        put(&mut sock.dst, destination);
        sock
    }

    fn prepare_xdp<'r>(&mut self, image: Image<'r>, run: &Invocation<'r>) -> Option<Xdp<'r>> {
        let (linear, rest) = self.data.split_at_checked(self.linear_len())?;
        let (meta, packet) = linear.split_at_checked(self.given(xdp_field::DATA) as usize)?;
        let mut frame = Xdp::new(image, run.block(xdp::PAGE)?, meta, packet)?;
        for bytes in rest.chunks(xdp::PAGE) {
            frame.add_fragment(run.block(xdp::PAGE)?, bytes)?;
        }
        image.set(xdp_field::INGRESS_IFINDEX, self.device());
        frame.show();
        Some(frame)
    }

    /// The packet and the keys.
    fn prepare_dissector<'r>(&mut self, image: Image<'r>, run: &Invocation<'r>) -> Option<()> {
        let data = run.block(self.data.len())?;
        data.place(0, self.data.len() as u64)?.write(&self.data);
        image.set_pointer(skb_field::DATA, data.address());
        image.set_pointer(skb_field::DATA_END, data.address() + self.data.len() as u64);
        image.set(skb_field::FLOW_KEYS, run.block(flow_keys::BYTES)?.address());
        self.fill_keys(image, run)
    }

    /// What is known of a flow before the program looks.
    fn fill_keys(&self, image: Image<'_>, run: &Invocation<'_>) -> Option<()> {
        let memory = run.memory(image.get(skb_field::FLOW_KEYS), flow_keys::BYTES as u64, true).ok()?;
        memory.clear();
        let keys = Image::new(memory);
        let protocol = self.data.get(12..14)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))?;
        keys.set(flow_keys::N_PROTO, protocol);
        keys.set(flow_keys::NHOFF, ETHERNET_BYTES as u64);
        keys.set(flow_keys::THOFF, ETHERNET_BYTES as u64);
        keys.set(flow_keys::FLAGS, self.given(flow_keys::FLAGS));
        Some(())
    }

    fn finish_skb<'r>(&mut self, mut packet: Skb<'r>, run: &Invocation<'r>) -> Option<()> {
        if self.kind != (Kind::Skb { ethernet: true, ends: true }) {
            packet.push(ETHERNET_BYTES, run).ok()?;
            packet.part(0, ETHERNET_BYTES)?.clear();
        }
        if self.flags & CHECKSUM_COMPLETE != 0 {
            // Also where a helper has made the sum unknown.
            self.wrong_checksum = packet.sum.fold() != packet.sum_from_network().fold();
        }
        self.data = packet.bytes();
        let image = packet.image();
        // mark, priority, ingress_ifindex and ifindex, cb, tstamp, wire_len and gso_segs, hwtstamp
        for range in [8..12, 32..36, 36..44, skb_field::CB, 152..160, 160..168, 184..192] {
            image.read(range.start, self.context.get_mut(range)?);
        }
        Some(())
    }

    fn finish_xdp(&mut self, packet: &Xdp<'_>) {
        let meta = u32::try_from(packet.meta_len()).unwrap_or(0);
        let linear = u32::try_from(packet.linear_len()).unwrap_or(0);
        self.set_given(xdp_field::DATA, meta);
        self.set_given(xdp_field::DATA_END, meta + linear);
        self.data = packet.bytes();
    }

    fn finish_dissector(&mut self, image: Image<'_>, run: &Invocation<'_>) -> Option<()> {
        let address = image.get(skb_field::FLOW_KEYS);
        let memory = run.memory(address, flow_keys::BYTES as u64, true).ok()?;
        let keys = Image::new(memory);
        let len = self.data.len() as u64;
        // The offsets are held between what was known and the packet's end.
        let network = keys.get(flow_keys::NHOFF).clamp(ETHERNET_BYTES as u64, len);
        let transport = keys.get(flow_keys::THOFF).clamp(network, len.max(network));
        keys.set(flow_keys::NHOFF, network);
        keys.set(flow_keys::THOFF, transport);
        self.data = memory.to_vec();
        Some(())
    }
}

impl Setup for TestRun {
    fn before(&mut self, run: &mut Invocation<'_>) -> Option<u64> {
        let block = run.block(context::BLOCK_BYTES)?;
        let image = Image::new(block.place(0, context::BLOCK_BYTES as u64)?);
        match self.kind {
            Kind::Skb { .. } => run.packet = Some(Packet::Skb(self.prepare_skb(image, run)?)),
            Kind::Xdp => run.packet = Some(Packet::Xdp(self.prepare_xdp(image, run)?)),
            Kind::FlowDissector => self.prepare_dissector(image, run)?,
        }
        run.context = Some(image);
        Some(block.address())
    }

    fn again(&mut self, run: &mut Invocation<'_>) -> Option<()> {
        match (self.kind, run.context) {
            (Kind::FlowDissector, Some(image)) => self.fill_keys(image, run),
            _ => Some(()),
        }
    }

    fn after(&mut self, run: &mut Invocation<'_>) -> Option<()> {
        self.redirect = run.redirect.take();
        match (run.packet.take(), run.context) {
            (Some(Packet::Skb(packet)), _) => self.finish_skb(packet, run),
            (Some(Packet::Xdp(packet)), _) => {
                self.finish_xdp(&packet);
                Some(())
            }
            (None, Some(image)) => self.finish_dissector(image, run),
            (None, None) => None,
        }
    }
}

/// Bytes of a packet that are checked before anything else.
fn check_length(kind: Kind, given: usize) -> Result<(), PacketError> {
    // A page, without what the kernel keeps of it for itself.
    let limit = if kind == Kind::FlowDissector { 4096 } else { 4096 - 64 - 320 };
    if given < ETHERNET_BYTES {
        return Err(PacketError::TooShort { needed: ETHERNET_BYTES, given });
    }
    if given > limit {
        return Err(PacketError::TooLong { limit, given });
    }
    Ok(())
}

/// The context in the length of its structure.
fn full_context(kind: Kind, given: &[u8]) -> Result<Vec<u8>, PacketError> {
    let limit = kind.context_bytes();
    let tail = given.get(limit..).unwrap_or_default();
    if given.len() > MAX_CONTEXT || tail.iter().any(|byte| *byte != 0) {
        return Err(PacketError::ContextTooLong { limit });
    }
    let mut context = vec![0; limit];
    context.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
    Ok(context)
}

/// What becomes of a packet with this destination on the loopback device, whose address is all zeroes (`PACKET_*`).
fn packet_type(data: &[u8]) -> u32 {
    const HOST: u32 = 0;
    const MULTICAST: u32 = 2;
    const OTHERHOST: u32 = 3;
    match data.get(..6) {
        Some([0, 0, 0, 0, 0, 0]) | None => HOST,
        Some([first, ..]) if first & 1 == 1 => MULTICAST,
        Some(_) => OTHERHOST,
    }
}

/// Fields of the context that are the socket's.
fn show_socket(image: Image<'_>, sock: &SockImage) {
    image.set(skb_field::FAMILY, sock.family);
    match sock.family {
        socket::AF_INET => {
            image.write(usize::from(skb_field::REMOTE_IP4.offset), sock.dst.get(..4).unwrap_or_default());
            image.write(usize::from(skb_field::LOCAL_IP4.offset), sock.src.get(..4).unwrap_or_default());
        }
        socket::AF_INET6 => {
            image.write(usize::from(skb_field::REMOTE_IP6), &sock.dst);
            image.write(usize::from(skb_field::LOCAL_IP6), &sock.src);
        }
        _ => {}
    }
}

/// Whether it runs only where another program redirects to, which has no test run.
fn is_inside_of_redirect(program: &Program) -> bool {
    program.kind.attach_type.is_some_and(|attach| {
        attach == AttachType::XdpDevmap as u32 || attach == AttachType::XdpCpumap as u32
    })
}
