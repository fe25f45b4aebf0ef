//! What text cases cannot say: pipes that close, machine code, and the kernel engine where it may be used.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use bpf_arena::Engine;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let kernel = Engine::kernel();
    let missing = kernel.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let with_kernel = |name: &str, test: fn() -> Result<(), Failed>| {
        Trial::test(name, test).with_ignored_flag(kernel.is_err()).with_kind(&missing)
    };
    let tcpdump = Command::new("tcpdump").arg("--version").output().is_ok();
    let gdb = Command::new("gdb").arg("--version").output().is_ok();
    let trials = vec![
        Trial::test("tcpdump_reads_rewritten_packets", rewritten)
            .with_ignored_flag(!tcpdump)
            .with_kind(if tcpdump { "" } else { "needs `tcpdump`" }),
        Trial::test("a_reader_that_goes_away_is_no_error", closed_pipe),
        Trial::test("machine_code_names_its_sources_and_faults", machine_code),
        Trial::test("perf_finds_the_names_of_functions", perf_map),
        Trial::test("perf_finds_code_with_its_lines", jitdump),
        Trial::test("the_environment_asks_for_symbols", symbols_by_environment),
        Trial::test("gdb_stops_in_programs_and_walks_out_of_them", debugger)
            .with_ignored_flag(!gdb)
            .with_kind(if gdb { "" } else { "needs `gdb`" }),
        Trial::test("a_context_can_come_from_a_file", context_file),
        Trial::test("an_interrupt_ends_a_run", interrupt),
        with_kernel("the_kernel_runs_the_same_object", same_in_kernel),
        with_kernel("run_compares_the_engines", run_in_both),
        with_kernel("test_compares_the_engines", test_in_both),
        with_kernel("both_verifiers_agree_on_our_programs", same_verdicts),
        with_kernel("what_the_kernel_refuses_is_said", refused_by_kernel),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn command(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-arena"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).args(words.split(' '));
    command
}

fn run(words: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// What another program reads in the file that `run --pcap --out` wrote: answers to pings, a tag, a shorter datagram, right
/// checksums.
fn rewritten() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out.pcap");
    for capture in ["traffic.pcap", "traffic.pcapng"] {
        let source = format!("crates/cli/tests/data/{capture}");
        let words = format!("run bpf/packets/rewrite.bpf.o rewrite --pcap {source} --out {}", out.display());
        let (code, _, err) = run(&words);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        let read = Command::new("tcpdump").args(["-envr"]).arg(&out).env("TZ", "UTC").output()?;
        let text = String::from_utf8(read.stdout)?;
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        for part in [
            "22:13:20.000000 02:00:00:00:00:02 > 02:00:00:00:00:01",
            "192.0.2.2 > 192.0.2.1: ICMP echo reply, id 7, seq 1, length 24",
            "ethertype 802.1Q (0x8100), length 58: vlan 42, p 0, ethertype IPv4",
            "192.0.2.1.40000 > 192.0.2.2.80: Flags [S], cksum 0x9075 (correct)",
            "Request who-has 192.0.2.2 tell 192.0.2.1",
            "192.0.2.1.5000 > 192.0.2.2.6000: UDP, length 0",
            "ICMP echo reply, id 7, seq 2, length 24",
        ] {
            assert!(text.contains(part), "{capture}: {part} in\n{text}");
        }
        assert!(!text.contains("bad cksum") && !text.contains("wrong") && !text.contains(".53:"), "{text}");
    }
    Ok(())
}

fn closed_pipe() -> Result<(), Failed> {
    let mut child =
        command("disasm bpf/runtime.bpf.o").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr)?, "");
    Ok(())
}

/// The first interrupt is for the program.
fn interrupt() -> Result<(), Failed> {
    for engine in ["", " --interp"] {
        let mut run = command(&format!("run bpf/endless.bpf.o loop{engine}"));
        let child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Before the command takes interrupts, one would end it.
        let status = format!("/proc/{}/status", child.id());
        while !takes_interrupts(&std::fs::read_to_string(&status)?) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status()?.success());
        let output = child.wait_with_output()?;
        let error = String::from_utf8(output.stderr)?;
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &[][..]), "{error}");
        assert!(error.starts_with("error: program `loop`: cancelled: loop"), "{error}");
    }
    Ok(())
}

