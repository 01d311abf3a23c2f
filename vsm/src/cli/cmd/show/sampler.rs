//! `show sampler`: of how many packets one is counted, and where.

use super::exec;
use super::flow::known;
use crate::cli::render::{Output, leaves, table};
use crate::cli::tree::Command;
use crate::config::model::Model;

const WORDS: &[(&str, &str)] = &[("sampler", "Samplers"), ("name", "Name")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec("show sampler [<name:word>]", "Display samplers", WORDS, |session, args| {
        let model = session.handle.model();
        known(args, model.samplers.contains_key(args.text("name").unwrap_or_default()), "Sampler")?;
        Ok(samplers(&model, args.text("name")))
    })]
}

/// The samplers. The id is the number that flow export knows one by.
pub fn samplers(model: &Model, only: Option<&str>) -> Output {
    let (mut texts, mut objects) = (Vec::new(), Vec::new());
    for (name, sampler) in model.samplers.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let of = |own: Option<&String>, way: &'static str| (own == Some(name)).then_some(way);
        let ways = model.all_settings().flat_map(|(user, settings)| {
            let [input, output] = settings.samplers();
            [of(input, "input"), of(output, "output")].into_iter().flatten().map(move |way| format!("{user} {way}"))
        });
        let users: Vec<String> = ways.collect();
        let id = sampler.mode.map(|mode| mode.number().to_string()).unwrap_or_default();
        let kind = sampler.mode.map_or("", |mode| if mode.is_random() { "random" } else { "deterministic" });
        let out_of = sampler.mode.map(|mode| mode.out_of().to_string()).unwrap_or_default();
        let count = sampler.mode.map(|mode| mode.count().to_string()).unwrap_or_default();
        let mut text = format!("Sampler {name}:\n");
        text.extend(sampler.description.iter().map(|words| format!("    Description: {words}\n")));
        text += &match sampler.mode {
            None => "    Mode: none, so it can't be used\n".to_owned(),
            Some(_) => format!("    ID: {id}\n    Mode: {kind} {count} out-of {out_of}\n"),
        };
        text += &format!("    Use count: {}\n", users.len());
        text.extend(users.iter().map(|user| format!("        {user}\n")));
        texts.push(text);
        objects.push(leaves([
            ("sampler_name", name.clone()),
            ("description", sampler.description.clone().unwrap_or_default()),
            ("id", id),
            ("mode", kind.to_owned()),
            ("count", count),
            ("out_of", out_of),
            ("use_count", users.len().to_string()),
            ("users", users.join(", ")),
        ]));
    }
    Output::with_json(texts.join("\n"), table("sampler", objects))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        sample::check("sampler", &samplers(&sample::model(), None));
        assert!(!samplers(&sample::model(), Some("spare")).text.contains("hundredth"));
    }
}
