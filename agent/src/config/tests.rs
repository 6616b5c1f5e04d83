//! What a configuration may contain, what is refused, and which location the message names.

use std::io::Write as _;

use super::*;

fn standard() -> Vec<Registered> {
    crate::plugins::standard()
}

fn load(text: &str, set: &[&str]) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let name = file.path().display().to_string();
    let request = Request {
        file: Some(file.path().into()),
        set: set.iter().map(|s| s.to_string()).collect(),
        only: None,
    };
    Config::load(&request, &standard()).map_err(|e| e.to_string().replace(&name, "F"))
}

fn plugin<'a>(config: &'a Config, name: &str) -> &'a PluginConfig {
    config.plugins.iter().find(|p| p.name == name).unwrap()
}

#[test]
fn an_empty_configuration_has_all_defaults() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.agent, AgentConfig::default());
    for registered in standard() {
        let p = plugin(&config, registered.name);
        assert_eq!(p.enabled, (registered.on_by_default)(), "{}", p.name);
        assert_eq!(p.table, (registered.defaults)().unwrap(), "{}", p.name);
    }
    assert!(plugin(&config, "sched").enabled && !plugin(&config, "jsonl").enabled);
}

#[test]
fn a_partial_table_enables_its_plugin_and_keeps_the_other_defaults() {
    let config = load("[plugins.jsonl]\npath = '/tmp/x'\n[plugins.rapl]\nenabled = false\n", &[]).unwrap();
    let jsonl = plugin(&config, "jsonl");
    assert!(jsonl.enabled && !plugin(&config, "rapl").enabled);
    assert_eq!(jsonl.table["path"].as_str(), Some("/tmp/x"));
    assert!(jsonl.table.len() > 1);
    assert!(plugin(&load("[plugins.csv]", &[]).unwrap(), "csv").enabled);
}

#[test]
fn set_overrides_the_file_and_accepts_bare_words() {
    let set = ["plugins.rapl.interval=100ms", "plugins.csv.path=out.csv", "agent.queue=7"];
    let config = load("[plugins.rapl]\ninterval = '5s'\n", &set).unwrap();
    assert_eq!(plugin(&config, "rapl").table["interval"].as_str(), Some("100ms"));
    assert_eq!(plugin(&config, "csv").table["path"].as_str(), Some("out.csv"));
    assert!(plugin(&config, "csv").enabled);
    assert_eq!(config.agent.queue.get(), 7);
    let config = load("", &["plugins.attribution.idle_watts.package-0=12.5"]).unwrap();
    let watts = &plugin(&config, "attribution").table["idle_watts"];
    assert_eq!(watts.as_table().unwrap()["package-0"].as_float(), Some(12.5));
}

#[test]
fn each_mistake_is_reported_with_its_line_and_the_most_similar_key() {
    let text =
        "[agent]\n\n[plugins.rapl]\nintervall = '1s'\n[plugins.schad]\n[plugin]\n[plugins.csv]\npath = 3\n";
    let message = load(text, &["plugins.rapl.sysfsroot=/x", "rapl.interval=1s", "nonsense"]).unwrap_err();
    for expected in [
        "F:4: unknown key plugins.rapl.intervall; did you mean `interval`?",
        "F:5: unknown key plugins.schad; did you mean `sched`?",
        "F:6: unknown key plugin; did you mean `plugins`?",
        "F:8: plugins.csv.path = 3: invalid type: integer `3`, expected path string",
        "--set plugins.rapl.sysfsroot=/x: unknown key plugins.rapl.sysfsroot; did you mean `sysfs_root`?",
        "--set rapl.interval=1s: unknown key rapl.interval; did you mean `plugins.rapl.interval`?",
        "--set nonsense: must be KEY=VALUE",
    ] {
        assert!(message.contains(expected), "expected {expected}\nin\n{message}");
    }
}

#[test]
fn invalid_values_are_refused_with_their_line() {
    for bad in ["-1s", "5", "ten"] {
        let message = load(&format!("[plugins.sched]\ninterval = '{bad}'"), &[]).unwrap_err();
        assert!(message.starts_with("F:2: plugins.sched.interval"), "{message}");
    }
    let message = load("[agent]\nqueue = 0", &[]).unwrap_err();
    assert!(message.starts_with("F:2: agent.queue = 0"), "{message}");
    let message = load("[plugins.sched]\ninterval = 1", &[]).unwrap_err();
    assert!(message.contains("F:2") && message.contains("invalid type: integer"), "{message}");
    let message = load("[plugins.sched\n", &[]).unwrap_err();
    assert!(message.starts_with("F:1: "), "{message}");
}

