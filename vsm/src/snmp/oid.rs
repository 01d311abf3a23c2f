//! Object identifiers and values of SNMP.

use std::fmt;

/// Most sub-identifiers of an object identifier (RFC 2578 section 3.5).
pub const SUBIDS_MAX: usize = 128;

/// An object identifier; they are ordered as SNMP orders them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Oid(pub Vec<u32>);

impl Oid {
    /// It with more behind it.
    pub fn with(&self, more: &[u32]) -> Oid {
        Oid([self.0.as_slice(), more].concat())
    }

    /// What stands behind the prefix, when it begins so.
    pub fn behind(&self, prefix: &Oid) -> Option<&[u32]> {
        self.0.strip_prefix(prefix.0.as_slice())
    }
}

impl<const N: usize> From<[u32; N]> for Oid {
    fn from(ids: [u32; N]) -> Self {
        Oid(ids.to_vec())
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(u32::to_string).collect();
        out.write_str(&words.join("."))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A value; its tags are those of RFC 2741 section 5.4.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// INTEGER
    Integer(i32),
    /// OCTET STRING
    Octets(Vec<u8>),
    /// OBJECT IDENTIFIER
    Oid(Oid),
    /// Counter32
    Counter32(u32),
    /// Gauge32, Unsigned32
    Gauge32(u32),
    /// TimeTicks
    TimeTicks(u32),
    /// Counter64
    Counter64(u64),
    /// There is no such object.
    NoSuchObject,
    /// There is no such instance of the object.
    NoSuchInstance,
    /// Nothing comes behind it.
    EndOfMibView,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Octets(text.as_bytes().to_vec())
    }
}

/// A variable with its value.
pub type VarBind = (Oid, Value);
