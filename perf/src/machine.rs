//! What the figures were taken on.

use std::path::Path;
use std::process::Command;

/// Machine, kernel, DPDK and commit.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) dpdk: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    pub(crate) hugepages_free: u64,
    pub(crate) date: String,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let after_colon = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
            Some(line.split(':').nth(1)?.trim().to_owned())
        };
        let hugepages = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
        Self {
            cpu: after_colon("model name").unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            kernel: output("uname", &["-r"]),
            dpdk: output("pkg-config", &["--modversion", "libdpdk"]),
            rustc: output("rustc", &["--version"]),
            commit: output("git", &["describe", "--always", "--dirty"]),
            hugepages_free: std::fs::read_to_string(hugepages)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0),
            date: output("date", &["-u", "+%Y-%m-%d"]),
        }
    }

    /// The head of a page of results.
    pub(crate) fn headline(&self) -> String {
        format!(
            "# {} on {}\n\n{} CPUs, kernel {}, DPDK {}, {}, commit {}, {} hugepages of 2 MiB free.\n",
            self.date,
            self.cpu,
            self.cpus,
            self.kernel,
            self.dpdk,
            self.rustc,
            self.commit,
            self.hugepages_free,
        )
    }

    /// Writes `DATE-MACHINE.md` and `.json` into `dir`, with a number behind where the day has results
    /// already: a run takes nothing back.
    pub(crate) fn keep(&self, dir: &Path, text: &str, json: &str) -> Result<(), String> {
        let words = self.cpu.split(|c: char| !c.is_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let machine = words.join("-").to_lowercase();
        let name = format!("{}-{machine}", self.date);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let is_free = |name: &String| !dir.join(format!("{name}.md")).exists();
        let free = std::iter::once(name.clone()).chain(numbered).find(is_free);
        let name = free.unwrap_or(name);
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for (extension, text) in [("md", text), ("json", json)] {
            let path = dir.join(format!("{name}.{extension}"));
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_of_a_day_keeps_the_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = Machine::read();
        machine.keep(dir.path(), "first", "{}").expect("kept");
        machine.keep(dir.path(), "second", "{}").expect("kept");
        let mut kept: Vec<String> = std::fs::read_dir(dir.path())
            .expect("read")
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
            .collect();
        kept.sort();
        assert_eq!(kept, ["first", "second", "{}", "{}"]);
    }
}
