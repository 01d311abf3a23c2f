//! Which fields a record has, and under which number a collector finds their list.
//!
//! A flow is IPv4, IPv6 or neither, and a monitor has one [`Layout`] with a template for each. The built-in layout has the
//! ids 256, 257 and 258. What the meter could only sum up, because there were too many flows, has 259 in every layout: it
//! knows no fields but these. Conversations have 260 to 262; a monitor of which packets are sampled somewhere has one field
//! more, the sampler, and so 264 to 267, and 268 to 270 for conversations. A user's record has ids from 1024, made of a hash of the fields: the same fields have the same id
//! after a restart and on another host, and other fields have another id, so an id never changes its meaning under a
//! collector that missed a template. (Two lists with the same hash share a configuration only by accident of one in
//! 64,512; then the list that sorts second gets the next free id.)
//!
//! The numbers are IPFIX information elements; below 128 they are version 9's field types too, and what version 9 has no
//! number for goes by the IPFIX one. Choices that collectors force:
//! * ICMP type and code stand before the destination port. Collectors of the nfdump family store both in one place.
//! * Version 9 has ICMP of both families in field 32; they do not read 139 there.
//! * Fields 23, 24, 57 and 81 are never sent: collectors let them replace 1, 2, 80 and 56.
//! * Lengths are the registered ones, or shorter. Elastic refuses longer ones.

use std::collections::{BTreeMap, BTreeSet};

use proto::flow::{Record, Version};

use super::element::{Element, FULL, Family, Value, element, value_of, with_reverse, with_sampler};

/// Id of the template for IPv4 of the built-in layout; IPv6 and other packets have the two that follow.
const FULL_ID: u16 = 256;
/// As [`FULL_ID`], with both directions of a conversation.
const BIFLOW_ID: u16 = 260;
/// As [`FULL_ID`] and [`BIFLOW_ID`], of monitors of which packets are sampled.
const SAMPLED_ID: u16 = 264;
const SAMPLED_BIFLOW_ID: u16 = 268;
/// First id of users' records.
const CUSTOM_ID: u16 = 1024;
/// A record is at least this long: what is shorter can't be told from padding.
const RECORD_MIN: usize = 4;
/// paddingOctets.
const PADDING_ID: u16 = 210;

/// The families of flows, which users' records have fields for.
const FLOWS: [Family; 3] = [Family::Ipv4, Family::Ipv6, Family::Link];

/// A list of fields under its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    /// 256 or more.
    pub id: u16,
    /// At least one.
    pub elements: Vec<Element>,
}

impl Template {
    /// Octets of a record.
    pub fn record_length(&self) -> usize {
        length(&self.elements)
    }
}

fn length(elements: &[Element]) -> usize {
    elements.iter().map(|element| usize::from(element.length)).sum()
}

/// The templates of a monitor, one for each family. A family has none when the record asks for nothing that it has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    ipv4: Option<Template>,
    ipv6: Option<Template>,
    link: Option<Template>,
    overflow: Option<Template>,
}

/// What records tell beside their fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Form {
    /// Both directions of a conversation; IPFIX only.
    pub biflow: bool,
    /// Which packets were counted.
    pub sampled: bool,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 4] = [
        Form { biflow: false, sampled: false },
        Form { biflow: true, sampled: false },
        Form { biflow: false, sampled: true },
        Form { biflow: true, sampled: true },
    ];

    fn finish(self, elements: Vec<Element>, version: Version) -> Vec<Element> {
        let elements = if self.biflow { with_reverse(elements) } else { elements };
        if self.sampled { with_sampler(elements, version) } else { elements }
    }

    fn id(self) -> u16 {
        match (self.biflow, self.sampled) {
            (false, false) => FULL_ID,
            (true, false) => BIFLOW_ID,
            (false, true) => SAMPLED_ID,
            (true, true) => SAMPLED_BIFLOW_ID,
        }
    }
}

impl Layout {
    /// The built-in record.
    pub fn full(version: Version) -> Self {
        Layout::full_in(Form::default(), version)
    }

    /// The built-in record in a form.
    pub fn full_in(form: Form, version: Version) -> Self {
        let template = |family| Template {
            id: form.id() + family as u16,
            elements: form.finish(full_elements(version, family), version),
        };
        Layout { overflow: Some(Layout::overflow(form, version)), ..Layout::of(|family| Some(template(family))) }
    }

    /// A sum has no directions.
    fn overflow(form: Form, version: Version) -> Template {
        let form = Form { biflow: false, ..form };
        let elements = form.finish(full_elements(version, Family::Overflow), version);
        Template { id: form.id() + Family::Overflow as u16, elements }
    }

