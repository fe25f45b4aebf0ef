//! What is known of a program before any path is walked.

pub(crate) mod cfg;
pub(crate) mod effects;
pub(crate) mod externs;
pub(crate) mod fields;
pub(crate) mod flow;
pub(crate) mod functions;
pub(crate) mod hook;
pub(crate) mod live;
pub(crate) mod loops;
pub(crate) mod references;
pub(crate) mod struct_ops;

use bpf_object::{AttachType, Btf, MapSpec, ProgType, Program, Subprogram};
use isa::InsnIdx;

use self::cfg::Shape;
use self::effects::Effects;
use self::externs::{External, Externs};
use self::fields::{Fields, Record};
use self::flow::Flow;
use self::functions::Functions;
use self::hook::Hook;
use self::live::Liveness;
use crate::Env;
use crate::report::reason::{KfuncFault, LoadFault, Reason, Unsupported};
use crate::rules::programs::{self, ProgRules};
use crate::state::reg::{BtfOwner, Flags, RegState, RegType};

/// The unchanging side of a verification.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) program: &'a Program,
    pub(crate) env: &'a Env,
    pub(crate) rules: &'static ProgRules,
    /// What the program is to be attached to.
    pub(crate) attach: Option<AttachType>,
    pub(crate) shape: Shape,
    pub(crate) live: Liveness,
    pub(crate) flow: Flow,
    /// Index of the one arena the program refers to.
    pub(crate) arena: Option<u32>,
    /// The program's maps, then what its maps of maps hold: a map's number is an index into this.
    maps: Vec<&'a MapSpec>,
    /// The fields of maps and structs that the kernel owns.
    pub(crate) fields: Fields,
    /// What the code of each function does.
    pub(crate) functions: Functions,
    externs: Externs,
    /// The function of the kernel that the program is attached to.
    pub(crate) hook: Option<Hook>,
    effects: Vec<Effects>,
}

impl<'a> Plan<'a> {
    /// Checks everything that needs no walk.
    ///
    /// # Errors
    /// A rule that is broken, with the instruction if there is one.
    pub(crate) fn new(program: &'a Program, env: &'a Env) -> Result<Self, (Option<InsnIdx>, Reason)> {
        let rules =
            program.kind.prog_type.and_then(programs::find).ok_or_else(|| {
                (None, Unsupported::ProgramType { section: program.section.clone() }.into())
            })?;
        let attach = rules.attach_type(program.kind.attach_type);
        let number = program.kind.attach_type.unwrap_or(0);
        rules.check_attach(attach, number).map_err(|fault| (None, fault.into()))?;
        let mut hook = env.kernel.as_deref().and_then(|k| Hook::find(k, &program.kind, attach));
        if let (Some(kernel), ProgType::StructOps) = (env.kernel.as_deref(), rules.prog_type) {
            if !is_gpl(&program.license) {
                return Err((None, LoadFault::TableLicense.into()));
            }
            hook = Some(struct_ops::find(program, kernel).map_err(|reason| (None, reason))?);
        }
        if hook.is_none() && env.kernel.is_some() && Hook::is_named(&program.kind) {
            let target = program.kind.target.clone().unwrap_or_default();
            return Err((None, KfuncFault::NoHook { target }.into()));
        }
        let known = hook.as_ref().zip(env.kernel.as_deref());
        let (gpl, sleepable) = (is_gpl(&program.license), program.kind.sleepable);
        let refused = known.and_then(|(hook, kernel)| hook.refuses(kernel, gpl, sleepable));
        if let Some(fault) = refused {
            return Err((None, KfuncFault::Hook(fault).into()));
        }
        let externs = Externs::new(program, env, is_gpl(&program.license))?;
        let structural = |reason| (place(&reason), reason);
        cfg::check_subprogs(program).map_err(structural)?;
        let functions = Functions::new(program).map_err(|reason| (None, reason))?;
        let btf = program.btf.as_deref();
        let inner = program.maps.iter().filter_map(|m| m.inner.as_deref());
        let maps: Vec<&MapSpec> = program.maps.iter().chain(inner).collect();
        let fields = Fields::new(btf, env.types(), &maps);
        let arena = references::check(program, rules, &fields)?;
        let shape = cfg::check(program).map_err(structural)?;
        rules.check_sleep(attach, program.kind.sleepable).map_err(|fault| (None, fault.into()))?;
        if rules.prog_type == ProgType::StructOps && program.kind.sleepable {
            // Which callbacks may sleep is decided by the code of each structure, not by its type.
            let what = "a sleepable callback of a struct_ops";
            return Err((None, Unsupported::Feature { what }.into()));
        }
        let flow = Flow::new(program);
        let live = Liveness::compute(program, &flow);
        let effects = effects::compute(program, &externs);
        Ok(Self {
            program,
            env,
            rules,
            attach,
            shape,
            live,
            flow,
            arena,
            maps,
            fields,
            functions,
            externs,
            hook,
            effects,
        })
    }

