//! Drives a server from outside: starts the program, connects to it, ends it.

#![allow(dead_code)] // each test needs another part

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
#[cfg(target_os = "linux")]
use rustix::process::{Resource, Rlimit, prlimit};

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it on a free port.
    pub fn start(program: &str, options: &[&str]) -> Self {
        let mut child =
            Command::new(program).arg("127.0.0.1:0").args(options).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Server { child, address, output }
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self) {
        kill_process(self.pid(), Signal::INT).unwrap();
    }

    /// Ends it with Ctrl-C, and returns the last line.
    pub fn interrupt(self) -> String {
        self.signal();
        self.last_line()
    }

    /// What it says last, once it has ended well.
    pub fn last_line(mut self) -> String {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest.lines().last().unwrap_or_default().to_owned()
    }

    #[cfg(target_os = "linux")]
    pub fn limit_fds(&self, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    /// The processor time that it has used, in clock ticks.
    #[cfg(target_os = "linux")]
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// The most memory that it has had, in kilobytes.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Fails where the server works though there is nothing to do.
    #[cfg(target_os = "linux")]
    pub fn is_at_rest(&self) {
        std::thread::sleep(Duration::from_millis(300));
        let before = self.ticks();
        std::thread::sleep(Duration::from_millis(1_500));
        let used = self.ticks() - before;
        assert!(used <= 20, "{used} ticks in 1.5 s");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// Whether a program is there. On Linux CI installs those that tests need; where it is missing the test says so.
pub fn has(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    let may_be_missing = std::env::var_os("CI").is_none() || !cfg!(target_os = "linux");
    assert!(is_there || may_be_missing, "{program} is not installed");
    if !is_there {
        // Past the test harness, which swallows what a test that passes prints.
        let _ = writeln!(std::io::stderr(), "left out: {program} is not installed");
    }
    is_there
}

/// Bad arguments and a taken port are errors that name what is wrong, and --help helps.
pub fn says_what_is_wrong(program: &str) {
    let server = Server::start(program, &[]);
    for (argument, said) in [
        ("nonsense", "nonsense"),
        ("nonsense", "HOST:PORT"),
        ("127.0.0.1:65536", "HOST:PORT"),
        ("--frobnicate", "'--frobnicate'"),
        (&server.address.to_string()[..], "cannot listen on"),
    ] {
        let output = run(program, &[argument]);
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(said), "{text}");
    }
    let help = run(program, &["--help"]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("Usage:"));
}
