//! Drives the proxy from outside, with servers and clients of the tests' own.

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use common::every_server::faulty_with;
use common::every_server::{Program, every_server, faulty};
use common::{LONG, Server, assert_echoed, assert_reads, need, patient, reset, run};
#[cfg(target_os = "linux")]
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

const PROXY: &str = env!("CARGO_BIN_EXE_proxy");

/// The proxy in front of an echo server.
const PROGRAM: Program = Program::echoing(PROXY, || vec![echo_server().to_string()]);

every_server!(PROGRAM);

/// Returns the address of an echo server that runs as long as the tests.
fn echo_server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let (listener, address) = upstream();
        thread::spawn(move || {
            // macOS returns a connection that was reset first as an error.
            for connection in listener.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut &connection, &mut &connection));
            }
        });
        address
    })
}

fn start(upstream: SocketAddr) -> Server {
    Server::start(PROXY, &[&upstream.to_string()])
}

/// Returns a listener and its address. After it is dropped, connections to the address are refused.
fn upstream() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A proxy, and both ends of a connection through it.
fn pair() -> (Server, TcpStream, TcpStream) {
    let (listener, address) = upstream();
    let proxy = start(address);
    let client = proxy.connect();
    let (server, _) = listener.accept().unwrap();
    patient(&server);
    (proxy, client, server)
}

/// Sends bytes one way, and checks that they arrive after `before`. They are read slowly at first.
fn check_carried(mut from: &TcpStream, mut to: &TcpStream, length: usize, before: &[u8]) {
    assert_reads(to, before);
    let message: Vec<u8> = (0..length).map(|n| ((n * n) >> 8) as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| from.write_all(&message).unwrap());
        let mut came = vec![0; length];
        let (first, rest) = came.split_at_mut(length / 100);
        for part in first.chunks_mut(100) {
            to.read_exact(part).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        to.read_exact(rest).unwrap();
        assert!(came == message);
    });
}

fn read_to_end(mut socket: &TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    socket.read_to_end(&mut came).unwrap();
    came
}

fn is_reset(mut socket: &TcpStream) -> bool {
    let end = socket.read_to_end(&mut Vec::new());
    end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn bytes_go_both_ways_at_once() {
    let (proxy, client, server) = pair();
    thread::scope(|scope| {
        scope.spawn(|| check_carried(&client, &server, 20_000_000, b""));
        check_carried(&server, &client, 20_000_000, b"");
    });
    drop((client, server));
    let last = proxy.interrupt();
    assert_eq!(last, "carried 1 connections (0 broken off), 20.0 MB up, 20.0 MB down");
}

#[test]
fn a_half_close_is_carried_and_the_other_way_goes_on() {
    for swapped in [false, true] {
        let (proxy, client, server) = pair();
        let (first, second) = if swapped { (&server, &client) } else { (&client, &server) };
        { first }.write_all(b"all I have").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(second), b"all I have");
        check_carried(second, first, 3_000_000, b"");
        { second }.write_all(b"and I").unwrap();
        second.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(first), b"and I");
        drop((client, server));
        assert!(proxy.interrupt().starts_with("carried 1 connections (0 broken off)"));
    }
}

#[test]
fn what_was_sent_before_a_close_arrives() {
    let (_proxy, client, server) = pair();
    let message = vec![9; 3_000_000];
    thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&message).unwrap();
            drop(client);
        });
        thread::sleep(Duration::from_millis(200));
        assert!(read_to_end(&server) == message);
    });
}

#[test]
fn a_reset_is_carried() {
    for swapped in [false, true] {
        let (proxy, client, server) = pair();
        let (first, second) = if swapped { (server, client) } else { (client, server) };
        (&first).write_all(b"half a requ").unwrap();
        (&second).read_exact(&mut [0; 11]).unwrap();
        reset(first);
        assert!(is_reset(&second));
        assert!(proxy.interrupt().starts_with("carried 1 connections (1 broken off)"));
    }
}

