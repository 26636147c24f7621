//! Registrars: `add`, `modify` and `delete` on other threads.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::{EventKind, EventObject, Interest, Poller, Register, Wakeup};

use crate::Backend;
use crate::assertions::{TIME_LIMIT, assert_silent, next_events, only_event, within_time_limit};
use crate::backend::poller;
use crate::fds::{drain_open, unix_pair};
use crate::processes::{isolated, open_fds};

type RegistrarOf<B> = <<B as Backend>::Poller<EventKind> as Poller>::Registrar;

fn client(stream: &UnixStream) -> EventObject {
    EventObject::client(stream.as_raw_fd())
}

fn send(mut stream: &UnixStream) {
    stream.write_all(b"x").unwrap();
}

/// Runs `change` with a registrar while another thread waits. Returns the events of that wait.
fn while_waiting<B: Backend>(
    mut poller: B::Poller<EventKind>,
    change: impl FnOnce(RegistrarOf<B>),
) -> Vec<EventObject> {
    let registrar = poller.registrar();
    let waiting = thread::spawn(move || within_time_limit(move || next_events(&mut poller)));
    thread::sleep(Duration::from_millis(30));
    change(registrar);
    waiting.join().unwrap()
}

/// A registrar gives the same results as the poller. Each sees the other's registrations.
pub fn a_registrar_gives_the_same_results_as_the_poller<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let registrar = poller.registrar();
    let (here, there) = unix_pair();
    send(&there);
    let code = |result: std::io::Result<()>| result.unwrap_err().raw_os_error().unwrap();
    assert_eq!(code(registrar.delete(here.as_raw_fd())), libc::ENOENT);
    assert_eq!(code(registrar.modify(client(&here), Interest::READ)), libc::ENOENT);
    registrar.add(client(&here)).unwrap();
    assert_eq!(code(registrar.add(client(&here))), libc::EEXIST);
    assert_eq!(code(poller.add(client(&here))), libc::EEXIST);
    assert_eq!(only_event(&mut poller), client(&here));
    let changed = client(&here).with_generation(3);
    registrar.clone().modify(changed, Interest::WRITE).unwrap();
    let event = only_event(&mut poller);
    assert!(event == changed && event.is_writable() && !event.is_readable(), "{event:?}");
    poller.delete(here.as_raw_fd()).unwrap();
    assert_eq!(code(registrar.delete(here.as_raw_fd())), libc::ENOENT);
    poller.add(client(&here)).unwrap();
    registrar.delete(here.as_raw_fd()).unwrap();
    assert_silent(&mut poller);
    registrar.add_with(client(&here), Interest::READ.oneshot()).unwrap();
    only_event(&mut poller);
    assert_silent(&mut poller);
}

/// If another thread adds a ready descriptor, a running wait ends, in each mode.
pub fn an_add_by_another_thread_ends_a_wait<B: Backend>() {
    for interest in [Interest::READ, Interest::READ.edge(), Interest::READ.oneshot()] {
        let (here, there) = unix_pair();
        send(&there);
        let events = while_waiting::<B>(poller::<B, EventKind>(), |registrar| {
            registrar.add_with(client(&here), interest).unwrap();
        });
        assert_eq!(events, [client(&here)], "{interest:?}");
    }
}

/// A descriptor that another thread adds, and that becomes ready later, ends a running wait.
pub fn an_fd_added_by_another_thread_is_watched<B: Backend>() {
    let (here, there) = unix_pair();
    let events = while_waiting::<B>(poller::<B, EventKind>(), |registrar| {
        registrar.add(client(&here)).unwrap();
        send(&there);
    });
    assert_eq!(events, [client(&here)]);
}

/// A `modify` by another thread ends a running wait if it makes a descriptor ready or arms a oneshot again.
pub fn a_modify_by_another_thread_ends_a_wait<B: Backend>() {
    let (here, there) = unix_pair();
    let idle = poller::<B, EventKind>();
    idle.add(client(&here)).unwrap();
    let events = while_waiting::<B>(idle, |registrar| {
        registrar.modify(client(&here).with_generation(5), Interest::WRITE).unwrap();
    });
    assert_eq!(events, [client(&here).with_generation(5)]);

    send(&there);
    for both in [Interest::READ, Interest::READ | Interest::WRITE] {
        let mut fired = poller::<B, EventKind>();
        fired.add_with(client(&here), both.oneshot()).unwrap();
        only_event(&mut fired);
        let events = while_waiting::<B>(fired, |registrar| {
            registrar.modify(client(&here), both.oneshot()).unwrap();
        });
        assert_eq!(events, [client(&here)], "{both:?}");
    }
}

/// A `delete` by another thread does not end a running wait, and the descriptor is not reported any more.
pub fn a_delete_by_another_thread_does_not_end_a_wait<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let registrar = poller.registrar();
    let (here, there) = unix_pair();
    poller.add(client(&here)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(30));
            registrar.delete(here.as_raw_fd()).unwrap();
            send(&there);
        });
        let start = Instant::now();
        assert_eq!(poller.wait(150).unwrap(), []);
        assert!(start.elapsed() >= Duration::from_millis(150));
    });
}

