//! Classic BPF: the filter of a capture, checked once and then run on frames.
//!
//! A program comes from elsewhere (the supervisor compiles it with libpcap), so nothing in it is believed. [`Program::new`]
//! lets pass what ends: at most [`INSNS_MAX`] known instructions, jumps forward and inside, a return at the end, no
//! constant division by zero, no memory beyond the sixteen words. Running one can read nothing but the frame: a load beyond
//! its end, like a division by zero, makes the frame one that does not match, as in libpcap.
//!
//! Semantics: S. McCanne and V. Jacobson, "The BSD Packet Filter", 1993, and libpcap's `bpf_filter`.

/// Most instructions; libpcap and Linux have the same limit.
pub const INSNS_MAX: usize = 4096;
/// Words of scratch memory.
const WORDS: usize = 16;

/// An instruction as libpcap writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insn {
    /// What it does.
    pub code: u16,
    /// Instructions to skip when its condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Its constant.
    pub k: u32,
}

/// Why a program is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None, or too many.
    #[error("a filter has 1 to {INSNS_MAX} instructions, this has {0}")]
    Length(usize),
    /// It could do what it must not.
    #[error("instruction {0} of the filter: {1}")]
    Instruction(usize, &'static str),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Size {
    Word,
    Half,
    Byte,
}

/// The second operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    K(u32),
    X,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Xor,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Test {
    Eq,
    Gt,
    Ge,
    Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    LoadAt(Size, u32),
    LoadIndexed(Size, u32),
    LoadLength,
    LoadConstant(u32),
    LoadWord(usize),
    IndexConstant(u32),
    IndexWord(usize),
    IndexLength,
    /// `4 * (frame[k] & 0xf)`, the length of an IPv4 header.
    IndexHeader(u32),
    Store(usize),
    StoreIndex(usize),
    Alu(Alu, Source),
    Negate,
    Jump(usize),
    Branch(Test, Source, usize, usize),
    Return(u32),
    ReturnA,
    ToIndex,
    FromIndex,
}

/// A checked program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program(Vec<Op>);

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// It might not end, or is none.
    pub fn new(insns: &[Insn]) -> Result<Program, Error> {
        if insns.is_empty() || insns.len() > INSNS_MAX {
            return Err(Error::Length(insns.len()));
        }
        let mut ops = Vec::with_capacity(insns.len());
        for (at, insn) in insns.iter().enumerate() {
            let op = decode(insn).map_err(|why| Error::Instruction(at, why))?;
            let farthest = match op {
                Op::Jump(skip) => Some(skip),
                Op::Branch(_, _, yes, no) => Some(yes.max(no)),
                _ => None,
            };
            if farthest.is_some_and(|skip| skip >= insns.len() - at - 1) {
                return Err(Error::Instruction(at, "it jumps behind the end"));
            }
            ops.push(op);
        }
        match ops.last() {
            Some(Op::Return(_) | Op::ReturnA) => Ok(Program(ops)),
            _ => Err(Error::Instruction(insns.len() - 1, "the last one must return")),
        }
    }

    /// The frame, in two pieces, matches. Runs each instruction at most once.
    pub fn matches(&self, head: &[u8], rest: &[u8]) -> bool {
        self.run(&Octets { head, rest }).unwrap_or(0) != 0
    }

    fn run(&self, frame: &Octets<'_>) -> Option<u32> {
        let (mut a, mut x, mut memory, mut at) = (0u32, 0u32, [0u32; WORDS], 0usize);
        loop {
            let op = *self.0.get(at)?;
            at += 1;
            match op {
                Op::LoadAt(size, k) => a = frame.load(size, k)?,
                Op::LoadIndexed(size, k) => a = frame.load(size, k.checked_add(x)?)?,
                Op::LoadLength => a = frame.len(),
                Op::LoadConstant(k) => a = k,
                Op::LoadWord(word) => a = memory.get(word).copied()?,
                Op::IndexConstant(k) => x = k,
                Op::IndexWord(word) => x = memory.get(word).copied()?,
                Op::IndexLength => x = frame.len(),
                Op::IndexHeader(k) => x = (frame.load(Size::Byte, k)? & 0xf) << 2,
                Op::Store(word) => *memory.get_mut(word)? = a,
                Op::StoreIndex(word) => *memory.get_mut(word)? = x,
                Op::Alu(alu, source) => a = calculate(alu, a, value(source, x))?,
                Op::Negate => a = a.wrapping_neg(),
                Op::Jump(skip) => at += skip,
                Op::Branch(test, source, yes, no) => {
                    let with = value(source, x);
                    let holds = match test {
                        Test::Eq => a == with,
                        Test::Gt => a > with,
                        Test::Ge => a >= with,
                        Test::Set => a & with != 0,
                    };
                    at += if holds { yes } else { no };
                }
                Op::Return(k) => return Some(k),
                Op::ReturnA => return Some(a),
                Op::ToIndex => x = a,
                Op::FromIndex => a = x,
            }
        }
    }
}

