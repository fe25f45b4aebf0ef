//! The stack of call chains: how much of it, how many frames, and what may not happen that deep.

use bpf_object::ProgType;

use super::traits::{Edge, Function};
use crate::limits::{MAX_FRAMES, MAX_STACK};
use crate::plan::Plan;
use crate::report::reason::{FunctionFault, Reason};
use crate::verified::FrameFacts;

/// Bytes of a frame from which on it gets a stack of its own, where there are such (`BPF_PRIV_STACK_MIN_SIZE`).
const PRIVATE_STACK_MIN: u32 = 64;
/// Bytes of callers' frames from which on no tail call is allowed.
const TAIL_CALL_STACK: u32 = 256;

/// Checks every call chain from the entry and from each function that is called later; gives the bytes of the deepest.
pub(crate) fn check_stack(plan: &Plan<'_>, frames: &[FrameFacts]) -> Result<u32, Reason> {
    let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    let mut depths = Depths {
        plan,
        frames,
        shared: vec![!has_private_stacks(plan); frames.len()],
        done: vec![Vec::new(); frames.len()],
        deepest: 0,
    };
    for index in (0..count).rev() {
        let later = depths.is_later(index);
        if index == 0 || later {
            // What is called later runs on the ordinary stack, and so does everything it has in common with the entry.
            let private = index == 0 && !depths.shared.first().copied().unwrap_or(true);
            let chain = Chain { bytes: 0, frames: 0, called_back: false, handles_exception: false };
            depths.visit(index, chain, private, index == 0)?;
        }
    }
    Ok(depths.deepest)
}

/// Whether the kernel gives large frames of such programs stacks of their own.
fn has_private_stacks(plan: &Plan<'_>) -> bool {
    let tail_calls = plan.functions.iter().any(|f| f.tail_call);
    let traced = matches!(
        plan.rules.prog_type,
        ProgType::Kprobe | ProgType::Tracepoint | ProgType::PerfEvent | ProgType::RawTracepoint
    );
    traced && !tail_calls
}

/// What lies above a function in a call chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chain {
    bytes: u32,
    frames: usize,
    /// Some function of the chain is called by a helper.
    called_back: bool,
    /// Some function of the chain handles exceptions.
    handles_exception: bool,
}

impl Chain {
    /// Whether all that is refused below `other` is refused below this.
    fn covers(&self, other: &Self) -> bool {
        self.bytes >= other.bytes
            && self.frames >= other.frames
            && self.called_back >= other.called_back
            && self.handles_exception >= other.handles_exception
    }
}

struct Depths<'a> {
    plan: &'a Plan<'a>,
    frames: &'a [FrameFacts],
    /// Functions whose frames are on the common stack.
    shared: Vec<bool>,
    /// For each function, the chains it was found good below.
    done: Vec<Vec<Chain>>,
    deepest: u32,
}

impl Depths<'_> {
    fn is_later(&self, index: u32) -> bool {
        Some(index) == self.plan.functions.exception_callback
            || self.frames.get(index as usize).is_some_and(|f| f.later)
    }

    fn is_called_back(&self, index: u32) -> bool {
        Some(index) == self.plan.functions.exception_callback
            || self.frames.get(index as usize).is_some_and(|f| f.callback)
    }

    /// One function and all it calls. Chains are no longer than the frames allow: this cannot recurse deep.
    fn visit(&mut self, index: u32, above: Chain, private: bool, entry: bool) -> Result<(), Reason> {
        let plan = self.plan;
        let Some(function) = plan.functions.get(index) else { return Err(Reason::SubprogLayout) };
        if !private && let Some(shared) = self.shared.get_mut(index as usize) {
            *shared = true;
        }
        if self.done.get(index as usize).is_some_and(|done| done.iter().any(|c| c.covers(&above))) {
            return Ok(());
        }
        let chain = self.enter(index, function, above, entry)?;
        for edge in &function.edges {
            self.follow(*edge, chain, private)?;
        }
        if let Some(done) = self.done.get_mut(index as usize) {
            done.push(above);
        }
        Ok(())
    }

    /// Checks the function itself; gives the chain that its callees are below.
    fn enter(&mut self, index: u32, function: &Function, above: Chain, entry: bool) -> Result<Chain, Reason> {
        let called_back = above.called_back || self.is_called_back(index);
        if function.packet_load && called_back {
            return Err(FunctionFault::PacketLoadInCallback.into());
        }
        if !entry && function.tail_call && above.bytes >= TAIL_CALL_STACK {
            return Err(FunctionFault::TailCallStack { bytes: above.bytes }.into());
        }
        let used = self.frames.get(index as usize).map_or(0, |f| u32::from(f.stack_bytes));
        let own = used.next_multiple_of(16);
        let shared = self.shared.get(index as usize).copied().unwrap_or(true);
        let bytes = above.bytes + if shared || own < PRIVATE_STACK_MIN { own } else { 0 };
        if bytes > MAX_STACK {
            return Err(Reason::StackTooDeep { frames: above.frames + 1, bytes });
        }
        self.deepest = self.deepest.max(bytes);
        if let Some(at) = function.throws.first().filter(|_| called_back) {
            return Err(FunctionFault::ThrowInCallback { at: *at, subprog: index }.into());
        }
        let handler = Some(index) == self.plan.functions.exception_callback;
        let handles_exception = above.handles_exception || handler;
        if function.tail_call && handles_exception && above.frames > 0 {
            return Err(FunctionFault::TailCallInHandler.into());
        }
        Ok(Chain { bytes, frames: above.frames + 1, called_back, handles_exception })
    }

    fn follow(&mut self, edge: Edge, chain: Chain, private: bool) -> Result<(), Reason> {
        if self.is_later(edge.callee) {
            if !edge.direct {
                return Ok(());
            }
            if Some(edge.callee) == self.plan.functions.exception_callback {
                return Err(FunctionFault::CallsHandler { at: edge.at }.into());
            }
        }
        if chain.frames >= MAX_FRAMES {
            return Err(FunctionFault::TooManyFrames { frames: chain.frames }.into());
        }
        self.visit(edge.callee, chain, private, false)
    }
}
