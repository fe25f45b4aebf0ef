//! From an object to programs that run in this process.

use std::borrow::Cow;
use std::sync::Arc;

use bpf_object::{ExternKind, Kconfig, KconfigValue, LinkOptions, MapType, Object, Program};
use isa::{Imm64, Insn};
use verifier::Verified;

use super::image::{Image, Instance};
use super::missing;
use super::options::{Options, UserEngine};
use crate::app::{self, App};
use crate::enter::{Machine, MachineError};
use crate::error::{LoadError, Unsupported, UnsupportedKind};
use crate::host::variables::Variables;
use crate::host::{HostFunctions, Role};
use crate::runtime;
use crate::runtime::hosted::Hosted;
use crate::runtime::maps::{ArenaSource, MapSet, structs};
use crate::runtime::objects::ObjectTypes;
use crate::symbols::Symbols;

/// A verified program with what executes it: the interpreter, or machine code made of it.
///
/// One code serves any number of instances, each with its own maps. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Code {
    verified: Verified,
    machine: Option<Arc<Machine>>,
    checked: bool,
    hosted: Hosted,
    variables: Arc<Variables>,
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
        let missing = missing::of_program(program, host, |at| verified.facts(at).reached);
        if missing.is_empty() {
            let hosted = Hosted::new(program, host);
            let variables = Arc::new(Variables::new(verified, host)?);
            Ok(Self { verified: verified.clone(), machine: None, checked: true, hosted, variables })
        } else {
            Err(LoadError::Unsupported(missing))
        }
    }

    /// Compiles the program for this machine.
    ///
    /// # Errors
    /// As for [`Code::interpreted`]; or code generation failed, or executable memory cannot be had.
    pub fn compiled(verified: &Verified, options: &codegen::Options) -> Result<Self, LoadError> {
        Self::compiled_with(verified, options, &HostFunctions::default(), &Symbols::default())
    }

    /// The same, with functions of the host.
    fn compiled_with(
        verified: &Verified,
        options: &codegen::Options,
        host: &HostFunctions,
        symbols: &Symbols,
    ) -> Result<Self, LoadError> {
        let code = Self::interpreted_with(verified, host)?;
        let program = || verified.program().name.clone();
        let unknown = |source| LoadError::Symbols { program: program(), source: Box::new(source) };
        let symbols = symbols.or_environment().map_err(unknown)?;
        let mut options = *options;
        options.calls_all |= code.hosted.replaces();
        let machine = Machine::compile(verified, &options, &code.hosted, &symbols);
        let machine = machine.map_err(|error| match error {
            MachineError::Compile(source) => LoadError::Compile { program: program(), source },
            MachineError::Os(source) => LoadError::CodeMemory { program: program(), source },
            MachineError::Symbols(source) => unknown(source),
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
        let wanted = object.programs.iter().filter(|info| self.wants(&info.name, info.kind.optional));
        let programs = wanted.map(|info| object.link_with(&info.name, &link_options));
        let programs = programs.collect::<Result<Vec<_>, _>>()?;
        // Everything that is missing, of all programs, before anything is made.
        let mut missing = missing::of_maps(&specs, &programs);
        let mut ready = Vec::new();
        for program in programs {
            match self.prepare(&program) {
                Ok(verified) => ready.push((program, verified)),
                Err(LoadError::Unsupported(list)) => missing.extend(list),
                Err(other) => return Err(other),
            }
        }
        if !missing.is_empty() {
            return Err(LoadError::Unsupported(missing));
        }
        let maps = MapSet::create_from(&specs, object.btf.as_deref(), self.arena_source())?;
        let mut programs = Vec::new();
        for (program, verified) in ready {
            let instance = self.instantiate(&verified, &maps)?;
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
        MapSet::create_from(&program.maps, program.btf.as_deref(), self.arena_source())
    }

    fn arena_source(&self) -> ArenaSource<'_> {
        match &self.options.arena {
            Some(arena) => ArenaSource::Given(arena),
            None => ArenaSource::New { checked: self.options.checked_arena },
        }
    }

    /// Verifies a linked program, prepares it for execution, and joins it with its maps.
    ///
    /// # Errors
    /// The verifier refuses it, or as for [`UserEngine::instantiate`].
    pub fn load_program(&self, program: &Program, maps: &MapSet) -> Result<Instance, LoadError> {
        self.instantiate(&self.prepare(program)?, maps)
    }

    /// Verifies a linked program that this engine can execute.
    fn prepare(&self, program: &Program) -> Result<Verified, LoadError> {
        let host = &self.options.host;
        check_functions(program, host, &self.options.env)?;
        let program = &with_externs(program, host);
        let env = host.verifier_env(&self.options.env);
        let verified = verifier::verify(program, &env);
        let reached = |at| verified.as_ref().map_or(true, |verified| verified.facts(at).reached);
        // A list of all that is missing tells more than the verifier's first stumble over it.
        let missing = missing::of_program(program, host, reached);
        if !missing.is_empty() {
            return Err(LoadError::Unsupported(missing));
        }
        verified
            .map_err(|source| LoadError::Rejected { program: program.name.clone(), source: Box::new(source) })
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
            options.passes = self.options.passes;
            options.checked_arena = maps.arena().is_some_and(|arena| !arena.faults_in_hardware());
            Code::compiled_with(verified, &options, &self.options.host, &self.options.symbols)?
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
        // Programs may give their addresses to helpers.
        code.variables.images().iter().for_each(|image| self.options.world.hand_out(image, false));
        let image = Image {
            verified: code.verified.clone(),
            maps: maps.clone(),
            options: Arc::clone(&self.options),
            name: Arc::from(program.name.as_str()),
            hosted: code.hosted.clone(),
            variables: Arc::clone(&code.variables),
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

/// The program with the addresses of kernel functions and weak variables as constants, as a loader resolves them: 0 for
/// what this runtime lacks, so that the verifier sees which branches are taken. Nothing can be done with the addresses
/// but compare them with 0.
fn with_externs<'p>(program: &'p Program, host: &HostFunctions) -> Cow<'p, Program> {
    let mut program = Cow::Borrowed(program);
    for (at, insn) in program.clone().code.iter() {
        let Insn::LoadImm64 { dst, value: Imm64::BtfVar { btf_id, .. } } = insn else { continue };
        let Some(external) = missing::external(&program, btf_id) else { continue };
        let provided = external.kind == ExternKind::Function && provides(host, &external.name);
        if external.kind != ExternKind::Function && host.variable(&external.name).is_some() {
            continue;
        }
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