/// A descriptor that another thread closes does not end a running wait, and is not reported any more.
pub fn a_close_by_another_thread_does_not_end_a_wait<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = unix_pair();
        poller.add(client(&here)).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(30));
                drop((here, there));
            });
            let start = Instant::now();
            assert_eq!(poller.wait(150).unwrap(), []);
            assert!(start.elapsed() >= Duration::from_millis(150));
        });
    });
}

/// A registrar may outlive its poller. Its calls still work, and close nothing.
pub fn a_registrar_may_outlive_its_poller<B: Backend>() {
    let poller = poller::<B, EventKind>();
    let (here, there) = unix_pair();
    poller.add(client(&here)).unwrap();
    let registrar = poller.registrar();
    let waker = poller.waker().unwrap();
    drop(poller);
    let clone = registrar.clone();
    drop(registrar);
    waker.wake().unwrap();
    let error = clone.add(client(&here)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    clone.modify(client(&here), (Interest::READ | Interest::WRITE).oneshot()).unwrap();
    clone.delete(here.as_raw_fd()).unwrap();
    let error = clone.delete(here.as_raw_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    clone.add(client(&here)).unwrap();
    thread::spawn(move || drop(clone)).join().unwrap();
    drop(waker);
    send(&there);
    assert_eq!(drain_open(&here), 1);
}

/// The poller's descriptor is closed with the last of the poller and its registrars.
pub fn the_last_registrar_closes_the_pollers_fd<B: Backend>() {
    isolated(|| {
        let before = open_fds();
        let poller = poller::<B, EventKind>();
        let registrars = [poller.registrar(), poller.registrar().clone()];
        assert_eq!(open_fds() - before, 1);
        let [first, last] = registrars;
        drop((poller, first));
        assert_eq!(open_fds() - before, 1);
        drop(last);
        assert_eq!(open_fds(), before);
    });
}

/// A registrar gives access to the descriptor of its poller.
pub fn a_registrar_has_the_fd_of_its_poller<B: Backend>() {
    let poller = poller::<B, EventKind>();
    let registrar = poller.registrar();
    assert_eq!(registrar.as_raw_fd(), poller.as_raw_fd());
    assert_eq!(registrar.as_fd().as_raw_fd(), poller.as_raw_fd());
    assert_eq!(registrar.clone().as_raw_fd(), poller.as_raw_fd());
}

/// Wakers and registrars work as trait objects.
pub fn handles_work_as_trait_objects<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, there) = unix_pair();
    send(&there);
    let wakeup: Box<dyn Wakeup + Send> = Box::new(poller.waker().unwrap());
    wakeup.wake().unwrap();
    assert_eq!(poller.wait(-1).unwrap(), []);
    let registrar = poller.registrar();
    let register: &dyn Register = &registrar;
    register.add(client(&here)).unwrap();
    assert_eq!(only_event(&mut poller), client(&here));
    register.modify(client(&here), Interest::WRITE).unwrap();
    register.delete(here.as_raw_fd()).unwrap();
    register.add_with(client(&here), Interest::READ.oneshot()).unwrap();
    assert_eq!(only_event(&mut poller), client(&here));
}

