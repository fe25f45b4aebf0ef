//! From an object to programs that run in this process.

use std::borrow::Cow;
use std::sync::Arc;

use bpf_object::{
    Extern, ExternKind, Kconfig, KconfigValue, LinkOptions, MapType, Object, ProgType, Program,
    UNANSWERED_RELOCATION,
};
use isa::{CallTarget, Imm64, Insn, InsnIdx};
use verifier::Verified;

use super::image::{Image, Instance};
use super::options::{Options, UserEngine};
use crate::app::{self, App};
use crate::enter::{Machine, MachineError};
use crate::error::{LoadError, Unsupported, UnsupportedKind};
use crate::host::{HostFunctions, Role};
use crate::runtime;
use crate::runtime::hosted::{self, Hosted};
use crate::runtime::maps::{MapSet, structs};
use crate::runtime::objects::ObjectTypes;

/// A verified program with what executes it: the interpreter, or machine code made of it.
///
/// One code serves any number of instances, each with its own maps. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Code {
    verified: Verified,
    machine: Option<Arc<Machine>>,
    checked: bool,
    hosted: Hosted,
}

impl Code {
    /// To be executed by the reference interpreter.
    ///
    /// # Errors
    /// The program uses something that the runtime does not have: [`LoadError::Unsupported`].
    pub fn interpreted(verified: &Verified) -> Result<Self, LoadError> {
        Self::interpreted_with(verified, &HostFunctions::default())
    }

    /// The same, with functions of the host.
    fn interpreted_with(verified: &Verified, host: &HostFunctions) -> Result<Self, LoadError> {
        let program = verified.program();
        check_program_type(program)?;
        let missing = unsupported(program, host, |at| verified.facts(at).reached);
        if missing.is_empty() {
            let hosted = Hosted::new(program, host);
            Ok(Self { verified: verified.clone(), machine: None, checked: true, hosted })
        } else {
            Err(LoadError::Unsupported(missing))
        }
    }

    /// Compiles the program for this machine.
    ///
    /// # Errors
    /// As for [`Code::interpreted`]; or code generation failed, or executable memory cannot be had.
    pub fn compiled(verified: &Verified, options: &codegen::Options) -> Result<Self, LoadError> {
        Self::compiled_with(verified, options, &HostFunctions::default())
    }

    /// The same, with functions of the host.
    fn compiled_with(
        verified: &Verified,
        options: &codegen::Options,
        host: &HostFunctions,
    ) -> Result<Self, LoadError> {
        let code = Self::interpreted_with(verified, host)?;
        let program = || verified.program().name.clone();
        let machine = Machine::compile(verified, options, &code.hosted).map_err(|error| match error {
            MachineError::Compile(source) => LoadError::Compile { program: program(), source },
            MachineError::Os(source) => LoadError::CodeMemory { program: program(), source },
            MachineError::Import(import) => LoadError::Unsupported(vec![Unsupported {
                program: Some(program()),
                name: format!("{import:?}"),
                kind: UnsupportedKind::Instruction,
                insn: None,
                line: None,
            }]),
        })?;
        Ok(Self { machine: Some(Arc::new(machine)), checked: options.checked_arena, ..code })
    }

    /// The program.
    #[must_use]
    pub fn verified(&self) -> &Verified {
        &self.verified
    }
}

impl UserEngine {
    /// Loads every program of an object (those of `?` sections aside): links, verifies, and compiles them, and creates the
    /// maps they share.
    ///
    /// # Errors
    /// What each stage refuses, with the program's or map's name.
    pub fn load(&self, object: &Arc<Object>) -> Result<App, LoadError> {
        let link_options = self.link_options();
        let specs = object.maps_with(&link_options)?;
        let maps = MapSet::create_with(&specs, object.btf.as_deref(), self.options.checked_arena)?;
        let mut programs = Vec::new();
        for info in object.programs.iter().filter(|info| self.wants(&info.name, info.kind.optional)) {
            let program = object.link_with(&info.name, &link_options)?;
            let instance = self.load_program(&program, &maps)?;
            programs.push(app::Program::new(Arc::new(program), Arc::new(instance)));
        }
        let arena = maps.arena().cloned();
        let named = |name: &str| programs.iter().find(|program| program.name() == name);
        maps.fill_slots(&[MapType::ProgArray], named, |map, key, program| map.set_program(key, program))?;
        Ok(App::new(Arc::clone(object), programs, maps.maps(), arena))
    }

    /// Creates the maps of a linked program as this engine does.
    ///
    /// # Errors
    /// As for [`MapSet::create`].
    pub fn maps(&self, program: &Program) -> Result<MapSet, LoadError> {
        MapSet::create_with(&program.maps, program.btf.as_deref(), self.options.checked_arena)
    }

