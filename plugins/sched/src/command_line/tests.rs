//! Command lines with secrets, none of which is shown, and without, all of which is shown.

use super::*;

#[test]
fn arguments_are_joined_as_one_would_type_them() {
    assert_eq!(readable(b"sh\0-c\0echo it's\0"), r"sh -c 'echo it'\''s'");
    assert_eq!(readable(b"printf\0\0%s\0"), "printf '' %s");
    assert_eq!(readable(b"cut-sho"), "cut-sho");
}

#[test]
fn the_command_is_the_first_argument() {
    assert_eq!(command(b"/bin/sh\0-c\0true\0"), "/bin/sh");
    assert_eq!(command(b"sshd: me@pts/0\0"), "'sshd: me@pts/0'");
    assert_eq!(command(b"https://me:hunter2@x/\0run\0"), "https://me:***@x/");
    assert_eq!(command(b"cut-sho"), "cut-sho");
}

#[test]
fn secrets_are_hidden() {
    for (arguments, shown) in [
        (&b"db\0--password=hunter2\0-v\0"[..], "db --password=*** -v"),
        (b"db\0--api-key\0hunter2\0go\0", "db --api-key *** go"),
        (b"env\0DB_PASSWORD=hunter2\0run\0", "env DB_PASSWORD=*** run"),
        (b"curl\0https://me:hunter2@example.org/x\0", "curl https://me:***@example.org/x"),
        (b"curl\0--url=https://me:hunter2@example.org\0", "curl --url=https://me:***@example.org"),
        (b"curl\0https://example.org/a:b@c\0", "curl https://example.org/a:b@c"),
        (b"tool\0--token\0--verbose\0", "tool --token --verbose"),
        (
            b"sh\0-c\0curl http://a/ && curl https://me:hunter2@b\0",
            "sh -c 'curl http://a/ && curl https://me:***@b'",
        ),
        (b"sh\0-c\0db --token hunter2\0-v\0", "sh -c 'db --token '*** -v"),
        (b"sh\0-c\0a=1 db --password=hunter2\0", "sh -c 'a=1 db --password='***"),
        (b"curl\0https://x/?a=1&token=hunter2\0", "curl 'https://x/?a=1&token='***"),
        (b"curl\0https://me:mytoken=hunter2@x/\0", "curl https://me:***@x/"),
        (b"curl\0-H\0Authorization: Bearer hunter2\0", "curl -H Authorization:***"),
        (
            b"post\0{\"user\": \"me\", \"password\": \"hunter2\"}\0",
            "post '{\"user\": \"me\", \"password\":'***",
        ),
        (b"curl\0https://me:hunt", "curl https://me:***"),
        (b"curl\0https://auth.example.org:443", "curl https://auth.example.org:443"),
        (b"curl\0https://me:hunter2", "curl https://me:***"),
    ] {
        assert_eq!(readable(arguments), shown);
    }
}

/// A command line, its words separated by blanks, as it is shown.
fn shown(words: &str) -> String {
    let mut arguments = words.replace(' ', "\0").into_bytes();
    arguments.push(0);
    readable(&arguments)
}

