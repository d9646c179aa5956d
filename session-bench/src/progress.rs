use std::io::{IsTerminal as _, Write as _, stderr};

/// The progress of a run, on standard error. A terminal shows one changing line, and other outputs get
/// a line per step.
#[derive(Debug)]
pub struct Progress {
    steps: usize,
    done: usize,
    one_line: bool,
}

impl Progress {
    /// Creates the progress of a run of so many steps.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self { steps, done: 0, one_line: stderr().is_terminal() }
    }

    /// Counts a step, and shows its result.
    pub fn step(&mut self, text: &str) {
        self.done += 1;
        let mut stderr = stderr().lock();
        let (start, end) = match (self.one_line, self.done < self.steps) {
            (true, true) => ("\r\x1b[K", ""),
            (true, false) => ("\r\x1b[K", "\n"),
            (false, _) => ("", "\n"),
        };
        let _ = write!(stderr, "{start}[{}/{}] {text}{end}", self.done, self.steps);
        let _ = stderr.flush();
    }
}
