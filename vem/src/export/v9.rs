//! NetFlow version 9 (RFC 3954): header and templates.
//!
//! The sequence counts datagrams. The header's two times are of one instant, the next whole second, see
//! [`Moment::whole_second`].

use super::clock::{Base, Moment};
use super::element::REVERSE;
use super::options::OptionsTemplate;
use super::template::Template;

/// Octets of the header.
pub const HEADER: usize = 20;
/// FlowSet of templates.
pub const TEMPLATES: u16 = 0;
/// FlowSet of options templates.
pub const OPTIONS_TEMPLATES: u16 = 1;

/// The header (section 5.1): `count` records of all kinds follow, templates too.
pub fn header(count: u32, at: Moment, base: Base, sequence: u32, source_id: u32) -> Vec<u8> {
    let (seconds, uptime) = at.whole_second(base);
    let mut out = Vec::with_capacity(HEADER);
    out.extend(9_u16.to_be_bytes());
    out.extend((count as u16).to_be_bytes());
    for word in [uptime, seconds, sequence, source_id] {
        out.extend(word.to_be_bytes());
    }
    out
}

/// A template record (section 5.2).
pub fn template(template: &Template) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(template.id.to_be_bytes());
    out.extend((template.elements.len() as u16).to_be_bytes());
    for element in &template.elements {
        out.extend(element.id.to_be_bytes());
        out.extend(element.length.to_be_bytes());
        // Of IPFIX only: version 9 has no such fields.
        if element.is_reverse() {
            out.extend(REVERSE.to_be_bytes());
        }
    }
    out
}

/// An options template (section 6.1). The lengths are octets of field descriptions.
pub fn options_template(template: &OptionsTemplate) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(template.id.to_be_bytes());
    out.extend(4_u16.to_be_bytes());
    out.extend((4 * template.fields.len() as u16).to_be_bytes());
    for (id, length) in std::iter::once(&template.scope).chain(template.fields) {
        out.extend(id.to_be_bytes());
        out.extend(length.to_be_bytes());
    }
    out
}
