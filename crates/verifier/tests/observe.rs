//! What an observer sees of a verification.

use std::error::Error;

use bpf_arena_verifier::view::{Snapshot, ValueId, ValueKind};
use bpf_arena_verifier::{Detail, Env, Event, Observer, SlotByte, verify_with};
use bpf_object::{Linkage, Program, Subprogram};
use isa::{InsnIdx, Reg};

/// Keeps what it is told, as far as it wants to know.
#[derive(Default)]
struct Recorder {
    detail: Detail,
    names: Vec<String>,
    states: Vec<(InsnIdx, Snapshot)>,
    /// Whether the value `r1` held at instruction 2 was found to matter.
    watched: Option<ValueId>,
    precise: Option<bool>,
}

impl Observer for Recorder {
    fn detail(&self) -> Detail {
        self.detail
    }

    fn event(&mut self, event: &Event<'_>) {
        let text = format!("{event:?}");
        self.names.push(text.split([' ', '(']).next().unwrap_or_default().to_owned());
        match event {
            Event::Insn { at, state } => {
                if *at == InsnIdx(2) {
                    self.watched = state.frame().map(|f| f.register(Reg::R1).id());
                }
                self.states.push((*at, state.snapshot()));
            }
            Event::Walked { values, .. } => self.precise = self.watched.map(|v| values.is_precise(v)),
            _ => {}
        }
    }
}

/// R1 is a number from 0 to 7 at instruction 2. A function is called on one of two paths.
const PROGRAM: &str = "\
r1 = *(u32 *)(r1 +0)
r1 &= 7
*(u64 *)(r10 -8) = r1
if r1 > 3 goto pc+1
call pc+2
r0 = 0
exit
r0 = 1
exit
";

fn observe(detail: Detail) -> Result<Recorder, Box<dyn Error>> {
    let mut program = Program::from_code("prog", "syscall", isa::assemble(PROGRAM)?.code);
    let (start, end) = (InsnIdx(7), InsnIdx(9));
    let callee = Subprogram { name: "f".to_owned(), start, end, btf_func: None, linkage: Linkage::Static };
    program.subprograms.iter_mut().for_each(|s| s.end = start);
    program.subprograms.push(callee);
    let mut recorder = Recorder { detail, ..Recorder::default() };
    verify_with(&program, &Env::default(), &mut recorder)?;
    Ok(recorder)
}

#[test]
fn states_in_front_of_instructions_are_seen() -> Result<(), Box<dyn Error>> {
    let seen = observe(Detail::Steps)?;
    let at = |n: u32| seen.states.iter().find(|(at, _)| *at == InsnIdx(n)).map(|(_, s)| s.view());
    let register = |n, reg| at(n).and_then(|s| s.frame()).map(|f| f.register(reg)).ok_or("not reached");
    assert_eq!(register(0, Reg::R1)?.kind(), ValueKind::Context);
    assert_eq!(register(0, Reg::R0)?.kind(), ValueKind::Uninit);
    let number = register(2, Reg::R1)?;
    assert_eq!((number.kind(), number.unsigned()), (ValueKind::Number, (0, 7)));
    assert!(number.admits(7) && !number.admits(8));
    let spilled = at(3).and_then(|s| s.frame()?.slots().next()).ok_or("nothing spilled")?;
    assert_eq!(spilled.0, -8);
    assert_eq!(spilled.1.bytes(), [SlotByte::Spill; 8]);
    assert_eq!(spilled.1.spilled().map(|v| v.unsigned()), Some((0, 7)));
    let callee = at(7).and_then(|s| s.frame()).ok_or("not called")?;
    assert_eq!((callee.number(), callee.subprog(), callee.callsite()), (1, 1, InsnIdx(4)));
    Ok(())
}

#[test]
fn the_story_is_told_in_order() -> Result<(), Box<dyn Error>> {
    let expected = "Planned Function Insn Insn Insn Insn Branch Branched Insn Call Insn Insn Return";
    let told = observe(Detail::Steps)?.names.join(" ").replace("Save ", "");
    assert!(told.starts_with(expected), "{told}");
    assert!(told.ends_with("FunctionDone Walked"), "{told}");
    Ok(())
}

#[test]
fn no_more_is_told_than_is_wanted() -> Result<(), Box<dyn Error>> {
    assert!(observe(Detail::Nothing)?.names.is_empty());
    let paths = observe(Detail::Paths)?;
    assert!(paths.states.is_empty());
    assert!(paths.names.iter().all(|n| n != "Insn" && n != "Call"), "{:?}", paths.names);
    assert!(paths.names.iter().any(|n| n == "Resume"));
    Ok(())
}

#[test]
fn what_mattered_is_known_at_the_end() -> Result<(), Box<dyn Error>> {
    // Both sides of the branch are walked: nothing was decided by the number.
    assert_eq!(observe(Detail::Steps)?.precise, Some(false));
    Ok(())
}
