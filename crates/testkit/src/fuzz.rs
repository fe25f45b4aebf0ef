//! What must survive any input: one function per stage, each taking bytes and giving nothing but a panic.

use std::sync::Arc;

use bpf_object::{Linker, Object, Program};
use fastrand::Rng;
use isa::{Code, Endian, Insn, RawInsn, assemble, decode_endian};

use crate::mutate::mutate;

/// A stage that is fed with arbitrary bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Decoder, encoder, disassembler and assembler.
    Decode,
    /// Object parser and linkers: of one program, and of several objects.
    Object,
    /// Verifier, on what the linker lets through.
    Verify,
}

/// What inputs are made from.
#[derive(Clone, Debug)]
pub struct Corpus {
    inputs: Vec<Arc<[u8]>>,
}

impl Corpus {
    /// Inputs made from these files, or from nothing.
    #[must_use]
    pub fn new(files: Vec<Vec<u8>>) -> Self {
        Self { inputs: files.into_iter().map(Arc::from).collect() }
    }

    /// The same files in pieces of so many bytes: for targets to which a file is no whole.
    #[must_use]
    pub fn in_pieces(&self, bytes: usize) -> Self {
        let pieces = self.inputs.iter().flat_map(|file| file.chunks(bytes.max(1)));
        Self { inputs: pieces.map(Arc::from).collect() }
    }

    /// Number of files or pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// The input of this seed: mostly a mutated file, sometimes noise.
    #[must_use]
    pub fn input(&self, seed: u64) -> Vec<u8> {
        let mut rng = Rng::with_seed(seed);
        let mut bytes = match self.inputs.get(rng.usize(..self.inputs.len().max(1))) {
            Some(file) if rng.u8(..16) > 0 => file.to_vec(),
            _ => (0..rng.usize(..1024)).map(|_| rng.u8(..)).collect(),
        };
        mutate(&mut bytes, &mut rng);
        bytes
    }
}

impl Target {
    /// Runs the stage on an input.
    ///
    /// # Panics
    /// If the stage does, or if what it gives is not consistent: that is what is being looked for.
    pub fn run(self, input: &[u8]) {
        match self {
            Self::Decode => decode_any(input),
            Self::Object => object_any(input, |_| {}),
            Self::Verify => object_any(input, |program| {
                let _ = verifier::verify(program, &verifier::Env::default());
            }),
        }
    }
}

#[allow(clippy::panic, reason = "a fuzz target reports by panicking")]
fn decode_any(input: &[u8]) {
    for endian in [Endian::Little, Endian::Big] {
        if let Ok(code) = decode_endian(input, endian) {
            assert_eq!(code.encode(endian).as_deref(), Ok(input), "decoded code encodes to something else");
        }
        let (slots, _) = input.as_chunks();
        let mut slots = slots.iter().map(|slot| RawInsn::from_bytes(*slot, endian)).peekable();
        let mut code = Code::new();
        while let Some(raw) = slots.next() {
            if let Ok(insn) = Insn::decode(raw, slots.peek().copied()) {
                assert_eq!(insn.encode().map(|e| e.first), Ok(raw), "{insn}");
                code.push(insn);
            }
        }
        // Text of all of it takes longer than all the rest: some is enough.
        let some: Code = code.iter().map(|(_, insn)| insn).take(16).collect();
        match assemble(&some.to_string()) {
            Ok(assembly) => assert_eq!(assembly.code, some, "text reads as something else"),
            Err(error) => panic!("{error}\n{some}"),
        }
    }
    let text = String::from_utf8_lossy(input.get(..256).unwrap_or(input));
    let _ = assemble(&text);
}

fn object_any(input: &[u8], each: impl Fn(&Program)) {
    parsed_any(input, &each);
    // Alone, and with itself: static names twice, shared ones in conflict unless they are weak.
    for copies in 1..=2 {
        let added = (0..copies).try_fold(Linker::new(), |linker, _| linker.add("input", input));
        let Ok(linked) = added.and_then(|linker| linker.finish()) else { continue };
        parsed_any(&linked, &each);
    }
}

fn parsed_any(input: &[u8], each: &impl Fn(&Program)) {
    let Ok(object) = Object::parse(input) else { return };
    for program in object.programs.iter().filter_map(|info| object.link(&info.name).ok()) {
        each(&program);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The objects committed beside their sources.
    fn committed() -> Corpus {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf");
        let files = std::fs::read_dir(folder).expect("the folder of BPF programs");
        let mut paths: Vec<_> = files.map(|entry| entry.expect("readable").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "o"));
        paths.sort();
        Corpus::new(paths.iter().map(|path| std::fs::read(path).expect("readable")).collect())
    }

    #[test]
    fn any_bytes_decode_or_are_refused() {
        let corpus = committed();
        assert!(!corpus.is_empty());
        let corpus = corpus.in_pieces(1024);
        (0..2000).for_each(|seed| Target::Decode.run(&corpus.input(seed)));
    }

    #[test]
    fn any_object_parses_or_is_refused() {
        let corpus = committed();
        (0..2000).for_each(|seed| Target::Object.run(&corpus.input(seed)));
        (0..100).for_each(|seed| Target::Verify.run(&corpus.input(seed)));
    }
}
