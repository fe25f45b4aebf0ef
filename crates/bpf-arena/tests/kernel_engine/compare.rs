//! Both engines asked the same, as `bpf-arena test --engine both` and `run --engine both` ask them; and a user engine
//! that is wrong on purpose, to see that it is found out.

use bpf_arena::isa::Size;
use bpf_arena::suite::{
    Disagreement, KernelJudge, Memory, Question, ReturnValue, Test, TestResult, UserJudge, compare,
};
use bpf_arena::{Engine, UserEngine};
use libtest_mimic::Failed;

use super::{Node, Request, check, object};

/// Objects with an arena whose results do not depend on the version of the kernel, each with the first words of a context
/// that asks for a little work.
const OBJECTS: [(&str, [u64; 3]); 6] = [
    ("atomics", [24, 3, 7]),
    ("globals", [24, 3, 7]),
    // Its key and count have 32 bits each.
    ("hash_table", [24 | 3 << 32, 7, 0]),
    ("heap", [24, 3, 0]),
    ("linked_list", [24, 3, 0]),
    ("queue", [24, 3, 0]),
];

/// Where `struct node` of the linked list has its value. The first node of a page lies at the page's start.
const VALUE_OFFSET: u16 = 8;

/// The value of the first node.
const FIRST: u64 = 5;

/// How many nodes fill a page.
const NODES_PER_PAGE: u64 = 4096 / size_of::<Node>() as u64;

/// The first nodes of three pages get values that differ in the lowest bit.
fn wrong() -> UserEngine {
    Engine::user().with_wrong_stores(Size::DW, VALUE_OFFSET)
}

/// The arena's differences between [`wrong`] and the kernel after [`FIRST`] and 599 more values were inserted.
fn expected_in_arena() -> Vec<String> {
    let line = |page| {
        let value = FIRST + page * NODES_PER_PAGE;
        format!("arena page {page} offset {VALUE_OFFSET:#x}: {:#x} and {value:#x}", value ^ 1)
    };
    (0..3).map(line).collect()
}

/// Every program of every arena object gives the same in both engines, compiled and interpreted: with a context of zeroes,
/// as the command gives it, and with one that asks for work.
pub(crate) fn engines_agree() -> Result<(), Failed> {
    for (name, work) in OBJECTS {
        let object = object(&format!("{name}.bpf.o"))?;
        let mut pages = 0;
        let tests = Test::of_object(object.spec())?;
        for (test, words) in tests.iter().flat_map(|test| [[0; 3], work].map(|words| (test, words))) {
            let mut ctx: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            ctx.resize(64, 0);
            let question = Question { ctx, ..test.question.clone() };
            for user in [UserJudge::new(Engine::user()), UserJudge::interpreter(Engine::user())] {
                let (first, second, found) = compare(object.spec(), &question, &user, &KernelJudge);
                pages += second.memory.pages().len();
                let both =
                    [first, second].map(|answer| (answer.verdict, answer.return_value, answer.run_error));
                let ran = both.iter().all(|(_, value, _)| value.is_some());
                check(ran && found.is_empty(), format!("{name}/{}: {found:?} {both:?}", test.program))?;
            }
        }
        check(pages > 0, format!("{name}: no program wrote to the arena"))?;
    }
    Ok(())
}

/// `bpf-arena test --engine both`.
pub(crate) fn wrong_engine_in_test() -> Result<(), Failed> {
    let object = object("linked_list.bpf.o")?;
    let mut tests = Test::of_object(object.spec())?.into_iter();
    let mut test = tests.find(|test| test.program == "insert").ok_or("no test `insert`")?;
    check(test.expected.return_value == Some(ReturnValue::Value(0)), "a program returns 0")?;
    test.question.ctx = [FIRST, 600].iter().flat_map(|word| word.to_le_bytes()).collect();
    let result = |engine: UserEngine| test.run_both(object.spec(), &UserJudge::new(engine), &KernelJudge).0;

    let right = [
        Engine::user(),
        Engine::user().interpreter(),
        // No store of the program has this width.
        Engine::user().with_wrong_stores(Size::H, VALUE_OFFSET),
    ];
    for engine in right {
        let result = result(engine);
        check(result == TestResult::Passed, format!("{result:?}"))?;
    }

    let TestResult::Different(found) = result(wrong()) else { return Err("not found out".into()) };
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    check(lines == expected_in_arena(), format!("{lines:#?}"))?;
    let Some(Disagreement::Memory(first)) = found.first() else { return Err(format!("{found:?}").into()) };
    check((first.page, first.offset) == (Some(0), u64::from(VALUE_OFFSET)), first)?;
    check((first.first, first.second) == (FIRST ^ 1, FIRST), first)
}

/// `bpf-arena run --engine both`.
pub(crate) fn wrong_engine_after_runs() -> Result<(), Failed> {
    fn left_by(engine: impl Into<Engine>, pages: &[u64]) -> Result<Memory, Failed> {
        let app = object("linked_list.bpf.o")?.load(engine)?;
        app.program("insert")?.run(&mut Request { value: FIRST, count: 600 })?;
        check(app.program("walk")?.run(&mut ())?.return_value == 600, "nodes")?;
        Ok(Memory::copy_of(app.maps(), Some(app.arena()?), pages))
    }
    let right = left_by(Engine::user(), &[])?;
    let wrong = left_by(wrong(), &[])?;
    let kernel = left_by(Engine::kernel()?, &right.pages())?;
    check(right.pages() == [0, 1, 2], "three pages")?;
    let found = right.differences(&kernel);
    check(found.is_empty(), format!("{found:?}"))?;

    let found = wrong.differences(&kernel);
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    // The program added the wrong values up: three odd ones became even.
    let sum: u64 = (FIRST..FIRST + 600).sum();
    check(
        lines.first().is_some_and(|l| l.ends_with(&format!(": {:#x} and {sum:#x}", sum - 3))),
        format!("{lines:#?}"),
    )?;
    check(lines.iter().skip(1).eq(expected_in_arena().iter()), format!("{lines:#?}"))
}
