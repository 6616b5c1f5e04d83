//! The language of the tables of forms, and its matcher. A form is one folder or several that follow each
//! other, `docker/{id}`; `{…}` stands for text of that kind (`KINDS`), and `[.scope]` at the end for a suffix
//! that may be missing. `container.rs`, `job.rs` and `machine.rs` have the tables.

use std::borrow::Cow;

use super::text::{number, unescaped};

/// A kind of text in a form: its name, what it gives, and the text that it takes (`None`: it is of another
/// kind).
type Kind = (&'static str, Part, for<'a> fn(&'a str) -> Option<Cow<'a, str>>);

/// What a part of a path gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The id.
    Id,
    /// The part of a job.
    Step,
    /// The user's number, the user's name.
    Uid,
    Owner,
    /// Nothing.
    Other,
}

/// What a form found.
pub(super) type Found<'a> = Vec<(Part, Cow<'a, str>)>;

const KINDS: &[Kind] = &[
    // Ids of container engines: 64 hexadecimal digits; Docker's may be cut to 12.
    ("id", Part::Id, |text| (text.len() == 64).then_some(text).filter(|t| is_hex(t)).map(Into::into)),
    ("short-id", Part::Id, |text| (text.len() >= 12).then_some(text).filter(|t| is_hex(t)).map(Into::into)),
    ("hex", Part::Id, |text| is_hex(text).then(|| text.into())),
    // BuildKit: 25 digits of base 36.
    ("build-id", Part::Id, |text| {
        let is_digit = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
        (text.len() == 25 && text.bytes().all(is_digit)).then(|| text.into())
    }),
    // Fargate: the task and a number.
    ("fargate-id", Part::Id, |text| {
        let (task, n) = text.split_once('-')?;
        (task.len() == 32 && is_hex(task)).then_some(n).and_then(number::<u64>).map(|_| text.into())
    }),
    // Garden: four or five groups of hexadecimal digits.
    ("garden-id", Part::Id, |text| {
        let is_guid = text.len() >= 20 && text.contains('-') && text.split('-').all(is_hex);
        is_guid.then(|| text.into())
    }),
    ("uuid", Part::Id, |text| {
        let is_uuid = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(is_hex);
        is_uuid.then(|| text.into())
    }),
    ("name", Part::Id, name),
    // A name that systemd-machined's own prefix does not begin, nor that of a container's monitor.
    ("own-name", Part::Id, |text| {
        name(text).filter(|t| !t.starts_with("machine-") && !t.contains("conmon-"))
    }),
    // A name that libvirt did not register.
    ("machine-name", Part::Id, |text| {
        let is_libvirt = ["lxc-", "qemu-", "ch-"].iter().any(|driver| text.starts_with(driver));
        name(text).filter(|_| !is_libvirt)
    }),
    // Virtual machines of libvirt: `<driver>-<number of the running machine>-<name>`.
    ("libvirt-vm", Part::Id, |text| {
        let rest = ["qemu-", "ch-"].iter().find_map(|driver| text.strip_prefix(driver));
        rest.filter(|rest| !rest.is_empty()).map(|_| text.into())
    }),
    ("number", Part::Id, digits),
    // PBS and Torque: `<number>`, `<number>[<index>]`, either with `.<server>`.
    ("pbs-id", Part::Id, |text| array_job(text.split('.').next()?)),
    ("lsf-id", Part::Id, array_job),
    // Slurm's SLUID: `s` and 13 digits of base 32.
    ("sluid", Part::Id, |text| {
        let digits = text.strip_prefix('s').filter(|digits| digits.len() == 13)?;
        digits.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()).then(|| text.into())
    }),
    ("slot", Part::Id, slot),
    // Flux: `f` (or ƒ) and digits of base 58.
    ("flux-id", Part::Id, |text| {
        let digits = text.strip_prefix(['f', 'ƒ']).filter(|digits| !digits.is_empty())?;
        digits.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| text.into())
    }),
    ("yarn-id", Part::Id, yarn),
    ("step", Part::Step, name),
    ("flux-step", Part::Step, |text| {
        ["prolog", "epilog", "housekeeping"].contains(&text).then(|| text.into())
    }),
    ("uid", Part::Uid, |text| number::<u32>(text).map(|_| text.into())),
    ("owner", Part::Owner, name),
    ("any-number", Part::Other, digits),
    ("any", Part::Other, |text| Some(text.into())),
    // The name of a node before or after a folder's own, or none.
    ("node", Part::Other, |text| {
        (text.is_empty() || text.starts_with('_') || text.ends_with('_')).then(|| text.into())
    }),
    // What a container that systemd-machined has registered has below it: nspawn's folders, or those of a
    // systemd inside.
    ("inside", Part::Other, |text| {
        let known = ["payload", "supervisor", "init.scope", "system.slice", "user.slice"];
        known.contains(&text).then(|| text.into())
    }),
];

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn digits(text: &str) -> Option<Cow<'_, str>> {
    number::<u64>(text).map(|_| text.into())
}

fn name(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then(|| text.into())
}

/// `<number>` or `<number>[<index>]`.
fn array_job(text: &str) -> Option<Cow<'_, str>> {
    let (job, index) = match text.strip_suffix(']') {
        Some(array) => array.split_once('[').map(|(job, index)| (job, Some(index)))?,
        None => (text, None),
    };
    let is_job = number::<u64>(job).is_some() && index.is_none_or(|index| number::<u64>(index).is_some());
    is_job.then(|| text.into())
}

