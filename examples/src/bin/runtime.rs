//! hyper on an async runtime of this crate's own, which stands on pollio: see `src/runtime.rs`.
//!
//! It shows what a runtime needs of a poller: a registrar that I/O types register with, a waker that other threads
//! reach it by, time-outs for its timers, generations for the fds of tasks that are gone.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use examples::runtime::net::{TcpListener as AsyncListener, TcpStream};
use examples::runtime::{Either, Occasion, Runtime, race, sleep, spawn, timeout};
use examples::{LiveLine, Stop, exit_code};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use lexopt::prelude::*;

const HELP: &str = "\
hyper on an async runtime that stands on pollio.

Usage: runtime [ADDRESS] [--tokio]

  ADDRESS         where to listen, 127.0.0.1:7003 unless given; port 0 takes a free one
  --tokio         serve the same on tokio's current_thread runtime, to compare
  -h, --help      this text";

/// How long a connection that is being answered may go on when the program is stopped.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    exit_code("runtime", run())
}

fn run() -> Result<(), String> {
    let (mut address, mut is_tokio) = ("127.0.0.1:7003".to_owned(), false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
        match argument {
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(());
            }
            Long("tokio") => is_tokio = true,
            Value(value) => address = value.string().map_err(|error| error.to_string())?,
            other => return Err(format!("{}\n\n{HELP}", other.unexpected())),
        }
    }
    let listener = TcpListener::bind(&address).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => {
            format!("'{address}' is not an address: say HOST:PORT, such as 127.0.0.1:7003")
        }
        _ => format!("cannot listen on {address}: {error}"),
    })?;
    let fails = |error: io::Error| format!("stopped by an error: {error}");
    let address = listener.local_addr().map_err(fails)?;
    println!("runtime on {address}");
    println!("talk to it:  curl http://{address}/      stop it: Ctrl-C");
    if is_tokio {
        return serve_on_tokio(listener).map_err(fails);
    }
    let mut runtime = Runtime::new().map_err(fails)?;
    let stopped = Occasion::default();
    Stop::on_interrupt(stopped.clone()).map_err(fails)?;
    runtime.block_on(serve(listener, stopped)).and_then(|result| result).map_err(fails)
}

/// The handler, whatever it runs on.
async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = match request.uri().path() {
        "/" => Response::new(Full::from("Hello from hyper on pollio.\n")),
        _ => Response::new(Full::from("Nothing here.\n")),
    };
    if request.uri().path() != "/" {
        *response.status_mut() = hyper::StatusCode::NOT_FOUND;
    }
    Ok(response)
}

#[derive(Default)]
struct Totals {
    open: Cell<u64>,
    connections: Cell<u64>,
    requests: Cell<u64>,
}

fn add(count: &Cell<u64>, by: i64) {
    count.set(count.get().wrapping_add_signed(by));
}

async fn serve(listener: TcpListener, stopped: Occasion) -> io::Result<()> {
    let listener = AsyncListener::from_std(listener)?;
    let totals = Rc::new(Totals::default());
    let line = spawn(show(Rc::clone(&totals), stopped.clone()));
    loop {
        match race(listener.accept(), stopped.wait()).await {
            Either::Left(Ok((stream, _))) => {
                spawn(converse(stream, Rc::clone(&totals), stopped.clone()));
            }
            // Out of fds, most likely: until one is free, or a moment has passed.
            Either::Left(Err(_)) => sleep(Duration::from_millis(100)).await,
            Either::Right(()) => break,
        }
    }
    drop(listener);
    let all_gone = async {
        while totals.open.get() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = timeout(GRACE, all_gone).await;
    line.await;
    println!("served {} connections, answered {} requests", totals.connections.get(), totals.requests.get());
    Ok(())
}

/// Answers the requests of one connection, and when the program is stopped the one under way.
async fn converse(stream: TcpStream, totals: Rc<Totals>, stopped: Occasion) {
    add(&totals.connections, 1);
    add(&totals.open, 1);
    let service = service_fn(|request| {
        add(&totals.requests, 1);
        hello(request)
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(stream, service));
    // What ends it is the peer's affair: an error, or the end.
    if let Either::Right(()) = race(connection.as_mut(), stopped.wait()).await {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GRACE, connection).await;
    }
    add(&totals.open, -1);
}

async fn show(totals: Rc<Totals>, stopped: Occasion) {
    let mut line = LiveLine::default();
    while let Either::Left(()) = race(sleep(line.due_in()), stopped.wait()).await {
        line.show(|| {
            format!("{} connections, {} requests answered", totals.open.get(), totals.requests.get())
        });
    }
    line.end();
}

fn serve_on_tokio(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _): (_, SocketAddr) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(hello)).await;
            });
        }
    })
}
