//! A file that others delete or rename while it is used.

use super::*;

#[test]
fn what_waits_in_a_file_that_is_deleted_or_renamed_moves_to_another_one() {
    let rename = |file: &Path| std::fs::rename(file, file.with_extension("away")).unwrap();
    let delete_all = |file: &Path| {
        std::fs::remove_file(file).unwrap();
        std::fs::remove_file(file.with_file_name("test.db-wal")).unwrap();
    };
    let delete_directory = |file: &Path| std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    let ways: [&dyn Fn(&Path); 4] =
        [&|file| std::fs::remove_file(file).unwrap(), &rename, &delete_all, &delete_directory];
    for (number, go) in ways.iter().enumerate() {
        let fixture = Fixture::new();
        let mut spool = fixture.spool();
        spool.push((1..=20).map(|number| entry(Last, number)).collect());
        let old = ids(&mut spool);
        spool.done(&old[..1]);
        go(&fixture.file());
        spool.push(vec![entry(Intermediate, 100)]);
        let expected: Vec<_> = (2..=20).map(|n| (Last, n)).chain([(Intermediate, 100)]).collect();
        assert_eq!(waiting(&mut spool), expected, "way {number}");
        // An id of the old file names nothing in the new one.
        spool.done(&old[1..2]);
        assert_eq!((waiting(&mut spool), spool.take_losses()), (expected.clone(), vec![]), "way {number}");
        // It survives, and so does what comes after it.
        let image = fixture.stop_at("", 0);
        drop(spool);
        let promoted: Vec<_> = (2..=20).chain([100]).map(|n| (Last, n)).collect();
        assert_eq!(waiting(&mut fixture.open_image(image)), promoted, "way {number}");
        assert_eq!(waiting(&mut fixture.spool()), promoted, "way {number}");
    }
}
