//! The fuzz targets' bodies with pseudo-random input, and with every input that once failed, in `fuzz/kept/<target>`.

mod body;
#[path = "../oracle/draw.rs"]
mod draw;

struct Random(u64);

impl Random {
    fn octets(&mut self, most: usize) -> Vec<u8> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize
        };
        let length = next() % most;
        (0..length).map(|_| next() as u8).collect()
    }
}

fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/kept").join(target);
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|file| std::fs::read(file.path()).unwrap()).collect()
}

#[test]
fn road() {
    let mut random = Random(1);
    for _ in 0..300 {
        body::road(&random.octets(6_000));
    }
    kept("road").iter().for_each(|octets| body::road(octets));
}

#[test]
fn parse() {
    let mut random = Random(2);
    let mut drawn = 0;
    for _ in 0..20_000 {
        body::parse(&random.octets(200));
        let octets = random.octets(200);
        let (frame, vnet) = draw::Draw::new(&octets).frame();
        body::parse(&[&vnet.write(), &frame[..]].concat());
        drawn += usize::from(vnet.is_gso());
    }
    assert!(drawn > 1_000, "the drawn frames hold super-frames");
    kept("parse").iter().for_each(|octets| body::parse(octets));
}

#[test]
fn erspan() {
    let mut random = Random(3);
    for at in 0..20_000 {
        let mut octets = random.octets(120);
        // Most begin as one of the three types does, or nothing would come past the first octets.
        let starts: [&[u8]; 4] = [&[0, 0, 0x88, 0xbe], &[0x10, 0, 0x88, 0xbe], &[0x10, 0, 0x22, 0xeb], &[]];
        let start = starts[at % 4];
        if let Some(place) = octets.get_mut(..start.len()) {
            place.copy_from_slice(start);
        }
        if let Some(version) = octets.get_mut(8) {
            *version = *version & 15 | (at as u8 % 4) << 4;
        }
        body::erspan(&octets);
    }
    kept("erspan").iter().for_each(|octets| body::erspan(octets));
}
