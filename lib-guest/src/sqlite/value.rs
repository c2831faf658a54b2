//! Parameter and column values.

use lunatic_abi::sqlite::{Key, Value as ValueRef, write_binding};

/// A database value.
///
/// ```
/// use lunatic::sqlite::{FromValue, Value};
///
/// let value = Value::Integer(7);
/// assert_eq!(u8::from_value(&value), Some(7));
/// assert_eq!(String::from_value(&value), None);
/// assert_eq!(Option::<String>::from_value(&Value::Null), Some(None));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// An integer. All SQLite integers are 64 bits wide.
    Integer(i64),
    /// A floating point number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// Returns the kind of value, for error messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Integer(_) => "an integer",
            Value::Real(_) => "a floating point number",
            Value::Text(_) => "a string",
            Value::Blob(_) => "bytes",
        }
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(text) => Value::Text(text.to_owned()),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        }
    }
}

/// Types that can be passed as parameter values: integers that fit into an `i64`, floating point
/// numbers, `bool` (as 0 or 1), text, bytes, and `Option`s of these, where `None` is `NULL`.
pub trait ToValue {
    /// Returns the value, which may borrow from `self`.
    fn to_value(&self) -> ValueRef<'_>;
}

/// Types that a value can be converted to: integers if the value fits, `f64`, `bool`, `String`,
/// `Vec<u8>`, [`Value`] itself, and `Option`s of these. Integers can also be converted to `f64`.
pub trait FromValue: Sized {
    /// The name of the type in error messages, such as `a string`.
    const EXPECTED: &'static str;

    /// Converts a value. Returns `None` if the value is of a different type or does not fit.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! to_value {
    ($($type:ty => $variant:ident($from:ident => $value:expr),)*) => {$(
        impl ToValue for $type {
            fn to_value(&self) -> ValueRef<'_> {
                let $from = self;
                ValueRef::$variant($value)
            }
        }
    )*};
}

to_value! {
    bool => Integer(value => (*value).into()),
    f64 => Real(value => *value),
    f32 => Real(value => (*value).into()),
    str => Text(text => text),
    String => Text(text => text),
    [u8] => Blob(bytes => bytes),
    Vec<u8> => Blob(bytes => bytes),
}

impl<const LENGTH: usize> ToValue for [u8; LENGTH] {
    fn to_value(&self) -> ValueRef<'_> {
        ValueRef::Blob(self)
    }
}

macro_rules! from_value {
    ($($type:ty: $expected:literal { $($value:pat => $converted:expr,)+ })*) => {$(
        impl FromValue for $type {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    $($value => $converted,)+
                    _ => None,
                }
            }
        }
    )*};
}

from_value! {
    bool: "0 or 1" {
        Value::Integer(0) => Some(false),
        Value::Integer(1) => Some(true),
    }
    f64: "a number" {
        Value::Real(number) => Some(*number),
        // Numeric columns store whole numbers as integers. The conversion rounds very large
        // integers.
        Value::Integer(number) => Some(*number as f64),
    }
    String: "a string" { Value::Text(text) => Some(text.clone()), }
    Vec<u8>: "bytes" { Value::Blob(bytes) => Some(bytes.clone()), }
}

macro_rules! integers {
    ($($integer:ty: $expected:literal,)*) => {$(
        to_value! { $integer => Integer(number => (*number).into()), }
        from_value! { $integer: $expected { Value::Integer(number) => (*number).try_into().ok(), } }
    )*};
}

integers! {
    i8: "an 8-bit integer",
    i16: "a 16-bit integer",
    i32: "a 32-bit integer",
    i64: "an integer",
    u8: "an unsigned 8-bit integer",
    u16: "an unsigned 16-bit integer",
    u32: "an unsigned 32-bit integer",
}

impl ToValue for Value {
    fn to_value(&self) -> ValueRef<'_> {
        match self {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }
}

impl FromValue for Value {
    const EXPECTED: &'static str = "a value";