fn value(source: Source, x: u32) -> u32 {
    match source {
        Source::K(k) => k,
        Source::X => x,
    }
}

/// `None`: a division by zero, with which the frame does not match.
fn calculate(alu: Alu, a: u32, with: u32) -> Option<u32> {
    Some(match alu {
        Alu::Add => a.wrapping_add(with),
        Alu::Sub => a.wrapping_sub(with),
        Alu::Mul => a.wrapping_mul(with),
        Alu::Div => a.checked_div(with)?,
        Alu::Mod => a.checked_rem(with)?,
        Alu::Or => a | with,
        Alu::And => a & with,
        Alu::Xor => a ^ with,
        Alu::Lsh => a.checked_shl(with).unwrap_or(0),
        Alu::Rsh => a.checked_shr(with).unwrap_or(0),
    })
}

/// A frame in two pieces.
struct Octets<'a> {
    head: &'a [u8],
    rest: &'a [u8],
}

impl Octets<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.head.len() + self.rest.len()).unwrap_or(u32::MAX)
    }

    fn octet(&self, at: usize) -> Option<u32> {
        let octet = match at.checked_sub(self.head.len()) {
            None => self.head.get(at),
            Some(behind) => self.rest.get(behind),
        };
        octet.map(|octet| u32::from(*octet))
    }

    fn load(&self, size: Size, at: u32) -> Option<u32> {
        let at = usize::try_from(at).ok()?;
        let count = match size {
            Size::Word => 4,
            Size::Half => 2,
            Size::Byte => 1,
        };
        (0..count).try_fold(0, |value, i| Some(value << 8 | self.octet(at.checked_add(i)?)?))
    }
}

fn word(k: u32) -> Result<usize, &'static str> {
    usize::try_from(k).ok().filter(|word| *word < WORDS).ok_or("there is no such word of memory")
}

