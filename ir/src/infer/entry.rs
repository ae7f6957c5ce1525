//! Entries of small integer tensors, the values that shape arithmetic works on.

use std::fmt;
use std::sync::Arc;

use crate::types::Dim;

/// One entry of a small integer tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A number.
    Known(i64),
    /// The size of the dim with that name; never negative.
    Symbol(Arc<str>),
    /// Nothing is known.
    Unknown,
}

impl Entry {
    /// The number, if it is one.
    #[must_use]
    pub fn known(&self) -> Option<i64> {
        if let Self::Known(value) = self { Some(*value) } else { None }
    }

    /// The dim with that size; unknown if negative.
    #[must_use]
    pub fn to_dim(&self) -> Dim {
        match self {
            Self::Known(size) => usize::try_from(*size).map_or(Dim::Unknown, Dim::Known),
            Self::Symbol(name) => Dim::Symbol(Arc::clone(name)),
            Self::Unknown => Dim::Unknown,
        }
    }
}

impl From<&Dim> for Entry {
    fn from(dim: &Dim) -> Self {
        match dim {
            Dim::Known(size) => i64::try_from(*size).map_or(Self::Unknown, Self::Known),
            Dim::Symbol(name) => Self::Symbol(Arc::clone(name)),
            Dim::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => write!(f, "{value}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// `a op b` for an arithmetic or comparison operator (comparisons give 0 or 1).
pub(super) fn combine(op: &str, a: &Entry, b: &Entry) -> Entry {
    use Entry::{Known, Symbol, Unknown};
    if let (Known(a), Known(b)) = (a, b) {
        return known(op, *a, *b).map_or(Unknown, Known);
    }
    let is_same = a == b && *a != Unknown;
    match (op, a, b) {
        ("Add" | "Sum", Known(0), other)
        | ("Add" | "Sum" | "Sub", other, Known(0))
        | ("Mul", Known(1), other)
        | ("Mul" | "Div", other, Known(1)) => other.clone(),
        ("Max", Symbol(_), Known(..=0)) => a.clone(),
        ("Max", Known(..=0), Symbol(_)) => b.clone(),
        ("Min" | "Max", ..) if is_same => a.clone(),
        ("Sub" | "Less" | "Greater", ..) if is_same => Known(0),
        ("Equal" | "LessOrEqual" | "GreaterOrEqual", ..) if is_same => Known(1),
        ("Equal" | "LessOrEqual" | "Less", Symbol(_), Known(..=-1))
        | ("Equal" | "GreaterOrEqual" | "Greater", Known(..=-1), Symbol(_))
        | ("Mul", _, Known(0))
        | ("Mul", Known(0), _)
        | ("Less", Symbol(_), Known(0))
        | ("Greater", Known(0), Symbol(_)) => Known(0),
        ("GreaterOrEqual" | "Greater", Symbol(_), Known(..=-1))
        | ("LessOrEqual" | "Less", Known(..=-1), Symbol(_))
        | ("GreaterOrEqual", Symbol(_), Known(0))
        | ("LessOrEqual", Known(0), Symbol(_)) => Known(1),
        _ => Unknown,
    }
}

fn known(op: &str, a: i64, b: i64) -> Option<i64> {
    match op {
        "Add" | "Sum" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        "Div" => a.checked_div(b),
        "Min" => Some(a.min(b)),
        "Max" => Some(a.max(b)),
        "Equal" => Some(i64::from(a == b)),
        "Less" => Some(i64::from(a < b)),
        "Greater" => Some(i64::from(a > b)),
        "LessOrEqual" => Some(i64::from(a <= b)),
        "GreaterOrEqual" => Some(i64::from(a >= b)),
        _ => None,
    }
}