/// Whether a process has a handler for SIGINT, which is signal 2.
fn takes_interrupts(status: &str) -> bool {
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> 1 & 1 != 0)
}

fn machine_code() -> Result<(), Failed> {
    let (code, out, err) = run("disasm bpf/faults.bpf.o store_after_free --jit");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for part in [
        "bytes of machine code",
        "; *at = value; ",
        "(inlined from write_word)",
        "; may fault",
        "call bpf_arena_alloc_pages",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
    Ok(())
}

/// Runs `words` and gives its process number with what it wrote.
fn run_with_pid(mut command: Command) -> (u32, Output) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    (child.id(), child.wait_with_output().unwrap())
}

const BUSY: &str = "run bpf/profiled.bpf.o busy --ctx rounds=10";

fn perf_map() -> Result<(), Failed> {
    let (pid, output) = run_with_pid(command(&format!("{BUSY} --perf-map")));
    assert!(output.status.success(), "{output:?}");
    let path = format!("/tmp/perf-{pid}.map");
    let map = std::fs::read_to_string(&path)?;
    std::fs::remove_file(path)?;
    let names: Vec<_> = map.lines().filter_map(|line| line.splitn(3, ' ').nth(2)).collect();
    // The others were inlined into it.
    assert!(names.contains(&"bpf_arena::busy::busy"), "busy is missing in\n{map}");
    Ok(())
}

fn jitdump() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mut words = command("run");
    words.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf/profiled.bpf.o"));
    words.args(["busy", "--ctx", "rounds=10", "--jitdump"]).current_dir(folder.path());
    let (pid, output) = run_with_pid(words);
    assert!(output.status.success(), "{output:?}");
    let dump = std::fs::read(folder.path().join(format!("jit-{pid}.dump")))?;
    let has = |part: &[u8]| dump.windows(part.len()).any(|window| window == part);
    assert!(has(b"bpf_arena::busy::busy\0"));
    assert!(has(b"bpf/profiled.bpf.c\0"));
    Ok(())
}

fn symbols_by_environment() -> Result<(), Failed> {
    let mut words = command(BUSY);
    words.env("BPF_ARENA_SYMBOLS", "perf-map,gdb");
    let (pid, output) = run_with_pid(words);
    assert!(output.status.success(), "{output:?}");
    std::fs::remove_file(format!("/tmp/perf-{pid}.map"))?;
    let mut words = command(BUSY);
    words.env("BPF_ARENA_SYMBOLS", "everything");
    let output = words.output()?;
    let text = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("BPF_ARENA_SYMBOLS has `everything`"), "{text}");
    Ok(())
}

/// A breakpoint at a program, by name; one at a line, and the way from there to the host's `main`. The line's function may
/// have been inlined.
fn debugger() -> Result<(), Failed> {
    let source =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bpf/profiled.bpf.c"))?;
    let line = source.lines().position(|line| line.contains("sum ^ words[i]")).unwrap() + 1;
    let place = format!("break profiled.bpf.c:{line}");
    let script = [
        "set breakpoint pending on",
        "break busy::busy",
        "run",
        "info symbol $pc",
        place.as_str(),
        "continue",
        "backtrace",
        "kill",
    ];
    let mut words = Command::new("gdb");
    words.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    words.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]);
    words.args(script.iter().flat_map(|line| ["-ex", line]));
    words.args(["--args", env!("CARGO_BIN_EXE_bpf-arena")]).args(BUSY.split(' ')).arg("--gdb");
    let output = words.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parts = [
        "Breakpoint 1, busy::busy () at ./bpf/profiled.bpf.c:".to_owned(),
        "busy::busy".to_owned(),
        format!(" () at ./bpf/profiled.bpf.c:{line}\n"),
        "in main ()".to_owned(),
    ];
    for part in parts {
        assert!(
            text.contains(&part),
            "{part} is missing in\n{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn context_file() -> Result<(), Failed> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), [7_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat())?;
    let words = format!(
        "run bpf/linked_list.bpf.o insert --ctx @{} --print length --print ctx",
        file.path().display()
    );
    let (code, out, err) = run(&words);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "insert: returned 0\nlength = 2\nctx = {.value = 7, .count = 2}\n");
    Ok(())
}