/// The codes are those of `net/bpf.h`.
fn decode(insn: &Insn) -> Result<Op, &'static str> {
    let Insn { code, jt, jf, k } = *insn;
    let source = if code & 0x08 == 0 { Source::K(k) } else { Source::X };
    let size = |op: fn(Size, u32) -> Op| match code & 0x18 {
        0x00 => Ok(op(Size::Word, k)),
        0x08 => Ok(op(Size::Half, k)),
        0x10 => Ok(op(Size::Byte, k)),
        _ => Err("it is not known"),
    };
    Ok(match code & 0x07 {
        // BPF_LD: BPF_ABS, BPF_IND, BPF_LEN, BPF_IMM, BPF_MEM
        0x00 => match code & 0xe0 {
            0x20 => return size(Op::LoadAt),
            0x40 => return size(Op::LoadIndexed),
            0x80 if code == 0x80 => Op::LoadLength,
            0x00 if code == 0x00 => Op::LoadConstant(k),
            0x60 if code == 0x60 => Op::LoadWord(word(k)?),
            _ => return Err("it is not known"),
        },
        0x01 => match code {
            0x01 => Op::IndexConstant(k),
            0x61 => Op::IndexWord(word(k)?),
            0x81 => Op::IndexLength,
            0xb1 => Op::IndexHeader(k),
            _ => return Err("it is not known"),
        },
        0x02 if code == 0x02 => Op::Store(word(k)?),
        0x03 if code == 0x03 => Op::StoreIndex(word(k)?),
        0x04 => {
            let alu = match code & 0xf0 {
                0x00 => Alu::Add,
                0x10 => Alu::Sub,
                0x20 => Alu::Mul,
                0x30 => Alu::Div,
                0x40 => Alu::Or,
                0x50 => Alu::And,
                0x60 => Alu::Lsh,
                0x70 => Alu::Rsh,
                0x80 if code == 0x84 => return Ok(Op::Negate),
                0x90 => Alu::Mod,
                0xa0 => Alu::Xor,
                _ => return Err("it is not known"),
            };
            match (alu, source) {
                (Alu::Div | Alu::Mod, Source::K(0)) => return Err("it divides by zero"),
                _ if code & 0xff00 != 0 => return Err("it is not known"),
                _ => Op::Alu(alu, source),
            }
        }
        0x05 => {
            let (yes, no) = (usize::from(jt), usize::from(jf));
            match code & 0xfff0 {
                0x00 if code == 0x05 => Op::Jump(usize::try_from(k).map_err(|_| "it jumps behind the end")?),
                0x10 => Op::Branch(Test::Eq, source, yes, no),
                0x20 => Op::Branch(Test::Gt, source, yes, no),
                0x30 => Op::Branch(Test::Ge, source, yes, no),
                0x40 => Op::Branch(Test::Set, source, yes, no),
                _ => return Err("it is not known"),
            }
        }
        0x06 => match code {
            0x06 => Op::Return(k),
            0x16 => Op::ReturnA,
            _ => return Err("it is not known"),
        },
        0x07 => match code {
            0x07 => Op::ToIndex,
            0x87 => Op::FromIndex,
            _ => return Err("it is not known"),
        },
        _ => return Err("it is not known"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn insn((code, jt, jf, k): (u16, u8, u8, u32)) -> Insn {
        Insn { code, jt, jf, k }
    }

    /// `tcpdump -d ip`
    fn ip() -> Vec<Insn> {
        [(0x28, 0, 0, 12), (0x15, 0, 1, 0x800), (0x06, 0, 0, 262_144), (0x06, 0, 0, 0)].map(insn).to_vec()
    }

    #[test]
    fn a_filter_matches_over_both_pieces() {
        let program = Program::new(&ip()).unwrap();
        let mut frame = [0u8; 20];
        frame[12] = 8;
        for cut in 0..20 {
            let (head, rest) = frame.split_at(cut);
            assert!(program.matches(head, rest));
        }
        frame[13] = 6;
        assert!(!program.matches(&[], &frame));
        assert!(!program.matches(&[], &frame[..13]), "what is not there does not match");
    }

    #[test]
    fn what_might_not_end_or_leave_its_bounds_is_refused() {
        let bad = |insns: &[(u16, u8, u8, u32)]| {
            Program::new(&insns.iter().copied().map(insn).collect::<Vec<_>>()).unwrap_err()
        };
        assert_eq!(bad(&[]), Error::Length(0));
        assert_eq!(bad(&vec![(0x06, 0, 0, 0); INSNS_MAX + 1]), Error::Length(INSNS_MAX + 1));
        assert_eq!(bad(&[(0x28, 0, 0, 12)]), Error::Instruction(0, "the last one must return"));
        for jump in [(0x05, 0, 0, 1), (0x05, 0, 0, u32::MAX), (0x15, 1, 0, 0), (0x15, 0, 255, 0)] {
            assert_eq!(bad(&[jump, (0x06, 0, 0, 0)]), Error::Instruction(0, "it jumps behind the end"));
        }
        for what in
            [(0x02, 0, 0, 16), (0x60, 0, 0, 99), (0x34, 0, 0, 0), (0x94, 0, 0, 0), (0xff, 0, 0, 0), (0x38, 0, 0, 0)]
        {
            assert!(matches!(bad(&[what, (0x06, 0, 0, 0)]), Error::Instruction(0, _)), "{what:?}");
        }
    }

    proptest! {
        /// Whatever passes the check ends, and panics on no frame.
        #[test]
        fn every_program_that_passes_ends(
            insns in proptest::collection::vec((0..0x100u16, 0..4u8, 0..4u8, prop_oneof![0..40u32, any::<u32>()]), 1..24),
            frame in proptest::collection::vec(any::<u8>(), 0..80),
            cut in 0..80usize,
        ) {
            let mut insns: Vec<Insn> = insns.into_iter().map(insn).collect();
            insns.push(insn((0x16, 0, 0, 0)));
            if let Ok(program) = Program::new(&insns) {
                let (head, rest) = frame.split_at(cut.min(frame.len()));
                prop_assert_eq!(program.matches(head, rest), program.matches(&[], &frame));
            }
        }
    }
}
