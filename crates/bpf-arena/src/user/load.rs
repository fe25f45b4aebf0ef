//! From an object to programs that run in this process.

use std::borrow::Cow;
use std::sync::Arc;

use bpf_object::{
    Extern, ExternKind, Kconfig, KconfigValue, LinkOptions, Object, ProgType, Program, UNANSWERED_RELOCATION,
};
use isa::{CallTarget, Imm64, Insn, InsnIdx};
use verifier::Verified;

use super::image::{Image, Instance};
use super::options::{Options, UserEngine};
use crate::app::{self, App};
use crate::enter::{Machine, MachineError};
use crate::error::{LoadError, Unsupported, UnsupportedKind};
use crate::runtime;
use crate::runtime::maps::{MapSet, structs};

/// A verified program with what executes it: the interpreter, or machine code made of it.
///
/// One code serves any number of instances, each with its own maps. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Code {
    verified: Verified,
    machine: Option<Arc<Machine>>,
    checked: bool,
}

impl Code {
    /// To be executed by the reference interpreter.
    ///
    /// # Errors
    /// The program uses something that the runtime does not have: [`LoadError::Unsupported`].
    pub fn interpreted(verified: &Verified) -> Result<Self, LoadError> {
        check_program_type(verified.program())?;
        let missing = unsupported(verified.program(), |at| verified.facts(at).reached);
        if missing.is_empty() {
            Ok(Self { verified: verified.clone(), machine: None, checked: true })
        } else {
            Err(LoadError::Unsupported(missing))
        }
    }

    /// Compiles the program for this machine.
    ///
    /// # Errors
    /// As for [`Code::interpreted`]; or code generation failed, or executable memory cannot be had.
    pub fn compiled(verified: &Verified, options: &codegen::Options) -> Result<Self, LoadError> {
        let code = Self::interpreted(verified)?;
        let program = || verified.program().name.clone();
        let machine = Machine::compile(verified, options).map_err(|error| match error {
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
        let program = &with_externs(program);
        let verified = verifier::verify(program, &self.options.env).map_err(|source| {
            // A list of all that is missing tells more than the verifier's first stumble over it.
            match unsupported(program, |_| true) {
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
            Code::interpreted(verified)?
        } else {
            let mut options = codegen::Options::default();
            options.checked_arena = maps.arena().is_some_and(|arena| !arena.faults_in_hardware());
            Code::compiled(verified, &options)?
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
        };
        Ok(Instance::new(image, code.machine.clone()))
    }

    /// How this engine links: with the kernel configuration it was given, and the `LINUX_*` values of the kernel whose
    /// rules it follows; CO-RE relocations against the types that [`UserEngine::target_btf`] describes.
    #[must_use]
    pub fn link_options(&self) -> LinkOptions {
        let Options { kconfig, target_btf, .. } = &*self.options;
        let mut values = Kconfig::new();
        values.set("LINUX_KERNEL_VERSION", KconfigValue::Number(6 << 16 | 18 << 8));
        values.set("LINUX_HAS_BPF_COOKIE", KconfigValue::Number(1));
        values.set("LINUX_HAS_SYSCALL_WRAPPER", KconfigValue::Number(1));
        for (name, value) in kconfig {
            values.set(name, value.clone());
        }
        // The engine's own types come first; the caller's stand where a kernel has those of its modules.
        LinkOptions {
            target_btf: Some(Arc::clone(structs::btf())),
            module_btfs: target_btf.iter().cloned().collect(),
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
    // Raw tracepoints are run as the kernel test-runs them: with the arguments that the caller gives.
    if matches!(program.kind.prog_type, Some(ProgType::Syscall | ProgType::RawTracepoint)) {
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
fn with_externs(program: &Program) -> Cow<'_, Program> {
    let mut program = Cow::Borrowed(program);
    for (at, insn) in program.clone().code.iter() {
        let Insn::LoadImm64 { dst, value: Imm64::BtfVar { btf_id, .. } } = insn else { continue };
        let Some(external) = external(&program, btf_id) else { continue };
        let provided = external.kind == ExternKind::Function && runtime::kfunc(&external.name).is_some();
        if provided || external.weak {
            let value = Imm64::Const(u64::from(provided));
            program.to_mut().code.replace(at, Insn::LoadImm64 { dst, value });
        }
    }
    program
}

/// The extern with this index.
fn external(program: &Program, index: i32) -> Option<&Extern> {
    program.externs.get(usize::try_from(index).ok()?)
}

/// Everything in the instructions that `counts` which the runtime does not have, each once, at its first use.
fn unsupported(program: &Program, counts: impl Fn(InsnIdx) -> bool) -> Vec<Unsupported> {
    let mut found: Vec<Unsupported> = Vec::new();
    for (at, insn) in program.code.iter().filter(|(at, _)| counts(*at)) {
        let Some((kind, name)) = missing(program, at, insn) else { continue };
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
fn missing(program: &Program, at: InsnIdx, insn: Insn) -> Option<(UnsupportedKind, String)> {
    match insn {
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
