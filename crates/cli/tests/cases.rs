//! The command, as its users see it: each file in `tests/cases` is a command line and what it prints.
//!
//! A case begins with comment lines (`#`) and the command (`$ bpf-arena ..`, run in the repository's root), followed by
//! the exit code and what goes to each stream:
//!
//! ```text
//! # Says what the case is about.
//! $ bpf-arena run bpf/linked_list.bpf.o insert
//! --- exit 0
//! --- stdout
//! insert: returned 0
//! --- stderr
//! ```
//!
//! `$TMP` in a command is a folder to write to. A file may hold several. `[..]` in an expected line stands for any text. A second command line may begin with
//! `< TEXT`: standard input. `BLESS=1 cargo test -p bpf-arena-cli` rewrites what differs.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use libtest_mimic::{Arguments, Failed, Trial};

/// A command and what it is expected to do.
#[derive(Clone, Default)]
struct Case {
    comments: String,
    command: String,
    stdin: String,
    exit: String,
    stdout: String,
    stderr: String,
}

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let trials = files.into_iter().map(|file| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        Trial::test(name, move || check(&file))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn check(file: &Path) -> Result<(), Failed> {
    let cases = parse(&fs::read_to_string(file)?)?;
    let bless = std::env::var_os("BLESS").is_some();
    let mut differences = String::new();
    let mut blessed = Vec::new();
    for case in cases {
        let actual = execute(&case)?;
        let mut kept = case.clone();
        for (part, expected, actual) in [
            ("exit", &mut kept.exit, actual.exit),
            ("stdout", &mut kept.stdout, actual.stdout),
            ("stderr", &mut kept.stderr, actual.stderr),
        ] {
            if !matches(expected, &actual) {
                let command = &case.command;
                write!(differences, "$ {command}\n{part}: expected\n{expected}\n{part}: found\n{actual}\n")?;
                *expected = actual;
            }
        }
        blessed.push(kept);
    }
    if differences.is_empty() {
        return Ok(());
    }
    if bless {
        let text: Vec<String> = blessed.iter().map(render).collect();
        return Ok(fs::write(file, text.join("\n"))?);
    }
    Err(format!("{differences}BLESS=1 accepts what was found").into())
}

fn parse(text: &str) -> Result<Vec<Case>, Failed> {
    let mut cases = Vec::new();
    let mut case = Case::default();
    let mut part = "";
    for line in text.lines() {
        let starts_next = line.starts_with("# ") || line.starts_with("$ ");
        if part == "stderr" && starts_next {
            cases.push(std::mem::take(&mut case));
            part = "";
        }
        if let Some(name) = line.strip_prefix("--- ") {
            (part, case.exit) = match name.strip_prefix("exit ") {
                Some(code) => ("exit", code.to_owned()),
                None => (name, case.exit),
            };
            continue;
        }
        match part {
            "" if line.starts_with('#') => case.comments += &format!("{line}\n"),
            "" if line.is_empty() => {}
            "" | "exit" => match line.split_at_checked(2) {
                Some(("$ ", command)) => command.clone_into(&mut case.command),
                Some(("< ", stdin)) => case.stdin += &format!("{stdin}\n"),
                _ => return Err(format!("`{line}` is neither a comment, a command nor a part").into()),
            },
            "stdout" => case.stdout += &format!("{line}\n"),
            "stderr" => case.stderr += &format!("{line}\n"),
            other => return Err(format!("there is no part `{other}`").into()),
        }
    }
    cases.push(case);
    for case in &mut cases {
        // Blank lines between cases belong to none.
        for part in [&mut case.stdout, &mut case.stderr] {
            *part = part.trim_end_matches('\n').to_owned();
        }
    }
    Ok(cases)
}

fn render(case: &Case) -> String {
    let mut text = format!("{}$ {}\n", case.comments, case.command);
    for line in case.stdin.lines() {
        text += &format!("< {line}\n");
    }
    text += &format!("--- exit {}\n", case.exit);
    for (name, part) in [("stdout", &case.stdout), ("stderr", &case.stderr)] {
        text += &format!("--- {name}\n");
        if !part.is_empty() {
            text += &format!("{part}\n");
        }
    }
    text
}

fn execute(case: &Case) -> Result<Case, Failed> {
    let mut words = case.command.split(' ');
    if words.next() != Some("bpf-arena") {
        return Err(format!("`{}` does not run bpf-arena", case.command).into());
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_bpf-arena"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .args(words.map(|word| word.trim_matches('\'').replace("$TMP", env!("CARGO_TARGET_TMPDIR"))))
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // A command that does not read its input closes the pipe: no error of ours.
    let _ = child.stdin.take().unwrap().write_all(case.stdin.as_bytes());
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    Ok(Case {
        exit: output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string()),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        ..Case::default()
    })
}

/// Whether the text is as expected, line by line.
fn matches(expected: &str, actual: &str) -> bool {
    expected.lines().count() == actual.lines().count()
        && expected.lines().zip(actual.lines()).all(|(expected, actual)| line_matches(expected, actual))
}

fn line_matches(expected: &str, actual: &str) -> bool {
    let mut parts = expected.split("[..]");
    let Some(mut rest) = parts.next().and_then(|first| actual.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}
