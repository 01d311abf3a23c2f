//! Kernel and initial file system of a guest.
//!
//! Made once and kept below `target/guest`: the kernel package is downloaded with `apt-get download` and unpacked, never
//! installed. A program of ours is added for a run by appending a second archive, which the kernel unpacks over the
//! first.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Run;
use crate::error::{Error, Result, Tried};

/// Modules of the network card, in the order in which they can be loaded; what the kernel has built in is missing.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
];
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin
for module in $(cat /modules/order); do insmod /modules/$module.ko; done
ip link set lo up
stty -echo
echo =READY=
while read -r line; do eval "$line"; done
"#;
/// Kernel and initial file system of a guest.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
}

impl Image {
    /// The image kept in `folder`, which is made if need be.
    ///
    /// # Errors
    /// No package source, no network, or no busybox.
    pub fn ensure(folder: &Path) -> Result<Image> {
        fs::create_dir_all(folder).tried(format!("{}", folder.display()))?;
        let folder = folder.canonicalize().tried(format!("{}", folder.display()))?;
        let image = Image { kernel: folder.join("vmlinuz"), initrd: folder.join("initrd.gz") };
        if image.kernel.is_file() && image.initrd.is_file() {
            return Ok(image);
        }
        let work = folder.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).tried(format!("{}", work.display()))?;
        }
        fs::create_dir_all(&work).tried(format!("{}", work.display()))?;
        let tree = unpack_kernel(&work)?;
        let boot = find(&tree.join("boot"), |name| name.starts_with("vmlinuz-"))
            .ok_or_else(|| Error::State("the kernel package holds no kernel".to_owned()))?;
        pack_initrd(&work, &tree, &work.join("initrd.gz"))?;
        // The kernel last: it says that the image is whole.
        fs::rename(work.join("initrd.gz"), &image.initrd).tried("initrd")?;
        fs::rename(boot, &image.kernel).tried("kernel")?;
        fs::remove_dir_all(&work).tried(format!("{}", work.display()))?;
        Ok(image)
    }

    /// The same with a program in `/bin`, and the libraries that it needs where it looks for them.
    ///
    /// # Errors
    /// The program is not there, or `ldd` does not understand it.
    pub fn with_program(&self, program: &Path) -> Result<Image> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = self.initrd.parent().unwrap_or(Path::new("/"));
        let (root, added) = (folder.join(format!("with-{name}")), folder.join(format!("{name}.gz")));
        let initrd = folder.join(format!("initrd-{name}.gz"));
        let libraries = Run::new("ldd").arg(program.display().to_string()).text()?;
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
        let wanted =
            libraries.map(|path| (path.clone(), path)).chain([(program.to_owned(), Path::new("/bin").join(&name))]);
        for (from, to) in wanted {
            let to = root.join(to.strip_prefix("/").unwrap_or(&to));
            fs::create_dir_all(to.parent().unwrap_or(&root)).tried(format!("{}", to.display()))?;
            fs::copy(&from, &to).tried(format!("{}", from.display()))?;
        }
        pack(&root, &added)?;
        let both = [fs::read(&self.initrd).tried("initrd")?, fs::read(&added).tried(name)?].concat();
        fs::write(&initrd, both).tried(format!("{}", initrd.display()))?;
        fs::remove_dir_all(&root).tried(format!("{}", root.display()))?;
        fs::remove_file(&added).tried(format!("{}", added.display()))?;
        Ok(Image { kernel: self.kernel.clone(), initrd })
    }
}

/// Downloads and unpacks the kernel that the distribution means for virtual machines.
fn unpack_kernel(work: &Path) -> Result<PathBuf> {
    let package = match kernel_package()? {
        Some(package) => package,
        None => {
            Run::new("apt-get update").limit(Duration::from_secs(120)).text()?;
            kernel_package()?.ok_or_else(|| Error::State("apt knows no kernel for virtual machines".to_owned()))?
        }
    };
    // apt drops its rights to download and warns where that user may not write; it downloads all the same.
    let folder = work.display().to_string();
    let fetch = format!("cd '{folder}' && apt-get download {package}");
    Run::new("sh -c").arg(fetch).limit(Duration::from_secs(180)).text()?;
    let archive = find(work, |name| name.ends_with(".deb"))
        .ok_or_else(|| Error::State(format!("apt-get downloaded no file of {package}")))?;
    let tree = work.join("tree");
    Run::new("dpkg-deb -x").arg(archive.display().to_string()).arg(tree.display().to_string()).text()?;
    Ok(tree)
}

fn kernel_package() -> Result<Option<String>> {
    for meta in ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64"] {
        let listed = Run::new("apt-cache depends").arg(meta).output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let names = listed.lines().filter_map(|l| l.trim().strip_prefix("Depends: "));
        if let Some(name) = names.map(str::trim).find(|n| n.starts_with("linux-image-")) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// First file below `folder` whose name fits.
fn find(folder: &Path, fits: impl Fn(&str) -> bool + Copy) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
    entries.sort();
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let here = entries.iter().find(|p| !p.is_dir() && fits(&name(p))).cloned();
    here.or_else(|| entries.iter().filter(|p| p.is_dir() && !p.is_symlink()).find_map(|p| find(p, fits)))
}

fn pack_initrd(work: &Path, tree: &Path, initrd: &Path) -> Result<()> {
    let root = work.join("root");
    for folder in ["bin", "proc", "dev", "sys", "modules"] {
        fs::create_dir_all(root.join(folder)).tried(folder)?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).tried("busybox (package busybox-static)")?;
    let mut order = String::new();
    for module in MODULES {
        let stem = format!("{module}.ko");
        let Some(path) = find(tree, |name| name == stem || name == format!("{stem}.xz")) else { continue };
        let target = root.join("modules").join(&stem);
        if path.extension().is_some_and(|e| e == "xz") {
            Run::new("sh -c").arg(format!("xz -dc '{}' > '{}'", path.display(), target.display())).text()?;
        } else {
            fs::copy(&path, &target).tried(format!("{}", path.display()))?;
        }
        order.push_str(module);
        order.push('\n');
    }
    fs::write(root.join("modules/order"), order).tried("module list")?;
    fs::write(root.join("init"), INIT).tried("init")?;
    Run::new("chmod 755").arg(root.join("init").display().to_string()).text()?;
    pack(&root, initrd)
}

/// Packs a tree as the kernel unpacks it.
fn pack(root: &Path, initrd: &Path) -> Result<()> {
    let pack = "set -e; cd \"$0\"; find . | cpio --quiet -o -H newc | gzip -1 > \"$1\"";
    Run::new("sh -c").arg(pack).arg(root.display().to_string()).arg(initrd.display().to_string()).text().map(drop)
}
