//! Finds numbers that JSON cannot represent: NaN and infinities, which would become `null`.

use serde::ser::{self, Serialize, Serializer};
use std::fmt::{self, Display};

/// Returns the first non-finite number in a value.
pub(super) fn first_not_finite<T: Serialize + ?Sized>(value: &T) -> Option<f64> {
    match value.serialize(Search) {
        Err(Found::NotFinite(number)) => Some(number),
        Ok(()) | Err(Found::Otherwise) => None,
    }
}

/// A serializer that only visits the numbers in a value and produces no output.
#[derive(Clone, Copy)]
struct Search;

/// Why the search stopped early.
#[derive(Debug)]
enum Found {
    NotFinite(f64),
    /// The value cannot be serialized. The actual serialization reports the error.
    Otherwise,
}

impl Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the search has stopped")
    }
}

impl std::error::Error for Found {}

impl ser::Error for Found {
    fn custom<T: Display>(_: T) -> Found {
        Found::Otherwise
    }
}

macro_rules! pass {
    ($($function:ident($($type:ty),*);)*) => {
        $(fn $function(self $(, _: $type)*) -> Result<(), Found> {
            Ok(())
        })*
    };
}

macro_rules! begin {
    ($($function:ident($($type:ty),*);)*) => {
        $(fn $function(self $(, _: $type)*) -> Result<Search, Found> {
            Ok(self)
        })*
    };
}

impl Serializer for Search {
    type Ok = ();
    type Error = Found;
    type SerializeSeq = Search;
    type SerializeTuple = Search;
    type SerializeTupleStruct = Search;
    type SerializeTupleVariant = Search;
    type SerializeMap = Search;
    type SerializeStruct = Search;
    type SerializeStructVariant = Search;

    pass! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    begin! {
        serialize_tuple(usize);
        serialize_tuple_struct(&'static str, usize);
        serialize_tuple_variant(&'static str, u32, &'static str, usize);
        serialize_struct(&'static str, usize);
        serialize_struct_variant(&'static str, u32, &'static str, usize);
        serialize_seq(Option<usize>);
        serialize_map(Option<usize>);
    }

    fn serialize_f32(self, number: f32) -> Result<(), Found> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Found> {
        if number.is_finite() {
            Ok(())
        } else {
            Err(Found::NotFinite(number))
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Found> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Found> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Found> {
        value.serialize(self)
    }
}

macro_rules! elements {
    ($($trait:ident::$function:ident($($name:ty)?);)*) => {
        $(impl ser::$trait for Search {
            type Ok = ();
            type Error = Found;

            fn $function<T: Serialize + ?Sized>(
                &mut self,
                $(_: $name,)?
                value: &T,
            ) -> Result<(), Found> {
                value.serialize(*self)
            }

            fn end(self) -> Result<(), Found> {
                Ok(())
            }
        })*
    };
}

elements! {
    SerializeSeq::serialize_element();
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(&'static str);
    SerializeStructVariant::serialize_field(&'static str);
}

impl ser::SerializeMap for Search {
    type Ok = ();
    type Error = Found;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Found> {
        key.serialize(*self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Found> {
        value.serialize(*self)
    }

    fn end(self) -> Result<(), Found> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(serde::Serialize)]
    enum Shape {
        Circle(f32),
        Box { width: f64, height: f64 },
        Pair(f64, f64),
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_wherever_it_is() {
        let infinite = f64::INFINITY;
        let (width, height) = (1.0, f64::NEG_INFINITY);
        assert!(first_not_finite(&f64::NAN).is_some_and(f64::is_nan));
        assert_eq!(first_not_finite(&[1.0, infinite]), Some(infinite));
        assert_eq!(first_not_finite(&(1, Some(infinite))), Some(infinite));
        let map = BTreeMap::from([("a", vec![infinite])]);
        assert_eq!(first_not_finite(&map), Some(infinite));
        assert_eq!(
            first_not_finite(&Shape::Circle(f32::INFINITY)),
            Some(infinite)
        );
        assert_eq!(
            first_not_finite(&Shape::Box { width, height }),
            Some(height)
        );
        assert_eq!(
            first_not_finite(&Shape::Pair(1.0, infinite)),
            Some(infinite)
        );
    }

    #[test]
    fn other_values_contain_no_such_number() {
        assert_eq!(first_not_finite(&f64::MAX), None);
        assert_eq!(first_not_finite(&(1, "text", None::<f64>, [(); 2])), None);
        assert_eq!(first_not_finite(&Shape::Pair(1.0, -0.0)), None);
    }
}
