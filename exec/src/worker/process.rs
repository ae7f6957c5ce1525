//! A worker process as its owner sees it: requests with a deadline, and how it ended.

use std::collections::VecDeque;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::protocol::{Lookup, Reply, Request, receive, send};
use super::shared::{Inbox, Outbox};
use super::{ARGUMENT, WorkerOptions, available_memory, says_no_memory};
use crate::device::Device;
use crate::error::ExecError;
use crate::executor::Options;
use crate::library::{TELEMETRY_VARIABLE, preferred_folder};

/// Bytes of the standard error that are kept.
const KEPT: usize = 4096;

/// Idle workers that stay for the next model.
const MOST_IDLE: usize = 3;

/// Time in which a worker drops a model.
pub(super) const CLOSING: Duration = Duration::from_secs(20);

static IDLE: Mutex<Vec<Process>> = Mutex::new(Vec::new());

/// A worker that is being started for the first model.
static FIRST: Mutex<Option<JoinHandle<Option<Process>>>> = Mutex::new(None);

/// Ends the workers that no model uses.
pub(super) fn end_idle() {
    if let Some(Ok(process)) = lock(&FIRST).take().map(JoinHandle::join) {
        drop(process);
    }
    let idle = std::mem::take(&mut *lock(&IDLE));
    for process in &idle {
        // It holds nothing that it must write down.
        let _ = lock(&process.child).kill();
    }
    drop(idle);
}

/// A running worker.
#[derive(Debug)]
pub(super) struct Process {
    key: Key,
    /// In bytes; 0 for none.
    memory: u64,
    child: Arc<Mutex<Child>>,
    /// `None` once the worker must end.
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    outbox: Outbox,
    inbox: Inbox,
    watch: Arc<Watch>,
    errors: Option<JoinHandle<Vec<u8>>>,
    /// The reply to [`Request::Close`] is not read yet.
    is_closing: bool,
}

/// Workers with the same key can stand in for each other: a process loads one library, with one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    worker: WorkerOptions,
    library: Option<PathBuf>,
    preferred: Option<PathBuf>,
    is_limited: bool,
}

impl Key {
    pub(super) fn of(options: &Options, worker: &WorkerOptions) -> Self {
        let is_limited = options.device == Device::Cpu;
        // A worker is fresh for one model only; then it is as good as any other.
        let worker = WorkerOptions { is_fresh: false, ..worker.clone() };
        let (library, preferred) = (options.library.clone(), preferred_folder());
        Self { worker, library, preferred, is_limited }
    }
}

/// How a worker ended instead of replying.
#[derive(Debug)]
pub(super) enum End {
    /// It was killed after this time.
    Late(Duration),
    /// It asked for more memory than this, in bytes.
    Memory(u64),
    /// It crashed, or something killed it.
    Died(String),
}

impl Process {
    /// An idle worker, or a new one.
    ///
    /// # Errors
    /// X0407.
    pub(super) fn take(key: &Key) -> Result<Self, ExecError> {
        if let Some(first) = lock(&FIRST).take()
            && let Ok(Some(process)) = first.join()
        {
            process.retire();
        }
        let mut idle = lock(&IDLE);
        let found = idle.iter().position(|process| process.key == *key);
        let found = found.map(|at| idle.swap_remove(at));
        drop(idle);
        let found = found.and_then(|mut process| process.is_closed().then_some(process));
        found.filter(Self::is_alive).map_or_else(|| Self::start(key), Ok)
    }

    /// Starts a worker in the background. It loads the library of ONNX Runtime meanwhile.
    pub(super) fn prepare(key: Key) {
        let start = move || {
            let mut process = Self::start(&key).ok()?;
            let request = Request::Prepare(Lookup::of(key.library.as_deref()));
            process.ask(&request, &[], key.worker.time).ok()?;
            Some(process)
        };
        let mut first = lock(&FIRST);
        if first.is_none() {
            // Where no thread can be started, the first model finds no worker and starts its own.
            *first = std::thread::Builder::new().spawn(start).ok();
        }
    }

    /// A new worker.
    ///
    /// # Errors
    /// X0407.
    pub(super) fn start(key: &Key) -> Result<Self, ExecError> {
        let limit = || key.worker.memory.unwrap_or_else(available_memory);
        let memory = if key.is_limited { limit() } else { 0 };
        let mut command = Command::new(&key.worker.program);
        command.arg(ARGUMENT).arg(memory.to_string()).env(TELEMETRY_VARIABLE, "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C in a terminal reaches the program, which decides what happens to its workers.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let unusable =
            |detail: String| ExecError::WorkerStart { program: key.worker.program.clone(), detail };
        let mut child = command.spawn().map_err(|error| unusable(error.to_string()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(requests), Some(replies), Some(stderr)) = pipes else {
            return Err(unusable("it has no pipes".to_owned()));
        };
        widen(&requests);
        widen(&replies);
        let child = Arc::new(Mutex::new(child));
        let watch = Arc::new(Watch::default());
        Watch::start(&watch, &child).map_err(|error| unusable(error.to_string()))?;
        let keep = std::thread::Builder::new().spawn(move || last_bytes(stderr));
        let errors = keep.map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            key: key.clone(),
            memory,
            child,
            requests: Some(requests),
            replies: BufReader::with_capacity(1 << 16, replies),
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            watch,
            errors: Some(errors),
            is_closing: false,
        })
    }

