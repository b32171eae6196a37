use super::*;

fn entry(id: &str) -> Entry {
    let topic = Topic::new("orders").expect("a topic");
    Entry::new("events", "users:alice", (&topic, id.to_owned()), &Refusal::invalid("data.a", "no"))
}

#[test]
fn what_was_refused_is_found_by_its_key_and_where_it_was_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let wanted = entry("0123456789ab.order-17");
    let written = [entry("0123456789ab.order-18"), wanted.clone(), entry("order-17-not")];
    let mut file = append(dir.path()).expect("a file");
    for entry in &written {
        writeln!(file, "{}", serde_json::to_string(entry).expect("JSON")).expect("written");
    }
    write!(file, "{{\"torn").expect("written");
    let other = Topic::new("other").expect("a topic");
    assert_eq!(find(dir.path(), "order-17", None).expect("readable"), std::slice::from_ref(&wanted));
    assert_eq!(find(dir.path(), &wanted.id, None).expect("readable"), [wanted]);
    assert_eq!(find(dir.path(), "order-17", Some(&other)).expect("readable"), []);
    assert_eq!(find(&dir.path().join("nowhere"), "order-17", None).expect("nothing is no fault"), []);
}

fn written(entry: &Entry) -> Vec<u8> {
    format!("{}\n", serde_json::to_string(entry).expect("JSON")).into_bytes()
}

#[test]
fn it_begins_anew_at_half_of_its_bytes_and_keeps_what_was_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut writer = Writer::new(dir.path(), 1_000).expect("a file");
    for number in 0..20 {
        writer.flush(&mut written(&entry(&format!("{number}"))));
    }
    let bytes: u64 = NAMES.iter().filter_map(|name| fs::metadata(dir.path().join(name)).ok()).map(|file| file.len()).sum();
    assert!(bytes < 2_500, "{bytes}");
    assert_eq!(find(dir.path(), "19", None).expect("readable").len(), 1);
    assert_eq!(find(dir.path(), "0", None).expect("readable").len(), 0, "the oldest are gone");
}

#[test]
fn it_goes_on_when_its_file_was_taken_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut writer = Writer::new(dir.path(), 1).expect("a file");
    writer.flush(&mut written(&entry("before")));
    fs::remove_file(dir.path().join(NAMES[1])).expect("it is there");
    writer.flush(&mut written(&entry("after")));
    assert_eq!(find(dir.path(), "after", None).expect("readable").len(), 1);
}

#[test]
fn it_does_not_grow_while_it_cannot_be_put_aside() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut writer = Writer::new(dir.path(), 1).expect("a file");
    // A folder that is not empty, where it would be put.
    fs::create_dir_all(dir.path().join(NAMES[0]).join("full")).expect("a folder");
    (0..5).for_each(|number| writer.flush(&mut written(&entry(&format!("{number}")))));
    let lines = || fs::read_to_string(dir.path().join(NAMES[1])).expect("a journal").lines().count();
    assert_eq!(lines(), 1);
    fs::remove_dir_all(dir.path().join(NAMES[0])).expect("our folder");
    writer.flush(&mut written(&entry("after")));
    assert_eq!((lines(), find(dir.path(), "after", None).expect("readable").len()), (1, 1));
}

#[test]
fn a_link_in_its_place_is_not_followed_and_nobody_else_may_write_beside_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "").expect("a file");
    std::os::unix::fs::symlink(&elsewhere, dir.path().join(NAMES[1])).expect("a link");
    assert!(append(dir.path()).is_err() && find(dir.path(), "a", None).is_err());
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("our folder");
    assert!(check(dir.path()).is_err());
}

#[test]
fn all_that_was_given_is_written_before_its_thread_ends_and_nobody_fills_it_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let (lines, taken) = sync_channel(WAITING);
    for number in 0..LINES.of_one + 5 {
        lines.send(entry(&format!("{number}"))).expect("room");
    }
    lines.send(Entry { principal: "users:bob".into(), ..entry("bob") }).expect("room");
    drop(lines);
    Writer::new(dir.path(), 1 << 20).expect("a file").run(&taken);
    let found = |id: &str| find(dir.path(), id, None).expect("readable").len();
    assert_eq!((found("0"), found(&format!("{}", LINES.of_one + 1)), found("bob")), (1, 0, 1));
}

#[test]
fn what_costs_nothing_to_cause_does_not_push_out_the_rest_however_many_cause_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut writer = Writer::new(dir.path(), 1 << 20).expect("a file");
    let of = |code: &str, principal: u32| Entry { code: code.into(), principal: format!("users:{principal}"), ..entry("1") };
    let denied = (0..LINES.all * 2).filter(|number| writer.has_room(&of(CHEAP[*number as usize % 2], number / 10))).count();
    assert_eq!(denied, CHEAP_LINES.all as usize);
    let invalid = (0..LINES.all * 2).filter(|number| writer.has_room(&of("invalid", number / 10))).count();
    assert_eq!(invalid, LINES.all as usize, "a share of its own is not taken from the others'");
    let mut writer = Writer::new(dir.path(), 1 << 20).expect("a file");
    let of_one = (0..LINES.all).filter(|_| writer.has_room(&of("throttled", 1))).count();
    assert_eq!(of_one, CHEAP_LINES.of_one as usize);
}

#[test]
fn the_senders_own_names_are_not_in_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let topic = Topic::new("orders").expect("a topic");
    for field in ["data.emails.bob@x.com", "data[3]", "data"] {
        let entry = Entry::new("events", "users:alice", (&topic, "a".into()), &Refusal::invalid(field, "no"));
        assert_eq!(entry.field.as_deref(), Some("data"));
    }
    assert!(check(dir.path()).is_ok());
}