    pub(crate) fn subprog(&self, index: u32) -> Option<&'a Subprogram> {
        self.program.subprograms.get(index as usize)
    }

    /// What calling the function may do.
    pub(crate) fn effects(&self, subprog: u32) -> Effects {
        self.effects.get(subprog as usize).copied().unwrap_or_default()
    }

    pub(crate) fn map(&self, index: u32) -> Option<&'a MapSpec> {
        self.maps.get(index as usize).copied()
    }

    /// The number of the map that a map of maps holds.
    pub(crate) fn inner_map(&self, index: u32) -> Option<u32> {
        let outer = self.program.maps.get(index as usize)?;
        outer.inner.as_ref()?;
        let before = self.program.maps.iter().take(index as usize).filter(|m| m.inner.is_some()).count();
        u32::try_from(self.program.maps.len() + before).ok()
    }

    pub(crate) fn value_size(&self, map: u32) -> u32 {
        self.map(map).map_or(0, |m| m.value_size)
    }

    /// The fields of what a pointer points to (`reg_btf_record`), if it has any.
    pub(crate) fn record(&self, pointer: &RegState) -> Option<&Record> {
        match pointer.kind {
            RegType::PtrToMapValue { map } => Some(&self.fields.map(map)?.record).filter(|r| !r.is_empty()),
            RegType::PtrToBtfId { of: BtfOwner::Object, ty } if pointer.flags.has(Flags::ALLOC) => {
                self.fields.object(ty)
            }
            _ => None,
        }
    }

    /// The name of the map, for messages.
    pub(crate) fn map_name(&self, map: u32) -> String {
        self.map(map).map_or_else(String::new, |m| m.name.clone())
    }

    pub(crate) fn kfunc_name(&self, id: i32) -> &'a str {
        let found = usize::try_from(id).ok().and_then(|id| self.program.externs.get(id));
        found.map_or("", |e| e.name.as_str())
    }

    /// What an extern of the program is in the kernel.
    pub(crate) fn external(&self, index: i32) -> Option<&External> {
        self.externs.get(index)
    }

    /// The kernel's types, if they are known.
    pub(crate) fn kernel(&self) -> Option<&'a Btf> {
        self.env.kernel.as_deref()
    }

    /// The structures of the kernel and of the host.
    pub(crate) fn types(&self) -> Option<&'a Btf> {
        self.env.types()
    }

    /// The BTF that has the types of this owner.
    pub(crate) fn btf(&self, owner: BtfOwner) -> Option<&'a Btf> {
        match owner {
            BtfOwner::Kernel => self.types(),
            BtfOwner::Object => self.program.btf.as_deref(),
        }
    }

    /// Whether the program's licence admits GPL-only helpers.
    pub(crate) fn is_gpl(&self) -> bool {
        is_gpl(&self.program.license)
    }
}

fn is_gpl(license: &str) -> bool {
    const COMPATIBLE: [&str; 6] =
        ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];
    COMPATIBLE.contains(&license)
}

/// The instruction a structural fault is about.
fn place(reason: &Reason) -> Option<InsnIdx> {
    match reason {
        Reason::Unreachable { at } => Some(*at),
        Reason::JumpOutOfRange { from, .. } => Some(*from),
        Reason::JumpIntoLdImm64 { lddw } => Some(*lddw),
        _ => None,
    }
}
