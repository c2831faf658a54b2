//! Deserializes messages whose values may take up far more memory than their bytes.
//!
//! A message of fifteen million nils is fifteen megabytes long, but a `Vec<Option<[u64; 8]>>` made
//! from it takes up a gigabyte, and a process that runs out of memory dies. The sender must not be
//! able to decide that, so the values are counted while they are read. Whenever their size has
//! doubled, reading continues only if there is room for the next doubling.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::cell::Cell;
use std::fmt;

/// Below this size, in bytes, it is not checked whether values fit.
const UNCHECKED: usize = 1 << 20;

/// A collection grows by allocating twice its size while the old allocation still exists.
const ROOM: usize = 3;

/// The size of the values read so far, and the size at which the room is checked next, in bytes.
pub(super) struct Size {
    read: Cell<usize>,
    next_check: Cell<usize>,
}

impl Size {
    pub(super) fn new() -> Size {
        Size {
            read: Cell::new(0),
            next_check: Cell::new(UNCHECKED),
        }
    }

    /// Counts a value of type `T`, which is about to become an element of a collection.
    fn count<T, E: Error>(&self) -> Result<(), E> {
        let read = self.read.get().saturating_add(size_of::<T>());
        self.read.set(read);
        if read < self.next_check.get() {
            return Ok(());
        }
        self.next_check.set(read.saturating_mul(2));
        let mut room: Vec<u8> = Vec::new();
        if room.try_reserve_exact(read.saturating_mul(ROOM)).is_err() {
            return Err(E::custom(
                "its values do not fit into this process's memory",
            ));
        }
        Ok(())
    }
}

/// Something of serde's, together with the size of what has been read.
pub(super) struct Counted<'a, T> {
    pub(super) inner: T,
    pub(super) size: &'a Size,
}

/// Implements methods that take a visitor by passing them on with a counted visitor.
macro_rules! deserialize {
    ($($method:ident($($parameter:ident: $type:ty),*))*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, $($parameter: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let size = self.size;
            self.inner.$method($($parameter,)* Counted { inner: visitor, size })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Counted<'_, D> {
    type Error = D::Error;

    deserialize! {
        deserialize_any()
        deserialize_bool()
        deserialize_i8()
        deserialize_i16()
        deserialize_i32()
        deserialize_i64()
        deserialize_i128()
        deserialize_u8()
        deserialize_u16()
        deserialize_u32()
        deserialize_u64()
        deserialize_u128()
        deserialize_f32()
        deserialize_f64()
        deserialize_char()
        deserialize_str()
        deserialize_string()
        deserialize_bytes()
        deserialize_byte_buf()
        deserialize_option()
        deserialize_unit()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(length: usize)
        deserialize_tuple_struct(name: &'static str, length: usize)
        deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
        deserialize_identifier()
        deserialize_ignored_any()
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Implements the methods for values that contain no other values.
macro_rules! visit {
    ($($method:ident: $type:ty,)*) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Counted<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool: bool,
        visit_i8: i8,
        visit_i16: i16,
        visit_i32: i32,
        visit_i64: i64,
        visit_i128: i128,
        visit_u8: u8,
        visit_u16: u16,
        visit_u32: u32,
        visit_u64: u64,
        visit_u128: u128,
        visit_f32: f32,
        visit_f64: f64,
        visit_char: char,
        visit_str: &str,
        visit_borrowed_str: &'de str,
        visit_string: String,
        visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8],
        visit_byte_buf: Vec<u8>,
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let size = self.size;
        self.inner.visit_some(Counted { inner, size })
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let size = self.size;
        self.inner.visit_newtype_struct(Counted { inner, size })
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let size = self.size;
        self.inner.visit_seq(Counted { inner, size })
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let size = self.size;
        self.inner.visit_map(Counted { inner, size })
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let size = self.size;
        self.inner.visit_enum(Counted { inner, size })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Counted<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let size = self.size;
        self.inner.deserialize(Counted { inner, size })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let size = self.size;
        size.count::<S::Value, A::Error>()?;
        self.inner.next_element_seed(Counted { inner: seed, size })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let size = self.size;
        size.count::<S::Value, A::Error>()?;
        self.inner.next_key_seed(Counted { inner: seed, size })
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let size = self.size;
        size.count::<S::Value, A::Error>()?;
        self.inner.next_value_seed(Counted { inner: seed, size })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, 'a, A: EnumAccess<'de>> EnumAccess<'de> for Counted<'a, A> {
    type Error = A::Error;
    type Variant = Counted<'a, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let size = self.size;
        let (value, inner) = self.inner.variant_seed(seed)?;
        Ok((value, Counted { inner, size }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Counted<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let size = self.size;
        size.count::<S::Value, A::Error>()?;
        self.inner
            .newtype_variant_seed(Counted { inner: seed, size })
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let size = self.size;
        let inner = visitor;
        self.inner.tuple_variant(length, Counted { inner, size })
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let size = self.size;
        let inner = visitor;
        self.inner.struct_variant(fields, Counted { inner, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde::de::value::Error;
    use std::collections::BTreeMap;

    #[test]
    fn what_has_been_read_is_checked_each_time_it_has_doubled() {
        let size = Size::new();
        for _ in 0..UNCHECKED / 1024 {
            size.count::<[u8; 1024], Error>().expect("there is memory");
        }
        assert_eq!(size.read.get(), UNCHECKED);
        assert_eq!(size.next_check.get(), 2 * UNCHECKED);
        size.read.set(usize::MAX / 2);
        let error = size
            .count::<u8, Error>()
            .expect_err("no computer has as much memory");
        assert_eq!(
            error.to_string(),
            "its values do not fit into this process's memory"
        );
    }

    #[test]
    fn the_elements_of_all_collections_are_counted() {
        #[derive(Debug, PartialEq, Deserialize)]
        enum Kind {
            Nothing,
            Wide([u64; 4]),
        }
        let read = |bytes: &[u8]| {
            let size = Size::new();
            let mut inner = rmp_serde::Deserializer::from_read_ref(bytes);
            let inner = Counted {
                inner: &mut inner,
                size: &size,
            };
            let value = <(Vec<Option<[u64; 8]>>, Option<Kind>)>::deserialize(inner);
            (value.expect("the bytes are valid"), size.read.get())
        };
        let three = rmp_serde::to_vec(&([(); 3], "Nothing")).expect("units can be serialized");
        let wide: BTreeMap<_, _> = [("Wide", [1; 4])].into();
        let wide = rmp_serde::to_vec(&([(); 0], wide)).expect("a map can be serialized");
        let outer = size_of::<Vec<Option<[u64; 8]>>>() + size_of::<Option<Kind>>();
        let element = size_of::<Option<[u64; 8]>>();
        let ((list, kind), size) = read(&three);
        assert_eq!((list, kind), (vec![None; 3], Some(Kind::Nothing)));
        // The end of the list is also asked for, and counted like an element.
        assert_eq!(size, outer + 4 * element);
        let ((_, kind), size) = read(&wide);
        assert_eq!(kind, Some(Kind::Wide([1; 4])));
        assert_eq!(
            size,
            outer + element + size_of::<[u64; 4]>() + 4 * size_of::<u64>()
        );
    }
}