    /// Verifies a linked program, prepares it for execution, and joins it with its maps.
    ///
    /// # Errors
    /// The verifier refuses it, or as for [`UserEngine::instantiate`].
    pub fn load_program(&self, program: &Program, maps: &MapSet) -> Result<Instance, LoadError> {
        check_program_type(program)?;
        let host = &self.options.host;
        check_functions(program, host, &self.options.env)?;
        let program = &with_externs(program, host);
        let env = host.verifier_env(&self.options.env);
        let verified = verifier::verify(program, &env).map_err(|source| {
            // A list of all that is missing tells more than the verifier's first stumble over it.
            match unsupported(program, host, |_| true) {
                missing if missing.is_empty() => {
                    LoadError::Rejected { program: program.name.clone(), source: Box::new(source) }
                }
                missing => LoadError::Unsupported(missing),
            }
        })?;
        self.instantiate(&verified, maps)
    }

    /// Compiles a verified program, unless this engine interprets, and joins it with its maps.
    ///
    /// # Errors
    /// As for [`Code::compiled`] and [`UserEngine::instantiate_code`].
    pub fn instantiate(&self, verified: &Verified, maps: &MapSet) -> Result<Instance, LoadError> {
        let code = if self.options.interpreter {
            Code::interpreted_with(verified, &self.options.host)?
        } else {
            let mut options = codegen::Options::default();
            options.checked_arena = maps.arena().is_some_and(|arena| !arena.faults_in_hardware());
            Code::compiled_with(verified, &options, &self.options.host)?
        };
        self.instantiate_code(&code, maps)
    }

    /// Joins code and maps.
    ///
    /// # Errors
    /// The maps were not created for this program, or the code relies on faults that the arena does not have.
    pub fn instantiate_code(&self, code: &Code, maps: &MapSet) -> Result<Instance, LoadError> {
        let program = code.verified.program();
        if !Arc::ptr_eq(&program.maps, maps.specs()) && program.maps != *maps.specs() {
            return Err(LoadError::OtherMaps { program: program.name.clone() });
        }
        // Only a program that was verified against other structures than these reads more.
        if code.verified.map_bytes() > structs::readable_bytes() {
            return Err(LoadError::OtherMaps { program: program.name.clone() });
        }
        if !code.checked && maps.arena().is_some_and(|arena| !arena.faults_in_hardware()) {
            return Err(LoadError::UncheckedCode { program: program.name.clone() });
        }
        let image = Image {
            verified: code.verified.clone(),
            maps: maps.clone(),
            options: Arc::clone(&self.options),
            name: Arc::from(program.name.as_str()),
            hosted: code.hosted.clone(),
            objects: ObjectTypes::of(&code.verified),
        };
        Ok(Instance::new(image, code.machine.clone()))
    }

    /// How this engine links: with the kernel configuration it was given, and the `LINUX_*` values of the kernel whose
    /// rules it follows; CO-RE relocations against the types that [`UserEngine::target_btf`] describes.
    #[must_use]
    pub fn link_options(&self) -> LinkOptions {
        let Options { kconfig, target_btf, host, .. } = &*self.options;
        let mut values = Kconfig::new();
        values.set("LINUX_KERNEL_VERSION", KconfigValue::Number(6 << 16 | 18 << 8));
        values.set("LINUX_HAS_BPF_COOKIE", KconfigValue::Number(1));
        values.set("LINUX_HAS_SYSCALL_WRAPPER", KconfigValue::Number(1));
        for (name, value) in kconfig {
            values.set(name, value.clone());
        }
        // The engine's own types come first, then those of its host's objects; the caller's stand where a kernel has those of its
        // modules.
        let of_host = host.types(self.options.env.kernel.as_ref());
        LinkOptions {
            target_btf: Some(Arc::clone(structs::btf())),
            module_btfs: of_host.into_iter().chain(target_btf.clone()).collect(),
            kconfig: values,
            ..LinkOptions::default()
        }
    }

    fn wants(&self, program: &str, optional: bool) -> bool {
        match &self.options.only {
            Some(names) => names.iter().any(|name| name == program),
            None => !optional,
        }
    }
}

/// Whether this engine runs programs of this type at all.
fn check_program_type(program: &Program) -> Result<(), LoadError> {
    // What replaces another program's function has no context of its own.
    if program.kind.prog_type.is_some_and(|kind| kind != ProgType::Ext) {
        return Ok(());
    }
    Err(LoadError::Unsupported(vec![Unsupported {
        program: Some(program.name.clone()),
        name: program.section.clone(),
        kind: UnsupportedKind::ProgramType,
        insn: None,
        line: None,
    }]))
}

