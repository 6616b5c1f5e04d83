//! PostgreSQL's password file (`~/.pgpass`): lines of `HOST:PORT:DATABASE:USER:PASSWORD`, in which `*` stands
//! for anything, and a backslash keeps a colon from being a separator.

/// The password of the first line that fits.
pub(crate) fn password(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = fields(line);
        let password = (fields.len() == 5).then(|| fields.pop()).flatten()?;
        let fits = fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        fits.then_some(password)
    })
}

fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut rest) = (vec![String::new()], line.chars());
    while let Some(c) = rest.next() {
        let c = match c {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => rest.next().unwrap_or('\\'),
            c => c,
        };
        if let Some(last) = fields.last_mut() {
            last.push(c);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let text =
            "# h:1:d:me:no\nh:2:d:me:no\nshort:line\nh:*:d:m\\:e:colon\n*:*:*:me:a\\:b:c\nh:1:d:me:no\n";
        assert_eq!(password(text, ["h", "1", "d", "me"]).as_deref(), Some("a:b:c"));
        assert_eq!(password(text, ["h", "9", "d", "m:e"]).as_deref(), Some("colon"));
        assert_eq!(password(text, ["h", "1", "d", "you"]), None);
    }
}