    /// Layouts of users' records, in their order.
    pub fn custom(version: Version, records: &[Record]) -> Vec<Self> {
        Layout::custom_in(Form::default(), version, records)
    }

    /// Layouts of users' records in a form.
    pub fn custom_in(form: Form, version: Version, records: &[Record]) -> Vec<Self> {
        let elements = |family, record| form.finish(custom_elements(version, family, record), version);
        let lists = |record| FLOWS.map(|family| elements(family, record));
        let all: BTreeSet<Vec<Element>> = records.iter().flat_map(lists).filter(|list| !list.is_empty()).collect();
        let ids = assign_ids(all, hash);
        let template = |elements: Vec<Element>| ids.get(&elements).map(|id| Template { id: *id, elements });
        let overflow = Some(Layout::overflow(form, version));
        let layout = |record| Layout::of(|family| template(elements(family, record)));
        records.iter().map(|record| Layout { overflow: overflow.clone(), ..layout(record) }).collect()
    }

    fn of(template: impl Fn(Family) -> Option<Template>) -> Self {
        let [ipv4, ipv6, link, overflow] = Family::ALL.map(template);
        Layout { ipv4, ipv6, link, overflow }
    }

    /// Flows of different families have different templates.
    pub fn tells_families_apart(&self) -> bool {
        self.ipv4 != self.ipv6 || self.ipv4 != self.link
    }

    /// The template for flows of a family.
    pub fn template(&self, family: Family) -> Option<&Template> {
        match family {
            Family::Ipv4 => self.ipv4.as_ref(),
            Family::Ipv6 => self.ipv6.as_ref(),
            Family::Link => self.link.as_ref(),
            Family::Overflow => self.overflow.as_ref(),
        }
    }
}

fn full_elements(version: Version, family: Family) -> Vec<Element> {
    let wanted = |value: &&Value| match value {
        Value::Ethertype => version == Version::Ipfix || !family.is_ip(),
        Value::Flows => family == Family::Overflow,
        _ => true,
    };
    FULL.iter().filter(wanted).filter_map(|value| element(*value, version, family)).collect()
}

/// The fields of a user's record, none of them twice: some are both matched and collected, or have one number in IPFIX.
fn custom_elements(version: Version, family: Family, record: &Record) -> Vec<Element> {
    let mut elements: Vec<Element> = Vec::new();
    for element in record.fields.iter().filter_map(|field| element(value_of(*field), version, family)) {
        if !elements.iter().any(|known| known.id == element.id) {
            elements.push(element);
        }
    }
    if !elements.is_empty() && length(&elements) < RECORD_MIN {
        let padding = (RECORD_MIN - length(&elements)) as u16;
        elements.push(Element { id: PADDING_ID, length: padding, value: Value::Padding });
    }
    elements
}

/// Ids of users' lists: their hash, or the next free number.
fn assign_ids(lists: BTreeSet<Vec<Element>>, hash: impl Fn(&[Element]) -> u16) -> BTreeMap<Vec<Element>, u16> {
    let mut taken = BTreeSet::new();
    let mut ids = BTreeMap::new();
    for list in lists {
        let mut id = hash(&list);
        while !taken.insert(id) {
            id = id.checked_add(1).unwrap_or(CUSTOM_ID);
        }
        ids.insert(list, id);
    }
    ids
}

/// FNV-1a of the numbers and lengths, folded into the ids of users' records.
fn hash(elements: &[Element]) -> u16 {
    let octets = elements.iter().flat_map(|element| [element.id.to_be_bytes(), element.length.to_be_bytes()]).flatten();
    let hash = octets.fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    let span = u32::from(u16::MAX - CUSTOM_ID) + 1;
    CUSTOM_ID + (hash % span) as u16
}

#[cfg(test)]
mod tests {
    use proto::flow::Field;

    use super::*;

    fn ids(template: &Template) -> Vec<u16> {
        template.elements.iter().map(|element| element.id).collect()
    }

    fn record(fields: &[Field]) -> Record {
        Record { name: "r".into(), fields: fields.to_vec() }
    }

