/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Helpers and kernel functions that the programs of this folder try. Their inputs and results are in `io`, where the host writes and reads them. */
#pragma once
#include "bpf_arena.h"

struct bpf_dynptr {
	u64 opaque[2];
} __attribute__((aligned(8)));

static long (*const bpf_probe_read)(void *dst, u32 size, const void *from) = (void *)4;
static long (*const bpf_csum_diff)(u32 *from, u32 from_size, u32 *to, u32 to_size, u32 seed) = (void *)28;
static long (*const bpf_get_numa_node_id)(void) = (void *)42;
static long (*const bpf_probe_read_str)(void *dst, u32 size, const void *from) = (void *)45;
static long (*const bpf_strtol)(const char *text, size_t len, u64 flags, long *result) = (void *)105;
static long (*const bpf_strtoul)(const char *text, size_t len, u64 flags, unsigned long *result) = (void *)106;
static long (*const bpf_probe_read_user)(void *dst, u32 size, const void *from) = (void *)112;
static long (*const bpf_probe_read_kernel)(void *dst, u32 size, const void *from) = (void *)113;
static long (*const bpf_probe_read_user_str)(void *dst, u32 size, const void *from) = (void *)114;
static long (*const bpf_probe_read_kernel_str)(void *dst, u32 size, const void *from) = (void *)115;
static u64 (*const bpf_jiffies64)(void) = (void *)118;
static long (*const bpf_get_ns_current_pid_tgid)(u64 dev, u64 ino, void *info, u32 size) = (void *)120;
static u64 (*const bpf_ktime_get_boot_ns)(void) = (void *)125;
static long (*const bpf_copy_from_user)(void *dst, u32 size, const void *from) = (void *)148;
static long (*const bpf_strncmp)(const char *a, u32 size, const char *b) = (void *)182;
static long (*const bpf_dynptr_from_mem)(void *data, u32 size, u64 flags, struct bpf_dynptr *ptr) = (void *)197;
static long (*const bpf_dynptr_read)(void *dst, u32 len, const struct bpf_dynptr *src, u32 offset,
				     u64 flags) = (void *)201;
static long (*const bpf_dynptr_write)(const struct bpf_dynptr *dst, u32 offset, void *src, u32 len,
				      u64 flags) = (void *)202;
static void *(*const bpf_dynptr_data)(const struct bpf_dynptr *ptr, u32 offset, u32 len) = (void *)203;
static u64 (*const bpf_ktime_get_tai_ns)(void) = (void *)208;

int bpf_strcasecmp(const char *a, const char *b) __ksym __weak;
int bpf_strchr(const char *s, char c) __ksym __weak;
int bpf_strchrnul(const char *s, char c) __ksym __weak;
int bpf_strcmp(const char *a, const char *b) __ksym __weak;
int bpf_strcspn(const char *s, const char *reject) __ksym __weak;
int bpf_strlen(const char *s) __ksym __weak;
int bpf_strnchr(const char *s, size_t count, char c) __ksym __weak;
int bpf_strnlen(const char *s, size_t count) __ksym __weak;
int bpf_strnstr(const char *s, const char *part, size_t len) __ksym __weak;
int bpf_strrchr(const char *s, int c) __ksym __weak;
int bpf_strspn(const char *s, const char *accept) __ksym __weak;
int bpf_strstr(const char *s, const char *part) __ksym __weak;

int bpf_dynptr_adjust(const struct bpf_dynptr *p, u32 start, u32 end) __ksym __weak;
int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *clone) __ksym __weak;
int bpf_dynptr_copy(struct bpf_dynptr *dst, u32 dst_off, struct bpf_dynptr *src, u32 src_off, u32 size) __ksym __weak;
_Bool bpf_dynptr_is_null(const struct bpf_dynptr *p) __ksym __weak;
_Bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *p) __ksym __weak;
int bpf_dynptr_memset(struct bpf_dynptr *p, u32 offset, u32 size, u8 value) __ksym __weak;
u32 bpf_dynptr_size(const struct bpf_dynptr *p) __ksym __weak;
void *bpf_dynptr_slice(const struct bpf_dynptr *p, u32 offset, void *buffer, u32 size) __ksym __weak;
void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, u32 offset, void *buffer, u32 size) __ksym __weak;

int bpf_copy_from_user_str(void *dst, u32 size, const void *from, u64 flags) __ksym __weak;
int bpf_copy_from_user_dynptr(struct bpf_dynptr *p, u64 off, u64 size, const void *from) __ksym __weak;
int bpf_copy_from_user_str_dynptr(struct bpf_dynptr *p, u64 off, u64 size, const void *from) __ksym __weak;
int bpf_probe_read_kernel_dynptr(struct bpf_dynptr *p, u64 off, u64 size, const void *from) __ksym __weak;
int bpf_probe_read_kernel_str_dynptr(struct bpf_dynptr *p, u64 off, u64 size, const void *from) __ksym __weak;
int bpf_probe_read_user_dynptr(struct bpf_dynptr *p, u64 off, u64 size, const void *from) __ksym __weak;
int bpf_probe_read_user_str_dynptr(struct bpf_dynptr *p, u64 off, u64 size, const void *from) __ksym __weak;

struct bpf_iter_bits {
	u64 opaque[2];
} __attribute__((aligned(8)));

int bpf_iter_bits_new(struct bpf_iter_bits *it, const u64 *words, u32 count) __ksym __weak;
int *bpf_iter_bits_next(struct bpf_iter_bits *it) __ksym __weak;
void bpf_iter_bits_destroy(struct bpf_iter_bits *it) __ksym __weak;

void bpf_local_irq_save(unsigned long *flags) __ksym __weak;
void bpf_local_irq_restore(unsigned long *flags) __ksym __weak;
void bpf_rcu_read_lock(void) __ksym __weak;
void bpf_rcu_read_unlock(void) __ksym __weak;
