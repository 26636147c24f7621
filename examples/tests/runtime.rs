//! Tests the runtime as a library, and drives the server on it from outside.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::every_server::Program;
use common::{LONG, Server, need, reset, run, says_what_is_wrong};
use examples::runtime::net::{TcpListener as AsyncListener, TcpStream as AsyncStream};
use examples::runtime::{Either, Latch, Runtime, race, sleep, spawn, timeout, yield_now};
use pollio::Wakeup;
use socket2::SockRef;

const RUNTIME: &str = env!("CARGO_BIN_EXE_runtime");

mod on_pollio {
    use super::common::every_server::every_server;

    every_server!(super::program(|| super::options(&super::PATIENT)));
}

mod on_tokio {
    use super::common::every_server::every_server;

    every_server!(super::program(|| super::options(&["--tokio", "--idle", "600"])));
}

/// No client runs into a deadline, even on a busy machine.
const PATIENT: [&str; 2] = ["--idle", "600"];

fn options(options: &[&str]) -> Vec<String> {
    options.iter().copied().map(String::from).collect()
}

fn program(arguments: fn() -> Vec<String>) -> Program {
    Program {
        path: RUNTIME,
        arguments,
        ask: |mut socket| socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap(),
        is_answered: |socket| assert!(answer(socket).starts_with("HTTP/1.1 200 OK")),
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    Runtime::new().unwrap().block_on(future).unwrap()
}

const WHILE: Duration = Duration::from_millis(30);

#[test]
fn tasks_end_in_any_order_and_give_their_results() {
    let done = Rc::new(RefCell::new(Vec::new()));
    let sum = block_on(async {
        let latches: Vec<Latch> = (0..=10).map(|_| Latch::default()).collect();
        let tasks: Vec<_> = (0..10_000u64)
            .map(|n| {
                let done = Rc::clone(&done);
                let turn = n as usize / 1_000;
                let (this, next) = (latches[turn].clone(), latches[turn + 1].clone());
                spawn(async move {
                    if n % 1_000 == 0 {
                        next.wait().await; // each of these waits for one that was spawned later
                        done.borrow_mut().push(n);
                        this.open();
                    }
                    n
                })
            })
            .collect();
        latches[10].open();
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    });
    assert_eq!(sum, 49_995_000);
    assert_eq!(*done.borrow(), [9_000, 8_000, 7_000, 6_000, 5_000, 4_000, 3_000, 2_000, 1_000, 0]);
}

#[test]
fn timers_are_never_early() {
    block_on(async {
        let tasks: Vec<_> = (0..500u64)
            .map(|n| {
                let time = Duration::from_micros(n * 7_919 % 20_000);
                let start = Instant::now();
                let timer = sleep(time);
                spawn(async move {
                    timer.await;
                    assert!(start.elapsed() >= time, "{:?} of {time:?}", start.elapsed());
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        assert!(timeout(WHILE, sleep(Duration::MAX)).await.is_none());
    });
}

#[test]
fn other_threads_spawn_and_wake_while_the_runtime_waits() {
    let mut runtime = Runtime::new().unwrap();
    let handle = runtime.handle();
    let (start, end) = (Latch::default(), Latch::default());
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (handle, sender, start) = (handle.clone(), sender.clone(), start.clone());
            thread::spawn(move || {
                thread::sleep(WHILE);
                for n in 0..1_000 {
                    let (sender, start) = (sender.clone(), start.clone());
                    let task = async move {
                        start.wait().await;
                        sender.send(number * 1_000 + n).unwrap();
                    };
                    handle.spawn(task).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    let (starter, ender) = (start.clone(), end.clone());
    let waking = thread::spawn(move || {
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        starter.wake().unwrap();
        let mut numbers: Vec<i32> = receiver.iter().collect(); // until the last task is gone
        ender.open();
        numbers.sort_unstable();
        numbers
    });
    runtime.block_on(end.wait()).unwrap();
    assert_eq!(waking.join().unwrap(), (0..4_000).collect::<Vec<_>>());
}

#[test]
fn a_task_that_is_always_ready_starves_no_timer_and_no_fd() {
    block_on(async {
        let stop = Rc::new(Cell::new(false));
        let busy = Rc::clone(&stop);
        let spinning = spawn(async move {
            while !busy.get() {
                yield_now().await;
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = AsyncListener::from_std(listener).unwrap();
        let client = thread::spawn(move || TcpStream::connect(address).unwrap());
        listener.accept().await.unwrap();
        sleep(WHILE).await;
        stop.set(true);
        spinning.await;
        client.join().unwrap();
    });
}

#[test]
fn what_is_dropped_is_gone() {
    struct Marks(Rc<Cell<u32>>);
    impl Drop for Marks {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let mark = || Marks(Rc::clone(&dropped));
    let mut runtime = Runtime::new().unwrap();
    runtime
        .block_on(async {
            let mark = mark();
            let never = async {
                let _mark = mark;
                std::future::pending::<()>().await;
            };
            assert!(matches!(race(never, sleep(WHILE)).await, Either::Right(())));
        })
        .unwrap();
    assert_eq!(dropped.get(), 1);
    let forgotten = mark();
    runtime
        .block_on(async {
            spawn(async move {
                let _mark = forgotten;
                sleep(Duration::from_secs(3_600)).await;
            });
            sleep(WHILE).await;
        })
        .unwrap();
    assert_eq!(dropped.get(), 1, "a task outlives the handle that is dropped");
    drop(runtime);
    assert_eq!(dropped.get(), 2);
}

#[test]
fn a_panic_in_a_task_ends_the_runtimes_run_and_no_more() {
    let mut runtime = Runtime::new().unwrap();
    let run = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            spawn(async { std::panic::resume_unwind(Box::new("on purpose")) }).await;
        })
    }));
    assert!(run.is_err());
    assert_eq!(runtime.block_on(async { 7 }).unwrap(), 7);
}

#[test]
fn streams_carry_everything_through_small_buffers() {
    let message: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7) as u8).collect();
    let expected = message.clone();
    block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = AsyncListener::from_std(listener).unwrap();
        let echo = spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1_000];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => return,
                    read => stream.write_all(&buffer[..read]).await.unwrap(),
                }
            }
        });
        let client = thread::spawn(move || {
            let stream = TcpStream::connect(address).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    (&stream).write_all(&message).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                });
                let mut came = Vec::new();
                (&stream).read_to_end(&mut came).unwrap();
                came
            })
        });
        echo.await;
        assert!(client.join().unwrap() == expected);
    });
}