/// Every form with its secret, which is `hunter2…` where the form does not define it.
const SECRETS: [&str; 84] = [
    // Options of programs.
    "mysql -uroot -phunter2 shop",
    "mysql -u root -p hunter2",
    "/usr/bin/mysqldump -phunter2 --all-databases",
    "docker exec -it db mysql -uroot -phunter2",
    "sudo -u app mariadb -p hunter2",
    "mongosh -u me -p hunter2 shop",
    "db -p hunter2 run",
    "db -p Hunter!two",
    "sshpass -p hunter2 ssh host",
    "sshpass -phunter2 ssh host",
    "redis-cli -h cache -a hunter2 info",
    "curl -u me:hunter2 https://x/",
    "curl -ume:hunter2 https://x/",
    "curl -sSu me:hunter2 https://x/",
    "curl --user me:hunter2 https://x/",
    "curl --user=me:hunter2 https://x/",
    "curl --proxy-user me:hunter2 https://x/",
    "curl -b session=hunter2 https://x/",
    "curl --oauth2-bearer hunter2 https://x/",
    "http -a me:hunter2 x",
    "docker login -u me -p hunter2 registry",
    "skopeo copy --src-creds=me:hunter2 docker://a dir:b",
    "ldapsearch -x -D cn=me -w hunter2 uid=x",
    "smbclient //server/share -U me%hunter2",
    "ipmitool -I lanplus -U me -P hunter2 sensor",
    "ipmi-sensors -u me -p hunter2",
    "snmpwalk -v2c -c hunter2 host",
    "sqlcmd -S host -U sa -P hunter2",
    "zip -P hunter2 a.zip b",
    "7z a -phunter2 a.7z b",
    "openssl rsa -passin pass:hunter2 -in key.pem",
    "lftp -u me,hunter2 ftp.example.org",
    "xfreerdp /u:me /p:hunter2 /v:host",
    "plink -pw hunter2 host",
    "useradd -p hunter2 me",
    // Names.
    "db --pass=hunter2",
    "db --pass hunter2",
    "db --passwd=hunter2",
    "db --password hunter2",
    "db -password hunter2",
    "db --passphrase=hunter2",
    "db --dbPass=hunter2",
    "keytool -storepass hunter2 -list",
    "db --pwd=hunter2",
    "env MYSQL_PWD=hunter2 mysql",
    "env PGPASSWORD=hunter2 psql",
    "env SSHPASS=hunter2 sshpass -e ssh host",
    "env PWD=hunter2 db",
    "app Server=db;Database=shop;Uid=me;Pwd=hunter2;",
    "app DefaultEndpointsProtocol=https;AccountName=me;AccountKey=hunter2==",
    "app Endpoint=sb://x/;SharedAccessKeyName=me;SharedAccessKey=hunter2",
    "app --token hunter2",
    "app --token=hunter2",
    "app --access-token hunter2",
    "app --accessToken=hunter2",
    "app --api-key=hunter2",
    "app --apiKey hunter2",
    "env OPENAI_API_KEY=hunter2 app",
    "env AWS_SECRET_ACCESS_KEY=hunter2 app",
    "env AWS_SESSION_TOKEN=hunter2 app",
    "app --client-secret hunter2",
    "app --private-key=hunter2",
    "app --auth me:hunter2",
    "app https://x/?sv=1&sig=hunter2",
    "app https://x/?X-Amz-Credential=a&X-Amz-Signature=hunter2",
    "app https://x/?access_token=hunter2",
    "npm publish --otp hunter2",
    "npm set //registry/:_authToken=hunter2",
    "app --header=Cookie:session=hunter2 --cookie=hunter2",
    "app {\"password\":\"hunter2\"}",
    "app password:hunter2",
    // URLs.
    "git clone https://me:hunter2@host/x",
    "app redis://:hunter2@host:6379/0",
    "app postgresql://me:hunter2@a:5432,b:5432/db",
    "app amqp://me:p@hunter2@host/",
    "git clone https://hunter2hunter2hunter2@host/x",
    "app --proxy=me:hunter2@proxy:3128",
    // Values.
    "app ghp_hunter2hunter2hunter2hunter2hunter2xx",
    "app github_pat_hunter2hunter2hunter2",
    "app glpat-hunter2hunter2hunter2",
    "app xoxb-hunter2-hunter2",
    "app sk-proj-hunter2hunter2hunter2",
    "app https://hooks.slack.com/services/T0/B0/hunter2hunter2",
    "app eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2hunter2",
];

#[test]
fn no_form_of_a_secret_is_shown() {
    for words in SECRETS {
        let line = shown(words);
        assert!(!line.contains("unter") && line.contains(HIDDEN), "{words}: {line}");
        // In a script too.
        let script = readable(&[b"sh\0-c\0cd /tmp && ", words.as_bytes(), b"\0"].concat());
        assert!(!script.contains("unter") && script.contains(HIDDEN), "{words}: {script}");
    }
}

