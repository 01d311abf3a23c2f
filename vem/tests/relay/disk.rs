//! A disk that is full, and one that is read-only. Needs the right to mount.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::place::Place;

/// A file system in memory of a mebibyte.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "small"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Small(at.to_owned())),
            other => {
                println!("skipped: nothing can be mounted here: {other:?}");
                None
            }
        }
    }

    fn remount(&self, option: &str) -> bool {
        let option = format!("remount,{option}");
        Command::new("mount").args(["-o", &option]).arg(&self.0).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_drops_the_oldest_counts_it_and_says_so() {
    let place = Place::new();
    let Some(small) = Small::mount(&place.path("spool")) else { return };
    let key = place.shared("shared.key");
    place.write(place.receiver, "memory_mib = 1\nretry = \"exact\"", [&key, &key]);
    let sender = place.sender();
    place.export(1..=5000);
    let status = place.status(false);
    assert!(status["disk_errors"].as_u64().unwrap() > 0, "{status:#}");
    let lost = status["lost"]["spool_full"].as_u64().unwrap() + status["lost"]["memory_full"].as_u64().unwrap();
    assert!((1000..4500).contains(&lost), "{status:#}");
    let receiver = place.receiver();
    let got = place.collected((5000 - lost) as usize);
    assert_eq!(got.len() as u64 + lost, 5000, "what is not delivered is counted");
    assert!(got.is_sorted_by(|a, b| a < b) && got.last() == Some(&5000));
    let told = &place.status(true)["streams"][0];
    assert_eq!(told["lost"], lost, "and announced: {told:#}");
    assert!(place.logged("receive.log").contains("because the spool was full"));
    assert!(place.logged("send.log").contains("the spool can't be written"));
    // There is room again.
    place.export(5001..=5100);
    assert_eq!(place.collected(100), (5001..=5100).collect::<Vec<_>>());
    place.until("the disk", || place.status(false)["disk_error"].is_null());
    drop((sender, receiver, small));
}

#[test]
fn a_disk_that_is_read_only_stops_nothing() {
    let place = Place::new();
    let Some(small) = Small::mount(&place.path("spool")) else { return };
    let key = place.shared("shared.key");
    place.write(place.receiver, "", [&key, &key]);
    let ends = (place.sender(), place.receiver());
    // Before anything is written there: a file that is open for writing would forbid it.
    place.until("a status", || place.status(false)["next"] == 1);
    if !small.remount("ro") {
        println!("skipped: can't make it read-only");
        return;
    }
    place.export(1..=200);
    assert_eq!(place.collected(200), (1..=200).collect::<Vec<_>>());
    let status = place.status(false);
    assert!(status["disk_error"].as_str().unwrap().contains("Read-only"), "{status:#}");
    assert!(small.remount("rw"));
    place.export(201..=210);
    place.until("acknowledged", || {
        place.status(false)["disk_error"].is_null() || place.status(false)["acknowledged"] == 210
    });
    assert_eq!(place.collected(10), (201..=210).collect::<Vec<_>>());
    drop((ends, small));
}