/// Returns the two ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

#[test]
fn an_fd_that_is_reused_wakes_its_new_owner_only() {
    block_on(async {
        for round in 0..200 {
            let (near, mut far) = pair();
            let number = near.as_raw_fd();
            let old = AsyncStream::from_std(near).unwrap();
            far.write_all(b"old").unwrap();
            drop(old);
            let (near, mut far) = pair();
            let is_reused = near.as_raw_fd() == number;
            let mut new = AsyncStream::from_std(near).unwrap();
            let mut buffer = [0; 8];
            let early = timeout(Duration::from_millis(1), new.read(&mut buffer)).await;
            assert!(early.is_none(), "round {round}, reused {is_reused}: {early:?}");
            far.write_all(b"new").unwrap();
            assert_eq!(new.read(&mut buffer).await.unwrap(), 3);
        }
    });
}

/// The kernel stops a read where urgent data begins, and reports no new edge for what follows.
#[test]
fn urgent_data_does_not_hide_what_follows_it() {
    block_on(async {
        for round in 0..50 {
            let (near, mut far) = pair();
            let mut stream = AsyncStream::from_std(near).unwrap();
            if round % 2 == 0 {
                far.write_all(b"before").unwrap();
            }
            assert_eq!(SockRef::from(&far).send_out_of_band(b"!").unwrap(), 1);
            far.write_all(b"after").unwrap();
            let expected: &[u8] = if round % 2 == 0 { b"beforeafter" } else { b"after" };
            let mut came = Vec::new();
            while came.len() < expected.len() {
                let mut buffer = [0; 64];
                let read = timeout(LONG, stream.read(&mut buffer)).await.expect("more to read").unwrap();
                came.extend_from_slice(&buffer[..read]);
            }
            assert_eq!(came, expected);
        }
    });
}

#[test]
fn a_write_goes_on_when_there_is_room_again() {
    block_on(async {
        let (near, mut far) = pair();
        let mut stream = AsyncStream::from_std(near).unwrap();
        let reading = thread::spawn(move || {
            thread::sleep(WHILE);
            let mut came = 0;
            let mut buffer = vec![0; 100_000];
            while came < 20_000_000 {
                came += far.read(&mut buffer).unwrap();
            }
        });
        stream.write_all(&vec![1; 20_000_000]).await.unwrap();
        reading.join().unwrap();
    });
}