    fn is_alive(&self) -> bool {
        matches!(lock(&self.child).try_wait(), Ok(None))
    }

    /// Sends a request and waits for the reply, at most for `limit`.
    pub(super) fn ask(
        &mut self,
        request: &Request,
        payloads: &[Bytes],
        limit: Duration,
    ) -> Result<(Reply, Vec<Bytes>), End> {
        self.watch.set(Some(Instant::now() + limit));
        self.send(request, payloads);
        self.reply(limit)
    }

    /// Drops the model and keeps the worker for another one.
    pub(super) fn close(mut self) {
        self.send(&Request::Close, &[]);
        self.is_closing = true;
        self.retire();
    }

    /// Waits until the worker has dropped its model; false if it ended instead.
    pub(super) fn is_closed(&mut self) -> bool {
        !std::mem::take(&mut self.is_closing) || self.reply(CLOSING).is_ok()
    }

    fn send(&mut self, request: &Request, payloads: &[Bytes]) {
        if let Some(pipe) = &mut self.requests {
            // A worker that has died shows it in the reply.
            let _ = send(pipe, request, payloads, &mut self.outbox);
        }
    }

    fn reply(&mut self, limit: Duration) -> Result<(Reply, Vec<Bytes>), End> {
        self.watch.set(Some(Instant::now() + limit));
        let reply = receive(&mut self.replies, &mut self.inbox, false);
        let is_late = self.watch.set(None);
        match reply {
            Ok(reply) => Ok(reply),
            _ if is_late => Err(End::Late(limit)),
            _ => Err(self.end()),
        }
    }

    /// How the worker ended. It is killed if it still runs.
    fn end(&mut self) -> End {
        self.requests = None;
        let status = stop(&self.child);
        let text = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if says_no_memory(&text) {
            return End::Memory(self.memory);
        }
        let mut how = status.map_or_else(|| "it ended".to_owned(), |status| status.to_string());
        if status.is_some_and(is_bus_error) {
            how.push_str("; a file that it had mapped was cut, or the disk cannot be read");
        }
        let said = if last.is_empty() { String::new() } else { format!("; it said {last:?}") };
        End::Died(format!("{how}{said}"))
    }

    /// Keeps an idle worker for the next model.
    pub(super) fn retire(self) {
        let mut idle = lock(&IDLE);
        if idle.len() < MOST_IDLE && self.is_alive() {
            idle.push(self);
        }
    }

    /// Most memory, in bytes; 0 for no limit.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.requests = None;
        self.watch.end();
        stop(&self.child);
    }
}

/// Lets a pipe hold more, so that both sides take turns less often: models and images are large.
#[cfg(target_os = "linux")]
fn widen(pipe: &impl std::os::fd::AsFd) {
    // Above the limit of the system the pipe stays as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
}

#[cfg(not(target_os = "linux"))]
fn widen<T>(_: &T) {}

/// Kills a process and waits until it is gone.
fn stop(child: &Mutex<Child>) -> Option<ExitStatus> {
    let mut child = lock(child);
    // A process that has crashed keeps its own status.
    for _ in 0..20 {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    child.wait().ok()
}

/// Whether a process read a part of a mapped file that is not there any more.
#[cfg(unix)]
fn is_bus_error(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(rustix::process::Signal::BUS.as_raw())
}

#[cfg(not(unix))]
fn is_bus_error(_: ExitStatus) -> bool {
    false
}

/// Reads to the end and keeps the last bytes.
fn last_bytes(mut from: ChildStderr) -> Vec<u8> {
    let mut kept = VecDeque::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        kept.extend(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    kept.into()
}

/// Kills a worker at its deadline.
#[derive(Debug, Default)]
struct Watch {
    state: Mutex<WatchState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WatchState {
    deadline: Option<Instant>,
    has_killed: bool,
    is_over: bool,
}

impl Watch {
    /// Starts the thread that waits for the deadlines.
    fn start(this: &Arc<Self>, child: &Arc<Mutex<Child>>) -> std::io::Result<()> {
        let (watch, child) = (Arc::clone(this), Arc::clone(child));
        std::thread::Builder::new().spawn(move || watch.wait(&child)).map(drop)
    }

    fn wait(&self, child: &Mutex<Child>) {
        let mut state = lock(&self.state);
        while !state.is_over {
            let Some(deadline) = state.deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.has_killed = true;
                state.deadline = None;
                let _ = lock(child).kill();
            } else {
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Sets or removes the deadline, and tells whether the worker was killed.
    fn set(&self, deadline: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        state.deadline = deadline;
        self.changed.notify_one();
        state.has_killed
    }

    fn end(&self) {
        lock(&self.state).is_over = true;
        self.changed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
