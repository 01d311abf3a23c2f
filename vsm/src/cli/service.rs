//! Names of well-known TCP and UDP ports, as NX-OS reads and prints them in access lists.

const TCP: &[(&str, u16)] = &[
    ("bgp", 179),
    ("chargen", 19),
    ("cmd", 514),
    ("daytime", 13),
    ("discard", 9),
    ("domain", 53),
    ("drip", 3949),
    ("echo", 7),
    ("exec", 512),
    ("finger", 79),
    ("ftp", 21),
    ("ftp-data", 20),
    ("gopher", 70),
    ("hostname", 101),
    ("ident", 113),
    ("irc", 194),
    ("klogin", 543),
    ("kshell", 544),
    ("login", 513),
    ("lpd", 515),
    ("nntp", 119),
    ("pim-auto-rp", 496),
    ("pop2", 109),
    ("pop3", 110),
    ("smtp", 25),
    ("sunrpc", 111),
    ("tacacs", 49),
    ("talk", 517),
    ("telnet", 23),
    ("time", 37),
    ("uucp", 540),
    ("whois", 43),
    ("www", 80),
];

const UDP: &[(&str, u16)] = &[
    ("biff", 512),
    ("bootpc", 68),
    ("bootps", 67),
    ("discard", 9),
    ("dnsix", 195),
    ("domain", 53),
    ("echo", 7),
    ("isakmp", 500),
    ("mobile-ip", 434),
    ("nameserver", 42),
    ("netbios-dgm", 138),
    ("netbios-ns", 137),
    ("netbios-ss", 139),
    ("non500-isakmp", 4500),
    ("ntp", 123),
    ("pim-auto-rp", 496),
    ("rip", 520),
    ("snmp", 161),
    ("snmptrap", 162),
    ("sunrpc", 111),
    ("syslog", 514),
    ("tacacs", 49),
    ("talk", 517),
    ("tftp", 69),
    ("time", 37),
    ("who", 513),
    ("xdmcp", 177),
];

/// The port of a name, in any case; a name of either protocol is taken for both.
pub fn number(name: &str) -> Option<u16> {
    TCP.iter().chain(UDP).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, port)| *port)
}

/// Every name with its port; some are there twice.
pub fn all() -> impl Iterator<Item = (&'static str, u16)> {
    TCP.iter().chain(UDP).copied()
}

/// The ports whose names begin with `text`, in any case.
pub fn beginning(text: &str) -> Vec<u16> {
    let begins = |name: &str| name.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text));
    let mut ports: Vec<u16> = all().filter(|(name, _)| begins(name)).map(|(_, port)| port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The name of a port of IP protocol 6 (TCP) or 17 (UDP).
pub fn name(protocol: u8, port: u16) -> Option<&'static str> {
    let names = match protocol {
        6 => TCP,
        17 => UDP,
        _ => return None,
    };
    names.iter().find(|(_, p)| *p == port).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for (protocol, names) in [(6, TCP), (17, UDP)] {
            for (text, port) in names {
                assert_eq!((number(text), name(protocol, *port)), (Some(*port), Some(*text)));
            }
        }
        assert_eq!((beginning("Dom"), beginning("ftp"), beginning("zz")), (vec![53], vec![20, 21], vec![]));
        assert_eq!((number("WWW"), number("http"), name(6, 443), name(1, 80)), (Some(80), None, None, None));
    }
}
