//! What a caller learns while work goes on, and how it ends the work.

/// Follows a piece of work and may end it. Every method does nothing by default.
#[expect(unused_variables, reason = "the names document what an implementation gets")]
pub trait Observer {
    /// A piece of work begins or goes on: what it is, how many steps are done, how many there are (0 = unknown).
    fn progress(&mut self, what: &str, done: usize, total: usize) {}
    /// Something worth knowing.
    fn message(&mut self, text: &str) {}
    /// Something that speaks against the result.
    fn warning(&mut self, text: &str) {}
    /// Asked between steps; `true` ends the work with an error.
    fn is_cancelled(&mut self) -> bool {
        false
    }
}

/// An observer that ignores everything and never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
