//! What every server has to bear: one test for each kind of fault, for all programs.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use super::terminal::{Terminal, status_lines};
use super::{LONG, Server, assert_ends, assert_reads, need, patient, reset};

/// A server program, as these tests see it.
pub struct Program {
    pub path: &'static str,
    /// The arguments after the address.
    pub arguments: fn() -> Vec<String>,
    /// Sends what a client sends first.
    pub ask: fn(&TcpStream),
    /// Reads the answer to that, and checks it.
    pub check_answer: fn(&TcpStream),
}

/// Has every test of this module run for a program.
macro_rules! every_server {
    ($program:expr) => {
        $crate::common::every_server::every_server! { $program;
            a_closed_stdout_changes_nothing
            #[cfg_attr(not(target_os = "linux"), ignore = "needs /dev/full")]
            a_full_disk_under_stdout_changes_nothing
            a_pipe_that_nobody_reads_changes_nothing
            a_stopped_terminal_changes_nothing
            the_status_line_fits_the_terminal
            a_dumb_terminal_gets_no_escape_sequences
            without_a_terminal_it_speaks_only_when_something_has_changed
            a_signal_right_after_the_first_line_ends_it_well
            a_second_signal_ends_it_at_once
            a_stop_answers_what_was_connected_before
            it_starts_again_at_once_on_the_same_port
            connections_that_are_reset_before_they_are_accepted_end_alone
            #[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
            the_errors_of_single_connections_end_these_alone
            #[cfg_attr(not(target_os = "linux"), ignore = "needs more descriptors than macOS allows a process")]
            six_hundred_clients_are_served_with_64_fds
        }
    };
    ($program:expr; $($(#[$attribute:meta])* $test:ident)*) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $test() {
                $crate::common::every_server::$test(&$program);
            }
        )*
    };
}
pub(crate) use every_server;

impl Program {
    /// Returns a program that sends back what it is sent.
    pub const fn echoing(path: &'static str, arguments: fn() -> Vec<String>) -> Self {
        Program {
            path,
            arguments,
            ask: |mut socket| socket.write_all(b"hello").unwrap(),
            check_answer: |socket| assert_reads(socket, b"hello"),
        }
    }

    /// Returns a command that starts it on a port, where 0 is a free one.
    fn command(&self, port: u16) -> Command {
        let mut command = Command::new(self.path);
        command.arg(format!("127.0.0.1:{port}")).args((self.arguments)());
        command
    }

    /// Returns a command that starts it in a terminal.
    fn command_in(&self, terminal: &Terminal, port: u16) -> Command {
        let mut command = self.command(port);
        command.env("TERM", "xterm").stdout(terminal.stdout());
        command
    }

    fn start(&self) -> Server {
        Server::launch(&mut self.command(0))
    }

    fn serves(&self, socket: &TcpStream) {
        (self.ask)(socket);
        (self.check_answer)(socket);
    }

    fn serves_on(&self, port: u16) {
        self.serves(&connect(port));
    }
}

/// Connects, and waits until somebody listens on the port.
fn connect(port: u16) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(socket) => {
                patient(&socket);
                return socket;
            }
            Err(error) if start.elapsed() > LONG => panic!("{error}"),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Returns a port that is free. Systems choose ports above this range for those who take any.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..30_000);
        // It does not listen, so a copy of it in a process that is just starting does not block the program.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        if socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).is_ok() {
            return port;
        }
    }
}

