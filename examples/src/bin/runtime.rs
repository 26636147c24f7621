//! hyper on the async runtime of `examples::runtime`, which is built on pollio.
//!
//! It shows what a runtime needs from a poller. Its I/O types need a registrar, other threads need a waker, and timers
//! need a timeout. Generations keep the events of closed descriptors away from their successors.
//!
//! With `--tokio` the same server runs on tokio, to compare the two.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Parser;
use examples::acceptor::{check_room, is_waiting};
use examples::options;
use examples::output::{Output, Rate, exit_code};
use examples::runtime::net::{TcpListener as PollioListener, TcpStream as PollioStream};
use examples::runtime::timers::HyperTimer;
use examples::runtime::{Either, Latch, Runtime, race, spawn, yield_now};
use examples::signals::Stop;
use examples::sockets::{is_shortage, listen, reset_on_close};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Sleep, Timer, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener as TokioListener, TcpStream as TokioStream};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

/// hyper on an async runtime that is built on pollio. GET / says hello.
#[derive(Parser)]
#[command(name = "runtime")]
struct Options {
    /// Where to listen, as HOST:PORT. Port 0 takes a free port
    #[arg(default_value = "127.0.0.1:7003", value_parser = options::address)]
    address: String,
    /// Serve the same on tokio's current_thread runtime, to compare
    #[arg(long)]
    tokio: bool,
    /// How long a client may take to send a request's head, to send its body, or to read a part of an answer
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = options::seconds, allow_negative_numbers = true)]
    idle: Duration,
}

/// How long the program waits for its connections once it stops.
const GRACE: Duration = Duration::from_secs(5);

/// How long connections are accepted once the program stops, if they come faster than it accepts them.
const DRAIN: Duration = Duration::from_secs(4);

/// How long a new client has for its first request once the program stops. The request may be on its way.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How long to wait after a shortage. Other processes may free what is missing, and nothing reports that.
const RETRY: Duration = Duration::from_millis(10);

/// How many connections are accepted, or fail, before others get their turn.
const AT_A_TIME: u32 = 64;

fn main() -> ExitCode {
    exit_code("runtime", run(Options::parse()))
}

fn run(options: Options) -> Result<()> {
    let stop = Latch::default();
    Stop::on_signals(stop.clone())?;
    let listener = listen(&options.address)?;
    let address = listener.local_addr()?;
    let output = Output::start()?;
    output.line(format_args!("runtime on {address}"));
    output.line(format_args!("try: curl http://{address}/"));
    output.line("Ctrl-C stops it");
    if options.tokio {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let server = Server::new(options.idle, stop, output);
        LocalSet::new()
            .block_on(&runtime, async { server.serve(OnTokio(TokioListener::from_std(listener)?)).await })?;
    } else {
        let server = Server::new(options.idle, stop, output);
        Runtime::new()?.block_on(async { server.serve(OnPollio::new(listener)?).await })??;
    }
    Ok(())
}

/// What the server asks of a runtime. Everything else is the same on both runtimes, so that a comparison is fair.
trait Platform: 'static {
    type Stream: Read + Write + Unpin + 'static;
    type Timer: Timer + Default + Send + Sync + 'static;

    /// Waits for the next connection. An error may be that of a single connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>>;
    /// Returns whether a connection waits to be accepted.
    fn is_waiting(&self) -> bool;
    /// Makes the coming close of a stream a reset.
    fn reset_on_close(stream: &Self::Stream);
    fn spawn(task: impl Future<Output = ()> + 'static);
}

struct OnPollio(PollioListener);

impl OnPollio {
    fn new(listener: TcpListener) -> io::Result<Self> {
        PollioListener::from_std(listener).map(OnPollio)
    }
}

impl Platform for OnPollio {
    type Stream = PollioStream;
    type Timer = HyperTimer;

    async fn accept(&self) -> io::Result<PollioStream> {
        let (stream, _) = self.0.accept().await?;
        Ok(stream)
    }

