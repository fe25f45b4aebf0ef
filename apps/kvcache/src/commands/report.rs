//! `stats`: what the server tells of itself, under memcached's names where it has them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::counters::Counter;
use super::shared::{Shared, VERSION};
use crate::protocol::{Complaint, number, render, words};

pub(super) fn stats(shared: &Shared, arguments: &[u8], out: &mut Vec<u8>) {
    let mut words = words(arguments);
    match words.next() {
        None => general(shared, out),
        Some(b"settings") => settings(shared, out),
        Some(b"items") => items(shared, out),
        Some(b"slabs") => slabs(shared, out),
        Some(b"sizes") => render::stat(out, "sizes_status", "disabled"),
        Some(b"conns") => connections(shared, out),
        Some(b"reset") => {
            shared.reset_counters();
            return render::line(out, "RESET");
        }
        // The first items of a class: a command for debugging, which may list as few as it likes.
        Some(b"cachedump") => match (words.next(), words.next()) {
            (Some(class), Some(limit))
                if number::unsigned32(class).and(number::unsigned32(limit)).is_some() => {}
            (Some(_), Some(_)) => return render::line(out, Complaint::Format.text()),
            _ => return render::line(out, Complaint::StatsFormat.text()),
        },
        Some(_) => return render::line(out, Complaint::Unknown.text()),
    }
    out.extend_from_slice(render::END);
}

fn general(shared: &Shared, out: &mut Vec<u8>) {
    let mut stat = |name: &str, value: u64| render::stat(out, name, &value.to_string());
    stat("pid", std::process::id().into());
    stat("uptime", shared.started.elapsed().as_secs());
    stat("time", SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()));
    render::stat(out, "version", VERSION);
    render::stat(out, "pointer_size", &usize::BITS.to_string());
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        render::stat(out, "rusage_user", &seconds(usage.user_time()));
        render::stat(out, "rusage_system", &seconds(usage.system_time()));
    }
    let mut stat = |name: &str, value: u64| render::stat(out, name, &value.to_string());
    let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    stat("max_connections", wide(shared.settings.max_connections));
    stat("curr_connections", wide(shared.connections.current.load(Relaxed)));
    stat("total_connections", shared.connections.total.load(Relaxed));
    stat("rejected_connections", shared.connections.rejected.load(Relaxed));
    let [xdp, tc] = shared.store.program_counters();
    let program = xdp.plus(tc);
    let server_hits = shared.total(Counter::GetHits);
    // What the program answered was asked for, even if the server never saw it.
    stat("cmd_get", shared.total(Counter::GetCommands) + program.hits);
    stat("get_hits", server_hits + program.hits);
    stat("get_hits_server", server_hits);
    stat("get_hits_program", program.hits);
    stat("get_hits_xdp", xdp.hits);
    stat("get_hits_tc", tc.hits);
    for (name, counter) in COUNTED {
        stat(name, shared.total(*counter));
    }
    for (name, value) in [
        ("program_answered", program.answered),
        ("program_misses", program.misses),
        ("program_other", program.other),
        ("program_foreign", program.foreign),
        ("program_too_long", program.too_long),
        ("program_contended", program.contended),
        ("program_handed_on", program.handed_on),
    ] {
        stat(name, value);
    }
    let store = shared.store.stats();
    stat("limit_maxbytes", store.limit);
    stat("accepting_conns", 1);
    stat("threads", wide(shared.settings.threads));
    stat("hash_power_level", store.buckets.checked_ilog2().unwrap_or(0).into());
    stat("bytes", store.bytes);
    stat("curr_items", store.items);
    stat("total_items", store.stored);
    stat("evictions", store.evictions);
    stat("evicted_unfetched", store.evicted_unfetched);
    stat("reclaimed", store.reclaimed);
    stat("memory_bytes", store.memory);
}

