//! The examples from outside: started, talked to over real sockets, and stopped by Ctrl-C.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A server that is running. Killed where a test fails.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts a program which says `NAME on ADDRESS` first.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.split_whitespace().nth(2).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
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

    /// Ends it with Ctrl-C, and returns the last line.
    pub fn interrupt(mut self) -> String {
        kill_process(self.pid(), Signal::INT).unwrap();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest.lines().last().unwrap_or_default().to_owned()
    }

    /// Leaves it fds for so many things at a time, of which the program itself needs some.
    #[cfg(target_os = "linux")]
    pub fn limit_fds(&self, most: u64) {
        use rustix::process::{Resource, Rlimit, prlimit};

        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    /// Asserts that it has better things to do than to spin, for as long as that lasts.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub fn is_idle(&self) {
        std::thread::sleep(Duration::from_millis(300));
        let before = self.ticks();
        std::thread::sleep(Duration::from_millis(1_500));
        let ticks = self.ticks() - before;
        assert!(ticks <= 20, "{ticks} ticks in 1.5 s");
    }

    /// The processor time that it has used, in clock ticks.
    #[cfg(target_os = "linux")]
    fn ticks(&self) -> u64 {
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

/// Asserts that the program says what is wrong with its arguments, and fails.
#[track_caller]
pub fn refuses(program: &str, arguments: &[&str], said: &str) {
    let output = run(program, arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains(said), "{arguments:?}: {text}");
}

/// Asserts that there is a help text, and that a taken port and a bad address are said so.
#[track_caller]
pub fn speaks_to_people(program: &str, taken: &Server) {
    let help = run(program, &["--help"]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("Usage: "));
    refuses(program, &["nonsense"], "'nonsense' is not an address");
    refuses(program, &["--frobnicate"], "invalid option '--frobnicate'");
    refuses(program, &[&taken.address.to_string()], "cannot listen on");
}

/// Until the other end has closed the connection, whichever way.
pub fn until_closed(mut socket: &TcpStream) {
    let mut buffer = [0; 4_096];
    while socket.read(&mut buffer).is_ok_and(|read| read > 0) {}
}
