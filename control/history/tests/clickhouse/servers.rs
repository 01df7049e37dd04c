//! Two servers of ClickHouse on loopback, with everything that is theirs in a temporary directory.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to begin or to end. A limit against hanging: none of the tests waits so long.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const USER: &str = "ringfence";
pub(crate) const PASSWORD: &str = "a secret";

/// A server, which may be away.
#[derive(Debug)]
pub(crate) struct Server {
    dir: PathBuf,
    pub(crate) http_port: u16,
    tcp_port: u16,
    running: Option<(Child, u32)>,
}

/// Two of them, that know each other.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) servers: Vec<Server>,
    _dir: tempfile::TempDir,
}

/// Where the program is.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
        .map(|dir| dir.join("clickhouse-server"))
        .find(|file| file.is_file())
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

fn config(dir: &Path, http: u16, tcp: u16, all: &[u16]) -> String {
    let shards: String = all
        .iter()
        .map(|port| {
            format!(
                "<shard><replica><host>127.0.0.1</host><port>{port}</port><user>{USER}</user><password>{PASSWORD}\
                 </password></replica></shard>"
            )
        })
        .collect();
    let dir = dir.display();
    format!(
        "<?xml version=\"1.0\"?><yandex><logger><level>warning</level><log>{dir}/log</log><errorlog>{dir}/errors\
         </errorlog></logger><http_port>{http}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>\
         <max_connections>256</max_connections><max_concurrent_queries>100</max_concurrent_queries>\
         <uncompressed_cache_size>1048576</uncompressed_cache_size><mark_cache_size>5242880</mark_cache_size>\
         <path>{dir}/data/</path><tmp_path>{dir}/tmp/</tmp_path><user_files_path>{dir}/files/</user_files_path>\
         <format_schema_path>{dir}/schemas/</format_schema_path><users_config>users.xml</users_config>\
         <default_profile>default</default_profile><default_database>default</default_database><timezone>UTC</timezone>\
         <remote_servers><ringfence>{shards}</ringfence></remote_servers></yandex>"
    )
}

fn users() -> String {
    format!(
        "<?xml version=\"1.0\"?><yandex><profiles><default/></profiles><quotas><default/></quotas><users><{USER}>\
         <password>{PASSWORD}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>\
         <quota>default</quota></{USER}></users></yandex>"
    )
}

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// Begins, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let program = program().expect("the caller asked whether it is there");
        // The shell ends the server when this process has gone, however it went: the pipe closes then.
        let script = "exec 3<&0; \"$0\" --config-file=\"$1\" </dev/null >/dev/null 2>&1 & pid=$!; echo $pid; \
                      cat >/dev/null; kill -9 $pid";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .arg(program)
            .arg(self.dir.join("config.xml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut line = String::new();
        let out = shell.stdout.take().expect("it is a pipe");
        BufReader::new(out)
            .read_line(&mut line)
            .expect("the shell tells the server's id");
        let pid = line.trim().parse().expect("an id is a number");
        self.running = Some((shell, pid));
        let since = Instant::now();
        while !self.answers() {
            assert!(
                since.elapsed() < PATIENCE,
                "the server in {} does not begin",
                self.dir.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let mut text = String::new();
        TcpStream::connect(("127.0.0.1", self.http_port))
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                stream.write_all(b"GET /ping HTTP/1.0\r\n\r\n")?;
                stream.read_to_string(&mut text)
            })
            .is_ok_and(|_| text.contains("Ok."))
    }

    fn signal(&self, signal: &str) {
        let (_, pid) = self.running.as_ref().expect("it runs");
        let status = Command::new("kill")
            .args([signal, &pid.to_string()])
            .status();
        assert!(status.is_ok_and(|s| s.success()), "kill {signal} {pid}");
    }

    /// Holds it still: it neither answers nor ends.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// Ends it at once, wherever it is.
    pub(crate) fn kill(&mut self) {
        if let Some((mut shell, pid)) = self.running.take() {
            drop(shell.stdin.take());
            // The shell kills the server and is then done.
            let _ = shell.wait();
            let since = Instant::now();
            while Path::new(&format!("/proc/{pid}")).exists() && since.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Pair {
    /// Two servers that do not run yet; none where ClickHouse is not installed, which is then said.
    pub(crate) fn prepared() -> Option<Self> {
        if program().is_none() {
            eprintln!("SKIPPED: clickhouse-server is not installed; tests/setup.sh installs it");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports: Vec<(u16, u16)> = (0..2).map(|_| (free_port(), free_port())).collect();
        let all: Vec<u16> = ports.iter().map(|(_, tcp)| *tcp).collect();
        let server = |(index, (http, tcp)): (usize, &(u16, u16))| {
            let own = dir.path().join(index.to_string());
            for part in ["data", "tmp", "files", "schemas"] {
                fs::create_dir_all(own.join(part)).expect("a directory of its own");
            }
            fs::write(own.join("config.xml"), config(&own, *http, *tcp, &all)).expect("written");
            fs::write(own.join("users.xml"), users()).expect("written");
            Server {
                dir: own,
                http_port: *http,
                tcp_port: *tcp,
                running: None,
            }
        };
        let servers: Vec<Server> = ports.iter().enumerate().map(server).collect();
        assert!(servers.iter().all(|s| s.tcp_port != 0));
        Some(Self { servers, _dir: dir })
    }

    /// Two servers that run.
    pub(crate) fn started() -> Option<Self> {
        let mut pair = Self::prepared()?;
        pair.servers.iter_mut().for_each(Server::start);
        Some(pair)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(Server::url).collect()
    }
}