#[test]
fn an_upstream_that_refuses_is_a_reset_downstream() {
    let refusing = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap(); // it does not listen
    refusing.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let proxy = start(refusing.local_addr().unwrap().as_socket().unwrap());
    assert!(is_reset(&proxy.connect()));
    assert!(is_reset(&proxy.connect()));
    assert!(proxy.interrupt().starts_with("carried 2 connections (2 broken off)"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_that_does_not_read_holds_the_writer_back() {
    let (proxy, client, server) = pair();
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    loop {
        match (&client).write(&[1; 65_536]) {
            Ok(more) => sent += more,
            Err(_) => {
                thread::sleep(Duration::from_millis(200));
                match (&client).write(&[1; 65_536]) {
                    Ok(more) => sent += more,
                    Err(_) => break,
                }
            }
        }
        assert!(sent < 100_000_000, "the proxy takes it all");
    }
    proxy.assert_at_rest();
    assert!(proxy.peak_memory() < 50_000, "{} KB", proxy.peak_memory());
    let mut came = vec![0; sent];
    (&server).read_exact(&mut came).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn half_closed_hung_up_and_idle_connections_do_not_make_it_spin() {
    let (listener, address) = upstream();
    let proxy = start(address);
    let mut kept = Vec::new();
    for round in 0..6 {
        let client = proxy.connect();
        let (server, _) = listener.accept().unwrap();
        match round {
            1 => client.shutdown(Shutdown::Write).unwrap(),
            2 => server.shutdown(Shutdown::Write).unwrap(),
            3 => {
                // Hangs up while the server reads nothing of what is in between.
                client.set_nonblocking(true).unwrap();
                while (&client).write(&[1; 65_536]).is_ok() {}
                kept.push(server);
                continue;
            }
            4 => {
                server.shutdown(Shutdown::Write).unwrap();
                client.set_nonblocking(true).unwrap();
                while (&client).write(&[1; 65_536]).is_ok() {}
                client.shutdown(Shutdown::Both).unwrap();
            }
            _ => {}
        }
        kept.extend([client, server]);
    }
    proxy.assert_at_rest();
    drop(kept);
    thread::sleep(Duration::from_millis(300));
    proxy.assert_at_rest();
}

#[test]
fn thousands_of_short_connections_leave_nothing_behind() {
    let (listener, address) = upstream();
    let proxy = start(address);
    thread::spawn(move || {
        // macOS returns a connection that was reset first as an error.
        for mut connection in listener.incoming().flatten() {
            let mut message = Vec::new();
            // Some are reset.
            let _ = connection.read_to_end(&mut message);
            let _ = connection.write_all(&message);
        }
    });
    for round in 0..2_000 {
        let mut client = proxy.connect();
        client.write_all(b"ping").unwrap();
        if round % 3 == 0 {
            reset(client);
        } else {
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&client), b"ping", "in round {round}");
        }
    }
    // macOS does not hand on a connection that is reset before it is accepted.
    let line = proxy.interrupt();
    let carried: u32 = line.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((1_333..=2_000).contains(&carried), "{line}");
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_fds_it_does_not_spin_and_serves_when_some_are_free() {
    let (listener, address) = upstream();
    let proxy = start(address);
    proxy.limit_fds(24);
    let accepting = thread::spawn(move || {
        // macOS returns a connection that was reset first as an error.
        for mut connection in listener.incoming().flatten() {
            let mut word = [0; 4];
            if connection.read_exact(&mut word).is_ok() && &word == b"last" {
                return;
            }
        }
    });
    let sockets: Vec<TcpStream> = (0..40).map(|_| proxy.connect()).collect();
    proxy.assert_at_rest();
    for mut socket in sockets {
        let _ = socket.write_all(b"bye!");
        let _ = socket.shutdown(Shutdown::Write);
    }
    let mut last = proxy.connect();
    while !accepting.is_finished() {
        let _ = last.write_all(b"last");
        thread::sleep(Duration::from_millis(50));
        last = proxy.connect();
    }
    accepting.join().unwrap();
}

/// A redis server that keeps nothing.
struct Redis(Child, SocketAddr);

impl Redis {
    fn start() -> Self {
        loop {
            let (_, address) = upstream(); // free a moment ago, but another test may take it
            let port = address.port().to_string();
            let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
            let mut child =
                Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn().unwrap();
            let start = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Redis(child, address);
                }
                assert!(start.elapsed() < LONG, "redis does not come up");
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs redis-server")]
fn a_real_server_is_served_through_it() {
    need("redis-server");
    let redis = Redis::start();
    let proxy = start(redis.1);
    let port = proxy.address.port().to_string();
    for pipelined in ["1", "16"] {
        let arguments =
            ["-p", &port, "-n", "20000", "-c", "50", "-P", pipelined, "-t", "set,get,lrange_100", "-q"];
        let output = Command::new("redis-benchmark").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.is_empty(), "{said}{errors}");
        assert_eq!(said.matches("requests per second").count(), 4, "{said}");
    }
    assert!(proxy.interrupt().contains("(0 broken off)"));
}

#[test]
fn help_and_bad_arguments_are_said() {
    let help = run(PROXY, &["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.status.success()
            && text.contains("Usage: proxy <LISTEN> <UPSTREAM>...")
            && text.contains(":7002"),
        "{text}"
    );
    let (_listener, address) = upstream();
    let taken = start(address);
    let taken = taken.address.to_string();
    for (arguments, said) in [
        (vec![], "<LISTEN>"),
        (vec!["127.0.0.1:0"], "<UPSTREAM>"),
        (vec!["nonsense", "127.0.0.1:1"], "'nonsense' for '<LISTEN>': expected HOST:PORT"),
        (vec!["127.0.0.1:0", "nonsense"], "'nonsense' for '<UPSTREAM>...': expected HOST:PORT"),
        (
            vec!["127.0.0.1:0", "127.0.0.1:0"],
            "'127.0.0.1:0' for '<UPSTREAM>...': expected a port from 1 to 65535",
        ),
        (vec!["127.0.0.1:0", "127.0.0.1:00"], "expected a port from 1 to 65535"),
        (vec!["127.0.0.1:0", "127.0.0.1:1", "nonsense"], "'nonsense' for '<UPSTREAM>...'"),
        (vec!["127.0.0.1:0", "no-such-host.invalid:80"], "cannot resolve no-such-host.invalid:80"),
        (vec!["--frobnicate"], "'--frobnicate'"),
        (vec![&taken, "127.0.0.1:1"], "cannot listen on"),
    ] {
        let output = run(PROXY, &arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(said), "{arguments:?}: {text}");
    }
}

/// Starts the proxy on a port that is free on each host, with an upstream on the same port. Returns what it says
/// first, which is an error if it refuses to start.
fn first_words(listen: &str, upstream: &str) -> String {
    for _ in 0..20 {
        let port = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0"));
        let port = port.unwrap().local_addr().unwrap().port();
        let mut command = Command::new(PROXY);
        command.args([format!("{listen}:{port}"), format!("{upstream}:{port}")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        line += &String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        if !line.contains("cannot listen") {
            return line;
        } // else another test has taken the port
    }
    panic!("no free port");
}

#[test]
fn an_upstream_that_is_the_proxy_itself_is_refused() {
    for (listen, upstream) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "[::ffff:0.0.0.0]"),
        ("0.0.0.0", "0.0.0.0"),
        ("0.0.0.0", "127.0.0.1"),
    ] {
        let said = first_words(listen, upstream);
        assert!(said.contains("the upstream is the proxy itself"), "{listen}, {upstream}: {said}");
    }
    if TcpListener::bind("[::1]:0").is_ok() {
        for (listen, upstream) in [("[::1]", "[::]"), ("[::]", "[::1]"), ("[::]", "127.0.0.1")] {
            let said = first_words(listen, upstream);
            assert!(said.contains("the upstream is the proxy itself"), "{listen}, {upstream}: {said}");
        }
    }
    for (listen, upstream) in [("127.0.0.1", "192.0.2.1"), ("0.0.0.0", "192.0.2.1")] {
        let said = first_words(listen, upstream); // an address that no host has (RFC 5737)
        assert!(said.starts_with("proxy on "), "{listen}, {upstream}: {said}");
    }
}

/// Writes until there is no more room on the way. Returns how much that was.
fn fill(mut socket: &TcpStream) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut last_progress = Instant::now();
    while last_progress.elapsed() < Duration::from_millis(500) {
        match socket.write(&[1; 65_536]) {
            Ok(more) => {
                sent += more;
                last_progress = Instant::now();
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    socket.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn a_reset_is_noticed_while_the_other_side_takes_nothing() {
    for swapped in [false, true] {
        let (proxy, client, server) = pair();
        let (first, second) = if swapped { (server, client) } else { (client, server) };
        fill(&first);
        reset(first);
        // It has to be noticed before anything is read here: wait for that.
        wait_until_all_pairs_are_closed(&proxy);
        assert!(is_reset(&second));
    }
}

#[test]
fn a_reset_is_noticed_after_a_half_close() {
    for swapped in [false, true] {
        let (proxy, client, server) = pair();
        let (first, second) = if swapped { (server, client) } else { (client, server) };
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&second), b"");
        reset(first);
        wait_until_all_pairs_are_closed(&proxy);
        let result = (&second).write_all(&[0; 1_000]).and_then(|()| (&second).write_all(&[0; 1_000]));
        assert!(result.is_err() || !cfg!(target_os = "linux"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_reset_is_noticed_while_the_upstream_does_not_answer() {
    let silent = Silent::new("127.0.0.1:0");
    let proxy = start(silent.address);
    let clients: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
    while sockets_of(&proxy) < 1 + 2 * clients.len() {
        thread::sleep(Duration::from_millis(1)); // it has not started to connect for all of them
    }
    clients.into_iter().for_each(reset);
    wait_until_all_pairs_are_closed(&proxy);
}

#[test]
#[cfg(target_os = "linux")]
fn an_upstream_that_accepts_and_resets_has_answered() {
    let (next, next_address) = upstream();
    next.set_nonblocking(true).unwrap();
    for ends_first in [false, true] {
        let (silent, proxy, client) = loop {
            let silent = Silent::new("127.0.0.1:0");
            let proxy = Server::start(PROXY, &[&silent.address.to_string(), &next_address.to_string()]);
            let client = proxy.connect();
            while sockets_of(&proxy) < 3 {
                thread::sleep(Duration::from_millis(1)); // it has not started to connect
            }
            proxy.freeze(); // so that it does not see the connection before the reset
            if next.accept().is_err() {
                break (silent, proxy, client);
            } // else the proxy's patience has ended first
        };
        let server = silent.accept();
        if ends_first {
            server.shutdown(Shutdown::Write).unwrap();
        }
        reset(server);
        proxy.send(Signal::CONT);
        assert!(is_reset(&client));
        assert_eq!(next.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_upstream_that_answers_in_time_is_used_although_the_proxy_was_busy() {
    let (next, next_address) = upstream();
    next.set_nonblocking(true).unwrap();
    let (silent, client, proxy, _other) = loop {
        let silent = Silent::new("127.0.0.1:0");
        let upstreams = [silent.address, next_address].map(|address| address.to_string());
        // The second client's accept takes four seconds. The first accept is followed by one that finds none.
        let proxy = faulty_with(PROXY, &upstreams, "accept4:delay_exit=4000000:when=3");
        let client = proxy.connect();
        while sockets_of(&proxy) < 3 {
            thread::sleep(Duration::from_millis(1)); // it has not started to connect
        }
        let other = proxy.connect();
        thread::sleep(Duration::from_millis(500));
        if next.accept().is_err() {
            break (silent, client, proxy, other);
        } // else the proxy's patience has ended first
    };
    let server = silent.accept();
    check_carried(&client, &server, 1_000, b"");
    drop(proxy);
}

#[test]
#[cfg(target_os = "linux")]
fn an_only_upstream_that_does_not_answer_is_given_up() {
    let silent = Silent::new("127.0.0.1:0");
    let proxy = start(silent.address);
    let waits = proxy.connect();
    for _ in 0..10 {
        proxy.connect(); // and closes it, which is no reset
    }
    assert!(is_reset(&waits));
    wait_until_all_pairs_are_closed(&proxy);
    assert!(proxy.interrupt().starts_with("carried 11 connections (11 broken off)"));
}

/// Waits until the proxy has closed all connections.
fn wait_until_all_pairs_are_closed(proxy: &Server) {
    if !cfg!(target_os = "linux") {
        return;
    }
    let start = Instant::now();
    while sockets_of(proxy) > 1 {
        assert!(start.elapsed() < LONG, "{} sockets are open", sockets_of(proxy));
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns how many TCP sockets a program has, with its listener.
fn sockets_of(proxy: &Server) -> usize {
    let sockets = |name: &str| {
        let table = std::fs::read_to_string(name).unwrap();
        let inodes = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9));
        inodes.map(|inode| format!("socket:[{inode}]")).collect::<Vec<_>>()
    };
    let pid = proxy.pid().as_raw_nonzero();
    let sockets = sockets(&format!("/proc/{pid}/net/tcp"));
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    links.filter(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str())).count()
}

/// A listener that answers no attempt to connect, because its queue is full.
#[cfg(target_os = "linux")]
struct Silent {
    address: SocketAddr,
    listener: TcpListener,
    fillers: Vec<socket2::Socket>,
}

#[cfg(target_os = "linux")]
impl Silent {
    fn new(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = new();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let fillers = (0..4).map(|_| {
            let socket = new();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        });
        Silent { address, fillers: fillers.collect(), listener: listener.into() }
    }

    /// Answers now, and returns the first connection that another program has waited for.
    fn accept(mut self) -> TcpStream {
        let own = self.fillers.drain(..).map(|socket| socket.local_addr().unwrap().as_socket());
        let own: Vec<_> = own.collect();
        let mut connections = self.listener.incoming().map(Result::unwrap);
        connections.find(|connection| !own.contains(&connection.peer_addr().ok())).unwrap()
    }
}

#[test]
#[cfg(target_os = "linux")]
fn both_sides_send_small_writes_at_once_and_notice_dead_peers() {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    use socket2::SockRef;
    let (proxy, client, server) = pair();
    check_carried(&client, &server, 1_000, b""); // by then both sockets are set up
    let pidfd = pidfd_open(proxy.pid(), PidfdFlags::empty()).unwrap();
    let mut connections = 0;
    for fd in std::fs::read_dir(format!("/proc/{}/fd", proxy.pid().as_raw_nonzero())).unwrap() {
        let number = fd.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let Ok(copy) = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) else { continue };
        let socket = SockRef::from(&copy);
        if socket.peer_addr().is_ok_and(|peer| peer.is_ipv4()) {
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            connections += 1;
        }
    }
    assert_eq!(connections, 2);
}

#[test]
#[cfg(target_os = "linux")]
fn an_upstream_that_cannot_be_reached_refuses_all_clients_at_once() {
    let proxy = start("255.255.255.255:80".parse().unwrap()); // connect(2) fails at once
    for _ in 0..300 {
        assert!(is_reset(&proxy.connect()));
    }
    assert!(proxy.interrupt().starts_with("carried 300 connections (300 broken off)"));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn errors_that_connect_returns_at_once_are_the_upstreams_answer() {
    for error in ["ENETUNREACH", "EHOSTUNREACH", "EACCES", "EPERM", "ECONNREFUSED", "ETIMEDOUT", "EINVAL"] {
        let proxy = faulty(&PROGRAM, &format!("connect:error={error}:when=1..2"));
        assert!(is_reset(&proxy.connect()), "{error}");
        assert!(is_reset(&proxy.connect()), "{error}");
        assert_echoed(&proxy.connect(), b"hello");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn clients_wait_while_the_proxy_is_short_of_ports_or_memory() {
    for error in ["EADDRNOTAVAIL", "ENOBUFS", "ENOMEM"] {
        let proxy = faulty(&PROGRAM, &format!("connect:error={error}:when=1..5"));
        let clients: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
        for client in &clients {
            assert_echoed(client, b"hello");
        }
        drop(clients);
        assert!(proxy.interrupt().starts_with("carried 3 connections (0 broken off)"), "{error}");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn a_poller_without_room_ends_single_connections() {
    for error in ["ENOSPC", "ENOMEM"] {
        for (call, last) in [(3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (3, 4), (3, 6)] {
            let proxy = faulty(&PROGRAM, &format!("epoll_ctl:error={error}:when={call}..{last}"));
            let answers = (0..8).map(|_| {
                let mut client = &proxy.connect();
                client.write_all(b"hello").and_then(|()| client.read(&mut [0; 5]))
            });
            let answers: Vec<_> = answers.collect();
            let served = answers.iter().filter(|answer| matches!(answer, Ok(5)));
            assert!(served.count() >= 4, "{error}, calls {call} to {last}: {answers:?}");
            proxy.interrupt();
        }
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn options_that_cannot_be_set_end_nothing() {
    let proxy = faulty(&PROGRAM, "setsockopt:error=EINVAL:when=2+"); // the first is the listener's
    for _ in 0..3 {
        assert_echoed(&proxy.connect(), b"hello");
    }
    proxy.interrupt();
}

#[test]
#[cfg(target_os = "linux")]
fn what_an_upstream_sent_before_its_reset_arrives() {
    for _ in 0..20 {
        let (_proxy, client, server) = pair();
        let mut all = Vec::new();
        thread::scope(|scope| {
            // A request that is refused before all of it is read.
            scope.spawn(|| while (&client).write_all(&[1; 65_536]).is_ok() {});
            (&server).read_exact(&mut [0; 1_000]).unwrap();
            (&server).write_all(b"too large").unwrap();
            drop(server);
            let _ = (&client).read_to_end(&mut all);
        });
        assert_eq!(all, b"too large");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_reset_that_a_write_meets_first_is_no_orderly_end() {
    for round in 0..20 {
        let (proxy, client, server) = pair();
        let (first, second) = if round % 2 == 0 { (server, client) } else { (client, server) };
        (&first).write_all(b"half a requ").unwrap();
        (&second).read_exact(&mut [0; 11]).unwrap();
        proxy.freeze();
        (&second).write_all(b"more").unwrap();
        reset(first);
        proxy.send(Signal::CONT);
        assert!(is_reset(&second));
        assert!(proxy.interrupt().starts_with("carried 1 connections (1 broken off)"));
    }
}

#[test]
fn a_stop_waits_for_what_is_under_way_and_says_so() {
    let (proxy, client, server) = pair();
    (&client).write_all(b"half a requ").unwrap();
    proxy.signal();
    while TcpStream::connect(proxy.address).is_ok() {
        thread::sleep(Duration::from_millis(10));
    }
    check_carried(&client, &server, 1_000_000, b"half a requ");
    check_carried(&server, &client, 1_000_000, b"");
    drop((client, server));
    let rest = proxy.rest();
    assert!(rest.contains("\nstopping: "), "{rest}");
    assert!(rest.lines().last().unwrap().contains("1.0 MB up, 1.0 MB down"), "{rest}");
}

#[test]
fn a_stop_breaks_off_connections_that_stay_silent() {
    let (proxy, client, server) = pair();
    let rest = proxy.interrupt();
    assert_eq!(rest, "carried 1 connections (1 broken off), 0 B up, 0 B down");
    assert!(is_reset(&client) && is_reset(&server));
}

#[test]
fn a_stop_breaks_off_connections_that_are_never_silent() {
    let proxy = start(echo_server());
    let client = proxy.connect();
    assert_echoed(&client, b"hello");
    proxy.signal();
    let is_broken = || {
        thread::sleep(Duration::from_secs(1));
        let result = (&client).write_all(b"x").and_then(|()| (&client).read_exact(&mut [0]));
        result.is_err()
    };
    assert!((0..60).any(|_| is_broken()));
    let rest = proxy.rest();
    assert!(rest.contains("\nstopping: 1 connections "), "{rest}");
    assert!(rest.lines().last().unwrap().starts_with("carried 1 connections (1 broken off)"), "{rest}");
}

#[test]
#[cfg(target_os = "linux")]
fn every_address_of_the_upstreams_is_tried() {
    // Systems choose ports above this range for those who take any, so no program listens there.
    let port = fastrand::u16(10_000..30_000);
    let upstreams = ["255.255.255.255", "127.0.0.1", "127.0.0.2", "127.0.0.3", "255.255.255.255"]
        .map(|host| format!("{host}:{port}"));
    let proxy = Server::start(PROXY, &upstreams.each_ref().map(String::as_str));
    for _ in 0..10 {
        assert!(is_reset(&proxy.connect()), "no address accepts connections");
    }
    for good in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
        let listener = TcpListener::bind((good, port)).unwrap();
        let serving = thread::spawn(move || {
            for mut server in listener.incoming().take(10).map(Result::unwrap) {
                server.write_all(b"hello").unwrap();
            }
        });
        // A process that another test starts right now may hold the last listener open for a moment.
        let start = Instant::now();
        while !serving.is_finished() {
            assert!(start.elapsed() < LONG, "{good} is not tried");
            let _ = (&proxy.connect()).read(&mut [0; 5]);
        }
        serving.join().unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_address_that_has_connected_last_is_tried_first() {
    let port = fastrand::u16(10_000..30_000); // as above
    let hosts = ["127.0.0.1", "127.0.0.2"];
    let upstreams = hosts.map(|host| format!("{host}:{port}"));
    let proxy = Server::start(PROXY, &upstreams.each_ref().map(String::as_str));
    let second = TcpListener::bind((hosts[1], port)).unwrap();
    let client = proxy.connect();
    let (mut server, _) = second.accept().unwrap();
    server.write_all(b"hello").unwrap();
    assert_reads(&client, b"hello"); // by then the proxy knows that it has connected
    let first = TcpListener::bind((hosts[0], port)).unwrap();
    first.set_nonblocking(true).unwrap();
    second.set_nonblocking(true).unwrap();
    for _ in 0..3 {
        let _client = proxy.connect();
        while second.accept().is_err() {
            assert!(first.accept().is_err(), "the first address is tried first");
            thread::sleep(Duration::from_millis(1));
        }
    }
    drop(second);
    let start = Instant::now();
    while first.accept().is_err() {
        assert!(start.elapsed() < LONG, "the first address is not tried");
        proxy.connect(); // as above
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_address_that_does_not_answer_is_left_for_the_next() {
    let silent = Silent::new("127.0.0.1:0");
    let port = silent.address.port();
    let listener = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let proxy = Server::start(PROXY, &[&format!("127.0.0.1:{port}"), &format!("127.0.0.2:{port}")]);
    let clients: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    for client in &clients {
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"hello").unwrap();
        assert_reads(client, b"hello");
    }
}
