//! The application's images, made from Debian's packages: the programs, and exactly the libraries that they load.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use k8s::node::image::archive::{ImageBuilder, Layer};

/// The image of the Redis server.
pub const REDIS: &str = "shop.example.com/redis:7";
/// Loads every program's libraries.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const PYTHON: &str = "/usr/bin/python3.11";
const PYTHON_LIBRARY: &str = "/usr/lib/python3.11";

/// The name of the front end's image in a version.
pub fn web(version: &str) -> String {
    format!("shop.example.com/web:{version}")
}

/// Packages that `./test.sh setup` downloaded, unpacked.
pub struct Packages {
    root: PathBuf,
}

impl Packages {
    /// Unpacks them into `root`.
    pub fn unpack(root: &Path) -> Self {
        let parts = std::env::var("K8S_TEST_PARTS").unwrap_or_else(|_| "/var/cache/k8s-test-parts".into());
        let folder = Path::new(&parts).join("packages");
        let files = fs::read_dir(&folder).unwrap_or_else(|_| panic!("no {}: run `./test.sh setup`", folder.display()));
        for file in files {
            let status = Command::new("dpkg-deb").arg("-x").arg(file.unwrap().path()).arg(root).status().unwrap();
            assert!(status.success());
        }
        Self { root: root.into() }
    }

    /// A Redis server, its client, and a shell.
    pub fn redis(&self) -> ImageBuilder {
        let layer = self.programs(&["/usr/bin/redis-server", "/usr/bin/redis-cli"]).folder("/data", 0o755);
        shell(REDIS).layer(layer).entrypoint(["redis-server"]).cmd(Vec::<String>::new())
    }

    /// The front end in each of these versions.
    pub fn web(&self, versions: &[&str]) -> Vec<ImageBuilder> {
        let python = self.folder(self.programs(&[PYTHON]), PYTHON_LIBRARY);
        let shop = Layer::new().file("/shop.py", include_bytes!("shop.py"), 0o644);
        let image = |version: &&str| {
            let layers = shell(web(version)).layer(python.clone()).layer(shop.clone());
            layers.env("VERSION", version).cmd([PYTHON, "-BIS", "/shop.py"])
        };
        versions.iter().map(image).collect()
    }

    /// The programs with what they load.
    fn programs(&self, programs: &[&str]) -> Layer {
        let mut files: Vec<String> = programs.iter().map(|program| (*program).to_owned()).collect();
        for program in programs {
            // The loader itself says what a program needs, and where it finds it.
            let output = Command::new("chroot").arg(&self.root).args([LOADER, "--list", program]).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{program}: {said}{}", String::from_utf8_lossy(&output.stderr));
            let found = said.lines().filter_map(|line| line.split_once(" => ")?.1.split_whitespace().next());
            files.extend(found.map(str::to_owned));
        }
        files.sort();
        files.dedup();
        let loader = format!("/lib/x86_64-linux-gnu/{}", LOADER.rsplit('/').next().unwrap());
        let layer = Layer::new().file(LOADER, &self.read(&loader), 0o755);
        files.iter().fold(layer, |layer, file| layer.file(file, &self.read(file), 0o755))
    }

    /// Adds a folder with all that is in it.
    fn folder(&self, layer: Layer, path: &str) -> Layer {
        let mut entries: Vec<_> = fs::read_dir(self.within(path)).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        entries.iter().fold(layer.folder(path, 0o755), |layer, entry| {
            let path = format!("{path}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                self.folder(layer, &path)
            } else if entry.path().exists() {
                layer.file(&path, &self.read(&path), 0o644)
            } else {
                // A link to what another package would bring.
                layer
            }
        })
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.within(path)).unwrap_or_else(|why| panic!("{path} in the packages: {why}"))
    }

    fn within(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// An image with a shell and the usual small programs.
fn shell(name: impl Into<String>) -> ImageBuilder {
    ImageBuilder::busybox(name, &fs::read("/bin/busybox").expect("busybox-static is installed"))
}