/// The program with the addresses of kernel functions and weak variables as constants, as a loader resolves them: 0 for
/// what this runtime lacks, so that the verifier sees which branches are taken. Nothing can be done with the addresses
/// but compare them with 0.
fn with_externs<'p>(program: &'p Program, host: &HostFunctions) -> Cow<'p, Program> {
    let mut program = Cow::Borrowed(program);
    for (at, insn) in program.clone().code.iter() {
        let Insn::LoadImm64 { dst, value: Imm64::BtfVar { btf_id, .. } } = insn else { continue };
        let Some(external) = external(&program, btf_id) else { continue };
        let provided = external.kind == ExternKind::Function && provides(host, &external.name);
        if provided || external.weak {
            let value = Imm64::Const(u64::from(provided));
            program.to_mut().code.replace(at, Insn::LoadImm64 { dst, value });
        }
    }
    program
}

/// Whether the host or the runtime has a kfunc of this name.
fn provides(host: &HostFunctions, name: &str) -> bool {
    host.kfunc(name).is_some() || runtime::kfunc(name).is_some()
}

/// Compares the functions of the host that the program declares with what they are, and with the kernel's where they take its
/// place.
fn check_functions(program: &Program, host: &HostFunctions, env: &verifier::Env) -> Result<(), LoadError> {
    for external in program.externs.iter().filter(|e| e.kind == ExternKind::Function) {
        let Some(code) = host.kfunc(&external.name) else { continue };
        if code.role == Role::Own && runtime::kfunc(code.name()).is_some() {
            return Err(LoadError::FunctionExists { name: code.name() });
        }
        let kernel = env.kernel.as_deref().filter(|_| code.role == Role::Mock);
        let of_kernel = kernel.and_then(|kernel| Some((kernel, kernel.function(code.name())?)));
        let declared = program.btf.as_deref().zip(external.btf);
        for (btf, function) in declared.into_iter().chain(of_kernel) {
            code.signature
                .check(btf, function)
                .map_err(|source| LoadError::Signature { program: program.name.clone(), source })?;
        }
    }
    Ok(())
}

/// The extern with this index.
fn external(program: &Program, index: i32) -> Option<&Extern> {
    program.externs.get(usize::try_from(index).ok()?)
}

/// Everything in the instructions that `counts` which the runtime does not have, each once, at its first use.
fn unsupported(
    program: &Program,
    host: &HostFunctions,
    counts: impl Fn(InsnIdx) -> bool,
) -> Vec<Unsupported> {
    let mut found: Vec<Unsupported> = Vec::new();
    for (at, insn) in program.code.iter().filter(|(at, _)| counts(*at)) {
        let Some((kind, name)) = missing(program, host, at, insn) else { continue };
        if found.iter().all(|known| (known.kind, &known.name) != (kind, &name)) {
            found.push(Unsupported {
                program: Some(program.name.clone()),
                name,
                kind,
                insn: Some(at),
                line: program.line_at(at).cloned(),
            });
        }
    }
    found
}

/// What the runtime lacks to execute this instruction.
fn missing(
    program: &Program,
    host: &HostFunctions,
    at: InsnIdx,
    insn: Insn,
) -> Option<(UnsupportedKind, String)> {
    match insn {
        Insn::Call { target } if hosted::find(program, host, target).is_some() => None,
        Insn::Call { target: CallTarget::Helper(UNANSWERED_RELOCATION) } => {
            Some((UnsupportedKind::Relocation, String::new()))
        }
        Insn::Call { target: CallTarget::Helper(number) } if runtime::helper(number).is_none() => {
            let name = isa::helper_name(number).unwrap_or("unknown").to_owned();
            Some((UnsupportedKind::Helper(number), name))
        }
        Insn::Call { target: CallTarget::Kfunc { btf_id, .. } } => {
            let name = external(program, btf_id).map_or_else(String::new, |function| function.name.clone());
            runtime::kfunc(&name).is_none().then_some((UnsupportedKind::Kfunc, name))
        }
        Insn::LoadImm64 { value: Imm64::BtfVar { btf_id, .. }, .. } => {
            let name = external(program, btf_id).map_or_else(String::new, |variable| variable.name.clone());
            Some((UnsupportedKind::KernelVariable, name))
        }
        Insn::IndirectJump { .. } | Insn::Call { target: CallTarget::Register(_) } => {
            Some((UnsupportedKind::Instruction, insn.text(at, &()).to_string()))
        }
        _ => None,
    }
}