    fn is_waiting(&self) -> bool {
        is_waiting(&self.0)
    }

    fn reset_on_close(stream: &PollioStream) {
        reset_on_close(stream);
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        spawn(task);
    }
}

struct OnTokio(TokioListener);

impl Platform for OnTokio {
    type Stream = TokioIo<TokioStream>;
    type Timer = TokioTimer;

    async fn accept(&self) -> io::Result<TokioIo<TokioStream>> {
        let (stream, _) = poll_fn(|context| match check_room(&self.0) {
            Err(error) if is_shortage(&error) => Poll::Ready(Err(error)),
            _ => self.0.poll_accept(context),
        })
        .await?;
        let _ = stream.set_nodelay(true); // macOS: EINVAL if the peer has reset the connection
        Ok(TokioIo::new(stream))
    }

    fn is_waiting(&self) -> bool {
        is_waiting(&self.0)
    }

    fn reset_on_close(stream: &TokioIo<TokioStream>) {
        reset_on_close(stream.inner());
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        spawn_local(task);
    }
}

/// What the server's tasks share.
struct Server<P> {
    idle: Duration,
    /// Opened by a signal.
    stop: Latch,
    /// Opened when the connections at hand should end. Later connections get a new latch.
    finish: RefCell<Latch>,
    output: RefCell<Output>,
    open: Cell<u64>,
    connections: Cell<u64>,
    requests: Cell<u64>,
    platform: PhantomData<P>,
}

impl<P: Platform> Server<P> {
    fn new(idle: Duration, stop: Latch, output: Output) -> Rc<Self> {
        Rc::new(Server {
            idle,
            stop,
            finish: RefCell::default(),
            output: RefCell::new(output),
            open: Cell::new(0),
            connections: Cell::new(0),
            requests: Cell::new(0),
            platform: PhantomData,
        })
    }

    /// Serves until a stop is requested and the requests under way are answered.
    async fn serve(self: Rc<Self>, platform: P) -> io::Result<()> {
        let status = Rc::clone(&self);
        P::spawn(async move { status.show_status().await });
        self.accept_until(&platform, self.stop.wait()).await;
        self.output.borrow().line(format_args!(
            "stopping: waits at most {} s for {} connections, a second signal ends it at once",
            GRACE.as_secs(),
            self.open.get()
        ));
        let finished = async {
            // Who has connected by now gets an answer, and who connects later is refused.
            let drained = poll_fn(|_| if platform.is_waiting() { Poll::Pending } else { Poll::Ready(()) });
            let _ = timeout::<P, _>(DRAIN, self.accept_until(&platform, drained)).await;
            drop(platform);
            self.finish_connections();
            while self.open.get() > 0 {
                sleep::<P>(RETRY).await;
            }
        };
        let _ = timeout::<P, _>(GRACE, finished).await;
        self.output.borrow().line(self.totals());
        Ok(())
    }

    /// Accepts connections until `end`, which is polled first, because a shortage makes every call of accept fail at
    /// once.
    async fn accept_until(self: &Rc<Self>, platform: &P, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        let (mut in_a_row, mut failed) = (0, 0);
        while let Either::Right(result) = race(end.as_mut(), platform.accept()).await {
            match result {
                Ok(stream) => {
                    failed = 0;
                    self.welcome(stream);
                }
                Err(error) => {
                    failed += 1;
                    // Most errors are those of one connection, and the next one may be good (accept(2)).
                    if is_shortage(&error) || failed == AT_A_TIME {
                        failed = 0;
                        self.finish_connections();
                        sleep::<P>(RETRY).await;
                    }
                }
            }
            in_a_row += 1;
            if in_a_row % AT_A_TIME == 0 {
                yield_now().await;
            }
        }
    }

    /// Has every connection end after its answer: because the program stops, or because other clients wait for a free
    /// descriptor.
    fn finish_connections(&self) {
        self.finish.take().open();
    }

