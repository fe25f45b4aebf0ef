//! The maps a program refers to: whether they may be used so, by programs of its type (`resolve_pseudo_ldimm64`).

use bpf_object::{MapSpec, MapType, ProgType, Program};
use isa::{Imm64, Insn, InsnIdx};

use crate::limits::{MAX_OFFSET, MAX_USED_MAPS};
use crate::plan::fields::{Fields, Record, Set, Tag};
use crate::report::reason::{EINVAL, LoadFault, Reason, Unsupported};
use crate::rules::maps;
use crate::rules::programs::{self, ProgRules};

/// `ERANGE`: an address outside an arena.
const ERANGE: i32 = 34;
/// The kernel's own `ENOTSUPP`: an array of more than one value.
const ENOTSUPP: i32 = 524;
const GOTOX: u8 = 0x0d;

/// Checks every `lddw`; gives the one arena the program refers to.
pub(crate) fn check(
    program: &Program,
    rules: &ProgRules,
    fields: &Fields,
) -> Result<Option<u32>, (Option<InsnIdx>, Reason)> {
    let mut used = Used::default();
    for (at, insn) in program.code.iter() {
        let fail = |reason: Reason| (Some(at), reason);
        // No instruction of Linux 6.18, whether it is reached or not.
        if matches!(insn, Insn::IndirectJump { .. }) {
            return Err(fail(Reason::UnknownOpcode { opcode: GOTOX }));
        }
        let Insn::LoadImm64 { value, .. } = insn else { continue };
        let (map, offset) = match value {
            Imm64::MapIdx(map) => (map, None),
            Imm64::MapIdxValue { map, offset } => (map, Some(offset)),
            Imm64::Const(_) | Imm64::Func(_) | Imm64::BtfVar { .. } => continue,
            // Descriptors are an engine's: here they are of nothing.
            Imm64::MapFd(fd) | Imm64::MapValue { fd, .. } => {
                return Err(fail(LoadFault::NotAMap { fd }.into()));
            }
        };
        let Some(spec) = program.maps.get(map as usize) else {
            return Err(fail(LoadFault::NoSuchMap { map }.into()));
        };
        let record = fields.map(map).map(|m| &m.record);
        used.add(map, spec, || check_program(program, rules, spec, record)).map_err(fail)?;
        if let Some(offset) = offset {
            check_value(spec, offset).map_err(fail)?;
        }
    }
    Ok(used.arena)
}

/// Maps the program has been found to refer to.
#[derive(Default)]
struct Used {
    maps: Vec<u32>,
    arena: Option<u32>,
    cgroup_storages: Vec<MapType>,
}

impl Used {
    /// Adds a map, unless it is there already.
    fn add(
        &mut self,
        map: u32,
        spec: &MapSpec,
        check_program: impl FnOnce() -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        if self.maps.contains(&map) {
            return Ok(());
        }
        if maps::find(spec.map_type).is_none() {
            let (name, map_type) = (spec.name.clone(), spec.map_type.name());
            return Err(Unsupported::MapType { name, map_type }.into());
        }
        if self.maps.len() >= MAX_USED_MAPS {
            return Err(LoadFault::TooManyMaps { limit: MAX_USED_MAPS }.into());
        }
        check_program()?;
        match spec.map_type {
            MapType::CgroupStorage | MapType::PercpuCgroupStorage => {
                if self.cgroup_storages.contains(&spec.map_type) {
                    return Err(LoadFault::TwoCgroupStorages.into());
                }
                self.cgroup_storages.push(spec.map_type);
            }
            MapType::Arena => match self.arena {
                Some(first) => return Err(LoadFault::TwoArenas { first, second: map }.into()),
                None => self.arena = Some(map),
            },
            _ => {}
        }
        self.maps.push(map);
        Ok(())
    }
}

/// Checks an address inside a map's only value.
fn check_value(spec: &MapSpec, offset: u32) -> Result<(), Reason> {
    let map = || spec.name.clone();
    if i64::from(offset) >= MAX_OFFSET {
        return Err(LoadFault::ValueOffset { map: map(), offset }.into());
    }
    if !maps::find(spec.map_type).is_some_and(|rules| rules.direct_value) {
        return Err(LoadFault::NoDirectValue { map: map() }.into());
    }
    let errno = match spec.map_type {
        MapType::Arena if u64::from(offset) > u64::from(spec.max_entries) << 12 => ERANGE,
        MapType::Array if spec.max_entries != 1 => ENOTSUPP,
        MapType::Array if offset >= spec.value_size => EINVAL,
        _ => return Ok(()),
    };
    Err(LoadFault::ValueAddress { map: map(), value_size: spec.value_size, offset, errno }.into())
}

/// Checks that programs of this type can work with the map and what its values have inside
/// (`check_map_prog_compatibility`).
fn check_program(
    program: &Program,
    rules: &ProgRules,
    spec: &MapSpec,
    record: Option<&Record>,
) -> Result<(), Reason> {
    let has = |tags| record.is_some_and(|r| r.has(tags));
    // They may interrupt each other anywhere, also while they hold a lock.
    if rules.anywhere {
        let forbidden = [
            (Set::ROOTS, "bpf_{list_head,rb_root}"),
            (Set::of(Tag::SpinLock), "bpf_spin_lock"),
            (Set::of(Tag::Timer), "bpf_timer"),
            (Set::of(Tag::Wq), "bpf_wq"),
        ];
        if let Some((_, field)) = forbidden.into_iter().find(|(tags, _)| has(*tags)) {
            return Err(LoadFault::MapField { programs: "tracing", field }.into());
        }
    }
    if rules.prog_type == ProgType::SocketFilter && has(Set::of(Tag::SpinLock)) {
        return Err(LoadFault::MapField { programs: "socket filter", field: "bpf_spin_lock" }.into());
    }
    if spec.map_type == MapType::StructOps {
        return Err(LoadFault::StructOpsMap.into());
    }
    if program.kind.sleepable && !programs::SLEEPABLE_MAPS.contains(&spec.map_type) {
        return Err(LoadFault::SleepableMap.into());
    }
    Ok(())
}
