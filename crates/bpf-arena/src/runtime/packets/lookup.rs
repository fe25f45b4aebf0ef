//! Helpers that find sockets, and those that ask them.

use std::sync::atomic::Ordering::Relaxed;

use isa::Size;

use super::super::registry::{Row, rows};
use super::super::{ENOENT, Invocation, errno, low32};
use super::context::{skb as skb_field, xdp as xdp_field};
use super::socket::{self, IPPROTO_TCP, IPPROTO_UDP, Question, TCP_LISTEN};
use super::{EINVAL, EOPNOTSUPP, Packet};
use crate::access::Place;
use crate::error::TrapKind;

pub(super) static ROWS: &[Row] = rows! {
    Some(84), "bpf_sk_lookup_tcp" => lookup_tcp;
    Some(85), "bpf_sk_lookup_udp" => lookup_udp;
    Some(86), "bpf_sk_release" => release;
    Some(95), "bpf_sk_fullsock" => full_socket;
    Some(96), "bpf_tcp_sock" => tcp_socket;
    Some(98), "bpf_get_listener_sock" => listener;
    // It finds small sockets too, of which there are none.
    Some(99), "bpf_skc_lookup_tcp" => lookup_tcp;
    Some(100), "bpf_tcp_check_syncookie" => check_syncookie;
    Some(110), "bpf_tcp_gen_syncookie" => gen_syncookie;
    Some(124), "bpf_sk_assign" => assign;
    Some(136), "bpf_skc_to_tcp6_sock" => no_kernel_socket;
    Some(137), "bpf_skc_to_tcp_sock" => no_kernel_socket;
    Some(138), "bpf_skc_to_tcp_timewait_sock" => no_kernel_socket;
    Some(139), "bpf_skc_to_tcp_request_sock" => no_kernel_socket;
    Some(140), "bpf_skc_to_udp6_sock" => no_kernel_socket;
    Some(178), "bpf_skc_to_unix_sock" => no_kernel_socket;
    Some(196), "bpf_skc_to_mptcp_sock" => no_kernel_socket;
};

/// States of sockets that are not whole: waiting after the end, and before the beginning.
const TCP_TIME_WAIT: u64 = 6;
const TCP_NEW_SYN_RECV: u64 = 12;

/// `struct bpf_sock *bpf_sk_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, u32 tuple_size, u64 netns, u64 flags)`.
fn lookup_tcp(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    lookup(run, IPPROTO_TCP, args)
}

/// `struct bpf_sock *bpf_sk_lookup_udp(void *ctx, struct bpf_sock_tuple *tuple, u32 tuple_size, u64 netns, u64 flags)`.
fn lookup_udp(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    lookup(run, IPPROTO_UDP, args)
}

/// The socket that would receive packets of this tuple, or NULL.
fn lookup(run: &mut Invocation<'_>, protocol: u32, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, tuple, bytes, namespace, flags] = args;
    let tuple = run.memory(tuple, u64::from(low32(bytes)), false)?.to_vec();
    // Of the namespace's number the low half counts: negative for the packet's own, and there is no other.
    if flags != 0 || low32(namespace).cast_signed() >= 0 {
        return Ok(0);
    }
    let device = match &run.packet {
        Some(Packet::Skb(skb)) => skb.image().get32(skb_field::IFINDEX),
        Some(Packet::Xdp(xdp)) => xdp.image().get32(xdp_field::INGRESS_IFINDEX),
        None => 0,
    };
    let question = Question::new(&tuple, protocol, device);
    let block = question.and_then(|question| run.image.options.network.find_socket(&question));
    Ok(block.map_or(0, |block| run.add_socket(block)))
}

/// `long bpf_sk_release(void *sock)`: sockets stay until the run ends anyway.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn release(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(0)
}

/// `struct bpf_sock *bpf_sk_fullsock(struct bpf_sock *sk)`.
fn full_socket(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let found = socket_of(run, "bpf_sk_fullsock", args[0])?;
    Ok(if is_full(found) { args[0] } else { 0 })
}