    #[test]
    fn built_in_templates_have_their_ids_and_fields() {
        let v9 = Layout::full(Version::V9);
        let v4 = v9.template(Family::Ipv4).unwrap();
        assert_eq!(v4.id, 256);
        assert_eq!(ids(v4), [1, 2, 22, 21, 8, 12, 10, 14, 7, 32, 11, 56, 80, 58, 4, 5, 6, 60, 61, 136, 89]);
        let v6 = v9.template(Family::Ipv6).unwrap();
        assert_eq!(v6.id, 257);
        assert_eq!(ids(v6), [1, 2, 22, 21, 27, 28, 10, 14, 7, 32, 11, 56, 80, 58, 4, 5, 6, 60, 61, 136, 89]);
        let link = v9.template(Family::Link).unwrap();
        assert_eq!(link.id, 258);
        assert_eq!(ids(link), [1, 2, 22, 21, 10, 14, 56, 80, 58, 256, 61, 136, 89]);

        let overflow = v9.template(Family::Overflow).unwrap();
        assert_eq!(overflow.id, 259);
        assert_eq!(ids(overflow), [1, 2, 3, 22, 21, 10, 14, 256, 61, 136, 89]);

        let ipfix = Layout::full(Version::Ipfix);
        let expected: [u16; 25] =
            [1, 2, 352, 152, 153, 161, 27, 28, 10, 14, 7, 139, 11, 56, 80, 243, 58, 256, 4, 5, 6, 60, 61, 136, 89];
        assert_eq!(ids(ipfix.template(Family::Ipv6).unwrap()), expected);
    }

    #[test]
    fn no_field_that_collectors_misread_and_no_uptime_in_ipfix() {
        for version in [Version::V9, Version::Ipfix] {
            for family in Family::ALL {
                let layout = Layout::full(version);
                let ids = ids(layout.template(family).unwrap());
                assert!(ids.iter().all(|id| ![23, 24, 57, 81].contains(id)));
                assert!(version == Version::V9 || ids.iter().all(|id| ![21, 22].contains(id)));
                assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "no field twice");
            }
        }
    }

    #[test]
    fn custom_templates_have_the_asked_fields_in_order_and_stable_ids() {
        let asked = record(&[Field::SourceAddress, Field::Bytes, Field::First, Field::Ethertype]);
        let layouts = Layout::custom(Version::V9, std::slice::from_ref(&asked));
        let v4 = layouts[0].template(Family::Ipv4).unwrap();
        assert_eq!(ids(v4), [8, 1, 22, 256]);
        assert_eq!(ids(layouts[0].template(Family::Ipv6).unwrap()), [27, 1, 22, 256]);
        assert_eq!(ids(layouts[0].template(Family::Link).unwrap()), [1, 22, 256]);
        assert_eq!(layouts[0].template(Family::Overflow), Layout::full(Version::V9).template(Family::Overflow));
        assert_eq!(v4.id, 44_563, "a changed id breaks collectors over an upgrade");

        let more = [record(&[Field::Packets]), asked, record(&[Field::Packets])];
        let again = Layout::custom(Version::V9, &more);
        assert_eq!(again[1], layouts[0], "id depends on the fields only");
        assert_eq!(again[0], again[2]);
        let packets = again[0].template(Family::Ipv4).unwrap();
        assert_eq!(Some(packets), again[0].template(Family::Link), "the same list has the same id");
    }

    #[test]
    fn a_family_without_fields_has_no_template_and_a_tiny_record_is_filled_up() {
        let layouts = Layout::custom(Version::Ipfix, &[record(&[Field::Protocol])]);
        assert_eq!(layouts[0].template(Family::Link), None);
        let v4 = layouts[0].template(Family::Ipv4).unwrap();
        assert_eq!(ids(v4), [4, 210]);
        assert_eq!(v4.record_length(), 4);
    }

    #[test]
    fn forms_have_their_own_ids_and_end_with_the_sampler() {
        let ids_of = |form, family| Layout::full_in(form, Version::Ipfix).template(family).map(|t| t.id);
        let all = Form::ALL.map(|form| Family::ALL.map(|family| ids_of(form, family).unwrap()));
        assert_eq!(all, [[256, 257, 258, 259], [260, 261, 262, 259], [264, 265, 266, 267], [268, 269, 270, 267]]);
        for (version, id) in [(Version::V9, 48), (Version::Ipfix, 302)] {
            let sampled = Form { sampled: true, ..Form::default() };
            for layout in [
                Layout::full_in(sampled, version),
                Layout::custom_in(sampled, version, &[record(&[Field::Bytes, Field::Protocol])]).remove(0),
            ] {
                assert!(Family::ALL.iter().all(|family| ids(layout.template(*family).unwrap()).ends_with(&[id])));
            }
        }
    }

    #[test]
    fn lists_with_one_hash_get_two_ids() {
        let list = |length| vec![Element { id: 1, length, value: Value::Octets }];
        let ids = assign_ids(BTreeSet::from([list(4), list(8)]), |_| u16::MAX);
        assert_eq!(ids.into_values().collect::<Vec<_>>(), [u16::MAX, CUSTOM_ID]);
    }

    #[test]
    fn ids_of_users_records_are_in_their_range() {
        for length in 0..5000 {
            assert!(hash(&[Element { id: 1, length, value: Value::Octets }]) >= CUSTOM_ID);
        }
    }
}
