use std::io::{IsTerminal as _, Write as _, stderr};

/// Shows on standard error how far the run is: in one line that changes on a terminal, line by line
/// elsewhere.
#[derive(Debug)]
pub struct Progress {
    steps: usize,
    done: usize,
    one_line: bool,
}

impl Progress {
    /// Begins with none of so many steps done.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self { steps, done: 0, one_line: stderr().is_terminal() }
    }

    /// Shows that one more step is done, and what came of it.
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
