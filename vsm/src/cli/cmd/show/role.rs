//! `show role`, `show role feature`

use std::collections::BTreeMap;

use super::exec;
use crate::cli::cmd;
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::tree::{Command, Error};
use crate::config::role::{NETWORK_ADMIN, NETWORK_OPERATOR, Role, SERVER_ADMIN, What};

const WORDS: &[(&str, &str)] = &[
    ("role", "What users may do"),
    ("name", "One role"),
    ("role_name", "Name of the role"),
    ("feature", "Features that rules can name"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show role [name <role_name:word>]", "Display roles and their rules", WORDS, |session, args| {
            let mut roles = every(&session.handle.model().roles);
            if let Some(wanted) = args.text("role_name") {
                roles.retain(|(name, ..)| name == wanted);
                if roles.is_empty() {
                    return Err(Error::Refused(format!("Role '{wanted}' does not exist")));
                }
            }
            Ok(listing(&roles))
        }),
        exec("show role feature", "Display the features that rules can name", WORDS, |_, _| Ok(features())),
    ]
}

type Line = (String, &'static str, &'static str, &'static str, String);

fn every(own: &BTreeMap<String, Role>) -> Vec<(String, Role, Vec<Line>)> {
    let line = |number: &str, what, scope, entity: &str| (number.to_owned(), "permit", what, scope, entity.to_owned());
    let built_in = |name: &str, text: &str, lines| {
        let role = Role { description: Some(text.to_owned()), ..Role::default() };
        (name.to_owned(), role, lines)
    };
    let mut roles = vec![
        built_in(NETWORK_ADMIN, "Everything", vec![line("1", "read-write", "", "")]),
        built_in(NETWORK_OPERATOR, "Look, and change nothing", vec![line("1", "read", "", "")]),
        built_in(
            SERVER_ADMIN,
            "Look, and give ports of virtual machines an enabled profile",
            vec![line("2", "command", "", "interface vethernet * ; inherit port-profile *"), line("1", "read", "", "")],
        ),
    ];
    roles.extend(own.iter().map(|(name, role)| (name.clone(), role.clone(), lines(role))));
    roles
}

fn lines(role: &Role) -> Vec<Line> {
    let line = |(number, rule): (&u16, &crate::config::role::Rule)| {
        let (what, scope, entity) = match &rule.what {
            What::Command(pattern) => ("command", "", pattern.clone()),
            What::Read(None) => ("read", "", String::new()),
            What::Read(Some(feature)) => ("read", "feature", feature.clone()),
            What::ReadWrite(None) => ("read-write", "", String::new()),
            What::ReadWrite(Some(feature)) => ("read-write", "feature", feature.clone()),
        };
        (number.to_string(), if rule.permits { "permit" } else { "deny" }, what, scope, entity)
    };
    role.rules.iter().rev().map(line).collect()
}

fn listing(roles: &[(String, Role, Vec<Line>)]) -> Output {
    let rule = "-".repeat(67);
    let mut text = String::new();
    let mut rows = Vec::new();
    for (name, role, lines) in roles {
        let description = role.description.clone().unwrap_or_else(|| "new role".to_owned());
        let policy = |own: Option<String>| {
            own.map_or_else(|| "permit (default)".to_owned(), |own| format!("deny\n  Permitted: {own}"))
        };
        let interfaces = role.interfaces.as_ref().map(|own| {
            let names: Vec<String> = own.iter().map(ToString::to_string).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(",") }
        });
        let vlans = role.vlans.as_ref().map(ToString::to_string);
        text.push_str(&format!("\nRole: {name}\n  Description: {description}\n"));
        text.push_str(&format!("  Vlan policy: {}\n", policy(vlans.clone())));
        text.push_str(&format!("  Interface policy: {}\n", policy(interfaces.clone())));
        text.push_str(&format!(
            "  {rule}\n  {:<7} {:<7} {:<11} {:<19} {}\n  {rule}\n",
            "Rule", "Perm", "Type", "Scope", "Entity"
        ));
        let mut own = Vec::new();
        for (number, permits, what, scope, entity) in lines {
            let line = format!("  {number:<7} {permits:<7} {what:<11} {scope:<19} {entity}");
            text.push_str(&format!("{}\n", line.trim_end()));
            own.push(leaves([
                ("rule", number.as_str()),
                ("perm", permits),
                ("type", what),
                ("scope", scope),
                ("entity", entity),
            ]));
        }
        let head = leaves([
            ("role_name", name.as_str()),
            ("description", &description),
            ("vlan_policy", vlans.as_deref().unwrap_or("permit")),
            ("interface_policy", interfaces.as_deref().unwrap_or("permit")),
        ]);
        rows.push(merged([head, table("rule", own)]));
    }
    Output::with_json(text, table("role", rows))
}

fn features() -> Output {
    let mut table = Table::new("role_feature").left("Feature", "feature", 16).right("Commands", "commands", 8);
    for (feature, commands) in cmd::features() {
        table.row([feature.to_owned(), commands.to_string()]);
    }
    table.output()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::config::role::Rule;
    use proto::name::IfName;

    #[test]
    fn rendered() {
        let rules = [
            (10, Rule { permits: false, what: What::Command("clear *".into()) }),
            (5, Rule { permits: true, what: What::ReadWrite(Some("vlan".into())) }),
        ];
        let role = Role {
            description: Some("the web team".into()),
            rules: rules.into(),
            interfaces: Some([IfName::Vethernet(1), IfName::Vethernet(7)].into()),
            vlans: Some(Default::default()),
        };
        sample::check("role", &listing(&every(&[("web".to_owned(), role)].into())));
    }
}