#[test]
fn a_sleep_can_move_to_another_runtime_and_be_dropped_anywhere() {
    let start = Instant::now();
    let mut nap = Box::pin(sleep(WHILE));
    let mut never = Box::pin(sleep(Duration::from_secs(3_600)));
    block_on(async {
        assert!(timeout(Duration::from_millis(1), nap.as_mut()).await.is_none() || start.elapsed() >= WHILE);
        assert!(timeout(Duration::from_millis(1), never.as_mut()).await.is_none());
    });
    drop(never);
    let nap = thread::spawn(move || block_on(nap));
    nap.join().unwrap();
    assert!(start.elapsed() >= WHILE);
}

#[test]
fn a_latch_wakes_all_who_wait_and_forgets_who_has_left() {
    let latch = Latch::default();
    block_on(async {
        assert!(timeout(Duration::from_millis(1), latch.wait()).await.is_none());
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let latch = latch.clone();
                spawn(async move { latch.wait().await })
            })
            .collect();
        yield_now().await;
        assert!(!latch.is_open());
        latch.open();
        for task in waiting {
            task.await;
        }
        latch.wait().await;
        assert!(latch.is_open());
    });
}

fn get(socket: &TcpStream, path: &str) -> String {
    { socket }.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    answer(socket)
}

/// Reads the next answer. Its body ends in the only line feed without a carriage return.
fn answer(mut socket: &TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\n") || text.ends_with(b"\r\n") {
        socket.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn requests_are_answered_one_after_the_other_and_at_once() {
    let server = Server::start(RUNTIME, &PATIENT);
    let socket = server.connect();
    for _ in 0..3 {
        assert!(get(&socket, "/").starts_with("HTTP/1.1 200 OK"));
        assert!(get(&socket, "/nowhere").starts_with("HTTP/1.1 404"));
    }
    let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    (&socket).write_all(request.repeat(100).as_bytes()).unwrap();
    for _ in 0..100 {
        assert!(answer(&socket).ends_with("Hello from hyper on pollio.\n"));
    }
    for byte in request.bytes() {
        (&socket).write_all(&[byte]).unwrap();
    }
    assert!(answer(&socket).starts_with("HTTP/1.1 200 OK"));
    assert_eq!(server.interrupt(), "served 1 connections, answered 107 requests");
}

#[test]
fn garbage_resets_half_requests_and_a_thousand_connects_leave_it_serving() {
    let server = Server::start(RUNTIME, &PATIENT);
    let waiting = server.connect();
    (&waiting).write_all(b"GET / HT").unwrap();
    for round in 0..1_000 {
        let socket = server.connect();
        match round % 3 {
            0 => (&socket).write_all(b"\x16\x03\x01\x00garbage\r\n\r\n").unwrap(),
            1 => reset(socket),
            _ => (&socket).write_all(b"GET / HTTP/1.1\r\nHo").unwrap(),
        }
    }
    (&waiting).write_all(b"TP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(answer(&waiting).starts_with("HTTP/1.1 200 OK"));
    assert!(get(&server.connect(), "/").starts_with("HTTP/1.1 200 OK"));
    let last = server.interrupt();
    // macOS does not hand out a connection that was reset before it was accepted.
    let served: u32 = last.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((669..=1_002).contains(&served), "{last}");
}

#[test]
#[cfg(target_os = "linux")]
fn it_does_not_spin_when_it_is_idle_or_out_of_descriptors() {
    let server = Server::start(RUNTIME, &PATIENT);
    let socket = server.connect();
    assert!(get(&socket, "/").starts_with("HTTP/1.1 200 OK"));
    server.is_at_rest();
    server.limit_fds(24);
    let mut sockets: Vec<_> = (0..40).map(|_| server.connect()).collect();
    server.is_at_rest();
    let last = sockets.pop().unwrap();
    sockets.clear();
    assert!(get(&last, "/").starts_with("HTTP/1.1 200 OK"));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs wrk")]
fn wrk_reports_no_error() {
    need("wrk");
    let server = Server::start(RUNTIME, &PATIENT);
    let url = format!("http://{}/", server.address);
    let output = run("wrk", &["-t1", "-c200", "-d2s", "--timeout", "60s", &url]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("Requests/sec"), "{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
}

#[test]
fn bad_options_and_taken_ports_are_errors() {
    says_what_is_wrong(RUNTIME, "127.0.0.1:7003");
}
