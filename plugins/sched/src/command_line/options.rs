//! Secrets in options: in the next argument of one whose name says so (`--token X`), and in short ones, which
//! mean a password to some programs and something else to others (`mysql -pX`, `mkdir -p X`).

use super::names::is_secret;

/// What of an option's value is secret.
#[derive(Clone, Copy, Debug)]
enum Part {
    Whole,
    /// What follows this character, if it is there: `user:password`.
    After(char),
}
use Part::{After, Whole};

/// Programs, and their options with secrets. A short option's value may be attached.
struct Program {
    names: &'static [&'static str],
    /// A word that has to come before, as in `docker login`; empty: none.
    command: &'static str,
    options: &'static [(&'static str, Part)],
}

const fn program(names: &'static [&'static str], options: &'static [(&'static str, Part)]) -> Program {
    Program { names, command: "", options }
}

const CONTAINERS: &[&str] =
    &["docker", "podman", "nerdctl", "buildah", "skopeo", "helm", "oras", "crane", "docker-compose"];

/// Each with its manual, where it is not named after the first program.
const PROGRAMS: &[Program] = &[
    program(
        &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mysqlcheck",
            "mysqlshow",
            "mysqlslap",
            "mysqlbinlog",
            "mysqlpump",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
            "mariadb-check",
            "mariadb-import",
            "mariadb-show",
            "mariadb-backup",
            "xtrabackup",
            "mycli",
        ],
        &[("-p", Whole)],
    ),
    program(
        &[
            "mongo",
            "mongosh",
            "mongodump",
            "mongorestore",
            "mongoexport",
            "mongoimport",
            "mongostat",
            "mongotop",
        ],
        &[("-p", Whole)],
    ),
    program(&["redis-cli", "valkey-cli", "keydb-cli", "redis-benchmark"], &[("-a", Whole)]),
    program(
        &["curl"],
        &[
            ("-u", After(':')),
            ("--user", After(':')),
            ("-U", After(':')),
            ("--proxy-user", After(':')),
            ("-b", After('=')),
            ("-E", After(':')),
            ("--cert", After(':')),
            ("--proxy-cert", After(':')),
            ("--oauth2-bearer", Whole),
        ],
    ),
    program(&["http", "https", "xh", "xhs"], &[("-a", After(':')), ("--auth", After(':'))]),
    program(&["sshpass"], &[("-p", Whole)]),
    program(&["plink", "pscp", "psftp", "putty"], &[("-pw", Whole)]),
    program(
        &["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "ldapmodrdn", "ldapcompare"],
        &[("-w", Whole)],
    ),
    program(&["ldappasswd"], &[("-w", Whole), ("-a", Whole), ("-s", Whole)]),
    program(
        &["smbclient", "rpcclient", "smbget", "smbcacls", "smbtree", "net", "winexe", "wmic"],
        &[("-U", After('%')), ("--user", After('%'))],
    ),
    program(&["ipmitool"], &[("-P", Whole), ("-K", Whole), ("-k", Whole), ("-y", Whole)]),
    program(
        &["ipmipower", "ipmi-sensors", "ipmi-sel", "ipmi-dcmi", "ipmi-chassis", "ipmiconsole", "bmc-info"],
        &[("-p", Whole), ("-k", Whole)],
    ),
    // snmpcmd(1).
    program(
        &[
            "snmpget",
            "snmpgetnext",
            "snmpwalk",
            "snmpbulkwalk",
            "snmpbulkget",
            "snmpset",
            "snmptable",
            "snmptrap",
        ],
        &[("-A", Whole), ("-X", Whole), ("-c", Whole)],
    ),
    program(&["sqlcmd", "bcp", "isql", "tsql", "fisql"], &[("-P", Whole)]),
    program(
        &["cqlsh", "beeline", "couchbase-cli", "cbq", "rabbitmqadmin", "ncftp", "rdesktop"],
        &[("-p", Whole)],
    ),
    program(&["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"], &[("-P", Whole)]),
    program(&["lftp"], &[("-u", After(',')), ("--user", After(','))]),
    program(&["xfreerdp", "wlfreerdp", "sdl-freerdp"], &[("/p:", Whole)]),
    program(&["zip", "unzip", "zipcloak"], &[("-P", Whole)]),
    program(&["7z", "7za", "7zr", "7zz"], &[("-p", Whole)]),
    program(&["rar", "unrar"], &[("-p", Whole), ("-hp", Whole)]),
    // openssl-passphrase-options(1).
    program(
        &["openssl"],
        &[
            ("-pass", After(':')),
            ("-passin", After(':')),
            ("-passout", After(':')),
            ("-k", Whole),
            ("-K", Whole),
        ],
    ),
    program(&["useradd", "usermod", "groupadd", "groupmod"], &[("-p", Whole)]),
    Program { names: CONTAINERS, command: "login", options: &[("-p", Whole)] },
    // `-p` is a port, a path, a process, a package, a profile, a project, or means that parents are made.
    program(
        &[
            "mkdir",
            "ssh",
            "scp",
            "sftp",
            "cp",
            "install",
            "rsync",
            "tar",
            "cpio",
            "ps",
            "pgrep",
            "pkill",
            "strace",
            "ltrace",
            "gdb",
            "perf",
            "taskset",
            "chrt",
            "ionice",
            "renice",
            "prlimit",
            "lsof",
            "top",
            "htop",
            "cargo",
            "make",
            "ninja",
            "git",
            "nc",
            "ncat",
            "nmap",
            "psql",
            "pg_dump",
            "pg_ctl",
            "createdb",
            "iptables",
            "lscpu",
            "lsblk",
            "patch",
            "python",
            "python3",
            "perl",
            "ruby",
            "node",
            "npm",
            "go",
            "java",
            "mvn",
            "gradle",
            "grep",
            "find",
            "sed",
            "awk",
            "tcpdump",
            "iperf3",
            "mount",
            "umount",
            "sudo",
            "tmux",
            "test",
            "declare",
            "read",
            "command",
            "time",
            "which",
            "kubectl",
            "terraform",
            "aws",
            "gcloud",
        ],
        &[],
    ),
];

