//! From a linked program to one in the kernel: what the linker left open is filled in, then the verifier decides.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use bpf_object::{Extern, ExternKind, KindTag, LineInfo, Linked, MapType, ProgType};
use isa::{Endian, InsnIdx};
use sys::bpf::{self, BpfError, BtfFd, LogMode, ObjectKind, Prog, ProgSpec, VerifierLog, system};

use super::KernelError;
use super::btf::LoadedBtf;
use super::error::KernelRejection;
use super::maps::KernelMap;
use super::running::{KernelType, Running};

const BPF_F_SLEEPABLE: u32 = 1 << 4;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// A helper number that no kernel has: a call that must not be reached, with the number of the missing kfunc added. The
/// verifier's message then tells which one it was; the base is the one libbpf uses.
const MISSING_KFUNC: i32 = 2_002_000_000;

/// Options of one load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// When to ask for the verifier's log.
    pub log: LogMode,
    /// `BPF_F_*` beside those that the section name implies.
    pub flags: u32,
}

/// What every program of an object shares.
pub(super) struct Shared<'a> {
    pub(super) running: &'static Running,
    pub(super) maps: &'a [Arc<KernelMap>],
    pub(super) btf: Option<&'a LoadedBtf>,
}

impl Shared<'_> {
    /// Loads one program.
    pub(super) fn load(
        &self,
        program: &Linked,
        options: &LoadOptions,
    ) -> Result<(Prog, VerifierLog), KernelError> {
        let prog_type = program.kind.prog_type.ok_or_else(|| KernelError::UnknownSection {
            program: program.name.clone(),
            section: program.section.clone(),
        })?;
        let mut modules = Modules { fds: Vec::new(), indices: Vec::new() };
        let insns = self.resolve(program, &mut modules)?;
        let attach = self.attach_target(program, prog_type)?;
        let attach_module = match attach.and_then(|a| a.module) {
            Some(module) => {
                let at = modules.index(self.running, module, &program.name)?;
                at.checked_sub(1).and_then(|i| modules.fds.get(i))
            }
            None => None,
        };
        let (functions, lines) = self.debug_info(program);
        // Index 0 stands for the kernel's own BTF and is never read; it has to be some descriptor.
        let mut fd_array: Vec<BorrowedFd<'_>> = Vec::new();
        if let Some(first) = modules.fds.first() {
            fd_array.push(first.as_fd());
            fd_array.extend(modules.fds.iter().map(AsFd::as_fd));
        }
        let mut flags = options.flags;
        if program.kind.sleepable {
            flags |= BPF_F_SLEEPABLE;
        }
        if program.kind.xdp_frags {
            flags |= BPF_F_XDP_HAS_FRAGS;
        }
        let spec = ProgSpec {
            name: &program.name,
            prog_type: prog_type as u32,
            attach_type: match prog_type {
                ProgType::StructOps => self.struct_ops_member(program).map_or(0, |(_, member)| member),
                _ => program.kind.attach_type.unwrap_or(0),
            },
            insns: &insns,
            license: &program.license,
            flags,
            btf: self.btf.filter(|_| !functions.is_empty()).map(|btf| btf.fd.as_fd()),
            func_info: &functions,
            line_info: &lines,
            fd_array: &fd_array,
            attach_btf_id: attach.map_or(0, |a| a.id.0),
            attach_target: attach_module.map(AsFd::as_fd),
            log: options.log,
        };
        Prog::load(&spec).map_err(|error| refused(program, error))
    }

    /// The slots with descriptors of maps and ids of kernel functions and variables.
    fn resolve(&self, program: &Linked, modules: &mut Modules) -> Result<Vec<u8>, KernelError> {
        const LDDW: u8 = 0x18;
        const CALL: u8 = 0x85;
        const MAP_FD: u8 = 1;
        const MAP_VALUE: u8 = 2;
        const KFUNC_CALL: u8 = 2;
        const BTF_ID: u8 = 3;
        const MAP_IDX: u8 = 5;
        const MAP_IDX_VALUE: u8 = 6;
        // An index without a map becomes -1: the kernel answers EBADF.
        let map_fd = |index: i32| {
            let map = usize::try_from(index).ok().and_then(|i| self.maps.get(i));
            map.map_or(-1, |m| m.map().as_fd().as_raw_fd())
        };
        let mut slots = program.slots.clone();
        let mut rest = slots.as_mut_slice();
        while let Some((first, tail)) = rest.split_first_mut() {
            rest = tail;
            match (first.opcode, first.src_reg) {
                (LDDW, src) => {
                    let Some((second, tail)) = rest.split_first_mut() else { break };
                    rest = tail;
                    match src {
                        MAP_IDX => (first.src_reg, first.imm) = (MAP_FD, map_fd(first.imm)),
                        MAP_IDX_VALUE => (first.src_reg, first.imm) = (MAP_VALUE, map_fd(first.imm)),
                        BTF_ID => {
                            let (src, low, high) = self.address_of(program, first.imm, modules)?;
                            (first.src_reg, first.imm, second.imm) = (src, low, high);
                        }
                        _ => {}
                    }
                }
                (CALL, KFUNC_CALL) => {
                    (first.src_reg, first.imm, first.offset) = self.kfunc(program, first.imm, modules)?;
                }
                _ => {}
            }
        }
        Ok(slots.iter().flat_map(|slot| slot.to_bytes(Endian::Little)).collect())
    }

    /// `src_reg`, `imm` and `offset` of a call.
    fn kfunc(
        &self,
        program: &Linked,
        index: i32,
        modules: &mut Modules,
    ) -> Result<(u8, i32, i16), KernelError> {
        const HELPER: u8 = 0;
        const KFUNC: u8 = 2;
        let wanted = extern_at(program, index)?;
        let Some(found) = self.running.find(&wanted.name, KindTag::Func) else {
            if wanted.weak {
                return Ok((HELPER, MISSING_KFUNC.saturating_add(index), 0));
            }
            return Err(missing(program, wanted));
        };
        let module = match found.module {
            Some(module) => modules.index(self.running, module, &program.name)?,
            None => 0,
        };
        Ok((KFUNC, found.id.0.cast_signed(), i16::try_from(module).unwrap_or(i16::MAX)))
    }

    /// `src_reg` and both immediates of a reference to a kernel variable or function. A weak one that the kernel does not
    /// have is the constant 0.
    fn address_of(
        &self,
        program: &Linked,
        index: i32,
        modules: &mut Modules,
    ) -> Result<(u8, i32, i32), KernelError> {
        const CONST: u8 = 0;
        const BTF_ID: u8 = 3;
        let wanted = extern_at(program, index)?;
        let kind = match wanted.kind {
            ExternKind::Address => {
                return match system::symbol_address(&wanted.name) {
                    Some(address) => {
                        let [a, b, c, d, e, f, g, h] = address.to_le_bytes();
                        let (low, high) =
                            (i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]));
                        Ok((CONST, low, high))
                    }
                    None if wanted.weak => Ok((CONST, 0, 0)),
                    None => Err(missing(program, wanted)),
                };
            }
            ExternKind::Function => KindTag::Func,
            ExternKind::TypedVariable => KindTag::Var,
        };
        let Some(found) = self.running.find(&wanted.name, kind) else {
            return if wanted.weak { Ok((CONST, 0, 0)) } else { Err(missing(program, wanted)) };
        };
        let btf_fd = match found.module {
            Some(module) => {
                let at = modules.index(self.running, module, &program.name)?;
                let fd = at.checked_sub(1).and_then(|i| modules.fds.get(i));
                fd.map_or(0, |fd| fd.as_fd().as_raw_fd())
            }
            None => 0,
        };
        Ok((BTF_ID, found.id.0.cast_signed(), btf_fd))
    }

    /// The kernel function or type that programs of this kind name when they are loaded.
    fn attach_target(&self, program: &Linked, kind: ProgType) -> Result<Option<KernelType>, KernelError> {
        // enum bpf_attach_type
        const TRACE_RAW_TP: u32 = 23;
        const TRACE_ITER: u32 = 28;
        let (prefix, tag) = match (kind, program.kind.attach_type) {
            (ProgType::Tracing, Some(TRACE_RAW_TP)) => ("btf_trace_", KindTag::Typedef),
            (ProgType::Tracing, Some(TRACE_ITER)) => ("bpf_iter_", KindTag::Func),
            (ProgType::Tracing, _) => ("", KindTag::Func),
            (ProgType::Lsm, _) => ("bpf_lsm_", KindTag::Func),
            (ProgType::StructOps, _) => return Ok(self.struct_ops_member(program).map(|(found, _)| found)),
            _ => return Ok(None),
        };
        // Without a target the kernel has the last word: EINVAL.
        let Some(target) = &program.kind.target else { return Ok(None) };
        let name = format!("{prefix}{target}");
        match self.running.find(&name, tag) {
            Some(found) => Ok(Some(found)),
            None => Err(KernelError::NoAttachTarget { program: program.name.clone(), target: name }),
        }
    }

    /// The kernel's type of the `struct_ops` table that a program is a member of, and which member: the program's "attach
    /// type".
    fn struct_ops_member(&self, program: &Linked) -> Option<(KernelType, u32)> {
        let btf = program.btf.as_ref()?;
        let tables = program.maps.iter().filter(|spec| spec.map_type == MapType::StructOps);
        let (table, slot) = tables
            .filter_map(|table| Some((table, table.slots.iter().find(|slot| slot.target == program.name)?)))
            .next()?;
        let local = btf.composite(table.value_btf?)?;
        let member = local.members.iter().find(|m| m.bit_offset == slot.index.saturating_mul(8))?;
        let name = btf.str(member.name);
        let id = self.running.btf.find(btf.name(table.value_btf?), KindTag::Struct)?;
        let members = &self.running.btf.composite(id)?.members;
        let index = members.iter().position(|m| self.running.btf.str(m.name) == name)?;
        Some((KernelType { id, module: None }, u32::try_from(index).ok()?))
    }

    /// Function and line information, or neither: the kernel wants a function for every subprogram, and a line at the
    /// start of each.
    fn debug_info(&self, program: &Linked) -> (Vec<bpf::FuncInfo>, Vec<bpf::LineInfo>) {
        let Some(btf) = self.btf else { return (Vec::new(), Vec::new()) };
        let function =
            |s: &bpf_object::Subprogram| Some(bpf::FuncInfo { insn: s.start.0, type_id: s.btf_func?.0 });
        let Some(functions) = program.subprograms.iter().map(function).collect::<Option<Vec<_>>>() else {
            return (Vec::new(), Vec::new());
        };
        let mut lines: Vec<bpf::LineInfo> = Vec::new();
        for line in &program.lines {
            let is_new = lines.last().is_none_or(|last| last.insn < line.insn.0);
            let slot = program.slots.get(line.insn.index());
            if is_new && slot.is_some_and(|slot| slot.opcode != 0) {
                lines.extend(line_record(btf, line));
            }
        }
        let starts_covered = functions.iter().all(|f| lines.iter().any(|l| l.insn == f.insn));
        if !starts_covered {
            lines.clear();
        }
        (functions, lines)
    }
}

