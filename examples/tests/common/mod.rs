//! Drives a server from outside: starts the program, connects to it, and ends it.

#![allow(dead_code, unused_macros, unused_imports)] // each test needs another part

pub mod every_server;
pub mod terminal;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
#[cfg(target_os = "linux")]
use rustix::process::{Resource, Rlimit, prlimit};
use socket2::SockRef;

/// How long anything may take on a machine that has other things to do. Only a failure takes so long.
pub const LONG: Duration = Duration::from_secs(60);

/// A server program that runs. It is killed when this is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it on a free port.
    pub fn start(program: &str, options: &[&str]) -> Self {
        Server::launch(Command::new(program).arg("127.0.0.1:0").args(options))
    }

    /// Starts it by a command of the caller's, and reads its address from its first line.
    pub fn launch(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{line}"));
        Server { child, address, output }
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        patient(&socket);
        socket
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self) {
        self.send(Signal::INT);
    }

    pub fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Stops it, as Ctrl-Z does. [`Signal::CONT`] makes it go on.
    pub fn freeze(&self) {
        self.send(Signal::STOP);
        let state = waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap();
        assert!(state.is_some_and(|(_, state)| state.stopped()));
    }

    /// Connects and sends while the server is stopped, so that its deadlines start when everything has arrived.
    pub fn connect_and_send(&self, bytes: &[u8]) -> TcpStream {
        self.freeze();
        let mut socket = self.connect();
        socket.write_all(bytes).unwrap();
        self.send(Signal::CONT);
        socket
    }

    /// Ends it with Ctrl-C, and returns the last line.
    pub fn interrupt(self) -> String {
        self.signal();
        self.last_line()
    }

    /// Waits until it has ended well, and returns its last line.
    pub fn last_line(self) -> String {
        self.rest().lines().last().unwrap_or_default().to_owned()
    }

    /// Waits until it has ended well, and returns what it printed after its first line.
    pub fn rest(mut self) -> String {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {rest}");
        rest
    }

    /// Reads what it prints up to a line that contains `text`, and returns that line.
    pub fn line_with(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "no line contains {text}");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for a while, ends it with Ctrl-C, and returns what it printed after its first line.
    pub fn interrupt_after(self, time: Duration) -> String {
        std::thread::sleep(time);
        self.signal();
        self.rest()
    }

    /// Waits until it has ended, and returns how.
    pub fn status(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    #[cfg(target_os = "linux")]
    pub fn limit_fds(&self, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    /// Returns the processor time that it has used, in clock ticks.
    #[cfg(target_os = "linux")]
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Returns the most memory that it has had, in kilobytes.
    #[cfg(target_os = "linux")]
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Returns whether all its threads wait for something. A thread that only waits for a processor is not asleep.
    #[cfg(target_os = "linux")]
    fn is_asleep(&self) -> bool {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().all(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            // A thread that has ended since then has no stat.
            stat.map_or(true, |stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('S'))
        })
    }

    /// Fails if the server goes on using the processor although it has nothing to do.
    #[cfg(target_os = "linux")]
    pub fn assert_at_rest(&self) {
        let start = Instant::now();
        loop {
            let before = self.ticks();
            std::thread::sleep(Duration::from_millis(1_500));
            let used = self.ticks() - before;
            if used <= 20 && self.is_asleep() {
                return;
            }
            // It may still have something to do.
            assert!(start.elapsed() < LONG, "{used} ticks in 1.5 s");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has reads on a socket fail that would wait for ever.
pub fn patient(socket: &TcpStream) {
    // It fails on macOS if the peer has reset the connection already.
    let _ = socket.set_read_timeout(Some(LONG));
}

/// Closes a socket with a reset.
pub fn reset(socket: TcpStream) {
    // It fails on macOS if the peer has reset the connection already.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Sends a message to a server that sends it back, and checks the echo.
pub fn assert_echoed(mut socket: &TcpStream, message: &[u8]) {
    socket.write_all(message).unwrap();
    assert_reads(socket, message);
}

/// Has an echo server serve a client from its connect to the end of both streams.
pub fn assert_comes_and_goes(server: &Server) {
    let socket = server.connect();
    assert_echoed(&socket, b"hello");
    socket.shutdown(Shutdown::Write).unwrap();
    assert_ends(&socket);
}

/// Checks that nothing comes before the end of the stream.
pub fn assert_ends(mut socket: &TcpStream) {
    // It goes on after EINTR, which a read with a timeout can meet although the process handles no signal (signal(7)).
    assert_eq!(socket.read_to_end(&mut Vec::new()).unwrap(), 0);
}

/// Checks what comes next.
pub fn assert_reads(mut socket: &TcpStream, expected: &[u8]) {
    let mut came = vec![0; expected.len()];
    socket.read_exact(&mut came).unwrap();
    assert!(came == expected, "{} bytes differ from what was expected", came.len());
}

pub fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// Runs a program that may open few descriptors.
pub fn run_with_fds(fds: u32, program: &str, arguments: &[&str]) -> Output {
    let script = format!(r#"ulimit -n {fds}; exec "$0" "$@""#);
    Command::new("sh").args(["-c", &script, program]).args(arguments).output().unwrap()
}

/// Runs a demo that may open few descriptors, for its clients and its server together.
pub fn assert_demo_needs_few_fds(program: &str) {
    for fds in [32, 64] {
        let output = run_with_fds(fds, program, &["--demo", "1"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("0 bytes wrong"), "{text}");
    }
}

/// Fails if a program that the test needs is not installed.
pub fn need(program: &str) {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    assert!(is_there, "{program} is not installed, and this test needs it");
}

/// Bad arguments and a taken port are errors that name what is wrong. --help names the default address.
pub fn check_help_and_errors(program: &str, address: &str) {
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
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && text.contains("Usage:") && text.contains(address), "{text}");
}
