//! Programs that fill in a table of functions of the kernel (`struct_ops`): which function, by the object's own table.

use bpf_object::{Btf, Composite, Kind, KindTag, MapType, Member, Param, Program, TypeId, essential_name};

use crate::plan::hook::{Hook, HookReturns};
use crate::report::reason::{EINVAL, KfuncFault, LoadFault, Reason};
use crate::rules::struct_ops;

/// The function of the kernel's table that the program is for.
///
/// # Errors
/// The object has no table with the program in it, or the kernel no such table; or it has the function, but not for
/// programs or not for this one.
pub(crate) fn find(program: &Program, kernel: &Btf) -> Result<Hook, Reason> {
    let nothing = |target: String| Err(KfuncFault::NoHook { target }.into());
    let Some((table, name)) = own_member(program) else { return nothing(program.name.clone()) };
    let known = kernel.find(&format!("bpf_struct_ops_{table}"), KindTag::Struct).is_some();
    let structure = kernel.find(&table, KindTag::Struct).filter(|_| known);
    let member = structure.and_then(|ty| kernel.member(ty, &name));
    let function = member.and_then(|(member, _)| function_pointer(kernel, member));
    let Some((params, ret)) = function else { return nothing(format!("{table}.{name}")) };
    let refuse =
        |errno| Err(LoadFault::TableMember { table: table.clone(), member: name.clone(), errno }.into());
    match struct_ops::member(&table, &name) {
        struct_ops::MemberRule::Never { errno } => return refuse(errno),
        struct_ops::MemberRule::Awake if program.kind.sleepable => return refuse(EINVAL),
        _ => {}
    }
    // The kernel's stand-in for the function says by names of parameters what may be NULL.
    let stub = kernel.function(&format!("{table}__{name}")).and_then(|f| match kernel.kind(f)? {
        Kind::Func { proto, .. } => prototype(kernel, *proto),
        _ => None,
    });
    let params = stub.map_or(params, |(params, _)| params).to_vec();
    let returns = match kernel.kind(kernel.resolve(ret)) {
        None | Some(Kind::Void) => HookReturns::Nothing,
        // Nothing but NULL, as far as no reference is given up.
        Some(Kind::Ptr(_)) => HookReturns::Range(0, 0),
        Some(_) => HookReturns::Any,
    };
    Ok(Hook::of_table(&table, &name, params, returns))
}

/// Table and member the object puts the program into, by the names of its types.
fn own_member(program: &Program) -> Option<(String, String)> {
    let btf = program.btf.as_deref()?;
    let tables = program.maps.iter().filter(|m| m.map_type == MapType::StructOps);
    let (ty, offset) = tables
        .flat_map(|map| map.slots.iter().map(move |slot| (map.value_btf, slot)))
        .find(|(_, slot)| slot.target == program.name)
        .and_then(|(ty, slot)| Some((btf.resolve(ty?), slot.index)))?;
    let Composite { members, .. } = btf.composite(ty)?;
    let member = members.iter().find(|m| Some(m.bit_offset) == offset.checked_mul(8))?;
    Some((essential_name(btf.name(ty)).to_owned(), btf.str(member.name).to_owned()))
}

fn function_pointer<'b>(btf: &'b Btf, member: &Member) -> Option<(&'b [Param], TypeId)> {
    let Kind::Ptr(target) = btf.kind(btf.resolve(member.ty))? else { return None };
    prototype(btf, btf.resolve(*target))
}

fn prototype(btf: &Btf, proto: TypeId) -> Option<(&[Param], TypeId)> {
    match btf.kind(proto)? {
        Kind::FuncProto(proto) => Some((&proto.params, proto.ret)),
        _ => None,
    }
}