    fn from_value(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> ValueRef<'_> {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> ValueRef<'_> {
        self.as_ref().map_or(ValueRef::Null, ToValue::to_value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// Values for a statement's parameters.
///
/// To pass values in order, use a tuple of up to eight values or a list of values of the same type:
/// `(1, "one")`, `[1, 2]`, or `()` if there are none. To pass values by name, use a list of pairs:
/// `[(":name", "Ada")]`. The prefix of a name (`:`, `@` or `$`) is optional. A parameter without a
/// value is `NULL`.
pub trait Parameters {
    /// Returns the number of values.
    #[doc(hidden)]
    fn count(&self) -> usize;

    /// Serializes the values for the machine.
    #[doc(hidden)]
    fn write(&self, out: &mut Vec<u8>);
}

impl<T: ToValue> Parameters for &[T] {
    fn count(&self) -> usize {
        self.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for value in *self {
            write_binding(out, Key::Position, value.to_value());
        }
    }
}

impl<T: ToValue, const COUNT: usize> Parameters for [T; COUNT] {
    fn count(&self) -> usize {
        COUNT
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.as_slice().write(out);
    }
}

impl<T: ToValue> Parameters for &[(&str, T)] {
    fn count(&self) -> usize {
        self.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in *self {
            write_binding(out, Key::Name(name), value.to_value());
        }
    }
}

impl<T: ToValue, const COUNT: usize> Parameters for [(&str, T); COUNT] {
    fn count(&self) -> usize {
        COUNT
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.as_slice().write(out);
    }
}

macro_rules! tuples {
    ($(($($value:ident)*))*) => {$(
        impl<$($value: ToValue),*> Parameters for ($($value,)*) {
            fn count(&self) -> usize {
                [$(stringify!($value)),*].len()
            }

            #[allow(non_snake_case, unused_variables)]
            fn write(&self, out: &mut Vec<u8>) {
                let ($($value,)*) = self;
                $(write_binding(out, Key::Position, $value.to_value());)*
            }
        }
    )*};
}

tuples! {
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
}

impl Parameters for () {
    fn count(&self) -> usize {
        0
    }

    fn write(&self, _: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use lunatic_abi::sqlite::{List, write_length};

    fn written(values: impl Parameters) -> Vec<(String, Value)> {
        let mut bytes = Vec::new();
        write_length(&mut bytes, values.count());
        values.write(&mut bytes);
        let mut list = List::new(&bytes).expect("the list was just written");
        std::iter::from_fn(|| list.binding().expect("the list was just written"))
            .map(|(key, value)| match key {
                Key::Name(name) => (name.to_owned(), value.into()),
                _ => (String::new(), value.into()),
            })
            .collect()
    }

    #[test]
    fn parameters_are_tuples_lists_and_pairs() {
        let unnamed = |values: Vec<Value>| {
            values
                .into_iter()
                .map(|value| (String::new(), value))
                .collect::<Vec<_>>()
        };
        assert_eq!(written(()), []);
        assert_eq!(
            written((true, None::<i32>)),
            unnamed(vec![Value::Integer(1), Value::Null])
        );
        assert_eq!(
            written([1, -2]),
            unnamed(vec![Value::Integer(1), Value::Integer(-2)])
        );
        assert_eq!(written(&["a"][..]), unnamed(vec![Value::Text("a".into())]));
        assert_eq!(
            written((&b"ab"[..], 1.5_f32)),
            unnamed(vec![Value::Blob(vec![97, 98]), Value::Real(1.5)])
        );
        assert_eq!(written([(":n", 1)]), [(":n".to_owned(), Value::Integer(1))]);
    }

    #[test]
    fn a_value_is_read_as_its_own_type_or_not_at_all() {
        assert_eq!(i8::from_value(&Value::Integer(128)), None);
        assert_eq!(u32::from_value(&Value::Integer(-1)), None);
        assert_eq!(f64::from_value(&Value::Integer(3)), Some(3.0));
        assert_eq!(i64::from_value(&Value::Real(3.0)), None);
        assert_eq!(bool::from_value(&Value::Integer(2)), None);
        assert_eq!(String::from_value(&Value::Null), None);
        assert_eq!(Option::<String>::from_value(&Value::Null), Some(None));
        assert_eq!(Option::<String>::from_value(&Value::Integer(1)), None);
        assert_eq!(Vec::<u8>::from_value(&Value::Text("a".into())), None);
    }
}
