//! The text of an expression, read into a tree. What its names and units mean is `check`'s to say.

use winnow::Result;
use winnow::ascii::{float, multispace0};
use winnow::combinator::{
    Infix, Prefix, alt, delimited, dispatch, expression, fail, opt, preceded, separated, terminated,
};
use winnow::prelude::*;
use winnow::token::{any, take_while};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    /// A number and its unit; `""` if it has none.
    Number(f64, String),
    /// An input, or `dt`.
    Name(String),
    Negate(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
}

/// What joins two expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Min,
    Max,
}

/// Longer and deeper ones are no formulas for people; and it bounds how deep reading one goes.
const LONGEST: usize = 500;
const DEEPEST: usize = 20;

/// Reads `text`.
///
/// # Errors
/// Says where it could not be read.
pub(crate) fn read(text: &str) -> std::result::Result<Expr, String> {
    if text.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} characters"));
    }
    if depth(text) > DEEPEST {
        return Err(format!("has more than {DEEPEST} parentheses or signs within each other"));
    }
    sum.parse(text).map_err(|error| match &text[error.char_span().start..] {
        "" => "ends too early".to_owned(),
        rest => format!("can't be read from `{rest}` on"),
    })
}

/// At least how deep reading `text` goes: parentheses that are open and signs in a row.
fn depth(text: &str) -> usize {
    let (mut open, mut signs, mut deepest) = (0_usize, 0, 0);
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        match c {
            '(' => open += 1,
            ')' => open = open.saturating_sub(1),
            _ => {}
        }
        signs = if c == '-' { signs + 1 } else { 0 };
        deepest = deepest.max(open).max(signs);
    }
    deepest
}

fn sum(input: &mut &str) -> Result<Expr> {
    delimited(
        multispace0,
        expression(terminated(operand, multispace0))
            .prefix(
                terminated('-', multispace0)
                    .map(|_| Prefix(30, |_: &mut _, a| Ok(Expr::Negate(Box::new(a))))),
            )
            .infix(dispatch! {terminated(any, multispace0);
                '+' => Infix::Left(10, |_: &mut _, a, b| Ok(join(Operator::Add, a, b))),
                '-' => Infix::Left(10, |_: &mut _, a, b| Ok(join(Operator::Subtract, a, b))),
                '*' => Infix::Left(20, |_: &mut _, a, b| Ok(join(Operator::Multiply, a, b))),
                '/' => Infix::Left(20, |_: &mut _, a, b| Ok(join(Operator::Divide, a, b))),
                _ => fail,
            }),
        multispace0,
    )
    .parse_next(input)
}

fn join(operator: Operator, a: Expr, b: Expr) -> Expr {
    Expr::Binary(operator, Box::new(a), Box::new(b))
}

fn operand(input: &mut &str) -> Result<Expr> {
    // Names before numbers, because a library's numbers include `inf` and `nan`.
    alt((delimited('(', sum, ')'), name_or_call, number)).parse_next(input)
}

fn name_or_call(input: &mut &str) -> Result<Expr> {
    let start = |c: char| c.is_ascii_alphabetic() || c == '_';
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = (take_while(1, start), take_while(0.., part)).take().parse_next(input)?;
    let arguments = opt(delimited('(', separated(1.., sum, ','), ')')).parse_next(input)?;
    Ok(match arguments {
        Some(arguments) => Expr::Call(name.to_owned(), arguments),
        None => Expr::Name(name.to_owned()),
    })
}

fn number(input: &mut &str) -> Result<Expr> {
    let unit = delimited('[', take_while(0.., |c| c != ']'), ']');
    let (number, unit): (f64, Option<&str>) = (float, opt(preceded(multispace0, unit))).parse_next(input)?;
    Ok(Expr::Number(number, unit.unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_signs_units_and_calls() {
        let read = |text| format!("{:?}", super::read(text).unwrap());
        assert_eq!(read("a+b*c"), read(" ( a ) + ( b * c ) "));
        assert_eq!(read("a-b-c"), read("(a-b)-c"));
        assert_eq!(read("a/b*c"), read("(a/b)*c"));
        assert_eq!(read("-a*b"), read("(-a)*b"));
        assert_eq!(read("a - -2"), read("a-(-2)"));
        assert_eq!(super::read("2e-3 [kg/(kW.h)]"), Ok(Expr::Number(2e-3, "kg/(kW.h)".into())));
        assert_eq!(super::read("inf"), Ok(Expr::Name("inf".into())));
        assert_eq!(read("max(a, 0)"), r#"Call("max", [Name("a"), Number(0.0, "")])"#);
    }

    #[test]
    fn what_cannot_be_read_is_said_with_the_place() {
        assert_eq!(read("a +").unwrap_err(), "ends too early");
        assert_eq!(read("a b").unwrap_err(), "can't be read from `b` on");
        assert_eq!(read("a ** b").unwrap_err(), "can't be read from `* b` on");
        assert!(read("2 [J").is_err() && read("").is_err() && read("f()").is_err());
        assert!(read(&"(".repeat(501)).unwrap_err().contains("longer"));
        for deep in ["(", "-", "- "] {
            assert!(read(&format!("{}a", deep.repeat(200))).unwrap_err().contains("within each other"));
        }
        let deepest = format!("{}a{}", "(-".repeat(DEEPEST), ")".repeat(DEEPEST));
        assert!(read(&deepest).is_ok());
        assert!(read(&format!("a{}", "-a".repeat(249))).is_ok());
    }
}
