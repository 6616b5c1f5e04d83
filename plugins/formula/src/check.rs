//! Type-checks an expression and compiles it: determines the dimension of its result, and whether the result
//! adds up over windows.
//!
//! The *degree* of an expression is how its value grows with the window's length: a gauge and a number have
//! degree 0, a counter's increase and `dt` have degree 1. Products add degrees, quotients subtract them, and
//! only expressions of the same degree can be added: the increase of a counter plus a gauge would depend on
//! the sampling interval. A result of degree 1 adds up over windows and can be a counter, one of degree 0 can
//! be a gauge, and any other is invalid.

use crate::expression::{Expr, Operator};
use crate::program::{Program, Step};
use crate::unit::{Dimension, Scale};

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Type {
    pub(crate) dimension: Dimension,
    pub(crate) degree: i32,
}

/// An input of an expression.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) kind: Type,
}

/// The name of the window's length.
pub(crate) const LENGTH: &str = "dt";

/// Compiles `expression`. The program refers to `inputs` by their indices.
///
/// # Errors
/// The types that do not match, or the name that does not exist.
pub(crate) fn compile(expression: &Expr, inputs: &[Input]) -> Result<(Program, Type), String> {
    let mut program = Program::default();
    let result = compile_into(&mut program.steps, expression, inputs)?;
    Ok((program, result))
}

/// The names that `expression` uses, in the order of first use.
pub(crate) fn names(expression: &Expr) -> Vec<&str> {
    fn walk<'a>(expression: &'a Expr, found: &mut Vec<&'a str>) {
        match expression {
            Expr::Number(..) => {}
            Expr::Name(name) if name == LENGTH || found.contains(&name.as_str()) => {}
            Expr::Name(name) => found.push(name),
            Expr::Negate(a) => walk(a, found),
            Expr::Binary(_, a, b) => [a, b].into_iter().for_each(|e| walk(e, found)),
            Expr::Call(_, arguments) => arguments.iter().for_each(|e| walk(e, found)),
        }
    }
    let mut found = Vec::new();
    walk(expression, &mut found);
    found
}

fn compile_into(steps: &mut Vec<Step>, expression: &Expr, inputs: &[Input]) -> Result<Type, String> {
    match expression {
        Expr::Number(number, unit) => {
            let scale = if unit.is_empty() { Scale::ONE } else { Scale::parse(unit)? };
            steps.push(Step::Number(number * scale.factor));
            Ok(Type { dimension: scale.dimension, degree: 0 })
        }
        Expr::Name(name) if name == LENGTH => {
            steps.push(Step::Length);
            Ok(Type { dimension: Scale::SECOND.dimension, degree: 1 })
        }
        Expr::Name(name) => {
            let Some(at) = inputs.iter().position(|input| input.name == *name) else {
                return Err(format!("`{name}` is not an input"));
            };
            steps.push(Step::Input(at));
            Ok(inputs[at].kind)
        }
        Expr::Negate(a) => {
            let kind = compile_into(steps, a, inputs)?;
            steps.push(Step::Negate);
            Ok(kind)
        }
        Expr::Binary(operator, a, b) => join(*operator, a, b, inputs, steps),
        Expr::Call(name, arguments) => {
            let operator = match name.as_str() {
                "min" => Operator::Min,
                "max" => Operator::Max,
                _ => return Err(format!("there is no function `{name}`; there are min and max")),
            };
            match arguments.as_slice() {
                [a, b] => join(operator, a, b, inputs, steps),
                _ => Err(format!("`{name}` takes two arguments")),
            }
        }
    }
}

fn join(
    operator: Operator,
    a: &Expr,
    b: &Expr,
    inputs: &[Input],
    steps: &mut Vec<Step>,
) -> Result<Type, String> {
    let (left, right) = (compile_into(steps, a, inputs)?, compile_into(steps, b, inputs)?);
    steps.push(Step::Join(operator));
    match operator {
        Operator::Multiply => Ok(Type {
            dimension: left.dimension.times(right.dimension, 1),
            degree: left.degree + right.degree,
        }),
        Operator::Divide => Ok(Type {
            dimension: left.dimension.times(right.dimension, -1),
            degree: left.degree - right.degree,
        }),
        // Zero is zero in every unit: max(energy - used, 0).
        _ if is_zero(b) => Ok(left),
        _ if is_zero(a) => Ok(right),
        _ if left.dimension != right.dimension => {
            let (left, right) = (left.dimension.common_unit().0, right.dimension.common_unit().0);
            Err(format!(
                "{} joins {left} and {right}; write the unit of a number after it, as in 5 [W]",
                symbol(operator)
            ))
        }
        _ if left.degree != right.degree => Err(format!(
            "{} joins a value that grows with the window and one that does not; \
             divide the first by dt, or multiply the second by it",
            symbol(operator)
        )),
        _ => Ok(left),
    }
}

fn is_zero(expression: &Expr) -> bool {
    matches!(expression, Expr::Number(number, unit) if *number == 0.0 && unit.is_empty())
}

fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "`+`",
        Operator::Subtract => "`-`",
        Operator::Multiply => "`*`",
        Operator::Divide => "`/`",
        Operator::Min => "`min`",
        Operator::Max => "`max`",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::expression::parse;

    fn inputs(units: &[(&str, &str, i32)]) -> Vec<Input> {
        let input = |&(name, unit, degree): &(&str, &str, i32)| {
            let dimension = Scale::parse(unit).unwrap().dimension;
            Input { name: name.to_owned(), kind: Type { dimension, degree } }
        };
        units.iter().map(input).collect()
    }

    #[test]
    fn units_and_degrees_are_derived_from_the_inputs() {
        let inputs = inputs(&[("energy", "J", 1), ("time", "s", 1), ("watts", "W", 0), ("heat", "Cel", 0)]);
        for (text, unit, degree) in [
            ("energy / dt", "W", 0),
            ("energy / time", "W", 0),
            ("watts * dt", "J", 1),
            ("energy * 400 [g/(kW.h)]", "g", 1),
            ("energy * 0.4 / 3.6e6", "J", 1),
            ("max(energy - 5 [W] * dt, 0)", "J", 1),
            ("min(watts, energy / dt) + 1 [kW]", "W", 0),
            ("-heat + 3 [Cel]", "Cel", 0),
            ("energy / energy", "1", 0),
            ("energy * time", "J.s", 2),
        ] {
            let (_, kind) = compile(&parse(text).unwrap(), &inputs).unwrap();
            assert_eq!((kind.dimension.common_unit().0.as_str(), kind.degree), (unit, degree), "{text}");
        }
        for (text, why) in [
            ("energy + time", "`+` joins J and s"),
            ("energy + 5", "as in 5 [W]"),
            ("watts * 1 [s] + energy", "grows with the window"),
            ("max(watts, heat)", "`max` joins W and Cel"),
            ("energi", "`energi` is not an input"),
            ("sqrt(energy)", "no function `sqrt`"),
            ("min(energy)", "two arguments"),
            ("5 [joule]", "`joule` is not a known unit"),
        ] {
            let message = compile(&parse(text).unwrap(), &inputs).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
        assert_eq!(names(&parse("b * a + dt / b").unwrap()), ["b", "a"]);
    }

    /// Evaluates by a walk over the tree.
    fn naive(expression: &Expr, inputs: &[f64], length: f64) -> f64 {
        let of = |e: &Expr| naive(e, inputs, length);
        match expression {
            Expr::Number(number, _) => *number,
            Expr::Name(name) if name == LENGTH => length,
            Expr::Name(name) => inputs[name[1..].parse::<usize>().unwrap()],
            Expr::Negate(a) => -of(a),
            Expr::Binary(Operator::Add, a, b) => of(a) + of(b),
            Expr::Binary(Operator::Subtract, a, b) => of(a) - of(b),
            Expr::Binary(Operator::Multiply, a, b) => of(a) * of(b),
            Expr::Binary(Operator::Divide, a, b) => of(a) / of(b),
            Expr::Call(name, ab) if name == "min" => of(&ab[0]).min(of(&ab[1])),
            Expr::Call(_, ab) => of(&ab[0]).max(of(&ab[1])),
            Expr::Binary(..) => unreachable!("min and max are calls"),
        }
    }

    /// The precedence of an expression's outermost operator, and its text with as few parentheses as
    /// possible.
    fn write(expression: &Expr) -> (u8, String) {
        let within = |e: &Expr, least: u8| match write(e) {
            (binding, text) if binding < least => format!("({text})"),
            (_, text) => text,
        };
        match expression {
            Expr::Number(number, _) => (4, format!("{number:?}")),
            Expr::Name(name) => (4, name.clone()),
            Expr::Negate(a) => (3, format!("-{}", within(a, 3))),
            Expr::Binary(operator, a, b) => {
                let (sign, binding) = match operator {
                    Operator::Add => ("+", 1),
                    Operator::Subtract => (" - ", 1),
                    Operator::Multiply => ("* ", 2),
                    _ => (" /", 2),
                };
                (binding, format!("{}{sign}{}", within(a, binding), within(b, binding + 1)))
            }
            Expr::Call(name, ab) => (4, format!("{name}({}, {})", write(&ab[0]).1, write(&ab[1]).1)),
        }
    }

    fn any_expression() -> impl Strategy<Value = Expr> {
        let leaf = prop_oneof![
            (0.0..100.0_f64).prop_map(|number| Expr::Number(number, String::new())),
            (0..3_usize).prop_map(|input| Expr::Name(format!("v{input}"))),
        ];
        leaf.prop_recursive(5, 40, 2, |inner| {
            let operator = prop_oneof![
                Just(Operator::Add),
                Just(Operator::Subtract),
                Just(Operator::Multiply),
                Just(Operator::Divide)
            ];
            let name = prop_oneof![Just("min"), Just("max")];
            prop_oneof![
                inner.clone().prop_map(|a| Expr::Negate(Box::new(a))),
                (operator, inner.clone(), inner.clone()).prop_map(|(o, a, b)| Expr::Binary(
                    o,
                    Box::new(a),
                    Box::new(b)
                )),
                (name, inner.clone(), inner).prop_map(|(f, a, b)| Expr::Call(f.to_owned(), vec![a, b])),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_compiled_expression_computes_the_same_as_a_walk_over_the_tree(
            expression in any_expression(),
            values in prop::array::uniform3(-1e3..1e3_f64),
        ) {
            let text = write(&expression).1;
            let parsed = parse(&text).unwrap();
            let inputs = inputs(&[("v0", "1", 0), ("v1", "1", 0), ("v2", "1", 0)]);
            let (program, _) = compile(&parsed, &inputs).unwrap();
            let (mut stack, expected) = (Vec::new(), naive(&expression, &values, 1.0));
            let result = program.run(&values, 1.0, &mut stack);
            let is_same = result == expected || result.is_nan() && expected.is_nan();
            prop_assert!(is_same, "{text}: {result}, not {expected}");
        }
    }
}
