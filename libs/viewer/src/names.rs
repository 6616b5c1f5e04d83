//! Names that people recognise: `python3 train.py` instead of `python3` five times, a container's name
//! instead of its id. What follows from the arguments is the script's name alone, since arguments can hold
//! secrets.

use std::collections::BTreeMap;

use wattrace_api::text::printable;

use crate::kind::Kind;

/// The longest name of a script or module, in characters.
const LONGEST: usize = 40;

/// How many characters of a container's id distinguish it in practice.
const SHORT_ID: usize = 12;

/// Programs whose first argument says more than their own name.
const INTERPRETERS: [&str; 19] = [
    "python", "pypy", "node", "nodejs", "deno", "bun", "ruby", "perl", "php", "lua", "java", "dotnet",
    "Rscript", "julia", "bash", "dash", "sh", "zsh", "fish",
];

/// Options that are followed by a value, which is not the script.
const WITH_VALUE: [&str; 12] = [
    "-W",
    "-X",
    "-r",
    "--require",
    "--import",
    "--loader",
    "-I",
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
];

/// Whether the arguments of a program say more than its own name.
pub fn is_interpreter(executable: &str) -> bool {
    let name = executable.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&name)
}

/// The name of a process that runs `executable` (without its directory) with these arguments, each ended by a
/// zero, as in `/proc/PID/cmdline`.
pub fn of_command(executable: &str, arguments: &[u8]) -> String {
    let script = if is_interpreter(executable) { script(arguments) } else { None };
    match script {
        Some(script) => printable(&format!("{executable} {script}")).into_owned(),
        None => printable(executable).into_owned(),
    }
}

/// What an interpreter runs.
fn script(arguments: &[u8]) -> Option<String> {
    let mut arguments = arguments.split(|&byte| byte == 0).skip(1).map(String::from_utf8_lossy);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "" => return None,
            // Code in an argument is no name.
            "-c" | "-e" | "--eval" => return Some(argument.into_owned()),
            "-m" => return Some(format!("-m {}", shortened(&arguments.next()?))),
            "-jar" => return arguments.next().map(|jar| base(&jar)),
            "--" => return arguments.next().map(|script| base(&script)),
            option if WITH_VALUE.contains(&option) => drop(arguments.next()),
            option if option.starts_with('-') || option.starts_with('+') => {}
            script => return Some(base(script)),
        }
    }
    None
}

fn base(path: &str) -> String {
    shortened(path.trim_end_matches('/').rsplit('/').next().unwrap_or(path))
}

fn shortened(name: &str) -> String {
    name.chars().take(LONGEST).collect()
}

/// The name of a consumer by its attributes.
pub fn of_consumer(kind: Kind, id: &str, attributes: &BTreeMap<String, String>) -> String {
    let attribute = |key: &str| attributes.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let name = match kind {
        Kind::Process => attribute("process.executable.name").or(attribute("wattrace.process.comm")),
        Kind::Container => attribute("container.name").or(attribute("k8s.container.name")),
        Kind::Pod => match (attribute("k8s.namespace.name"), attribute("k8s.pod.name")) {
            (Some(namespace), Some(pod)) => return printable(&format!("{namespace}/{pod}")).into_owned(),
            (_, pod) => pod,
        },
        Kind::User => attribute("process.real_user.name").or(attribute("process.owner")),
        Kind::Machine => attribute("wattrace.machine.name"),
        Kind::Unit => attribute("systemd.unit"),
        _ => None,
    };
    let name = match name {
        Some(name) => name,
        None if kind == Kind::Container => id.get(..SHORT_ID).unwrap_or(id),
        None if id.is_empty() => kind.as_str(),
        None => id,
    };
    printable(name).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_named_with_its_script_and_without_what_else_it_was_given() {
        for (executable, arguments, expected) in [
            ("python3.11", "python3\0-u\0/home/me/train.py\0--token=s3cret\0", "python3.11 train.py"),
            ("python3", "python3\0-W\0ignore\0-m\0http.server\08000\0", "python3 -m http.server"),
            ("python3", "python3\0-c\0print('s3cret')\0", "python3 -c"),
            ("node", "node\0--require\0./x.js\0server.js\0", "node server.js"),
            ("java", "java\0-Xmx1g\0-cp\0/a:/b\0org.example.Main\0", "java org.example.Main"),
            ("java", "java\0-jar\0/opt/app.jar\0--password\0s3cret\0", "java app.jar"),
            ("bash", "-bash\0", "bash"),
            ("bash", "bash\0./build.sh\0", "bash build.sh"),
            ("sh", "sh\0-c\0curl -u me:s3cret\0", "sh -c"),
            ("rustc", "rustc\0--crate-name\0x\0", "rustc"),
            ("python3", "", "python3"),
            ("a\u{1b}[2Jb", "", "a?[2Jb"),
        ] {
            assert_eq!(of_command(executable, arguments.as_bytes()), expected);
        }
        assert!(is_interpreter("python3.11") && is_interpreter("sh") && !is_interpreter("pythonic"));
    }

    #[test]
    fn groups_have_the_names_that_people_gave_them() {
        let of = |kind, id: &str, attributes: &[(&str, &str)]| {
            let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            of_consumer(kind, id, &attributes)
        };
        let id = "4f5c1d2e3a4b5c6d7e8f";
        assert_eq!(of(Kind::Container, id, &[("container.name", "web")]), "web");
        assert_eq!(of(Kind::Container, id, &[]), "4f5c1d2e3a4b");
        let pod = [("k8s.namespace.name", "shop"), ("k8s.pod.name", "cart-1")];
        assert_eq!(of(Kind::Pod, "uid", &pod), "shop/cart-1");
        assert_eq!(of(Kind::User, "1000", &[("process.real_user.name", "ada")]), "ada");
        assert_eq!(of(Kind::User, "1000", &[]), "1000");
        assert_eq!(of(Kind::Idle, "", &[]), "idle");
    }
}
