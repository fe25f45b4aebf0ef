//! Runs of iterators: a program that is given one element after the other and writes text.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::image::{Instance, Setup};
use crate::error::RunError;
use crate::host::argument::{self, Argument};
use crate::host::{Object, Structure};
use crate::runtime::Invocation;
use crate::runtime::Seq;

/// How often an element is given to a program that asks for it again by returning 1.
const ATTEMPTS: u32 = 16;

/// The next iterator's session.
static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// `struct bpf_iter_meta`.
enum Meta {}
impl Structure for Meta {
    const NAME: &'static str = "bpf_iter_meta";
}

/// `struct seq_file`.
enum SeqFile {}
impl Structure for SeqFile {
    const NAME: &'static str = "seq_file";
}

impl Instance {
    /// Runs an iterator over elements, and gives what it writes. The program is called for each with what the kernel gives it
    /// behind its `meta`, and once more with NULL.
    ///
    /// # Errors
    /// The program is no iterator, an element is none of its kind, or a run was ended.
    pub fn iterate(&self, elements: &[Vec<Argument>]) -> Result<Vec<u8>, RunError> {
        let program = self.program();
        let not_called = || RunError::NotCalled { program: program.name.clone() };
        let is_iterator = program.section.trim_start_matches('?').starts_with("iter");
        let options = &self.inner.image.options;
        let kernel = options.env.kernel.as_ref().filter(|_| is_iterator).ok_or_else(not_called)?;
        let made = || Some((Object::<Meta>::new(kernel).ok()?, Object::<SeqFile>::new(kernel).ok()?));
        let (meta, file) = made().ok_or_else(not_called)?;
        let set = |member: &str, number: u64| meta.set(member, number).map(|_| ()).map_err(|_| not_called());
        meta.point("seq", &file).map_err(|_| not_called())?;
        set("session_id", SESSIONS.fetch_add(1, Relaxed))?;
        let most = elements.iter().map(Vec::len).max().unwrap_or(1);
        let end = vec![Argument::from(0_u64); most.max(1)];
        let mut text = Vec::new();
        for (number, element) in (0_u64..).zip(elements.iter().chain([&end])) {
            set("seq_num", number)?;
            let mut arguments = vec![Argument::from(&meta)];
            arguments.extend_from_slice(element);
            argument::check(program, Some(kernel), &arguments)?;
            let objects = || arguments.iter().filter_map(Argument::image);
            objects().for_each(|image| options.world.hand_out(image, true));
            let written = self.show(&arguments, file.address());
            objects().for_each(|image| {
                options.world.release(image);
            });
            text.extend(written?);
        }
        Ok(text)
    }

    /// What the program writes for one element.
    fn show(&self, arguments: &[Argument], file: u64) -> Result<Vec<u8>, RunError> {
        let mut context: Vec<u8> =
            arguments.iter().flat_map(|argument| argument.bits().to_ne_bytes()).collect();
        context.resize(context.len().max(self.ctx_bytes()), 0);
        for _ in 0..ATTEMPTS {
            let mut element = Element { context: context.clone(), file, text: Vec::new() };
            let outcome = self.run_prepared(&mut element, 1)?;
            if outcome.return_value == 0 {
                return Ok(element.text);
            }
        }
        Ok(Vec::new())
    }
}

/// One element, and what was written for it.
struct Element {
    context: Vec<u8>,
    file: u64,
    text: Vec<u8>,
}

impl Setup for Element {
    fn before(&mut self, run: &mut Invocation<'_>) -> Option<u64> {
        use crate::runtime::packets::Blocks;
        let block = run.block(self.context.len())?;
        block.place(0, self.context.len() as u64)?.write(&self.context);
        run.seq = Some(Seq::new(self.file));
        Some(block.address())
    }

    fn after(&mut self, run: &mut Invocation<'_>) -> Option<()> {
        let seq = run.seq.take()?;
        // The kernel shows nothing of an element that does not fit.
        self.text = if seq.overflowed { Vec::new() } else { seq.text };
        Some(())
    }
}
