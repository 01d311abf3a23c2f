//! What a person asks for: a port to be attached, in the words of the command line, of `vem.toml` and of the local socket.
//!
//! Words are checked here, once, for all three ways in: what leaves as an [`Attachment`] is safe in a path, in a rule of
//! nft and in a netlink message. Pure.

pub mod vhost;

use minicbor::{Decode, Encode};
use proto::addr::{MacAddr, NicId};
use proto::name::ETHERNET_PORT_MAX;
use serde::{Deserialize, Serialize};

use crate::attach::{Attachment, Error};
use vhost::{Role, VhostUser};

/// Longest name of a network device (Linux `IFNAMSIZ` without its end).
pub const DEVICE_MAX: usize = 15;

/// How a device is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[cbor(index_only)]
pub enum Kind {
    /// A tap that the agent holds; its kernel side is the VM's card.
    #[n(0)]
    Tap,
    /// A device that exists already: QEMU's tap, a veth end, a network card.
    #[n(1)]
    Netdev,
    /// A guest's own rings, agreed on over a Unix socket; see [`vhost`].
    #[n(2)]
    VhostUser,
}

impl Kind {
    /// `tap`, `netdev`, `vhost-user`
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tap => "tap",
            Kind::Netdev => "netdev",
            Kind::VhostUser => "vhost-user",
        }
    }
}

/// What drives an existing device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Driver {
    /// AF_XDP where it is sound and without copies, else AF_PACKET.
    #[default]
    #[n(0)]
    Auto,
    /// AF_PACKET: every device, with super-frames.
    #[n(1)]
    Packet,
    /// AF_XDP: network cards and veths, for many small frames.
    #[n(2)]
    Xdp,
}

/// What a person asks for, on the command line or in a `[[port]]` of `vem.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Port profile.
    pub profile: String,
    /// Device; for a vhost-user port any name of that form.
    pub device: String,
    /// How it is reached; without it a VM port is a tap and an uplink a netdev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// What drives a netdev; without it `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// A tap without virtio header: every frame complete and within the MTU.
    #[serde(default)]
    pub plain: bool,
    /// Network namespace of the device: a name as in `ip netns`, or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Name of the VM; without it the device's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// Number of the VM's card; without it 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<u32>,
    /// Address of the VM's card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The port is the uplink with that card number, 1-32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<u8>,
    /// Socket of a vhost-user port, an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Who listens at the socket; without it the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Queue pairs of a vhost-user port; without it 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
    /// Rights of the agent's socket in octal; without it 0660.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// User and group of the agent's socket by number, as `64055:107`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl Request {
    /// The attachment that is asked for; its numbers are 0 until [`crate::attach::Attachments::add`] gives them out.
    ///
    /// # Errors
    /// A word is out of its range, or two of them contradict each other.
    pub fn check(&self) -> Result<Attachment, Error> {
        let word = |text: String| Error::Word(text);
        check_device(&self.device)?;
        let printable = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic());
        if !printable(&self.profile) || self.profile.len() > 80 {
            return Err(word(format!("'{}' is not a profile name (1-80 characters without blanks)", self.profile)));
        }
        if let Some(card) = self.uplink {
            if !(1..=ETHERNET_PORT_MAX).contains(&card) {
                return Err(word(format!("uplink {card} is outside 1-{ETHERNET_PORT_MAX}")));
            }
            if self.vm.is_some() || self.nic.is_some() || self.mac.is_some() {
                return Err(word("an uplink has no VM, no card of a VM and no VM's address".to_owned()));
            }
        }
        let kind = self.kind.unwrap_or(if self.uplink.is_some() { Kind::Netdev } else { Kind::Tap });
        if kind != Kind::Tap && self.plain {
            return Err(word("'plain' is for taps only".to_owned()));
        }
        if kind != Kind::Netdev && self.driver.is_some() {
            return Err(word("'driver' is for netdevs only".to_owned()));
        }
        let vhost = self.check_vhost(kind)?;
        let vm = match self.uplink {
            Some(_) => String::new(),
            None => self.vm.clone().unwrap_or_else(|| self.device.clone()),
        };
        let nic = match self.uplink {
            Some(card) => format!("uplink/{card}"),
            None if vm == "uplink" => return Err(word("a VM can't be called 'uplink'".to_owned())),
            None => format!("{vm}/{}", self.nic.unwrap_or(0)),
        };
        let nic: NicId = nic.parse().map_err(|e: proto::addr::Error| word(e.to_string()))?;
        let mac = self.mac.as_ref().map(|t| t.parse::<MacAddr>()).transpose().map_err(|e| word(e.to_string()))?;
        if let Some(mac) = mac.filter(|m| !m.is_station()) {
            return Err(word(format!("{mac} can't be the address of a card")));
        }
        Ok(Attachment {
            nic,
            kind,
            device: self.device.clone(),
            netns: self.netns.as_deref().map(namespace_path).transpose()?,
            plain: self.plain,
            profile: self.profile.clone(),
            vm,
            mac,
            card: self.uplink.unwrap_or(0),
            port: 0,
            if_index: 0,
            made: false,
            fresh: true,
            fixed: false,
            before: None,
            vhost,
            driver: self.driver,
        })
    }

    fn check_vhost(&self, kind: Kind) -> Result<Option<VhostUser>, Error> {
        if kind != Kind::VhostUser {
            return VhostUser::check_absent(self).map(|()| None);
        }
        if self.uplink.is_some() {
            return Err(Error::Word("an uplink is a device of the host, not a vhost-user port".to_owned()));
        }
        if self.netns.is_some() {
            return Err(Error::Word("a vhost-user port is at a path, in no network namespace".to_owned()));
        }
        VhostUser::check(self).map(Some)
    }
}