/// `None` for a text that the BTF does not have: the linked program was edited.
fn line_record(btf: &LoadedBtf, line: &LineInfo) -> Option<bpf::LineInfo> {
    Some(bpf::LineInfo {
        insn: line.insn.0,
        file_name: btf.string(&line.file)?,
        line: btf.string(&line.source)?,
        line_col: line.line << 10 | (line.column & 0x3ff),
    })
}

fn extern_at(program: &Linked, index: i32) -> Result<&Extern, KernelError> {
    usize::try_from(index).ok().and_then(|i| program.externs.get(i)).ok_or_else(|| {
        KernelError::MissingExtern {
            program: program.name.clone(),
            name: format!("extern {index}"),
            kind: ExternKind::Function,
        }
    })
}

fn missing(program: &Linked, wanted: &Extern) -> KernelError {
    let (name, kind) = (wanted.name.clone(), wanted.kind);
    KernelError::MissingExtern { program: program.name.clone(), name, kind }
}

/// Descriptors of module BTFs that a program refers to.
struct Modules {
    fds: Vec<BtfFd>,
    indices: Vec<usize>,
}

impl Modules {
    /// The module's index in the descriptor array, from 1; opens its BTF the first time.
    fn index(&mut self, running: &Running, module: usize, program: &str) -> Result<usize, KernelError> {
        if let Some(known) = self.indices.iter().position(|&m| m == module) {
            return Ok(known + 1);
        }
        let failed = |source| KernelError::Program { program: program.to_owned(), source };
        let name = running.modules().get(module).map_or("", |m| m.name.as_str());
        for id in bpf::object_ids(ObjectKind::Btf).map_err(failed)? {
            // Objects come and go: one that is gone is not the one looked for.
            let Ok(btf) = BtfFd::by_id(id) else { continue };
            if btf.info().is_ok_and(|info| info.is_kernel && info.name == name) {
                self.fds.push(btf);
                self.indices.push(module);
                return Ok(self.fds.len());
            }
        }
        Err(KernelError::MissingExtern {
            program: program.to_owned(),
            name: name.to_owned(),
            kind: ExternKind::Address,
        })
    }
}