/// HTCondor: `<execute folder>_<slot>@<host>`, where the slot is `slot1` or, if it is dynamic, `slot1_23`.
/// The folder may have underscores and the host more at signs.
fn slot(text: &str) -> Option<Cow<'_, str>> {
    let (before, _host) = text.split_once('@')?;
    let last = before.rsplit('_').next().filter(|last| !last.is_empty())?;
    let is_dynamic = number::<u64>(last).is_some();
    let ends = before.rmatch_indices('_').map(|(at, _)| at + 1).chain([0]);
    let start = ends.into_iter().nth(usize::from(is_dynamic))?;
    before.get(start..).filter(|slot| slot.starts_with(|c: char| c.is_ascii_alphabetic())).map(Into::into)
}

/// YARN: `container[_e<epoch>]_<cluster>_<application>_<attempt>_<container>`. The job is the application.
fn yarn(text: &str) -> Option<Cow<'_, str>> {
    let mut parts = text.strip_prefix("container_")?.split('_').peekable();
    parts.next_if(|first| first.starts_with('e'));
    let (cluster, application) = (parts.next()?, parts.next()?);
    let are_numbers = number::<u64>(cluster).is_some() && number::<u64>(application).is_some();
    are_numbers.then(|| format!("application_{cluster}_{application}").into())
}

/// The folders of a path in plain text: systemd's escapes are undone. A runtime with the wrong cgroup driver
/// creates one folder `SLICE:docker:ID` instead of three.
pub(super) fn folders(path: &str) -> Vec<Cow<'_, str>> {
    let plain = |piece| if str::contains(piece, '\\') { unescaped(piece).into() } else { Cow::from(piece) };
    path.split(['/', ':']).filter(|piece| !matches!(*piece, "" | "..")).map(plain).collect()
}

/// What `form` finds in the last of `folders`; `None`: they are not of this form.
pub(super) fn match_last<'a>(form: &str, folders: &'a [Cow<'_, str>]) -> Option<Found<'a>> {
    let mut found = Found::new();
    let mut names = folders.iter().rev();
    // From the last one on: most forms fail there.
    for folder in form.rsplit('/') {
        let name = names.next()?;
        let (folder, name) = match folder.strip_suffix("[.scope]") {
            Some(stem) => (stem, name.strip_suffix(".scope").unwrap_or(name)),
            None => (folder, &**name),
        };
        if !match_folder(folder, name, &mut found) {
            return None;
        }
    }
    Some(found)
}

/// Matches one folder.
fn match_folder<'a>(form: &str, name: &'a str, found: &mut Found<'a>) -> bool {
    let Some((literal, rest)) = form.split_once('{') else { return form == name };
    let Some(name) = name.strip_prefix(literal) else { return false };
    let Some((kind, rest)) = rest.split_once('}') else { return false };
    let Some((_, part, read)) = KINDS.iter().find(|(known, ..)| *known == kind) else { return false };
    // The text goes on until what follows it in the form, of which there may be several.
    let until = rest.split('{').next().unwrap_or_default();
    let ends = name.match_indices(until).map(|(at, _)| at).filter(|_| !until.is_empty());
    for end in ends.chain(rest.is_empty().then_some(name.len())) {
        let Some(text) = read(&name[..end]) else { continue };
        if match_folder(rest, &name[end..], found) {
            found.push((*part, text));
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(form: &str, path: &str) -> Option<String> {
        let folders = folders(path);
        let found = match_last(form, &folders)?;
        Some(found.iter().map(|(part, text)| format!("{part:?}={text}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_last_folders_match_a_form_and_give_its_parts() {
        for (form, path, expected) in [
            ("oar/{owner}_{number}", "/oar/ann_lee_7", Some("Id=7 Owner=ann_lee")),
            ("oar/{owner}_{number}", "/oar/ann_lee_7/x", None),
            ("oar/{owner}_{number}", "/ann_lee_7", None),
            ("a-{hex}[.scope]", "/a-1f.scope", Some("Id=1f")),
            ("a-{hex}[.scope]", "/a-1f", Some("Id=1f")),
            ("a-{hex}.scope", "/a-1f", None),
            ("{node}x.scope", "/x.scope", Some("Other=")),
            ("{node}x.scope", "/n_x.scope", Some("Other=n_")),
            ("{node}x.scope", "/nx.scope", None),
            ("{no-such-kind}", "/x", None),
        ] {
            assert_eq!(matched(form, path).as_deref(), expected, "{form} {path}");
        }
    }

    #[test]
    fn a_slot_is_what_stands_before_the_host() {
        for (text, expected) in [
            ("var_lib_condor_execute_slot1_23@worker.example", Some("slot1_23")),
            ("var_lib_condor_execute_slot1@worker", Some("slot1")),
            ("scratch_1_slot2@h", Some("slot2")),
            ("x_gpu4_1@glidein_7@h", Some("gpu4_1")),
            ("slot1@h", Some("slot1")),
            ("x_slot1", None),
            ("@h", None),
            ("1_2@h", None),
        ] {
            assert_eq!(slot(text).as_deref(), expected, "{text}");
        }
    }
}
