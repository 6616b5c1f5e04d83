//! A compiled expression: steps for a stack machine. The caller provides the stack and reuses it, so a point
//! costs no allocation.

use crate::expression::Operator;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Pushes a number.
    Number(f64),
    /// Pushes an input.
    Input(usize),
    /// Pushes the window's length, in seconds.
    Length,
    /// Negates the top value.
    Negate,
    /// Replaces the two top values by the operator's result.
    Join(Operator),
}

/// The steps, in order. `check` guarantees that each finds its operands on the stack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
}

impl Program {
    /// Computes the result.
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
    /// The result for `a` and `b`.
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