const COUNTED: &[(&str, Counter)] = &[
    ("get_misses", Counter::GetMisses),
    ("cmd_set", Counter::SetCommands),
    ("cmd_flush", Counter::FlushCommands),
    ("cmd_touch", Counter::TouchCommands),
    ("cmd_meta", Counter::MetaCommands),
    ("delete_misses", Counter::DeleteMisses),
    ("delete_hits", Counter::DeleteHits),
    ("incr_misses", Counter::IncrMisses),
    ("incr_hits", Counter::IncrHits),
    ("decr_misses", Counter::DecrMisses),
    ("decr_hits", Counter::DecrHits),
    ("cas_misses", Counter::CasMisses),
    ("cas_hits", Counter::CasHits),
    ("cas_badval", Counter::CasBadValue),
    ("touch_hits", Counter::TouchHits),
    ("touch_misses", Counter::TouchMisses),
    ("store_too_large", Counter::StoreTooLarge),
    ("store_no_memory", Counter::StoreNoMemory),
    ("idle_kicks", Counter::IdleKicks),
    ("bytes_read", Counter::BytesRead),
    ("bytes_written", Counter::BytesWritten),
    ("conn_yields", Counter::Yields),
    ("datagrams", Counter::Datagrams),
    ("datagrams_by_program", Counter::DatagramsByProgram),
];

fn settings(shared: &Shared, out: &mut Vec<u8>) {
    let settings = &shared.settings;
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let on = |on: bool| if on { "on" } else { "off" }.to_owned();
    for (name, value) in [
        ("maxbytes", shared.store.stats().limit.to_string()),
        ("maxconns", settings.max_connections.to_string()),
        ("tcpport", settings.tcp_port.to_string()),
        ("udpport", settings.udp_port.to_string()),
        ("inter", settings.listen.clone()),
        ("verbosity", shared.verbosity().to_string()),
        ("oldest", "0".to_owned()),
        ("evictions", on(settings.evict)),
        ("domain_socket", "NULL".to_owned()),
        ("shutdown_command", yes(false)),
        ("num_threads", settings.threads.to_string()),
        ("detail_enabled", yes(false)),
        ("cas_enabled", yes(true)),
        ("binding_protocol", "ascii".to_owned()),
        ("auth_enabled_sasl", yes(false)),
        ("auth_enabled_ascii", yes(false)),
        ("item_size_max", settings.item_size_max.to_string()),
        ("maxconns_fast", yes(true)),
        ("flush_enabled", yes(true)),
        ("dump_enabled", yes(false)),
        ("idle_timeout", settings.idle_timeout.to_string()),
        ("engine", settings.engine.to_owned()),
    ] {
        render::stat(out, name, &value);
    }
}

/// The store does not tell its classes of sizes apart here: everything stands under the first.
fn items(shared: &Shared, out: &mut Vec<u8>) {
    let store = shared.store.stats();
    if store.items == 0 {
        return;
    }
    for (name, value) in [
        ("items:1:number", store.items),
        ("items:1:mem_requested", store.bytes),
        ("items:1:evicted", store.evictions),
        ("items:1:evicted_unfetched", store.evicted_unfetched),
        ("items:1:reclaimed", store.reclaimed),
    ] {
        render::stat(out, name, &value.to_string());
    }
}

fn slabs(shared: &Shared, out: &mut Vec<u8>) {
    let store = shared.store.stats();
    for (name, value) in [
        ("1:total_pages", store.slabs),
        ("1:used_chunks", store.items),
        ("1:mem_requested", store.bytes),
        ("active_slabs", u64::from(store.slabs > 0)),
        ("total_malloced", store.memory),
    ] {
        render::stat(out, name, &value.to_string());
    }
}

fn connections(shared: &Shared, out: &mut Vec<u8>) {
    let current = shared.connections.current.load(Relaxed);
    render::stat(out, "connections", &current.to_string());
}

fn seconds(time: TimeVal) -> String {
    format!("{}.{:06}", time.tv_sec(), time.tv_usec())
}