    /// Spawns a task for a connection. A stop waits for it from now on, even if the task has not run yet.
    fn welcome(self: &Rc<Self>, stream: P::Stream) {
        self.connections.set(self.connections.get() + 1);
        self.open.set(self.open.get() + 1);
        let (server, finish) = (Rc::clone(self), self.finish.borrow().clone());
        P::spawn(async move {
            server.answer_requests(stream, finish).await;
            server.open.set(server.open.get() - 1);
        });
    }

    async fn answer_requests(&self, stream: P::Stream, finish: Latch) {
        let is_new = Cell::new(true);
        let service = service_fn(async |request: Request<Incoming>| {
            is_new.set(false);
            let (head, body) = request.into_parts();
            if !body.is_end_stream() {
                timeout::<P, _>(self.idle, drop_body(body)).await.context("the body takes too long")??;
            }
            self.requests.set(self.requests.get() + 1);
            Ok::<_, anyhow::Error>(answer(&head.uri, finish.is_open()))
        });
        let stream = WriteTimeout::<P> { stream, limit: self.idle, waiting: None };
        let connection = http1::Builder::new()
            .half_close(true) // a client may close its side after its request
            .timer(P::Timer::default())
            .header_read_timeout(self.idle)
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        // A connection's errors are its client's affair.
        let Either::Right(()) = race(connection.as_mut(), finish.wait()).await else { return };
        if is_new.get() {
            // Before the stop, hyper's own timeout is enough.
            let last_chance = async {
                self.stop.wait().await;
                sleep::<P>(LAST_CHANCE).await;
            };
            let Either::Right(()) = race(connection.as_mut(), last_chance).await else { return };
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }

    async fn show_status(&self) {
        let mut rate = Rate::start();
        loop {
            let due_in = self.output.borrow().due_in();
            sleep::<P>(due_in).await;
            self.output.borrow_mut().status(|| {
                let rate = rate.next(self.requests.get());
                format!("{} open, {rate} requests/s, {}", self.open.get(), self.totals())
            });
        }
    }

    fn totals(&self) -> String {
        format!("served {} connections, answered {} requests", self.connections.get(), self.requests.get())
    }
}

/// Reads the body, which no answer needs. hyper would close a connection that has an unread body, and then the client
/// may lose its answer.
async fn drop_body(mut body: Incoming) -> hyper::Result<()> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

fn answer(uri: &Uri, is_last: bool) -> Response<Full<Bytes>> {
    let (status, text) = match uri.path() {
        "/" => (StatusCode::OK, "Hello from hyper on pollio.\n"),
        _ => (StatusCode::NOT_FOUND, "Nothing here.\n"),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    if is_last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn sleep<P: Platform>(time: Duration) -> Pin<Box<dyn Sleep>> {
    P::Timer::default().sleep(time)
}

async fn timeout<P: Platform, F: Future>(time: Duration, future: F) -> Option<F::Output> {
    match race(future, sleep::<P>(time)).await {
        Either::Left(output) => Some(output),
        Either::Right(()) => None,
    }
}

/// A stream whose write fails if the client takes nothing for `limit`. hyper has a timeout for reading a request's
/// head, and none for writing.
struct WriteTimeout<P: Platform> {
    stream: P::Stream,
    limit: Duration,
    /// Since when a write has been waiting.
    waiting: Option<Pin<Box<dyn Sleep>>>,
}

impl<P: Platform> Read for WriteTimeout<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, cursor)
    }
}

impl<P: Platform> Write for WriteTimeout<P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_write(context, bytes) {
            self.waiting = None;
            return Poll::Ready(result);
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| sleep::<P>(limit));
        ready!(waiting.as_mut().poll(context));
        // Otherwise the kernel would keep the unsent bytes, and offer them to the client, minutes after the close.
        P::reset_on_close(&self.stream);
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
