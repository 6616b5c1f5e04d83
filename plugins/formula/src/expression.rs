//! Parses the text of an expression to a tree. `check` resolves its names and units.

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
    /// An input or `dt`.
    Name(String),
    Negate(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Min,
    Max,
}

/// Most characters of an expression.
const MAX_LENGTH: usize = 500;
/// Most nested parentheses or signs: bounds the parser's recursion.
const MAX_DEPTH: usize = 20;

/// Parses `text`.
///
/// # Errors
/// The place of the syntax error.
pub(crate) fn parse(text: &str) -> std::result::Result<Expr, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("is longer than {MAX_LENGTH} characters"));
    }
    if depth(text) > MAX_DEPTH {
        return Err(format!("has more than {MAX_DEPTH} nested parentheses or signs"));
    }
    sum.parse(text).map_err(|error| match &text[error.char_span().start..] {
        "" => "ends too early".to_owned(),
        rest => format!("has a syntax error at `{rest}`"),
    })
}

/// The depth of `text`: open parentheses, or consecutive signs.
fn depth(text: &str) -> usize {
    let (mut open, mut signs, mut depth) = (0_usize, 0, 0);
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        match c {
            '(' => open += 1,
            ')' => open = open.saturating_sub(1),
            _ => {}
        }
        signs = if c == '-' { signs + 1 } else { 0 };
        depth = depth.max(open).max(signs);
    }
    depth
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
    // Names before numbers, because the library's numbers include `inf` and `nan`.
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
    fn precedence_signs_units_and_calls_are_parsed() {
        let tree = |text| format!("{:?}", parse(text).unwrap());
        assert_eq!(tree("a+b*c"), tree(" ( a ) + ( b * c ) "));
        assert_eq!(tree("a-b-c"), tree("(a-b)-c"));
        assert_eq!(tree("a/b*c"), tree("(a/b)*c"));
        assert_eq!(tree("-a*b"), tree("(-a)*b"));
        assert_eq!(tree("a - -2"), tree("a-(-2)"));
        assert_eq!(parse("2e-3 [kg/(kW.h)]"), Ok(Expr::Number(2e-3, "kg/(kW.h)".into())));
        assert_eq!(parse("inf"), Ok(Expr::Name("inf".into())));
        assert_eq!(tree("max(a, 0)"), r#"Call("max", [Name("a"), Number(0.0, "")])"#);
    }

    #[test]
    fn a_syntax_error_names_its_place() {
        assert_eq!(parse("a +").unwrap_err(), "ends too early");
        assert_eq!(parse("a b").unwrap_err(), "has a syntax error at `b`");
        assert_eq!(parse("a ** b").unwrap_err(), "has a syntax error at `* b`");
        assert!(parse("2 [J").is_err() && parse("").is_err() && parse("f()").is_err());
        assert!(parse(&"(".repeat(501)).unwrap_err().contains("longer"));
        for deep in ["(", "-", "- "] {
            assert!(parse(&format!("{}a", deep.repeat(200))).unwrap_err().contains("nested"));
        }
        let deepest = format!("{}a{}", "(-".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
        assert!(parse(&deepest).is_ok());
        assert!(parse(&format!("a{}", "-a".repeat(249))).is_ok());
    }
}
