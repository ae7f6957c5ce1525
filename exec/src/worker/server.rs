//! The worker's side.

#[cfg(unix)]
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;

use bytes::Bytes;

use super::protocol::{Opened, Reply, Request, join, receive, send, split};
use super::shared::{Inbox, Outbox};
use crate::error::ExecError;
use crate::executor::{Executor, ModelSource};
use crate::library;
use crate::open::open;

/// Serves one program until it closes the pipe. The arguments come after [`super::ARGUMENT`]: the memory limit in
/// bytes, 0 for none.
#[must_use]
pub fn serve(memory: Option<&str>) -> ExitCode {
    limit_memory(memory.and_then(|text| text.parse().ok()).unwrap_or(0));
    let Ok(mut replies) = take_stdout() else { return ExitCode::FAILURE };
    let (requests, received) = mpsc::channel();
    // This thread notices the end of the program that asks, also while a model runs.
    let reading = std::thread::Builder::new().spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut inbox = Inbox::default();
        // The next request comes after the reply, so what it shares can be read in place until then.
        while let Ok(request) = receive::<Request>(&mut stdin, &mut inbox, true) {
            if requests.send(request).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    if let Err(error) = reading {
        // Standard output is standard error by now.
        let _ = writeln!(io::stdout(), "no thread can be started: {error}");
        return ExitCode::FAILURE;
    }
    let mut executor = None;
    let mut outbox = Outbox::default();
    while let Ok((request, payloads)) = received.recv() {
        let (reply, payloads) = answer(&mut executor, request, payloads)
            .unwrap_or_else(|error| (Reply::Failed(error), Vec::new()));
        if send(&mut replies, &reply, &payloads, &mut outbox).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn answer(
    executor: &mut Option<Box<dyn Executor>>,
    request: Request,
    mut payloads: Vec<Bytes>,
) -> Result<(Reply, Vec<Bytes>), ExecError> {
    let broken = |detail: &str| ExecError::WorkerBroken { detail: detail.to_owned() };
    let reply = match request {
        Request::Prepare(lookup) => {
            // An error comes again when a model needs the library.
            let _ = library::load(lookup.adopt().as_deref());
            Reply::Prepared
        }
        Request::Probe(lookup) => Reply::Probed(library::probe_here(lookup.adopt().as_deref())?),
        Request::Open { path, runtime, lookup, options } => {
            *executor = None;
            lookup.adopt();
            let bytes = payloads.pop().unwrap_or_default();
            let source = match &path {
                Some(path) => ModelSource::Path(Path::new(path)),
                None => ModelSource::Bytes(&bytes),
            };
            let opened = open(source, runtime, &options.into())?;
            Reply::Opened(describe(executor.insert(opened).as_ref()))
        }
        Request::Run { inputs } => {
            let inputs = join(inputs, payloads).map_err(|error| broken(&error.to_string()))?;
            let executor = executor.as_mut().ok_or_else(|| broken("no model is loaded"))?;
            let (outputs, payloads) = split(&executor.run(&inputs)?);
            return Ok((Reply::Ran { outputs }, payloads));
        }
        Request::Time { inputs, runs, clock } => {
            let inputs = join(inputs, payloads).map_err(|error| broken(&error.to_string()))?;
            let executor = executor.as_mut().ok_or_else(|| broken("no model is loaded"))?;
            Reply::Timed { ms: executor.time(&inputs, runs, clock)? }
        }
        Request::Close => {
            *executor = None;
            Reply::Closed
        }
    };
    Ok((reply, Vec::new()))
}

fn describe(executor: &dyn Executor) -> Opened {
    Opened {
        name: executor.name(),
        inputs: executor.input_names(),
        outputs: executor.output_names(),
        computes_on_calling_thread: executor.computes_on_calling_thread(),
        fallback_reason: executor.fallback_reason().cloned(),
    }
}

/// The standard output, for replies only: what a runtime prints goes to the standard error from now on.
#[cfg(unix)]
fn take_stdout() -> io::Result<impl Write> {
    let replies = rustix::io::dup(rustix::stdio::stdout())?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(File::from(replies))
}

#[cfg(not(unix))]
fn take_stdout() -> io::Result<impl Write> {
    Ok(io::stdout())
}

/// Makes an allocation fail that would take this process above `bytes`; 0 means no limit.
#[cfg(target_os = "linux")]
fn limit_memory(bytes: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if bytes == 0 {
        return;
    }
    // Private memory that can be written; files that are mapped do not count.
    let maximum = getrlimit(Resource::Data).maximum;
    let current = Some(maximum.map_or(bytes, |maximum| maximum.min(bytes)));
    // Without the limit the worker serves as well, only less safely.
    let _ = setrlimit(Resource::Data, Rlimit { current, maximum });
}

#[cfg(not(target_os = "linux"))]
fn limit_memory(_: u64) {}
