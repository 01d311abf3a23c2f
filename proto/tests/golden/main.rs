//! Every message ever shipped stays decodable: new code reads old octets, and writes the same.
//!
//! `golden/v1` holds one file per message variant. `BLESS=1` writes the files that are missing and never changes one
//! that is there; a change of an existing file is a break of the protocol.

mod configs;
mod samples;
mod why;

use std::collections::BTreeSet;
use std::path::PathBuf;

use minicbor::{Decode, Encode};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1")
}

fn check<T>(samples: Vec<(String, T)>, seen: &mut BTreeSet<String>)
where
    T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + std::fmt::Debug,
{
    for (name, sample) in samples {
        let path = directory().join(format!("{name}.cbor"));
        assert!(seen.insert(format!("{name}.cbor")), "two samples named {name}");
        let octets = minicbor::to_vec(&sample).unwrap();
        if !path.exists() && std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(directory()).unwrap();
            std::fs::write(&path, &octets).unwrap();
        }
        let golden = std::fs::read(&path)
            .unwrap_or_else(|e| panic!("{}: {e}; BLESS=1 writes the samples that are missing", path.display()));
        let decoded: T = minicbor::decode(&golden).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(decoded, sample, "{name}: the same message");
        assert_eq!(octets, golden, "{name}: the same octets");
        // What is cut off is an error, never another message and never a panic.
        for cut in 0..golden.len() {
            assert!(minicbor::decode::<T>(&golden[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn every_variant_reads_and_writes_its_golden_octets() {
    let mut seen = BTreeSet::new();
    check(samples::from_vem(), &mut seen);
    check(samples::from_vsm(), &mut seen);
    check(configs::configs(), &mut seen);
    let there: BTreeSet<String> =
        std::fs::read_dir(directory()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, seen, "a golden file without a sample would be checked by nobody");
}

/// A variant of which nobody has made a sample fails here.
#[test]
fn every_variant_has_a_sample() {
    let count = |names: &[&str], have: BTreeSet<&str>| {
        assert_eq!(have, names.iter().copied().collect(), "the list of variants and the samples differ");
    };
    let (from_vem, from_vsm) = (samples::from_vem(), samples::from_vsm());
    count(&samples::VEM_VARIANTS, from_vem.iter().map(|(_, m)| samples::vem_variant(m)).collect());
    count(&samples::VSM_VARIANTS, from_vsm.iter().map(|(_, m)| samples::vsm_variant(m)).collect());
}

/// A field that a newer peer has added is passed over.
#[test]
fn a_field_more_is_no_harm() {
    // [0, [[protocol, domain, uuid, host, software, version, hash, capabilities, 99]]]
    let (_, hello) = samples::from_vem().remove(0);
    let octets = minicbor::to_vec(&hello).unwrap();
    // The hello's own array has eight elements: 0x88.
    let at = octets.iter().position(|o| *o == 0x88).unwrap();
    let mut longer = octets.clone();
    longer[at] = 0x89;
    longer.extend_from_slice(&[0x18, 99]);
    assert_eq!(minicbor::decode::<proto::msg::FromVem>(&longer).unwrap(), hello);
}
