//! A compiled expression: steps on a stack, which is the caller's and keeps its memory. So computing a point
//! allocates nothing.

use crate::expression::Operator;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Puts a number on the stack.
    Number(f64),
    /// Puts an input on it.
    Input(usize),
    /// Puts the window's length on it, in seconds.
    Length,
    /// Negates what is on top.
    Negate,
    /// Joins the two on top.
    Join(Operator),
}

/// The steps, in order. `check` makes sure that each finds what it needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
}

impl Program {
    /// Runs it.
    pub(crate) fn run(&self, inputs: &[f64], length: f64, stack: &mut Vec<f64>) -> f64 {
        stack.clear();
        for step in &self.steps {
            let value = match *step {
                Step::Number(number) => number,
                Step::Input(input) => inputs.get(input).copied().unwrap_or(f64::NAN),
                Step::Length => length,
                Step::Negate => -pop(stack),
                Step::Join(operator) => {
                    let b = pop(stack);
                    operator.apply(pop(stack), b)
                }
            };
            stack.push(value);
        }
        pop(stack)
    }
}

fn pop(stack: &mut Vec<f64>) -> f64 {
    stack.pop().unwrap_or(f64::NAN)
}

impl Operator {
    /// `a` and `b`, joined.
    pub(crate) fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            Operator::Divide => a / b,
            Operator::Min => a.min(b),
            Operator::Max => a.max(b),
        }
    }
}
