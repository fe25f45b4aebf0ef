/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Contexts and helpers of programs on packets, as far as the programs of this folder use them. */
#pragma once
#include "bpf_arena.h"

struct bpf_sock {
	u32 bound_dev_if;
	u32 family;
	u32 type;
	u32 protocol;
	u32 mark;
	u32 priority;
	u32 src_ip4;
	u32 src_ip6[4];
	u32 src_port;
	u16 dst_port;
	u16 padding;
	u32 dst_ip4;
	u32 dst_ip6[4];
	u32 state;
	s32 rx_queue_mapping;
};

struct bpf_tcp_sock {
	u32 snd_cwnd;
	u32 srtt_us;
};

struct bpf_flow_keys {
	u16 nhoff;
	u16 thoff;
	u16 addr_proto;
	u8 is_frag;
	u8 is_first_frag;
	u8 is_encap;
	u8 ip_proto;
	u16 n_proto;
	u16 sport;
	u16 dport;
	u32 addresses[8];
	u32 flags;
	u32 flow_label;
};

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 data_meta;
	struct bpf_flow_keys *flow_keys;
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	struct bpf_sock *sk;
	u32 gso_size;
	u8 tstamp_type;
	u64 hwtstamp;
};

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

struct bpf_sock_tuple {
	u32 saddr;
	u32 daddr;
	u16 sport;
	u16 dport;
};

#define HELPER(number, result, name, ...) static result (*const name)(__VA_ARGS__) = (void *)number

HELPER(9, long, bpf_skb_store_bytes, struct __sk_buff *, u32 offset, const void *from, u32 len, u64 flags);
HELPER(10, long, bpf_l3_csum_replace, struct __sk_buff *, u32 offset, u64 from, u64 to, u64 size);
HELPER(11, long, bpf_l4_csum_replace, struct __sk_buff *, u32 offset, u64 from, u64 to, u64 flags);
HELPER(13, long, bpf_clone_redirect, struct __sk_buff *, u32 ifindex, u64 flags);
HELPER(18, long, bpf_skb_vlan_push, struct __sk_buff *, u16 protocol, u16 tci);
HELPER(19, long, bpf_skb_vlan_pop, struct __sk_buff *);
HELPER(20, long, bpf_skb_get_tunnel_key, struct __sk_buff *, void *key, u32 size, u64 flags);
HELPER(23, long, bpf_redirect, u32 ifindex, u64 flags);
HELPER(24, u32, bpf_get_route_realm, struct __sk_buff *);
HELPER(26, long, bpf_skb_load_bytes, const void *, u32 offset, void *to, u32 len);
HELPER(31, long, bpf_skb_change_proto, struct __sk_buff *, u16 protocol, u64 flags);
HELPER(32, long, bpf_skb_change_type, struct __sk_buff *, u32 type);
HELPER(34, u32, bpf_get_hash_recalc, struct __sk_buff *);
HELPER(38, long, bpf_skb_change_tail, struct __sk_buff *, u32 len, u64 flags);
HELPER(39, long, bpf_skb_pull_data, struct __sk_buff *, u32 len);
HELPER(40, s64, bpf_csum_update, struct __sk_buff *, u32 csum);
HELPER(41, void, bpf_set_hash_invalid, struct __sk_buff *);
HELPER(43, long, bpf_skb_change_head, struct __sk_buff *, u32 len, u64 flags);
HELPER(44, long, bpf_xdp_adjust_head, struct xdp_md *, int delta);
HELPER(46, u64, bpf_get_socket_cookie, void *);
HELPER(47, u32, bpf_get_socket_uid, struct __sk_buff *);
HELPER(48, long, bpf_set_hash, struct __sk_buff *, u32 hash);
HELPER(50, long, bpf_skb_adjust_room, struct __sk_buff *, s32 difference, u32 mode, u64 flags);
HELPER(54, long, bpf_xdp_adjust_meta, struct xdp_md *, int delta);
HELPER(65, long, bpf_xdp_adjust_tail, struct xdp_md *, int delta);
HELPER(66, long, bpf_skb_get_xfrm_state, struct __sk_buff *, u32 index, void *state, u32 size, u64 flags);
HELPER(68, long, bpf_skb_load_bytes_relative, const void *, u32 offset, void *to, u32 len, u32 start);
HELPER(69, long, bpf_fib_lookup, void *, void *params, int size, u32 flags);
HELPER(84, struct bpf_sock *, bpf_sk_lookup_tcp, void *, struct bpf_sock_tuple *, u32 size, u64 netns, u64 flags);
HELPER(85, struct bpf_sock *, bpf_sk_lookup_udp, void *, struct bpf_sock_tuple *, u32 size, u64 netns, u64 flags);
HELPER(86, long, bpf_sk_release, void *);
HELPER(95, struct bpf_sock *, bpf_sk_fullsock, struct bpf_sock *);
HELPER(96, struct bpf_tcp_sock *, bpf_tcp_sock, struct bpf_sock *);
HELPER(97, long, bpf_skb_ecn_set_ce, struct __sk_buff *);
HELPER(98, struct bpf_sock *, bpf_get_listener_sock, struct bpf_sock *);
HELPER(122, u64, bpf_get_netns_cookie, void *);
HELPER(135, long, bpf_csum_level, struct __sk_buff *, u64 level);
HELPER(155, long, bpf_redirect_peer, u32 ifindex, u64 flags);
HELPER(163, long, bpf_check_mtu, void *, u32 ifindex, u32 *mtu, s32 difference, u64 flags);
HELPER(188, u64, bpf_xdp_get_buff_len, struct xdp_md *);
HELPER(189, long, bpf_xdp_load_bytes, struct xdp_md *, u32 offset, void *to, u32 len);
HELPER(190, long, bpf_xdp_store_bytes, struct xdp_md *, u32 offset, void *from, u32 len);
HELPER(192, long, bpf_skb_set_tstamp, struct __sk_buff *, u64 time, u32 clock);

int bpf_xdp_pull_data(struct xdp_md *, u32 len) __ksym __weak;

/* Legacy loads: network order, and the program ends with 0 where the packet has no such bytes. */
u64 load_byte(void *skb, u64 offset) asm("llvm.bpf.load.byte");
u64 load_half(void *skb, u64 offset) asm("llvm.bpf.load.half");
u64 load_word(void *skb, u64 offset) asm("llvm.bpf.load.word");

/* Pointers that the context shows as numbers. */
#define pointer(field) ((void *)(u64)(field))