/// What the next argument is, if it is no option.
#[derive(Clone, Debug)]
enum Value {
    /// Of the option of that name.
    Of(String),
    Secret(Part),
    /// Of `-p` of an unknown program.
    Doubtful,
}

/// Follows the words of one command.
#[derive(Default)]
pub(super) struct Options {
    program: Option<&'static Program>,
    has_command: bool,
    next: Option<Value>,
}

impl Options {
    /// The start in `word`, the next one, of a secret that an option makes one.
    pub(super) fn secret_in(&mut self, word: &str) -> Option<usize> {
        let next = self.next.take();
        if !word.starts_with('-')
            && let Some(value) = next
        {
            return value.secret_in(word);
        }
        let name = word.rsplit('/').next().unwrap_or_default();
        if let Some(found) = PROGRAMS.iter().find(|program| program.names.contains(&name)) {
            (self.program, self.has_command) = (Some(found), found.command.is_empty());
            return None;
        }
        if let Some(program) = self.program {
            self.has_command |= program.command == word;
            if self.has_command
                && let Some(secret) = self.option_of(program, word)
            {
                return secret;
            }
        }
        if word.starts_with('-') && !word.contains(|c: char| c == '=' || c.is_whitespace()) {
            let is_doubtful = word == "-p" && self.program.is_none();
            self.next = Some(if is_doubtful { Value::Doubtful } else { Value::Of(word.to_owned()) });
        }
        None
    }

    /// What `word` is as an option of `program`: `None` if it is none with a secret.
    fn option_of(&mut self, program: &Program, word: &str) -> Option<Option<usize>> {
        for &(option, part) in program.options {
            if word == option {
                self.next = Some(Value::Secret(part));
                return Some(None);
            }
            let Some(value) = word.strip_prefix(option) else { continue };
            let is_short = option.len() == 2 || !option.starts_with("--") && option.len() == 3;
            let start = match (is_short, value.starts_with('=')) {
                (false, false) => continue,
                (false, true) => option.len() + 1,
                (true, _) => option.len(),
            };
            return Some(part.start(&word[start..]).map(|at| start + at));
        }
        // Short options may be joined, the last one with a value: `curl -sSu me:password`.
        let joined = word.strip_prefix('-').filter(|rest| rest.bytes().all(|b| b.is_ascii_alphabetic()))?;
        let last = program.options.iter().find(|(option, _)| {
            option.len() == 2 && matches!(option.as_bytes()[1], b'u' | b'U') && joined.ends_with(&option[1..])
        });
        self.next = Some(Value::Secret(last?.1));
        Some(None)
    }
}

impl Value {
    fn secret_in(&self, word: &str) -> Option<usize> {
        match self {
            Value::Of(name) => is_secret(name, word).then_some(0),
            Value::Secret(part) => part.start(word),
            Value::Doubtful => is_like_password(word).then_some(0),
        }
    }
}

impl Part {
    fn start(self, value: &str) -> Option<usize> {
        match self {
            Whole => (!value.is_empty()).then_some(0),
            After(sign) => value.find(sign).map(|at| at + sign.len_utf8()),
        }
    }
}

/// Whether `word` looks like a password rather than like a port, a path or a name.
fn is_like_password(word: &str) -> bool {
    const LEAST: usize = 6;
    let has = |kind: fn(u8) -> bool| word.bytes().any(kind);
    let is_mixed = has(|b| b.is_ascii_alphabetic()) && has(|b| b.is_ascii_digit());
    word.len() >= LEAST
        && !word.contains('/')
        && (is_mixed || word.contains(['!', '#', '$', '%', '^', '&', '*']))
}

/// The start in `argument`, if it is a shell script, of a secret that an option makes one.
pub(super) fn secret_in_script(argument: &str) -> Option<usize> {
    if !argument.contains(char::is_whitespace) {
        return None;
    }
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '(' | ')' | ';' | '|' | '&');
    let (mut options, mut at) = (Options::default(), 0);
    for part in argument.split_inclusive(is_end) {
        let word = part.trim_end_matches(is_end);
        if !word.is_empty()
            && let Some(secret) = options.secret_in(word)
        {
            return Some(at + secret);
        }
        at += part.len();
        // Another command begins.
        if part.ends_with([';', '|', '&', '(', '`']) {
            options = Options::default();
        }
    }
    None
}
