//! A command on a terminal of its own, as it is when a person sits before it. `script` (util-linux) opens the terminal.

use std::process::{Command, Stdio};

use crate::command::words;

/// What a terminal sends for Ctrl-C; it makes SIGINT of it for whoever is in the foreground.
pub const CTRL_C: &[u8] = b"\x03";

/// A command line that runs on a new terminal and ends as the command does. What is written to its standard input is
/// typed at the terminal; its standard output is what the screen gets.
#[must_use]
pub fn on_terminal(command: &[&str]) -> Command {
    // `exec`: Ctrl-C reaches the command alone, not a shell around it too.
    let quoted: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let mut script = words(&["script", "--quiet", "--return", "--command"]);
    script
        .arg(format!("exec {}", quoted.join(" ")))
        .arg("/dev/null")
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped());
    script
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::command::{Background, wait_until};

    const LIMIT: Duration = Duration::from_secs(180);

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[test]
    fn what_runs_on_it_has_a_terminal_and_is_interrupted_by_ctrl_c() {
        let directory = tempfile::tempdir().expect("a directory");
        let ask = "trap 'exit 7' INT; test -t 2 && echo yes; while :; do sleep 0.05; done";
        let mut command = on_terminal(&["sh", "-c", ask]);
        let mut asked = Background::start(&mut command, directory.path().join("log"));
        assert!(
            wait_until(LIMIT, || asked.log().contains("yes")),
            "{}",
            asked.log()
        );
        asked.type_in(CTRL_C);
        let ended = asked.wait(LIMIT).and_then(|status| status.code());
        assert_eq!(ended, Some(7), "{}", asked.log());
    }
}