/// A name that Linux allows for a device, and that is safe in a path and in a rule of nft.
fn check_device(name: &str) -> Result<(), Error> {
    let plain = name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'"' | b'\\'));
    if name.is_empty() || name.len() > DEVICE_MAX || !plain || name == "." || name == ".." {
        return Err(Error::Word(format!("'{name}' is not a device name (1-{DEVICE_MAX} characters)")));
    }
    Ok(())
}

/// `vm1` is `/run/netns/vm1`, as `ip netns` has it; what has a `/` is a path already.
fn namespace_path(text: &str) -> Result<String, Error> {
    let bad = text.is_empty() || text.len() > 255 || text.bytes().any(|b| b.is_ascii_control());
    match () {
        () if bad || text == "." || text == ".." => Err(Error::Word(format!("'{text}' is not a network namespace"))),
        () if text.starts_with('/') => Ok(text.to_owned()),
        () if text.contains('/') => Err(Error::Word(format!("'{text}' is not an absolute path"))),
        () => Ok(format!("/run/netns/{text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::config::ProfileType;

    fn request(device: &str) -> Request {
        Request { profile: "web".into(), device: device.into(), ..Request::default() }
    }

    #[test]
    fn a_request_becomes_an_attachment() {
        let tap = request("tap0").check().unwrap();
        assert_eq!((tap.nic.as_str(), tap.kind, tap.vm.as_str(), tap.card), ("tap0/0", Kind::Tap, "tap0", 0));
        let named = Request {
            vm: Some("web1".into()),
            nic: Some(1),
            netns: Some("vm1".into()),
            mac: Some("02:00:00:00:00:01".into()),
            ..request("eth0")
        };
        let named = named.check().unwrap();
        assert_eq!((named.nic.as_str(), named.netns.as_deref()), ("web1/1", Some("/run/netns/vm1")));
        assert_eq!(named.mac.unwrap().to_string(), "0200.0000.0001");
        let uplink = Request { uplink: Some(2), ..request("eth1") }.check().unwrap();
        assert_eq!((uplink.nic.as_str(), uplink.kind, uplink.vm.as_str()), ("uplink/2", Kind::Netdev, ""));
        assert_eq!((uplink.profile_type(), uplink.driver), (ProfileType::Ethernet, None));
        let xdp = Request { uplink: Some(2), driver: Some(Driver::Xdp), ..request("eth1") }.check().unwrap();
        assert_eq!(xdp.driver, Some(Driver::Xdp));
    }

    #[test]
    fn bad_words_are_refused() {
        let guest = Request { kind: Some(Kind::VhostUser), path: Some("/run/s".into()), ..request("web1") };
        assert_eq!(guest.check().unwrap().vhost.unwrap().path, "/run/s");
        let bad = [
            Request { device: String::new(), ..request("x") },
            request("a-name-that-is-too-long"),
            request("a/b"),
            request("a\"b"),
            Request { profile: "two words".into(), ..request("tap0") },
            Request { uplink: Some(33), ..request("eth0") },
            Request { uplink: Some(0), ..request("eth0") },
            Request { uplink: Some(1), vm: Some("a".into()), ..request("eth0") },
            Request { mac: Some("ff:ff:ff:ff:ff:ff".into()), ..request("tap0") },
            Request { mac: Some("nonsense".into()), ..request("tap0") },
            Request { kind: Some(Kind::Netdev), plain: true, ..request("tap0") },
            Request { driver: Some(Driver::Xdp), ..request("tap0") },
            Request { netns: Some("a/b".into()), ..request("tap0") },
            Request { path: Some("/run/s".into()), ..request("tap0") },
            Request { plain: true, ..guest.clone() },
            Request { uplink: Some(1), ..guest.clone() },
            Request { netns: Some("vm1".into()), ..guest.clone() },
            Request { path: None, ..guest },
            Request { vm: Some("uplink".into()), nic: Some(1), ..request("tap0") },
            Request { vm: Some("with blank".into()), ..request("tap0") },
        ];
        for request in bad {
            assert!(matches!(request.check(), Err(Error::Word(_))), "{request:?}");
        }
    }
}
