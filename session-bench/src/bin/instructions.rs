//! Counts the instructions of the operations of a request, and compares them with the committed counts.
//!
//! See the README of this package.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    env, fs,
    hint::black_box,
    io,
    process::{Command, ExitCode, Stdio},
};

use axum::response::Response;
use http::{HeaderValue, Request, header};
use session_axum::SessionLayer;
use session_bench::{BoxError, Progress, Table, Work, create_session, handlers, record, request};
use session_core::{Entry, IdGenerator as _, OsRandom, SessionId, Sessions};
use session_memory::MemoryStore;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt as _, service_fn};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        [] => compare(),
        ["--save"] => save(),
        [RUN, operation, times] => run(operation, times),
        _ => {
            println!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("instructions: {error}");
        ExitCode::FAILURE
    })
}

/// Counts, shows the counts beside the committed ones, and fails if an operation is new or has grown
/// beyond the margin.
fn compare() -> Result<ExitCode, BoxError> {
    let committed: Counts = serde_json::from_str(&fs::read_to_string(COMMITTED)?)?;
    let counted = count_all()?;
    let mut table = Table::new(1, &["operation", "instructions", "committed", "change"]);
    let mut has_grown = false;
    for (operation, _) in OPERATIONS {
        let now = counted.get(*operation).copied().unwrap_or_default();
        let before = committed.get(*operation).copied();
        let change = before.map(|before| now as f64 / before as f64 - 1.0);
        has_grown |= change.is_none_or(|change| change > MARGIN);
        table.row([
            Some((*operation).to_owned()),
            Some(now.to_string()),
            before.map(|before| before.to_string()),
            change.map(|change| format!("{:+.1} %", change * 100.0)),
        ]);
    }
    println!("{table}");
    if has_grown {
        eprintln!("{GROWN}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts, and writes the counts to the file to commit.
fn save() -> Result<ExitCode, BoxError> {
    let text = serde_json::to_string_pretty(&count_all()?)? + "\n";
    fs::write(COMMITTED, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs an operation so many times, in a child process under valgrind.
fn run(operation: &str, times: &str) -> Result<ExitCode, BoxError> {
    let mut operations = OPERATIONS.iter();
    let (_, run) =
        operations.find(|(name, _)| *name == operation).ok_or("there is no such operation")?;
    run(times.parse()?);
    Ok(ExitCode::SUCCESS)
}

/// Counts the instructions of each operation.
fn count_all() -> Result<Counts, BoxError> {
    if cfg!(debug_assertions) {
        return Err("only an optimized build counts: use cargo run --release".into());
    }
    let mut progress = Progress::new(OPERATIONS.len());
    let mut counts = Counts::new();
    for (operation, _) in OPERATIONS {
        // The difference excludes the start of the process and the preparation.
        let count = (instructions(operation, MANY)? - instructions(operation, FEW)?) / (MANY - FEW);
        progress.step(&format!("{operation}: {count} instructions"));
        counts.insert((*operation).to_owned(), count);
    }
    Ok(counts)
}

/// Counts the instructions of a process that runs an operation so many times.
fn instructions(operation: &str, times: u64) -> Result<u64, BoxError> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([RUN, operation, &times.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NO_VALGRIND.into(),
            _ => BoxError::from(error),
        })?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected : "));
    match collected {
        Some((_, count)) if output.status.success() => Ok(count.trim().parse()?),
        _ => Err(format!("valgrind did not count {operation}:\n{report}").into()),
    }
}

/// The counted operations, each with the function that repeats it.
const OPERATIONS: &[(&str, Repeat)] = &[
    ("ID, parse", parse_id),
    ("ID, hash to the key", hash_id),
    ("record, encode", encode_record),
    ("record, decode", decode_record),
    ("memory, open, read, close", |times| in_memory(Work::Read, times)),
    ("memory, open, update, commit", |times| in_memory(Work::Write, times)),
    ("no layer", |times| call(service_fn(handlers::untouched), &no_cookie(), &runtime(), times)),
    ("layer, untouched", |times| in_layer(service_fn(handlers::untouched), times)),
    ("layer on memory, read", |times| in_layer(service_fn(handlers::read), times)),
    ("layer on memory, write", |times| in_layer(service_fn(handlers::write), times)),
];

fn parse_id(times: u64) {
    let id = OsRandom.generate();
    for _ in 0..times {
        let _ = black_box(SessionId::parse(black_box(id.expose().as_bytes())));
    }
}

fn hash_id(times: u64) {
    let id = OsRandom.generate();
    for _ in 0..times {
        black_box(black_box(&id).key());
    }
}

fn encode_record(times: u64) {
    let record = runtime().block_on(record(4));
    for _ in 0..times {
        black_box(black_box(&record).encode());
    }
}

fn decode_record(times: u64) {
    let bytes = runtime().block_on(record(4)).encode();
    for _ in 0..times {
        let _ = black_box(Entry::decode(black_box(&bytes).clone()));
    }
}

fn in_memory(work: Work, times: u64) {
    let sessions = Sessions::new(MemoryStore::default());
    runtime().block_on(async {
        let id = create_session(&sessions).await.expect("memory stores it");
        for _ in 0..times {
            request(&sessions, &id, work).await;
        }
    });
}

fn in_layer<S>(handler: S, times: u64)
where
    SessionLayer: Layer<S>,
    <SessionLayer as Layer<S>>::Service:
        Service<Request<()>, Response = Response, Error = Infallible> + Clone,
{
    let store = MemoryStore::default();
    let runtime = runtime();
    let sessions = Sessions::new(store.clone());
    let id = runtime.block_on(create_session(&sessions)).expect("memory stores it");
    let cookie = HeaderValue::from_str(&format!("__Host-session={}", id.expose()))
        .expect("an ID fits into a header");
    call(SessionLayer::new(store).layer(handler), &cookie, &runtime, times);
}

fn call<S>(service: S, cookie: &HeaderValue, runtime: &Runtime, times: u64)
where
    S: Service<Request<()>, Response = Response, Error = Infallible> + Clone,
{
    runtime.block_on(async {
        for _ in 0..times {
            let mut request = Request::new(());
            request.headers_mut().insert(header::COOKIE, cookie.clone());
            let _ = black_box(service.clone().oneshot(request).await);
        }
    });
}

fn no_cookie() -> HeaderValue {
    HeaderValue::from_static("__Host-session=none")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime without I/O")
}

type Counts = BTreeMap<String, u64>;
/// A function that runs an operation so many times.
type Repeat = fn(u64);

/// The argument with which the program runs one operation instead of counting all.
const RUN: &str = "run";
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");
/// The most growth of a count. Counts differ from run to run, because the order of hash tables is
/// random and moka does its housekeeping by the clock.
const MARGIN: f64 = 0.03;
const FEW: u64 = 1_000;
const MANY: u64 = 11_000;

const HELP: &str = "\
Usage: instructions [--save]
Counts instructions with valgrind and compares them with session-bench/instructions.json; --save writes that.";
const NO_VALGRIND: &str = "\
there is no valgrind on the PATH: install it (apt-get install valgrind, dnf install valgrind; not on Windows, nor \
on macOS with Apple's processors)";
const GROWN: &str = "\
An operation is new or takes more instructions than committed, by more than 3 %. If that is wanted, or the compiler is \
another one, commit what `cargo run --release -p session-bench --bin instructions -- --save` writes.";