/// `struct bpf_tcp_sock *bpf_tcp_sock(struct bpf_sock *sk)`.
fn tcp_socket(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let found = socket_of(run, "bpf_tcp_sock", args[0])?;
    let is_tcp = is_full(found) && word(found, socket::PROTOCOL) == u64::from(IPPROTO_TCP);
    Ok(if is_tcp { found.address() + socket::TCP } else { 0 })
}

/// `struct bpf_sock *bpf_get_listener_sock(struct bpf_sock *sk)`.
fn listener(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let found = socket_of(run, "bpf_get_listener_sock", args[0])?;
    Ok(if word(found, socket::STATE) == TCP_LISTEN { found.address() } else { 0 })
}

/// `long bpf_tcp_check_syncookie(void *sk, void *iph, u32 iph_len, struct tcphdr *th, u32 th_len)`: no socket here has ever sent
/// a cookie.
fn check_syncookie(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(if is_listening(run, "bpf_tcp_check_syncookie", args)? { errno(ENOENT) } else { errno(EINVAL) })
}

/// `s64 bpf_tcp_gen_syncookie(void *sk, void *iph, u32 iph_len, struct tcphdr *th, u32 th_len)`: no socket here has more
/// connections waiting than it can take.
fn gen_syncookie(run: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    const FIN_SYN_RST_ACK: u8 = 0x17;
    const SYN: u8 = 0x02;
    let [_, _, ip_bytes, tcp, tcp_bytes] = args;
    if !is_listening(run, "bpf_tcp_gen_syncookie", args)? {
        return Ok(errno(EINVAL));
    }
    let mut header = [0; 14];
    run.memory(tcp, u64::from(low32(tcp_bytes)), false)?.read(&mut header);
    let [.., flags] = header;
    let opens = flags & FIN_SYN_RST_ACK == SYN && low32(ip_bytes) >= 20;
    Ok(if opens { errno(ENOENT) } else { errno(EINVAL) })
}

/// Whether both functions on cookies have a listening socket and a whole header.
fn is_listening(run: &Invocation<'_>, function: &'static str, args: [u64; 5]) -> Result<bool, TrapKind> {
    /// Bytes of a TCP header without options.
    const TCP_BYTES: u32 = 20;
    let [socket, _, _, _, tcp_bytes] = args;
    if socket == 0 || low32(tcp_bytes) < TCP_BYTES {
        return Ok(false);
    }
    let found = socket_of(run, function, socket)?;
    let is_tcp = word(found, socket::PROTOCOL) == u64::from(IPPROTO_TCP);
    Ok(is_tcp && word(found, socket::STATE) == TCP_LISTEN)
}

/// `long bpf_sk_assign(struct __sk_buff *skb, void *sk, u64 flags)`: a packet that is run here does not arrive anywhere, and
/// only where it does can a socket be chosen.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn assign(_: &mut Invocation<'_>, args: [u64; 5]) -> Result<u64, TrapKind> {
    let [_, socket, flags, ..] = args;
    Ok(if socket == 0 || flags != 0 { errno(EINVAL) } else { errno(EOPNOTSUPP) })
}

/// `bpf_skc_to_*`: sockets here are no structures of a kernel.
#[allow(clippy::unnecessary_wraps, reason = "the type of every function of the runtime")]
fn no_kernel_socket(_: &mut Invocation<'_>, _: [u64; 5]) -> Result<u64, TrapKind> {
    Ok(0)
}

/// The socket at an address that a program gave as argument 1.
fn socket_of<'r>(run: &Invocation<'r>, function: &'static str, address: u64) -> Result<Place<'r>, TrapKind> {
    run.socket_at(address).ok_or(TrapKind::BadArgument { function, argument: 1, value: address })
}

fn is_full(found: Place<'_>) -> bool {
    !matches!(word(found, socket::STATE), TCP_TIME_WAIT | TCP_NEW_SYN_RECV)
}

fn word(found: Place<'_>, at: usize) -> u64 {
    found.at(at).map_or(0, |place| place.load(Size::W, Relaxed))
}
