//! Which pointers inside trusted structures may themselves be trusted.
//!
//! The kernel says so in its BTF: a structure `NAME__safe_trusted` lists fields of `NAME` that are valid as long as their
//! owner is, `NAME__safe_rcu` those that are valid on the reading side of RCU, each with a sibling `_or_null`.

use bpf_object::{Btf, Kind, KindTag, TypeId};

/// How far a field may be trusted when its owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldTrust {
    Trusted,
    TrustedOrNull,
    Rcu,
    RcuOrNull,
    /// No list names it.
    Unlisted,
}

/// Lists in the order in which the kernel asks them.
const LISTS: [(&str, FieldTrust); 4] = [
    ("__safe_trusted", FieldTrust::Trusted),
    ("__safe_trusted_or_null", FieldTrust::TrustedOrNull),
    ("__safe_rcu", FieldTrust::Rcu),
    ("__safe_rcu_or_null", FieldTrust::RcuOrNull),
];

/// How far the field `name` of `owner`, which points to `target`, may be trusted.
pub(crate) fn field_trust(btf: &Btf, owner: TypeId, name: &str, target: TypeId) -> FieldTrust {
    let Some(tag) = btf.kind(owner).map(Kind::tag).filter(|t| matches!(t, KindTag::Struct | KindTag::Union))
    else {
        return FieldTrust::Unlisted;
    };
    let owner = btf.name(owner);
    let listed = |suffix: &str| {
        let list = btf.find(&format!("{owner}{suffix}"), tag).and_then(|id| btf.composite(id));
        list.is_some_and(|list| {
            list.members.iter().any(|m| {
                let points_to = match btf.kind(m.ty) {
                    Some(Kind::Ptr(to)) => btf.resolve(*to),
                    _ => return false,
                };
                points_to == target && btf.str(m.name) == name
            })
        })
    };
    LISTS.iter().find(|(suffix, _)| listed(suffix)).map_or(FieldTrust::Unlisted, |(_, trust)| *trust)
}
