//! The closed lists: what becomes of a frame, and why it was dropped.
//!
//! Law 1: received = delivered + dropped, and every drop has exactly one [`DropReason`]. Counters, `show drops`, the flow
//! export and the tests are derived from the list below; a reason that no test names fails the build of the tests.

/// Declares [`DropReason`] with its short name and its English in one place.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $text:literal;)*) => {
        /// Why a frame was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* #[doc = $text] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Short name, as in `show drops`.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// The reason in English.
            pub fn text(self) -> &'static str {
                match self { $(DropReason::$variant => $text,)* }
            }
        }
    };
}

drop_reasons! {
    Runt = "runt", "shorter than an Ethernet header";
    Oversize = "oversize", "longer than the receive buffer";
    SourceMacInvalid = "source-mac-invalid", "source MAC address is a group address or zero";
    VlanDepth = "vlan-depth", "more than two VLAN tags";
    VlanReserved = "vlan-reserved", "VLAN 4095 or another reserved tag value";
    Ipv4Header = "ipv4-header", "IPv4 header is cut short or contradicts itself";
    Ipv4Length = "ipv4-length", "IPv4 total length exceeds the frame";
    Ipv6Header = "ipv6-header", "IPv6 header is cut short or contradicts itself";
    Ipv6Length = "ipv6-length", "IPv6 payload length exceeds the frame";
    Ipv6Extensions = "ipv6-extensions", "more than eight IPv6 extension headers, or one that is cut short";
    L4Header = "l4-header", "TCP, UDP or ICMP header is cut short or contradicts itself";
    FragmentTiny = "fragment-tiny", "first fragment without the whole transport header (RFC 1858, RFC 7112)";
    FragmentOverlap = "fragment-overlap", "fragment that could overwrite the transport header (RFC 3128)";
    ArpMalformed = "arp-malformed", "ARP is cut short or not Ethernet and IPv4";
    OffloadInvalid = "offload-invalid", "virtio header contradicts the frame";
    PortDown = "port-down", "port is shut down or has no usable profile";
    MirrorDestination = "mirror-destination", "port is the destination of a monitor session and takes no other traffic";
    SensorInput = "sensor-input", "port is that of an intrusion detector, which only listens";
    MonitorInput = "monitor-input", "port only meters and mirrors, by capability monitor-in";
    VlanTaggedOnAccess = "vlan-tagged-on-access", "tagged frame on an access port";
    VlanNotAllowed = "vlan-not-allowed", "VLAN is not allowed on the port";
    VlanInactive = "vlan-inactive", "VLAN does not exist or is suspended";
    ReservedGroup = "reserved-group", "address 0180.c200.000x belongs to the link and is never forwarded";
    AclDeny = "acl-deny", "denied by an access list on the way in";
    AclDenyOut = "acl-deny-out", "denied by an access list on the way out";
    Isolated = "isolated", "both ports are protected";
    StaticDrop = "static-drop", "a static MAC address entry says drop";
    SamePort = "same-port", "destination is on the port the frame came from";
    SplitHorizon = "split-horizon", "came from an uplink and would leave by an uplink";
    NoDestination = "no-destination", "no other port is in the VLAN";
    VlanNotAllowedOut = "vlan-not-allowed-out", "VLAN is not allowed on the port of the destination";
    EgressDown = "egress-down", "port of the destination is shut down";
    MtuExceeded = "mtu-exceeded", "packet exceeds the MTU of the outgoing port";
    TxFull = "tx-full", "queue of the outgoing device is full";
    TxError = "tx-error", "outgoing device refused the frame";
}

/// What the judges decided about a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Send to one port.
    Forward(crate::port::PortId),
    /// Send to every other port of the VLAN that may have it.
    Flood,
    /// Drop.
    Drop(DropReason),
}

impl DropReason {
    /// The reason with that number, the inverse of `as u8`.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A judge's no, and what was known when it was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: DropReason,
    /// VLAN that the frame is switched in, when that was known.
    pub vlan: Option<proto::addr::VlanId>,
    /// The rule that denied it.
    pub rule: RuleRef,
}

impl Refusal {
    /// For `reason`, with no rule.
    pub fn new(reason: DropReason, vlan: Option<proto::addr::VlanId>) -> Self {
        Refusal { reason, vlan, rule: RuleRef::NONE }
    }
}

/// The rule of an access list that decided, in four octets: its number, and whether its matches are counted.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(transparent)]
pub struct RuleRef(u32);

impl RuleRef {
    /// No list judged, or one without rules.
    pub const NONE: RuleRef = RuleRef(u32::MAX);

    const COUNTED: u32 = 1 << 31;

    /// The rule `id`, which is below [`crate::config::RULES_MAX`].
    pub fn new(id: u32, counted: bool) -> Self {
        RuleRef(id | if counted { Self::COUNTED } else { 0 })
    }

    /// Its number.
    pub fn id(self) -> Option<u32> {
        (self != Self::NONE).then_some(self.0 & !Self::COUNTED)
    }

    /// Its number, when its list counts matches.
    pub fn counted(self) -> Option<u32> {
        self.id().filter(|_| self.0 & Self::COUNTED != 0)
    }
}

/// That an address is not in the MAC table, and who gets a frame to it.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct Absence {
    /// What the table said of its additions: [`crate::table::mac::MacTable::additions`].
    pub additions: u32,
    /// Of the snapshot with the flood lists.
    pub sequence: u32,
}

/// What a verdict rests on, of the destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// It was looked up and is there; [`crate::table::mac::SlotRef::NONE`] when it was not looked up.
    At(crate::table::mac::SlotRef),
    /// It was not found, so the verdict is a flood.
    Unknown(Absence),
}

/// What the judges said of a frame, and all that makes it still true: a flow entry keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// What becomes of the frame.
    pub verdict: Verdict,
    /// The ingress judges let it in, so its addresses were looked up.
    pub admitted: bool,
    /// VLAN that it is switched in; `None` when it was dropped before that was known.
    pub vlan: Option<proto::addr::VlanId>,
    /// The one port that it leaves by, or was to leave by. Of a flood, the port that gets it when no other may.
    pub out: Option<crate::port::PortId>,
    /// Rule that decided on the way in.
    pub rule_in: RuleRef,
    /// Rule that decided on the way out.
    pub rule_out: RuleRef,
    /// Where the source address is.
    pub source: crate::table::mac::SlotRef,
    /// Where the destination address is.
    pub destination: Destination,
    /// Generation of the port that it came from.
    pub generation_in: u32,
    /// Generation of `out`.
    pub generation_out: u32,
    /// Sessions that copy it as received.
    pub rx_sessions: crate::snapshot::SessionSet,
    /// Sessions that copy it as sent, and not as received. Of a flood to several ports, none: they differ.
    pub tx_sessions: crate::snapshot::SessionSet,
    /// Monitors that look at it where it enters.
    pub monitors_in: crate::flow::record::MonitorSet,
    /// Monitors that look at it where it leaves, and not where it enters.
    pub monitors_out: crate::flow::record::MonitorSet,
    /// Those of the two that count some of its packets only.
    pub picked: crate::flow::record::MonitorSet,
    /// Why no monitor of the port that it came from counts it, if there is one.
    pub skipped: crate::account::select::Skipped,
}
