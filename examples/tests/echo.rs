//! Drives the echo server from outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::SockRef;

struct Server {
    child: Child,
    address: SocketAddr,
    output: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_echo"))
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("echo on ").unwrap().parse().unwrap();
        Server { child, address, output }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Ends it with Ctrl-C, and returns the last line.
    fn interrupt(mut self) -> String {
        kill_process(self.pid(), Signal::INT).unwrap();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest.lines().last().unwrap_or_default().to_owned()
    }

    /// The processor time that it has used, in clock ticks.
    #[cfg(target_os = "linux")]
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_echoed(mut socket: &TcpStream, message: &[u8]) {
    socket.write_all(message).unwrap();
    let mut echo = vec![0; message.len()];
    socket.read_exact(&mut echo).unwrap();
    assert_eq!(echo, message);
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_echo")).args(arguments).output().unwrap()
}

#[test]
fn what_is_sent_comes_back_and_ctrl_c_ends_it_with_totals() {
    let server = Server::start();
    let socket = server.connect();
    is_echoed(&socket, b"hello");
    is_echoed(&socket, &[7; 10_000]);
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&socket).read(&mut [0; 1]).unwrap(), 0);
    let last = server.interrupt();
    assert!(last.starts_with("served 1 connections (0 reset"), "{last}");
    assert!(last.ends_with("10.0 KB echoed"), "{last}");
}

#[test]
fn a_peer_that_does_not_read_is_waited_for() {
    let server = Server::start();
    let slow = server.connect();
    let message: Vec<u8> = (0..20_000_000u32).map(|n| n as u8).collect();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| (&slow).write_all(&message).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        assert!(!sending.is_finished(), "the server read what it could not send");
        is_echoed(&server.connect(), b"others are served meanwhile");
        let mut echo = vec![0; message.len()];
        (&slow).read_exact(&mut echo).unwrap();
        assert!(echo == message);
    });
}

#[test]
fn a_half_closed_peer_gets_the_rest() {
    let server = Server::start();
    let socket = server.connect();
    let message = vec![5; 5_000_000];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&socket).write_all(&message).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        });
        let mut echo = Vec::new();
        (&socket).read_to_end(&mut echo).unwrap();
        assert!(echo == message);
    });
}

#[test]
fn resets_and_thousands_of_connects_leave_it_serving() {
    let server = Server::start();
    for round in 0..2_000 {
        let socket = server.connect();
        if round % 2 == 0 {
            (&socket).write_all(b"x").unwrap();
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    is_echoed(&server.connect(), b"still here");
    assert!(server.interrupt().starts_with("served 2001 connections"));
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_fds_it_does_not_spin_and_serves_when_one_is_free() {
    use rustix::process::{Resource, Rlimit, prlimit};

    let server = Server::start();
    let limit = Rlimit { current: Some(24), maximum: Some(24) };
    prlimit(Some(server.pid()), Resource::Nofile, limit).unwrap();
    let mut sockets: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    is_echoed(&sockets[0], b"the first");
    std::thread::sleep(Duration::from_millis(300));
    let before = server.ticks();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(server.ticks() - before <= 20, "{} ticks in 1.5 s", server.ticks() - before);
    let last = sockets.pop().unwrap();
    (&last).write_all(b"the last").unwrap();
    sockets.clear();
    let mut echo = [0; 8];
    (&last).read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"the last");
}

#[test]
fn bad_arguments_and_taken_ports_are_said_so() {
    let server = Server::start();
    for (arguments, said) in [
        (vec!["nonsense"], "'nonsense' is not an address"),
        (vec!["--frobnicate"], "invalid option '--frobnicate'"),
        (vec![&server.address.to_string()[..]], "cannot listen on"),
    ] {
        let output = run(&arguments);
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(said), "{text}");
    }
    let help = run(&["--help"]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("Usage:"));
}

#[test]
fn the_demo_checks_every_byte() {
    let start = Instant::now();
    let output = run(&["--demo", "1"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("0 bytes wrong") && text.contains("50 clients"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(30));
}
