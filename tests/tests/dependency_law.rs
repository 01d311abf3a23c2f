//! The law of the rooms: proto ← vswitch ← vem, proto ← vsm, and who may use what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).other_options(["--offline".into()]).exec().expect("cargo metadata")
}

/// What each package of the dependency graph is built with; development dependencies don't count.
fn graph(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let name = |id| metadata[id].name.to_string();
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in &resolve.nodes {
        let shipped = |d: &&cargo_metadata::NodeDep| {
            d.dep_kinds.iter().any(|k| matches!(k.kind, DependencyKind::Normal | DependencyKind::Build))
        };
        graph.entry(name(&node.id)).or_default().extend(node.deps.iter().filter(shipped).map(|d| name(&d.pkg)));
    }
    graph
}

/// Everything that ends up in a program of `package`.
fn linked(graph: &BTreeMap<String, BTreeSet<String>>, package: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![package.to_owned()];
    while let Some(next) = open.pop() {
        for dependency in graph.get(&next).into_iter().flatten() {
            if seen.insert(dependency.clone()) {
                open.push(dependency.clone());
            }
        }
    }
    seen
}

#[test]
fn rooms_depend_in_one_direction() {
    let graph = graph(&metadata());
    let allowed: [(&str, &[&str]); 4] =
        [("proto", &[]), ("vswitch", &["proto"]), ("vem", &["proto", "vswitch"]), ("vsm", &["proto"])];
    let rooms: BTreeSet<&str> = ["proto", "vswitch", "vem", "vsm", "tests"].into();
    for (room, may) in allowed {
        let may: BTreeSet<&str> = may.iter().copied().collect();
        let all = linked(&graph, room);
        let does: BTreeSet<&str> = all.iter().map(String::as_str).filter(|d| rooms.contains(d)).collect();
        assert!(does.is_subset(&may), "{room} links {does:?}, and may link {may:?}");
    }
    // The law is about something: the rooms that must be there are.
    assert!(linked(&graph, "vem").contains("vswitch"));
    assert!(linked(&graph, "vsm").contains("proto"));
}

#[test]
fn tokio_is_the_supervisors_alone() {
    let graph = graph(&metadata());
    for room in ["proto", "vswitch", "vem"] {
        let all = linked(&graph, room);
        let found: Vec<&String> = all.iter().filter(|d| *d == "tokio" || *d == "async-std").collect();
        assert!(found.is_empty(), "{room} links {found:?}");
    }
}

/// The supervisor has one room for it.
#[test]
fn the_supervisor_uses_it_for_its_management_servers_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vsm/src");
    let mut users = BTreeSet::new();
    for path in sources(&root) {
        let code = code(&path);
        if ["tokio", "russh"].iter().any(|name| code.contains(&format!("{name}::"))) {
            users.insert(
                path.strip_prefix(&root).expect("below the root").components().next().map(|c| c.as_os_str().to_owned()),
            );
        }
    }
    assert_eq!(users, [Some("mgmt".into())].into());
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file in one line, without line comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let lines = text.lines().map(|l| l.split("//").next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// Modules of `proto` that `code` names: `proto::acl::…`, `proto::{acl, addr::X}`.
fn proto_modules(code: &str) -> BTreeSet<String> {
    let word = |t: &str| t.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for (at, matched) in code.match_indices("proto::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + matched.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    ' ' => {}
                    _ if start => {
                        found.insert(word(&group[i..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(word(rest));
        }
    }
    found
}

#[test]
fn reads_use_lines() {
    let found =
        proto_modules("use proto::{acl, addr::{MacAddr, VlanId}, msg}; fn f(x:proto::flow::X,y:myproto::session){}");
    assert_eq!(found, ["acl", "addr", "flow", "msg"].map(String::from).into());
}

#[test]
fn the_dataplane_knows_words_only() {
    let words = ["acl", "addr", "flow", "name", "rate", "vlan"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vswitch/src");
    let mut named = BTreeSet::new();
    for path in sources(&root) {
        for module in proto_modules(&code(&path)) {
            assert!(words.contains(&module.as_str()), "{} uses proto::{module}", path.display());
            named.insert(module);
        }
    }
    assert!(named.contains("addr"), "the scan found no use of proto at all");
}
