//! What `setup` still has to do, and how far it is. `setup.rs` and `test_tools.rs` say what the steps are.

use anyhow::Result;

use crate::process::{Shown, say};

/// Something that takes long.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// About how long it takes on two cores.
    pub(crate) seconds: usize,
    /// Whether a failure is only reported.
    pub(crate) is_optional: bool,
    pub(crate) work: Box<dyn FnOnce() -> Result<()>>,
}

impl Step {
    /// `work`, which has to succeed.
    pub(crate) fn new(name: &'static str, seconds: usize, work: fn() -> Result<()>) -> Self {
        Self { name, seconds, is_optional: false, work: Box::new(work) }
    }
}

/// Does them in this order; ends with the first failure of one that is not optional.
pub(crate) fn do_all(steps: Vec<Step>) -> Result<()> {
    let total = steps.iter().map(|step| step.seconds).sum();
    let mut done = 0;
    let shown = Shown::of("setup");
    let count = steps.len();
    for (at, step) in steps.into_iter().enumerate() {
        shown.step(done, total, &format!("{} of {count}: {}", at + 1, step.name));
        done += step.seconds;
        match (step.work)() {
            Err(error) if step.is_optional => say("setup", format_args!("{error:#}")),
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failure_ends_it_unless_the_step_is_optional() {
        let begun = Rc::new(Cell::new(0));
        let step = |is_optional, fails: bool| {
            let begun = begun.clone();
            let work = move || {
                begun.set(begun.get() + 1);
                if fails { bail!("as planned") } else { Ok(()) }
            };
            Step { name: "a step", seconds: 1, is_optional, work: Box::new(work) }
        };
        do_all(vec![step(true, true), step(false, false)]).unwrap();
        assert_eq!(begun.replace(0), 2);
        let error = do_all(vec![step(false, true), step(false, false)]).unwrap_err();
        assert_eq!((begun.get(), error.to_string()), (1, "as planned".to_owned()));
    }
}