#[test]
fn the_option_plugins_enables_exactly_the_named_ones() {
    let request = Request { only: Some(vec!["sched".into(), "csv".into()]), ..Request::default() };
    let config = Config::load(&request, &standard()).unwrap();
    let on: Vec<_> = config.plugins.iter().filter(|p| p.enabled).map(|p| p.name).collect();
    assert_eq!(on, ["sched", "csv"]);
    let request = Request { only: Some(vec!["shed".into()]), ..Request::default() };
    let message = Config::load(&request, &standard()).unwrap_err().to_string();
    assert!(message.contains("--plugins: unknown key shed; did you mean `sched`?"), "{message}");
}

#[test]
fn transforms_of_an_output_must_be_plugins() {
    let table = "[agent.outputs.'output/otlp/*']\ntransforms = ['top', 'filtr']";
    let message = load(table, &[]).unwrap_err();
    let expected =
        "F:1: agent.outputs.\"output/otlp/*\".transforms: no plugin `filtr`; did you mean `filter`?";
    assert_eq!(message, expected);
    let config = load(&table.replace("filtr", "filter"), &[]).unwrap();
    let transforms = config.agent.outputs.values().next().unwrap().transforms.as_ref().unwrap();
    assert_eq!(*transforms, ["top", "filter"]);
}

/// The template is documentation: it must have every key of every plugin with its default, and nothing else.
#[test]
fn the_template_holds_every_key_commented_out_with_its_default() {
    assert_eq!(load(TEMPLATE, &[]).unwrap(), load("", &[]).unwrap(), "all keys are commented out");
    let uncommented: String = TEMPLATE
        .lines()
        .map(|line| match line.strip_prefix("#") {
            Some(code) if !code.starts_with(' ') => format!("{code}\n"),
            _ => "\n".into(),
        })
        .collect();
    let written: Table = uncommented.parse().unwrap_or_else(|e| panic!("{e}\n{uncommented}"));
    let mut expected: Table = load("", &[]).unwrap().to_toml(&standard()).parse().unwrap();
    for (name, table) in expected["plugins"].as_table_mut().unwrap() {
        let on = standard().iter().find(|p| p.name == name).map(|p| (p.on_by_default)());
        assert_eq!(table["enabled"].as_bool(), on);
    }
    assert_eq!(written, expected);
}

#[test]
fn the_shown_configuration_reads_back_as_the_same() {
    let config = load("[plugins.sched]\ninterval = '250ms'", &["plugins.jsonl.path=-"]).unwrap();
    let mut read = load(&config.to_toml(&standard()), &[]).unwrap();
    // What is shown names every plugin.
    for (read, plugin) in read.plugins.iter_mut().zip(&config.plugins) {
        read.is_asked_for = plugin.is_asked_for;
    }
    assert_eq!(read, config);
}

#[test]
fn only_a_regular_file_is_read_and_nothing_waits_for_a_fifo() {
    let dir = tempfile::tempdir().unwrap();
    let load = |file: &std::path::Path| {
        let request = Request { file: Some(file.into()), ..Request::default() };
        Config::load(&request, &standard()).unwrap_err().to_string()
    };
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let message = load(&fifo);
    assert!(message.contains("a FIFO or pipe; a regular file is needed"), "{message}");
    assert!(message.contains("wattrace config init"), "{message}");
    assert!(load(std::path::Path::new("/dev/zero")).contains("a device; a regular file is needed"));
    assert!(load(dir.path()).contains("a directory; a regular file is needed"));
    let long = dir.path().join("long");
    std::fs::File::create(&long).unwrap().set_len(1 << 30).unwrap();
    assert!(load(&long).contains("it has more than 1048576 bytes"));
}

#[cfg(all(feature = "otlp", feature = "otlp-receiver", feature = "exec"))]
#[test]
fn secrets_are_shown_neither_in_a_configuration_nor_in_messages() {
    let text = "
        [plugins.otlp]
        endpoint = 'https://me:hush@collector:4317/'
        bearer_token = 'hush'
        headers = { x-key = 'hush' }
        [plugins.otlp-receiver]
        bearer_token = 'hush'
        [[plugins.exec.sources]]
        name = 'a'
        command = ['true']
        env = { PGPASSWORD = 'hush' }
    ";
    let config = load(text, &["plugins.otlp.headers.other=hush"]).unwrap();
    let shown = config.to_toml(&standard());
    assert!(!shown.contains("hush"), "{shown}");
    for expected in
        ["endpoint = \"https://…@collector:4317/\"", "bearer_token = \"…\"", "x-key = \"…\"", "other = \"…\""]
    {
        assert!(shown.contains(expected), "expected {expected}\nin\n{shown}");
    }
    assert!(load(&shown, &[]).unwrap_err().contains("put the secret here"));
    let message = load("[plugins.otlp]\nbearer_token = ['hush']", &["plugins.otlp.bearer_token=[\"hush\"]"]);
    assert!(
        message.as_ref().is_err_and(|m| m.contains("bearer_token") && !m.contains("hush")),
        "{message:?}"
    );
}
