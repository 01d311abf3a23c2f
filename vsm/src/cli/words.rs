//! What `?` says of words that many commands share; a command's own [`super::tree::Command::words`] come first.

const WORDS: &[(&str, &str)] = &[
    ("access-list", "Access list"),
    ("access-lists", "Access lists"),
    ("address-table", "MAC address table"),
    ("brief", "Brief form"),
    ("cache", "Flows in the cache"),
    ("clear", "Reset functions"),
    ("configure", "Enter configuration mode"),
    ("copy", "Copy from one file to another"),
    ("count", "Number of entries"),
    ("counters", "Counters"),
    ("drops", "Dropped frames"),
    ("end", "Go to EXEC mode"),
    ("ethernet", "Uplink of a module"),
    ("exit", "Exit from the current mode"),
    ("exporter", "Flow exporter"),
    ("flow", "Flow export"),
    ("if", "Interface"),
    ("interface", "Interface"),
    ("ip", "IP features"),
    ("last", "Newest entries only"),
    ("logging", "Log of the switch"),
    ("mac", "MAC features"),
    ("module", "Module"),
    ("monitor", "Monitor"),
    ("name", "Name"),
    ("no", "Negate a command or set its defaults"),
    ("port-profile", "Port profile"),
    ("record", "Flow record"),
    ("session", "Monitor session"),
    ("show", "Show running system information"),
    ("slot", "Module number"),
    ("svs", "Switch domain"),
    ("terminal", "Terminal settings"),
    ("version", "Version of the software"),
    ("vlan", "VLAN"),
];

/// What the word means.
pub fn explain(word: &str) -> Option<&'static str> {
    WORDS.binary_search_by_key(&word, |(w, _)| w).ok().and_then(|at| WORDS.get(at)).map(|(_, help)| *help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found() {
        for (word, help) in WORDS {
            assert_eq!(explain(word), Some(*help), "{word} is out of order");
        }
        assert_eq!(explain("frobnicate"), None);
    }
}
