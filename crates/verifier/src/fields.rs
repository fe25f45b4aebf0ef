//! Fields of map values that the kernel owns: found by the names of their types in BTF.

use bpf_object::{Btf, Kind, MapSpec, TypeId};

/// What a map's value has inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Special {
    /// Offset of the `struct bpf_spin_lock`.
    pub(crate) spin_lock: Option<u32>,
    /// A field for which there are no rules.
    pub(crate) unsupported: Option<&'static str>,
}

/// Types deeper than this are not looked into.
const MAX_DEPTH: u32 = 8;
/// Members looked at in one value.
const MAX_MEMBERS: u32 = 4096;

/// Looks for special fields in the map's value.
pub(crate) fn find(btf: Option<&Btf>, map: &MapSpec) -> Special {
    let mut search = Search { found: Special::default(), left: MAX_MEMBERS };
    if let (Some(btf), Some(value)) = (btf, map.value_btf) {
        search.visit(btf, value, 0, MAX_DEPTH);
    }
    search.found
}

struct Search {
    found: Special,
    left: u32,
}

impl Search {
    fn visit(&mut self, btf: &Btf, ty: TypeId, offset: u32, depth: u32) {
        let Some(left) = self.left.checked_sub(1) else {
            self.found.unsupported = Some("a map value of more than 4096 members");
            return;
        };
        self.left = left;
        let Some(depth) = depth.checked_sub(1) else { return };
        let ty = btf.resolve(ty);
        match btf.kind(ty) {
            Some(Kind::Struct(composite) | Kind::Union(composite)) => {
                if self.is_special(btf.name(ty), offset) {
                    return;
                }
                for member in &composite.members {
                    self.visit(btf, member.ty, offset.saturating_add(member.bit_offset / 8), depth);
                }
            }
            Some(Kind::DataSec { vars, .. }) => {
                for var in vars {
                    self.visit(btf, var.ty, offset.saturating_add(var.offset), depth);
                }
            }
            Some(Kind::Var { ty, .. }) => self.visit(btf, *ty, offset, depth),
            // Locks in arrays are not found by the kernel either: they are plain bytes.
            _ => {}
        }
    }

    fn is_special(&mut self, name: &str, offset: u32) -> bool {
        let unsupported = match name {
            "bpf_spin_lock" if self.found.spin_lock.is_none() => {
                self.found.spin_lock = Some(offset);
                return true;
            }
            "bpf_spin_lock" => "a map value with two spin locks",
            "bpf_res_spin_lock" => "a map value with a bpf_res_spin_lock",
            "bpf_timer" => "a map value with a bpf_timer",
            "bpf_wq" => "a map value with a bpf_wq",
            "bpf_task_work" => "a map value with a bpf_task_work",
            "bpf_list_head" => "a map value with a bpf_list_head",
            "bpf_rb_root" => "a map value with a bpf_rb_root",
            "bpf_refcount" => "a map value with a bpf_refcount",
            _ => return false,
        };
        self.found.unsupported = Some(unsupported);
        true
    }
}