/// A program whose output the test has arranged. It is killed when this is dropped.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Checks that it ends well.
    fn ends(mut self) {
        let start = Instant::now();
        while start.elapsed() < LONG {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it has not ended after {LONG:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Long enough for a status line, or for two of them.
const A_WHILE: Duration = Duration::from_millis(2_200);

pub fn a_closed_stdout_changes_nothing(program: &Program) {
    let port = free_port();
    let mut running = Running(program.command(port).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap(); // and closes it
    program.serves_on(port);
    thread::sleep(A_WHILE);
    program.serves_on(port);
    running.signal(Signal::INT);
    running.ends();
}

pub fn a_full_disk_under_stdout_changes_nothing(program: &Program) {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let port = free_port();
    let running = Running(program.command(port).stdout(full).spawn().unwrap());
    program.serves_on(port);
    running.signal(Signal::TERM);
    running.ends();
}

pub fn a_pipe_that_nobody_reads_changes_nothing(program: &Program) {
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4_096]).is_ok() {}
    while rustix::io::write(&writer, b"x").is_ok() {}
    ioctl_fionbio(&writer, false).unwrap();
    let port = free_port();
    let running = Running(program.command(port).stdout(writer).spawn().unwrap());
    program.serves_on(port);
    thread::sleep(A_WHILE);
    program.serves_on(port);
    running.signal(Signal::TERM);
    running.ends();
}

pub fn a_stopped_terminal_changes_nothing(program: &Program) {
    let terminal = Terminal::open(80);
    let port = free_port();
    let running = Running(program.command_in(&terminal, port).spawn().unwrap());
    program.serves_on(port);
    terminal.control(b's');
    for _ in 0..10 {
        program.serves_on(port);
        thread::sleep(Duration::from_millis(100));
    }
    running.signal(Signal::TERM);
    running.ends();
}

pub fn the_status_line_fits_the_terminal(program: &Program) {
    let terminal = Terminal::open(80);
    let port = free_port();
    let running = Running(program.command_in(&terminal, port).env("NO_COLOR", "1").spawn().unwrap());
    for columns in [80, 20, 80, 7] {
        terminal.resize(columns);
        let before = terminal.written().len();
        let start = Instant::now();
        loop {
            program.serves_on(port); // and the line changes
            thread::sleep(Duration::from_millis(50));
            let written = terminal.written();
            let mut lines = status_lines(written.get(before..).unwrap());
            lines.pop(); // it may not be complete
            let widths: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
            // The first may have been on their way when the size changed.
            if widths.len() > 3 && widths[widths.len() - 3..].iter().all(|width| *width < columns.into()) {
                break;
            }
            assert!(start.elapsed() < LONG, "{widths:?} in {columns} columns: {written:?}");
        }
    }
    running.signal(Signal::INT);
    running.ends();
    let written = terminal.written();
    let has_colour = written.split("\x1b[").skip(1).any(|rest| {
        rest.trim_start_matches(|character: char| character.is_ascii_digit() || character == ';')
            .starts_with('m')
    });
    assert!(!has_colour, "{written:?}");
}

pub fn a_dumb_terminal_gets_no_escape_sequences(program: &Program) {
    let terminal = Terminal::open(80);
    let port = free_port();
    let running = Running(program.command_in(&terminal, port).env("TERM", "dumb").spawn().unwrap());
    program.serves_on(port);
    thread::sleep(A_WHILE);
    running.signal(Signal::INT);
    running.ends();
    let start = Instant::now();
    while !terminal.written().contains("Ctrl-C") {
        assert!(start.elapsed() < LONG, "{:?}", terminal.written());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(!terminal.written().contains('\x1b'), "{:?}", terminal.written());
}

pub fn without_a_terminal_it_speaks_only_when_something_has_changed(program: &Program) {
    let server = program.start();
    program.serves(&server.connect());
    thread::sleep(A_WHILE);
    let rest = server.interrupt_after(A_WHILE);
    let lines: Vec<&str> = rest.lines().collect();
    assert!(lines.windows(2).all(|pair| pair[0] != pair[1]), "{rest}");
    assert!(lines.len() <= 8, "{rest}");
}

pub fn a_signal_right_after_the_first_line_ends_it_well(program: &Program) {
    for signal in [Signal::INT, Signal::TERM, Signal::QUIT, Signal::INT, Signal::TERM] {
        let server = program.start();
        server.send(signal);
        assert!(!server.last_line().is_empty());
    }
}

pub fn a_second_signal_ends_it_at_once(program: &Program) {
    let server = program.start();
    server.freeze();
    server.send(Signal::INT);
    server.send(Signal::TERM);
    server.send(Signal::CONT);
    let status = server.status();
    assert!(status.code().is_none_or(|code| code == 130), "{status}");
    assert!(!status.success());
}

pub fn a_stop_answers_what_was_connected_before(program: &Program) {
    let server = program.start();
    server.freeze();
    let mut sockets = Vec::new();
    for _ in 0..100 {
        let socket = server.connect();
        (program.ask)(&socket);
        sockets.push(socket);
    }
    server.signal();
    server.send(Signal::CONT);
    for socket in &sockets {
        (program.check_answer)(socket);
    }
    drop(sockets);
    server.last_line();
}

pub fn it_starts_again_at_once_on_the_same_port(program: &Program) {
    let port = free_port();
    for _ in 0..2 {
        let server = Server::launch(&mut program.command(port));
        let socket = server.connect();
        program.serves(&socket);
        server.interrupt(); // closes the connection first, so that its end of it stays in TIME_WAIT
        drop(socket);
    }
}

pub fn connections_that_are_reset_before_they_are_accepted_end_alone(program: &Program) {
    let server = program.start();
    for _ in 0..3 {
        server.freeze();
        let good = server.connect();
        (program.ask)(&good);
        for _ in 0..60 {
            let socket = server.connect();
            (program.ask)(&socket);
            reset(socket);
        }
        let last = server.connect();
        (program.ask)(&last);
        server.send(Signal::CONT);
        (program.check_answer)(&good);
        (program.check_answer)(&last);
    }
    program.serves(&server.connect());
    server.interrupt();
}

/// strace makes the first calls of accept fail as the kernel does (accept(2)).
pub fn the_errors_of_single_connections_end_these_alone(program: &Program) {
    for error in ["EPROTO", "EPERM", "ECONNABORTED", "EHOSTUNREACH", "ENETDOWN", "ETIMEDOUT", "EINTR"] {
        let server = faulty(program, &format!("accept4:error={error}:when=1..3"));
        for _ in 0..3 {
            program.serves(&server.connect());
        }
        server.interrupt();
    }
    for shortage in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
        let server = faulty(program, &format!("accept4:error={shortage}:when=1..2"));
        for _ in 0..3 {
            program.serves(&server.connect());
        }
        server.interrupt();
    }
}

/// Starts a program whose system calls fail as `fault` says, in the words of strace's `inject`. Each thread counts its
/// own calls.
pub fn faulty(program: &Program, fault: &str) -> Server {
    faulty_with(program.path, &(program.arguments)(), fault)
}

/// The same. The program gets these arguments after its address.
pub fn faulty_with(path: &str, arguments: &[String], fault: &str) -> Server {
    need("strace");
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
    let (call, _) = fault.split_once(':').unwrap();
    command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={fault}")]);
    command.arg(path).arg("127.0.0.1:0").args(arguments);
    Server::launch(&mut command)
}

/// All of them at once, so that most have to wait until others have gone.
pub fn six_hundred_clients_are_served_with_64_fds(program: &Program) {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"ulimit -n 64; exec "$0" "$@""#, program.path, "127.0.0.1:0"])
        .args((program.arguments)());
    let server = Server::launch(&mut command);
    thread::scope(|scope| {
        for _ in 0..600 {
            let client = || program.serves(&server.connect());
            thread::Builder::new().stack_size(128 * 1_024).spawn_scoped(scope, client).unwrap();
        }
    });
    server.interrupt();
}

/// For the servers with an option `--idle`, which is four seconds here.
pub fn what_came_in_time_is_answered_although_the_server_was_busy(program: &Program) {
    let server = faulty(program, "sendto:delay_exit=5000000:when=1"); // the first answer takes it five seconds
    let (waiting, first) = (server.connect(), server.connect());
    program.serves(&first);
    program.serves(&waiting);
}

/// For the servers with an option `--idle`. The silent clients come first, and more of them than there are descriptors.
#[cfg(target_os = "linux")]
pub fn silent_clients_make_room_for_others(program: &Program) {
    let server = Server::launch(program.command(0).arg("--idle=2"));
    server.limit_fds(64);
    server.freeze(); // so that the last client has sent its message when it is accepted
    let silent: Vec<_> = (0..70).map(|_| server.connect()).collect();
    let last = server.connect();
    (program.ask)(&last);
    server.send(Signal::CONT);
    (program.check_answer)(&last);
    for socket in &silent {
        assert_ends(socket);
    }
    server.interrupt();
}
