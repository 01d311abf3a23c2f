//! IPFIX (RFC 7011): header and templates.
//!
//! The sequence counts data records, options data too, that were sent before the message. Over UDP templates are sent again
//! and again and never withdrawn (section 8.4).

use super::clock::Moment;
use super::options::OptionsTemplate;
use super::template::Template;

/// Octets of the header.
pub const HEADER: usize = 16;
/// Set of templates.
pub const TEMPLATES: u16 = 2;
/// Set of options templates.
pub const OPTIONS_TEMPLATES: u16 = 3;

/// The message header (section 3.1) for `length` octets of sets.
pub fn header(length: usize, at: Moment, sequence: u32, domain: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER);
    out.extend(10_u16.to_be_bytes());
    out.extend(((HEADER + length) as u16).to_be_bytes());
    for word in [(at.wall_ms() / 1000) as u32, sequence, domain] {
        out.extend(word.to_be_bytes());
    }
    out
}

/// A template record (section 3.4.1): as in version 9.
pub fn template(template: &Template) -> Vec<u8> {
    super::v9::template(template)
}

/// An options template record (section 3.4.2.2): counts of all fields and of the scope's.
pub fn options_template(template: &OptionsTemplate) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(template.id.to_be_bytes());
    out.extend((1 + template.fields.len() as u16).to_be_bytes());
    out.extend(1_u16.to_be_bytes());
    for (id, length) in std::iter::once(&template.scope).chain(template.fields) {
        out.extend(id.to_be_bytes());
        out.extend(length.to_be_bytes());
    }
    out
}