fn refused(program: &Linked, error: BpfError) -> KernelError {
    match error {
        BpfError::Rejected { errno, log, .. } => {
            let insn = log.last_insn().map(InsnIdx);
            KernelError::Rejected(Box::new(KernelRejection {
                program: program.name.clone(),
                errno,
                insn,
                instruction: insn.and_then(|at| instruction_text(&log, at.0)),
                line: insn.and_then(|at| line_at(program, at)).cloned(),
                log,
            }))
        }
        BpfError::MissingCapability { capability, .. } => KernelError::MissingCapability { capability },
        source => KernelError::Program { program: program.name.clone(), source },
    }
}

/// The last line at or before this instruction, within its function.
fn line_at(program: &Linked, at: InsnIdx) -> Option<&LineInfo> {
    let function = program.subprograms.iter().rev().find(|s| s.start <= at)?;
    program.lines.iter().rev().find(|l| l.insn <= at && l.insn >= function.start)
}

/// `r0 = r9` of the log's last line `1: (bf) r0 = r9 ; ...`.
fn instruction_text(log: &VerifierLog, insn: u32) -> Option<String> {
    let prefix = format!("{insn}: (");
    let line = log.text().lines().rev().find(|line| line.starts_with(&prefix))?;
    let (_, text) = line.split_once(") ")?;
    let text = text.split(" ;").next().unwrap_or(text);
    Some(text.trim().to_owned())
}
