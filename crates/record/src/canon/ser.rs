//! The bridge from `serde` types to [`Value`]. Refuses what has no canonical form where it stands.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::ser::{self, Serialize};

use super::{CanonError, MAX_INTEGER, Value};

impl ser::Error for CanonError {
    fn custom<T: Display>(msg: T) -> Self {
        CanonError::Shape(msg.to_string())
    }
}

impl Serialize for Value {
    fn serialize<S: ser::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => s.serialize_unit(),
            Value::Bool(b) => s.serialize_bool(*b),
            Value::Int(n) => s.serialize_i64(*n),
            Value::Str(text) => s.serialize_str(text),
            Value::List(items) => s.collect_seq(items),
            Value::Map(map) => s.collect_map(map),
        }
    }
}

fn integer<N: Copy + Display + TryInto<i64>>(n: N) -> Result<Value, CanonError> {
    match n.try_into() {
        Ok(i) if (-MAX_INTEGER..=MAX_INTEGER).contains(&i) => Ok(Value::Int(i)),
        _ => Err(CanonError::IntegerRange { found: n.to_string() }),
    }
}

fn variant(name: &'static str, value: Value) -> Value {
    Value::Map(BTreeMap::from([(name.to_owned(), value)]))
}

fn insert(map: &mut BTreeMap<String, Value>, key: String, value: Value) -> Result<(), CanonError> {
    if map.contains_key(&key) {
        return Err(CanonError::DuplicateKey { key });
    }
    map.insert(key, value);
    Ok(())
}

/// Serialises into a [`Value`].
pub(super) struct ToValue;

impl ser::Serializer for ToValue {
    type Ok = Value;
    type Error = CanonError;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Members;
    type SerializeStruct = Members;
    type SerializeStructVariant = Members;

    fn serialize_bool(self, v: bool) -> Result<Value, CanonError> {
        Ok(Value::Bool(v))
    }
    fn serialize_i8(self, v: i8) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_i16(self, v: i16) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_i32(self, v: i32) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_i64(self, v: i64) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_i128(self, v: i128) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_u8(self, v: u8) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_u16(self, v: u16) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_u32(self, v: u32) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_u64(self, v: u64) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_u128(self, v: u128) -> Result<Value, CanonError> {
        integer(v)
    }
    fn serialize_f32(self, _: f32) -> Result<Value, CanonError> {
        Err(CanonError::Float)
    }
    fn serialize_f64(self, _: f64) -> Result<Value, CanonError> {
        Err(CanonError::Float)
    }
    fn serialize_char(self, v: char) -> Result<Value, CanonError> {
        Ok(Value::Str(v.to_string()))
    }
    fn serialize_str(self, v: &str) -> Result<Value, CanonError> {
        Ok(Value::Str(v.to_owned()))
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<Value, CanonError> {
        Err(CanonError::RawBytes)
    }
    fn serialize_none(self) -> Result<Value, CanonError> {
        Ok(Value::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<Value, CanonError> {
        v.serialize(self)
    }
    fn serialize_unit(self) -> Result<Value, CanonError> {
        Ok(Value::Null)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, CanonError> {
        Ok(Value::Null)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<Value, CanonError> {
        Ok(Value::Str(name.to_owned()))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        v: &T,
    ) -> Result<Value, CanonError> {
        v.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        v: &T,
    ) -> Result<Value, CanonError> {
        Ok(variant(name, v.serialize(self)?))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Items, CanonError> {
        Ok(Items::default())
    }
    fn serialize_tuple(self, _: usize) -> Result<Items, CanonError> {
        Ok(Items::default())
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, CanonError> {
        Ok(Items::default())
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Items, CanonError> {
        Ok(Items { items: Vec::new(), variant: Some(name) })
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Members, CanonError> {
        Ok(Members::default())
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members, CanonError> {
        Ok(Members::default())
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Members, CanonError> {
        Ok(Members { variant: Some(name), ..Members::default() })
    }
}

/// A list under way, with the name of its enum variant if it is one.
#[derive(Default)]
pub(super) struct Items {
    items: Vec<Value>,
    variant: Option<&'static str>,
}

impl Items {
    fn push<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), CanonError> {
        self.items.push(v.serialize(ToValue)?);
        Ok(())
    }

    fn finish(self) -> Value {
        let list = Value::List(self.items);
        match self.variant {
            Some(name) => variant(name, list),
            None => list,
        }
    }
}

macro_rules! items {
    ($trait:path, $method:ident) => {
        impl $trait for Items {
            type Ok = Value;
            type Error = CanonError;
            fn $method<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), CanonError> {
                self.push(v)
            }
            fn end(self) -> Result<Value, CanonError> {
                Ok(self.finish())
            }
        }
    };
}
items!(ser::SerializeSeq, serialize_element);
items!(ser::SerializeTuple, serialize_element);
items!(ser::SerializeTupleStruct, serialize_field);
items!(ser::SerializeTupleVariant, serialize_field);

/// A map under way, with the name of its enum variant if it is one.
#[derive(Default)]
pub(super) struct Members {
    map: BTreeMap<String, Value>,
    key: Option<String>,
    variant: Option<&'static str>,
}

impl Members {
    fn finish(self) -> Value {
        let map = Value::Map(self.map);
        match self.variant {
            Some(name) => variant(name, map),
            None => map,
        }
    }
}

impl ser::SerializeMap for Members {
    type Ok = Value;
    type Error = CanonError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CanonError> {
        self.key = Some(match key.serialize(ToValue)? {
            Value::Str(text) => text,
            Value::Int(n) => n.to_string(),
            _ => return Err(CanonError::KeyNotText),
        });
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), CanonError> {
        let key = self.key.take().ok_or(CanonError::KeyNotText)?;
        insert(&mut self.map, key, v.serialize(ToValue)?)
    }
    fn end(self) -> Result<Value, CanonError> {
        Ok(self.finish())
    }
}

macro_rules! members {
    ($trait:path) => {
        impl $trait for Members {
            type Ok = Value;
            type Error = CanonError;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                v: &T,
            ) -> Result<(), CanonError> {
                insert(&mut self.map, key.to_owned(), v.serialize(ToValue)?)
            }
            fn end(self) -> Result<Value, CanonError> {
                Ok(self.finish())
            }
        }
    };
}
members!(ser::SerializeStruct);
members!(ser::SerializeStructVariant);