/// If several threads add the same descriptor at once, one succeeds. If several delete it, one succeeds.
pub fn one_of_several_racing_threads_succeeds<B: Backend>() {
    const THREADS: usize = 3;
    const ROUNDS: usize = 200;
    let mut poller = poller::<B, EventKind>();
    let (here, there) = unix_pair();
    send(&there);
    let barrier = Barrier::new(THREADS);
    // The results of each thread's calls. A failed assertion before the last barrier would block the other threads.
    let answers: Vec<Vec<_>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS as u32)
            .map(|thread| {
                let (registrar, here, barrier) = (poller.registrar(), &here, &barrier);
                scope.spawn(move || {
                    let object = client(here).with_generation(thread);
                    let both = Interest::READ | Interest::WRITE;
                    let code = |result: std::io::Result<()>| {
                        result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0)
                    };
                    (0..ROUNDS)
                        .map(|_| {
                            barrier.wait();
                            let added = code(registrar.add_with(object, both));
                            barrier.wait();
                            (added, code(registrar.delete(here.as_raw_fd())))
                        })
                        .collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for round in 0..ROUNDS {
        let mut added: Vec<_> = answers.iter().map(|answers| answers[round].0).collect();
        let mut deleted: Vec<_> = answers.iter().map(|answers| answers[round].1).collect();
        added.sort_unstable();
        deleted.sort_unstable();
        assert_eq!(added, [0, libc::EEXIST, libc::EEXIST], "round {round}");
        assert_eq!(deleted, [0, libc::ENOENT, libc::ENOENT], "round {round}");
    }
    assert_silent(&mut poller);
}

/// Several threads add, modify and delete while the owner waits. All calls succeed, every event belongs to a
/// registration, and the remaining registrations are reported.
pub fn several_threads_register_while_the_owner_waits<B: Backend>() {
    const THREADS: u32 = 4;
    const TIME: Duration = Duration::from_millis(800);
    let mut poller = poller::<B, EventKind>();
    let registrar = poller.registrar();
    let waker = poller.waker().unwrap();
    let start = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let registrar = registrar.clone();
            thread::spawn(move || {
                let both = Interest::READ | Interest::WRITE;
                let pairs: Vec<_> = (0..4).map(|_| unix_pair()).collect();
                pairs.iter().for_each(|(_, there)| send(there));
                let object = |here| client(here).with_generation(thread + 1);
                while start.elapsed() < TIME {
                    for (here, _) in &pairs {
                        registrar.add(object(here)).unwrap();
                        registrar.modify(object(here), both).unwrap();
                        registrar.modify(object(here), both.oneshot()).unwrap();
                        registrar.modify(object(here), Interest::WRITE.edge()).unwrap();
                        registrar.modify(object(here), both.edge()).unwrap();
                        registrar.delete(here.as_raw_fd()).unwrap();
                    }
                }
                for (here, _) in &pairs {
                    registrar.add(object(here)).unwrap();
                }
                pairs
            })
        })
        .collect();
    let waiting = Arc::new(AtomicBool::new(true));
    let owner = {
        let waiting = Arc::clone(&waiting);
        thread::spawn(move || {
            within_time_limit(move || {
                let mut events = Vec::new();
                while waiting.load(Ordering::Acquire) {
                    poller.wait_into(&mut events, None).unwrap();
                    for event in &events {
                        let known = (1..=THREADS).contains(&event.generation());
                        assert!(known && !event.readiness().is_empty(), "{event:?}");
                    }
                }
                poller
            })
        })
    };
    let pairs: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    waiting.store(false, Ordering::Release);
    waker.wake().unwrap();
    let mut poller = owner.join().unwrap();
    // The wake-up may end the first of these waits.
    let events = next_events(&mut poller);
    let mut reported: Vec<_> = events.iter().map(|event| (event.generation(), event.fd)).collect();
    reported.sort_unstable();
    let mut left: Vec<_> = (1..)
        .zip(&pairs)
        .flat_map(|(generation, pairs)| pairs.iter().map(move |(here, _)| (generation, here.as_raw_fd())))
        .collect();
    left.sort_unstable();
    assert_eq!(reported, left);
}

/// Workers share oneshots: the owner passes each event to a worker, which reads one byte and arms the oneshot
/// again. No two workers have the same descriptor at once, and no byte is left.
pub fn workers_that_rearm_oneshots_lose_nothing<B: Backend>() {
    const WORKERS: usize = 3;
    const BYTES: usize = 50;
    for interest in [Interest::READ, Interest::READ | Interest::WRITE] {
        let mut poller = poller::<B, EventKind>();
        let registrar = poller.registrar();
        let waker = poller.waker().unwrap();
        let pairs: Arc<Vec<_>> = Arc::new((0..4).map(|_| unix_pair()).collect());
        let busy: Arc<Vec<AtomicBool>> = Arc::new(pairs.iter().map(|_| AtomicBool::new(false)).collect());
        let left = Arc::new(AtomicUsize::new(pairs.len() * BYTES));

        let mut queues = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            let (sender, queue) = mpsc::channel::<EventObject>();
            queues.push(sender);
            let (registrar, waker) = (registrar.clone(), waker.clone());
            let (pairs, busy, left) = (Arc::clone(&pairs), Arc::clone(&busy), Arc::clone(&left));
            workers.push(thread::spawn(move || {
                for event in queue {
                    let index = event.generation() as usize;
                    let alone = !busy[index].swap(true, Ordering::AcqRel);
                    assert!(alone, "two workers have the same descriptor");
                    let read = (&pairs[index].0).read(&mut [0]).is_ok_and(|bytes| bytes == 1);
                    busy[index].store(false, Ordering::Release);
                    if read && left.fetch_sub(1, Ordering::AcqRel) == 1 {
                        waker.wake().unwrap();
                    }
                    registrar.modify(event, interest.oneshot()).unwrap();
                }
            }));
        }
        for (index, (here, _)) in (0..).zip(pairs.iter()) {
            registrar.add_with(client(here).with_generation(index), interest.oneshot()).unwrap();
        }
        let sending = {
            let pairs = Arc::clone(&pairs);
            thread::spawn(move || {
                for _ in 0..BYTES {
                    pairs.iter().for_each(|(_, there)| send(there));
                    thread::yield_now();
                }
            })
        };
        within_time_limit(move || {
            let start = Instant::now();
            let mut turn = 0;
            while left.load(Ordering::Acquire) > 0 {
                assert!(start.elapsed() < TIME_LIMIT, "some bytes were not read");
                for event in poller.wait(1_000).unwrap() {
                    turn += 1;
                    queues[turn % WORKERS].send(event).unwrap();
                }
            }
        });
        sending.join().unwrap();
        for worker in workers {
            worker.join().unwrap();
        }
    }
}
