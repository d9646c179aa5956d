//! Plays random histories of the protocol and checks each against a model of its promises.

use std::{env, process::ExitCode};

use integration_tests::{
    RedisServer,
    sim::{Broken, Found, NearBroken, NearReport, NearSimulation, Report, Simulation},
};

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("simulate: {message}\nsimulate --help says more");
            return ExitCode::from(2);
        }
    };
    match options.wish {
        Wish::Help => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Wish::ListBroken if options.near_cache => {
            NearBroken::ALL.iter().for_each(|broken| println!("{broken}"));
            return ExitCode::SUCCESS;
        }
        Wish::ListBroken => {
            Broken::ALL.iter().for_each(|broken| println!("{broken}"));
            return ExitCode::SUCCESS;
        }
        Wish::Run if options.near_cache => return options.run_near_cache(),
        Wish::Run => {}
    }
    let report = match options.run() {
        Ok(report) => report,
        Err(message) => {
            eprintln!("simulate: {message}");
            return ExitCode::FAILURE;
        }
    };
    tell(&report);
    ExitCode::from(u8::from(report.violations != 0))
}

/// The parsed command line.
struct Options {
    wish: Wish,
    histories: u64,
    seed: u64,
    redis: bool,
    near_cache: bool,
    broken: Option<String>,
}

enum Wish {
    Run,
    Help,
    ListBroken,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            wish: Wish::Run,
            histories: 100_000,
            seed: 0,
            redis: false,
            near_cache: false,
            broken: None,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--help" | "-h" => options.wish = Wish::Help,
                "--list-broken" => options.wish = Wish::ListBroken,
                "--redis" => options.redis = true,
                "--histories" => options.histories = number(&arg, &value()?)?,
                "--seed" => options.seed = number(&arg, &value()?)?,
                "--near-cache" => options.near_cache = true,
                "--broken" => options.broken = Some(value()?),
                _ => return Err(format!("there is no option {arg:?}")),
            }
        }
        if let Some(name) = &options.broken
            && options.broken_one().is_none()
            && options.broken_near_cache().is_none()
        {
            return Err(format!("there is no broken variant {name:?}; --list-broken names them"));
        }
        if options.near_cache && options.redis {
            return Err("--near-cache is not played on a real Redis".to_owned());
        }
        Ok(options)
    }

    fn broken_one(&self) -> Option<Broken> {
        self.broken.as_deref().filter(|_| !self.near_cache).and_then(Broken::named)
    }

    fn broken_near_cache(&self) -> Option<NearBroken> {
        self.broken.as_deref().filter(|_| self.near_cache).and_then(NearBroken::named)
    }

    fn run_near_cache(&self) -> ExitCode {
        let mut simulation = NearSimulation::new(self.histories).with_seed(self.seed);
        if let Some(broken) = self.broken_near_cache() {
            simulation = simulation.with_broken(broken);
        }
        let NearReport { histories, violations, counters, found, .. } = simulation.run();
        println!("{counters:#?}");
        found.iter().for_each(tell_violation);
        println!("histories {histories}, violations {violations}");
        ExitCode::from(u8::from(violations != 0))
    }

    fn run(&self) -> Result<Report, String> {
        let mut simulation = Simulation::new(self.histories).with_seed(self.seed);
        if let Some(broken) = self.broken_one() {
            simulation = simulation.with_broken(broken);
        }
        let progress = progress(self.histories);
        if !self.redis {
            return Ok(simulation.run(progress));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        runtime.block_on(async {
            let (_server, url) = match env::var("REDIS_URL") {
                Ok(url) => (None, url),
                Err(_) => {
                    let server = RedisServer::start().await;
                    let url = server.url().to_owned();
                    (Some(server), url)
                }
            };
            let run = simulation.run_on_redis(&url, progress).await;
            run.map_err(|error| format!("Redis failed: {error}"))
        })
    }
}

fn number(option: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{option} needs a number, not {text:?}"))
}

/// Prints the progress to stderr, ten times in total.
fn progress(histories: u64) -> impl Fn(u64) + Sync {
    let told = std::sync::atomic::AtomicU64::new(0);
    move |done| {
        let tenth = done.saturating_mul(10) / histories.max(1);
        if told.fetch_max(tenth, std::sync::atomic::Ordering::Relaxed) < tenth {
            eprintln!("{done} of {histories} histories");
        }
    }
}

fn tell(report: &Report) {
    print!("{}", report.counters);
    report.found.iter().for_each(tell_violation);
    println!(
        "histories {}, faults {}, violations {}",
        report.histories,
        report.counters.faults(),
        report.violations
    );
}

fn tell_violation(found: &Found) {
    println!("\nseed {}: {} is violated: {}", found.seed, found.rule, found.text);
    for line in &found.trace {
        println!("{line}");
    }
}

const HELP: &str = "\
Plays random histories of the session protocol on a store that delays, reorders, loses and repeats
commands, with servers that crash and a clock that jumps, and checks each against a model.

simulate [OPTIONS]

  --histories N    how many histories to play (100000)
  --seed S         the seed of the first; each further one is greater by one (0)
  --redis          on a real Redis instead of memory: REDIS_URL, or a server started for this
  --near-cache     servers with the near cache, whose messages are late, lost, or overtaken
  --broken NAME    plays a variant of the protocol with one of its rules broken
  --list-broken    names the variants, one per line
  --help           this

A violation is printed with the seed of its history and the steps of the shortest form of it;
`--histories 1 --seed S`, with the other options the same, plays it again. Prints last
`histories N, faults K, violations V`. Exits with 0 if V is 0, else with 1, and with 2 for options
that cannot be used.
";
