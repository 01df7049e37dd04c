//! What the process says to a configuration that it cannot take, and how it ends.

#![cfg(feature = "dpdk")]

use std::path::Path;
use std::process::{Command, Output};

fn check(text: &str, variable: Option<(&str, &str)>) -> Output {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    run(file.path(), variable)
}

fn run(file: &Path, variable: Option<(&str, &str)>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringfence-dataplane"));
    command.arg("--check").arg("--config").arg(file);
    command.envs(variable).output().expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const LANE: &str = "[[lane]]\nmirror = \"null\"\n";

#[test]
fn a_good_configuration_ends_with_0() {
    let output = check(LANE, None);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_bad_configuration_ends_with_2_and_one_line() {
    for (text, words) in [
        (
            format!("[flow]\nflow_max = 3\n{LANE}"),
            ":2: unknown key `flow.flow_max`",
        ),
        (
            format!("{LANE}[memory]\nmbufs = 'x'\n"),
            ":4: `memory.mbufs`",
        ),
        (format!("{LANE}[memory\n"), ":3: no TOML"),
        (
            format!("{LANE}[memory]\nmbufs = 1\n"),
            "`memory.mbufs` is 1",
        ),
        (
            format!("{LANE}[dataplane]\nworkers = [1023]\n"),
            "`dataplane.workers` names CPU 1023",
        ),
        (
            format!("{LANE}[dataplane]\nmain_cpu = 70000\n"),
            "`dataplane.main_cpu` names CPU 70000",
        ),
        (
            "[[lane]]\nmirror = \"nul\"\n".to_owned(),
            "unknown kind `nul`",
        ),
        (String::new(), "no lane"),
    ] {
        let output = check(&text, None);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}\n{said}");
        assert!(said.contains(words), "`{words}` is told: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let output = run(Path::new("/nowhere/dataplane.toml"), None);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("/nowhere/dataplane.toml"));
}

#[test]
fn a_bad_variable_is_told_by_its_name_whatever_the_file_says() {
    let file = format!("{LANE}[memory]\nmbufs = 4096\n");
    for (variable, value) in [
        ("RINGFENCE_DATAPLANE_MEMORY__MBUFS", "many"),
        ("RINGFENCE_DATAPLANE_MEMORY__MBUFFS", "7"),
        ("RINGFENCE_DATAPLANE_FLOW__KEY", "both"),
    ] {
        let output = check(&file, Some((variable, value)));
        assert_eq!(output.status.code(), Some(2));
        let said = said(&output);
        assert!(
            said.contains(&format!("environment variable {variable}: ")),
            "{said}"
        );
    }
}

#[test]
fn a_bad_flag_is_told_as_one() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringfence-dataplane"))
        .args(["--check", "--mirror", "null", "--idle", "often"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(said.contains("command line: `dataplane.idle`: "), "{said}");
}

#[test]
fn a_port_that_the_host_does_not_have_ends_with_1() {
    let output = check("[[lane]]\nmirror = \"af_packet:nowhere0\"\n", None);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("nowhere0"));
}