#[test]
fn what_stands_before_a_secret_is_shown() {
    for (words, expected) in [
        ("mysql -uroot -phunter2 shop", "mysql -uroot -p*** shop"),
        ("curl -u me:hunter2 https://x/", "curl -u me:*** https://x/"),
        ("curl --user=me:hunter2 https://x/", "curl --user=me:*** https://x/"),
        ("smbclient //a/b -U me%hunter2", "smbclient //a/b -U me%***"),
        ("openssl rsa -passin pass:hunter2 -in a", "openssl rsa -passin pass:*** -in a"),
        ("app AKIAIOSFODNN7EXAMPLE x", "app AKIA*** x"),
        ("app a=ghp_hunter2hunter2hunter2 x", "app a=ghp_*** x"),
        ("app --proxy=me:hunter2@proxy:3128 x", "app --proxy=me:***@proxy:3128 x"),
        ("app wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY x", "app *** x"),
        ("app AIzaSyA1234567890abcdefghijklmnopqrstuv", "app AIza***"),
    ] {
        assert_eq!(shown(words), expected);
    }
    let header = readable(b"curl\0-H\0X-Id: Bearer 0123456789abcdef\0https://x/\0");
    assert_eq!(header, "curl -H 'X-Id: Bearer ***' https://x/");
}

#[test]
fn private_keys_are_hidden_and_certificates_are_not() {
    for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"] {
        let argument =
            format!("app\0-----BEGIN {label}-----\nMIIEhunter2\nabc\n-----END {label}-----\n\0x\0");
        let line = readable(argument.as_bytes());
        assert!(!line.contains("MII") && !line.contains("abc") && line.ends_with(" x"), "{line}");
    }
    assert!(!readable(b"app\0-----BEGIN RSA PRIV").contains("MII"));
    let certificate = "app '-----BEGIN CERTIFICATE-----\nMIIE\n'";
    assert_eq!(readable(b"app\0-----BEGIN CERTIFICATE-----\nMIIE\n\0"), certificate);
    assert!(!shown("app LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t").contains("BQUk"));
}

#[test]
fn a_secret_that_is_cut_off_is_hidden_too() {
    for arguments in
        [&b"app\0ghp_hun"[..], b"app\0glpat-h", b"app\0AKIAI", b"app\0eyJhbGciOiJIUzI1NiJ9.eyJzd"]
    {
        let line = readable(arguments);
        assert!(line.ends_with(HIDDEN), "{line}");
    }
}

#[test]
fn harmless_arguments_are_shown_as_they_are() {
    for words in [
        "mkdir -p /srv/app1 build2024",
        "ssh -p 2222 me@host",
        "ssh -p2222 host1a",
        "scp -P 2222 a b",
        "docker run -p 8080:80 -p 127.0.0.1:443:443 nginx:1.27",
        "docker pull alpine:3@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "server -p 8080",
        "server -p 8080:80",
        "tool -p /var/run/x1.sock",
        "tool -p release",
        "cargo build -p wattrace-csv2",
        "python3 -u script.py",
        "curl -u me https://x/",
        "curl -o out.json https://x/a:b@c",
        "sort -u a.txt",
        "mysql -P 3306 -u root -h db",
        "env PWD=/home/me OLDPWD=/ HOME=/root sh",
        "git commit --author=Bob",
        "git clone git@github.com:me/repo.git",
        "git show 0123456789abcdef0123456789abcdef01234567",
        "rsync -a me@host:/srv/ b",
        "x264 --pass 1 --bypass=yes",
        "ffmpeg -i a.mkv -pass 2 b.mkv",
        "vllm serve --max-num-batched-tokens 8192 --tokenizer bert",
        "app --token-file /run/token --password-file=/run/password --token-type=jwt",
        "app --auth-mode none --authority=https://x:443/y",
        "app --key=/etc/ssl/private/key.pem --cert /etc/ssl/cert.pem",
        "app -e /Applications/Foo2/Contents/MacOS/Bar",
        "task-runner --disk-cache=risk-0123456789abcdefghij",
        "/usr/lib/jvm/java-21/bin/java -cp /a/B1.jar:/c/D2.jar com.example.Main",
        "node --max-old-space-size=4096 server.js",
        "ps -p 1234 -o pid",
        "useradd -m -s /bin/bash me",
        "7z x archive.7z",
    ] {
        assert_eq!(shown(words), words);
    }
    assert_eq!(
        readable(b"sh\0-c\0mkdir -p /a1 && ssh -p 22 host1\0"),
        "sh -c 'mkdir -p /a1 && ssh -p 22 host1'"
    );
}
