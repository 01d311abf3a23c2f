//! Samplers: of so many packets a flow monitor counts one, or several. Where they are used is said at the port ([`super::port`]).

use proto::flow::{SAMPLERS_MAX, Sampling};

use super::flow::{CONFIG, command, description, new_name, refuse_used, removed};
use super::target::{edit_sampler, make_room, name, some, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::Model;

const SAMPLER: &[Mode] = &[Mode::FlowSampler];

const WORDS: &[(&str, &str)] = &[
    ("mode", "Of how many packets how many are counted"),
    ("kind", "How it is chosen; at random unless said"),
    ("random", "Each packet with the same probability"),
    ("deterministic", "The last packets of each so many"),
    ("count", "Packets that are counted"),
    ("out-of", "Of so many"),
    ("packets", "Packets"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        command(CONFIG, "sampler <name:word>", "Create a sampler and change it", "sampler <name:word>", sampler),
        command(SAMPLER, "description <text:line>", "Free text", "description [<text:line>]", |session, args| {
            let text = description(args)?;
            edit_sampler(session, |sampler| {
                sampler.description = text;
                Ok(())
            })
        }),
        Command {
            words: WORDS,
            ..command(
                SAMPLER,
                "mode [<kind=random|deterministic>] <count:num:1-16382> out-of <packets:num:2-16383>",
                "Of how many packets how many are counted; at random unless said otherwise",
                "mode [ [<kind=random|deterministic>] <count:num:1-16382> out-of <packets:num:2-16383> ]",
                mode,
            )
        },
    ]
}

/// Who uses the sampler: `port-profile web, Vethernet1`.
fn users(model: &Model, name: &String) -> String {
    let users = model.all_settings().filter(|(_, settings)| settings.samplers().contains(&Some(name)));
    some(users.map(|(user, _)| user))
}

fn sampler(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = new_name(args)?;
    if args.negated {
        return session.edit(Box::new(move |model| {
            refuse_used("Sampler", &name, users(model, &name))?;
            removed(model.samplers.remove(&name), "Sampler", &name)
        }));
    }
    let subject = Subject::Name(name.clone());
    let output = session.edit(Box::new(move |model| {
        make_room(model.samplers.contains_key(&name), model.samplers.len(), SAMPLERS_MAX, "samplers")?;
        model.samplers.entry(name).or_default();
        Ok(Vec::new())
    }))?;
    session.enter(Mode::FlowSampler, subject);
    Ok(output)
}

fn mode(session: &mut Session, args: &Args) -> Result<Output, Error> {
    if args.negated {
        let name = name(session)?;
        return session.edit(Box::new(move |model| {
            refuse_used("Sampler", &name, users(model, &name))?;
            let sampler = model.samplers.get_mut(&name);
            sampler.ok_or_else(|| format!("Sampler '{name}' does not exist any more"))?.mode = None;
            Ok(Vec::new())
        }));
    }
    let is_random = args.text("kind") != Some("deterministic");
    let number = |name| wanted(args.number(name).and_then(|number| u16::try_from(number).ok()));
    let (count, packets) = (number("count")?, number("packets")?);
    if count >= packets {
        return Err(Error::Refused(format!("Of {packets} packets {count} are all: fewer have to be counted")));
    }
    let mode = wanted(Sampling::several(is_random, count, packets))?;
    edit_sampler(session, move |sampler| {
        sampler.mode = Some(mode);
        Ok(())
    })
}
