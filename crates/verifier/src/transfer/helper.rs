//! Calls of helpers: every argument against the table, then what the helper leaves behind.

use bpf_object::MapType;
use isa::Reg;

use super::Step;
use super::objects::LockKind;
use crate::explore::Stop;
use crate::limits::MAX_SIZE_ARG;
use crate::reason::{Access, Reason, Unsupported};
use crate::reg::{Flags, RegState, RegType};
use crate::rules::helpers::{self, Arg, Effect, Helper, LOOP_CALLBACK, Ret};
use crate::rules::maps;
use crate::scalar::Scalar;

/// What the arguments of one call have in common.
#[derive(Clone, Copy, Debug, Default)]
struct Arguments {
    map: Option<u32>,
    subprog: Option<u32>,
}

impl Step<'_> {
    pub(super) fn call_helper(&mut self, number: u32) -> Result<(), Stop> {
        let Some(helper) = helpers::find(number) else {
            return Err(Unsupported::Helper { number, name: isa::helper_name(number) }.into());
        };
        if helper.gpl && !self.plan.is_gpl() {
            return Err(Reason::License { what: helper.name }.into());
        }
        if self.state.held.is_locked() && helper.effect != Effect::Unlock {
            let (what, region) = ("function calls", "while holding a lock");
            return Err(Reason::NotAllowedHere { what, region }.into());
        }
        let mut arguments = Arguments::default();
        for (i, (reg, arg)) in Reg::ARGS.into_iter().zip(helper.args).enumerate() {
            self.check_argument(helper, i, reg, *arg, &mut arguments)?;
        }
        match helper.effect {
            Effect::None => {}
            Effect::Lock => self.spin_lock(Reg::R1, LockKind::Spin)?,
            Effect::Unlock => self.spin_unlock(Reg::R1, LockKind::Spin)?,
            Effect::Loop => self.start_loop(arguments)?,
        }
        self.clobber_arguments();
        let result = match helper.ret {
            Ret::Void => return Ok(()),
            Ret::Integer => self.unknown(&[]),
            Ret::Range(min, max) => self.number(Scalar::signed(min, max), &[]),
            Ret::MapValueOrNull => {
                let map = arguments.map.ok_or(Reason::Internal { what: "lookup without a map" })?;
                let mut value = self.pointer(RegType::PtrToMapValue { map });
                value = value.with(Flags::MAYBE_NULL);
                value.id = self.fresh_id();
                value
            }
        };
        Ok(self.write(Reg::R0, result)?)
    }

    fn check_argument(
        &mut self,
        helper: &'static Helper,
        index: usize,
        reg: Reg,
        arg: Arg,
        arguments: &mut Arguments,
    ) -> Result<(), Reason> {
        let value = self.read(reg)?;
        let wrong = |expected| Err(Reason::ArgumentType { reg, found: value.type_name(), expected });
        match arg {
            Arg::Anything => Ok(()),
            Arg::ConstMap => match value.kind {
                RegType::ConstPtrToMap { map } => {
                    arguments.map = Some(map);
                    self.check_map_argument(helper, map)
                }
                _ => wrong("map_ptr"),
            },
            Arg::MapKey | Arg::MapValue => {
                let map = arguments.map.and_then(|m| self.plan.map(m));
                let map = map.ok_or(Reason::Internal { what: "key or value without a map" })?;
                let size = if arg == Arg::MapKey { map.key_size } else { map.value_size };
                if !is_memory(&value) || value.kind == RegType::PtrToCtx {
                    return wrong("fp, pkt, pkt_meta, map_key, map_value, mem");
                }
                self.check_memory(reg, &value, u64::from(size), Access::Read)
            }
            Arg::ConstString => self.check_const_string(reg, &value),
            Arg::Mem | Arg::MemOrNull | Arg::UninitMem | Arg::UninitMemOrNull => {
                let nullable = matches!(arg, Arg::MemOrNull | Arg::UninitMemOrNull);
                if nullable && value.is_null() {
                    self.depend_on(&value);
                    return Ok(());
                }
                // The size that follows decides.
                let null_ok = nullable || !value.maybe_null();
                // The table's functions do not take the context as memory; kernel functions do.
                let memory = is_memory(&value.without(Flags::MAYBE_NULL));
                if memory && null_ok && value.kind != RegType::PtrToCtx {
                    Ok(())
                } else {
                    wrong("fp, pkt, pkt_meta, map_key, map_value, mem")
                }
            }
            Arg::Size | Arg::SizeOrZero => {
                let pointer = index.checked_sub(1).and_then(|i| Reg::ARGS.get(i)).copied().unwrap_or(Reg::R1);
                let of = index.checked_sub(1).and_then(|i| helper.args.get(i));
                let written = matches!(of, Some(Arg::UninitMem | Arg::UninitMemOrNull));
                let access = if written { Access::Write } else { Access::Read };
                self.check_size(pointer, reg, arg == Arg::SizeOrZero, access)
            }
            Arg::Func => match value.kind {
                RegType::PtrToFunc { subprog } if value.offset == 0 && value.scalar.is_zero() => {
                    arguments.subprog = Some(subprog);
                    Ok(())
                }
                _ => Err(Reason::NotFunction { reg, found: value.type_name() }),
            },
            Arg::StackOrNull => {
                if value.is_null() {
                    self.depend_on(&value);
                    return Ok(());
                }
                if matches!(value.kind, RegType::PtrToStack { .. }) { Ok(()) } else { wrong("fp") }
            }
            Arg::SpinLock => match value.kind {
                RegType::PtrToMapValue { .. } if !value.maybe_null() => Ok(()),
                _ => wrong("map_value"),
            },
        }
    }

    fn check_map_argument(&self, helper: &'static Helper, map: u32) -> Result<(), Reason> {
        let Some(spec) = self.plan.map(map) else { return Err(Reason::NoSuchMap { map }) };
        if maps::find(spec.map_type).is_some_and(|m| m.elements) {
            return Ok(());
        }
        let (function, map_type) = (helper.name, spec.map_type.name());
        Err(Reason::MapForFunction { function, map_type })
    }

    /// Checks a size argument and the memory it belongs to.
    pub(super) fn check_size(
        &mut self,
        pointer: Reg,
        reg: Reg,
        zero_ok: bool,
        access: Access,
    ) -> Result<(), Reason> {
        let size = self.read(reg)?;
        if !size.is_scalar() {
            return Err(Reason::ArgumentType { reg, found: size.type_name(), expected: "scalar" });
        }
        let wide = &size.scalar.wide;
        let (min, max) = (wide.umin, wide.umax);
        if wide.smin < 0 {
            return Err(Reason::NegativeSize { reg });
        }
        if min == 0 && !zero_ok {
            return Err(Reason::ZeroSize { reg, min, max });
        }
        if max >= MAX_SIZE_ARG {
            return Err(Reason::UnboundedSize { reg });
        }
        self.depend_on(&size);
        let memory = self.read(pointer)?;
        if max == 0 && memory.is_null() {
            return Ok(());
        }
        self.check_memory(pointer, &memory.without(Flags::MAYBE_NULL), max, access)
    }

    /// Checks that `size` bytes may be read, or are written, through a pointer given to a function.
    pub(super) fn check_memory(
        &mut self,
        reg: Reg,
        pointer: &RegState,
        size: u64,
        access: Access,
    ) -> Result<(), Reason> {
        if !is_memory(pointer) {
            return Err(Reason::ArgumentType { reg, found: pointer.type_name(), expected: "fp" });
        }
        match pointer.kind {
            RegType::PtrToStack { frame } => {
                let span = self.stack_bounds(frame, reg, pointer, 0, size, access)?;
                let shown = u32::try_from(size).unwrap_or(u32::MAX);
                self.check_readable(frame, span, shown)?;
                if access == Access::Write {
                    self.stack_clobber(frame, span, false)?;
                } else {
                    self.reads_stack(frame, span.start, span.end);
                }
                Ok(())
            }
            RegType::PtrToCtx => self.check_ctx_memory(reg, pointer, size, access),
            _ => {
                self.check_region(reg, pointer, 0, size, access)?;
                self.check_field_access(reg, pointer, 0, size, false)
            }
        }
    }

    /// `bpf_loop`: one path calls back now, the other is done.
    fn start_loop(&mut self, arguments: Arguments) -> Result<(), Reason> {
        let count = self.read(Reg::R1)?;
        if !count.is_scalar() {
            return Err(Reason::NotScalar { reg: Reg::R1 });
        }
        self.depend_on(&count);
        let subprog = arguments.subprog.ok_or(Reason::Internal { what: "no callback" })?;
        let depth = self.state.frame().map_or(0, |f| f.callback_depth);
        if depth < count.scalar.wide.umax {
            self.call_back(subprog, &LOOP_CALLBACK)
        } else {
            if let Some(frame) = self.state.frame_mut() {
                frame.callback_depth = 0;
            }
            Ok(())
        }
    }

    /// Whether the map is an arena.
    pub(super) fn is_arena_map(&self, map: u32) -> bool {
        self.plan.map(map).is_some_and(|m| m.map_type == MapType::Arena)
    }
}

/// Whether helpers take this as memory. An arena pointer is none: helpers would read it as a host address.
fn is_memory(pointer: &RegState) -> bool {
    !pointer.maybe_null()
        && matches!(
            pointer.kind,
            RegType::PtrToStack { .. }
                | RegType::PtrToMapValue { .. }
                | RegType::PtrToMem { .. }
                | RegType::PtrToCtx
        )
}