fn same_in_kernel() -> Result<(), Failed> {
    for words in [
        "run bpf/linked_list.bpf.o insert delete --ctx value=10,count=3 --print all --list head:next",
        "run bpf/hash_table.bpf.o put put --ctx key=7,count=100,value=-3 --print table --print ctx",
        "run bpf/globals.bpf.o --set factor=3 --set triangle.name=square --print all",
        "test bpf/runtime.bpf.o",
    ] {
        let user = run(words);
        assert_eq!(user.0, Some(0), "{words}: {}", user.2);
        let kernel = run(&format!("{words} --engine kernel"));
        // What programs print goes to the trace pipe and to the program's streams.
        assert_eq!((user.0, user.1), (kernel.0, kernel.1), "{words}: {}", kernel.2);
    }
    Ok(())
}

fn run_in_both() -> Result<(), Failed> {
    for words in [
        "run bpf/linked_list.bpf.o insert insert delete --ctx value=10,count=300 --engine both",
        "run bpf/hash_table.bpf.o put put --ctx key=7,count=100,value=-3 --engine both",
        "run bpf/globals.bpf.o --engine both",
        "run bpf/faults.bpf.o load_after_free store_after_free atomic_after_free load_null --engine both",
    ] {
        let (code, out, err) = run(words);
        assert!(code == Some(0) && out.ends_with("\n0 differences between user and kernel\n"), "{out}{err}");
    }
    // The clock differs always.
    let (code, out, _) = run("run crates/cli/tests/data/clock.bpf.o --engine both --json");
    assert!(code == Some(1) && out.contains(r#""differences":[".bss"#), "{out}");
    Ok(())
}

fn test_in_both() -> Result<(), Failed> {
    for object in ["atomics", "globals", "hash_table", "heap", "linked_list", "queue", "runtime"] {
        let (_, out, err) = run(&format!("test bpf/{object}.bpf.o --engine both"));
        assert!(!out.contains("differ") && !out.contains("skipped: "), "{out}{err}");
    }
    let (code, out, err) = run("test bpf/runtime.bpf.o bpf/packets.bpf.o --engine both");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let reason =
        r#"in SEC("xdp") and without annotations: only SEC("syscall") programs are tests without them"#;
    assert!(out.contains(&format!("packets/count_xdp: skipped: {reason}\n")), "{out}");
    assert!(out.ends_with("\n8 passed, 0 failed, 3 skipped\n"), "{out}");
    Ok(())
}

fn refused_by_kernel() -> Result<(), Failed> {
    let (code, out, err) = run("run bpf/unverifiable.bpf.o unchecked_lookup --engine kernel");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("R0 invalid mem access 'map_value_or_null'"), "{err}");
    assert!(err.contains("return c->values[0];"), "{err}");
    let (code, out, _) = run("verify bpf/unverifiable.bpf.o unchecked_lookup --engine kernel --log-level 6");
    assert_eq!(code, Some(1));
    assert!(out.contains("map_value_or_null") && out.contains("call bpf_map_lookup_elem#1"), "{out}");
    Ok(())
}

fn same_verdicts() -> Result<(), Failed> {
    for object in [
        "atomics",
        "faults",
        "globals",
        "hash_table",
        "heap",
        "linked_list",
        "queue",
        "runtime",
        "unverifiable",
    ] {
        let (code, out, err) = run(&format!("verify bpf/{object}.bpf.o --engine both"));
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.ends_with(" programs, 0 verdicts differ\n"), "{out}");
    }
    // Mistakes are refused with the same error number and final message.
    for object in ["values", "context", "resources", "arena"] {
        let (code, out, err) = run(&format!("verify bpf/mistakes/{object}.bpf.o --engine both"));
        assert_eq!(code, Some(0), "{out}{err}");
        let said = |by: &str| -> Vec<String> {
            out.lines().filter(|line| line.contains(by)).map(|line| line.replacen(by, "", 1)).collect()
        };
        let (ours, theirs) = (said(": refused by user"), said(": refused by kernel"));
        assert!(!ours.is_empty());
        assert_eq!(ours, theirs);
    }
    Ok(())
}
