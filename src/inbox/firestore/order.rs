//! The one field that replay reads by: `<topic>/<partition>/<arrival>/<name>`.
//!
//! Firestore indexes each field by itself, so ranges of this string need no index of ours: a lane is one range, what is set
//! aside is another (no topic begins with `!`), and the lane behind a lane is found by one query. The numbers have a fixed
//! width, so that they sort as numbers; a lane's rows lie together, lanes apart from each other.

use crate::event::Topic;
use crate::gate::TopicPartition;
use crate::route::DocumentName;

/// Before the order of every row that waits: letters, digits, `.`, `_` and `-` begin a topic, and this is the least of them.
pub const FIRST: &str = "-";

/// Behind the order of every row that waits.
pub const LAST: &str = "~";

/// How many digits the numbers have.
const PARTITION: usize = 10;
const ARRIVAL: usize = 20;

/// From and to of what is set aside.
pub const ASIDE: (&str, &str) = ("!/", "!0");

/// Where a row stands.
pub fn order((topic, partition): &TopicPartition, arrival: u64, name: &DocumentName) -> String {
    let name = hex::encode(&name.0[..4]);
    format!("{topic}/{:0PARTITION$}/{arrival:0ARRIVAL$}/{name}", numbered(*partition))
}

/// Where it stands when it is set aside.
pub fn aside(order: &str) -> String {
    format!("{}{order}", ASIDE.0)
}

/// The lane and the arrival; none: this is not the order of a row that waits. Numbers of another width do not sort as ours do.
pub fn parse(order: &str) -> Option<(TopicPartition, u64)> {
    let mut parts = order.split('/');
    let topic = Topic::new(parts.next()?).ok()?;
    let mut number = |width| parts.next().filter(|part| part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit()));
    let partition = i32::try_from(i64::from(number(PARTITION)?.parse::<u32>().ok()?) - 1).ok()?;
    let arrival = number(ARRIVAL)?.parse().ok()?;
    Some(((topic, partition), arrival))
}

/// From (inclusive) and to (exclusive) of a lane.
pub fn range((topic, partition): &TopicPartition) -> (String, String) {
    let lane = format!("{topic}/{:0PARTITION$}", numbered(*partition));
    // `0` follows `/`.
    (format!("{lane}/"), format!("{lane}0"))
}

/// From and to of those rows of a lane that have arrived by then.
pub fn range_up_to(lane: &TopicPartition, arrival: u64) -> (String, String) {
    let from = range(lane).0;
    // `0` follows `/`.
    let to = format!("{from}{arrival:0ARRIVAL$}0");
    (from, to)
}

/// From and to of all lanes of a topic.
pub fn range_of_topic(topic: &Topic) -> (String, String) {
    (format!("{topic}/"), format!("{topic}0"))
}

/// From and to of the rows of a topic, or of all, that wait or are set aside.
pub fn reach(topic: Option<&Topic>, is_aside: bool) -> (String, String) {
    match (is_aside, topic) {
        (false, None) => (FIRST.to_owned(), LAST.to_owned()),
        (true, None) => (ASIDE.0.to_owned(), ASIDE.1.to_owned()),
        (false, Some(topic)) => range_of_topic(topic),
        (true, Some(topic)) => {
            let (from, to) = range_of_topic(topic);
            (aside(&from), aside(&to))
        }
    }
}

/// A partition that is not known yet is -1.
fn numbered(partition: i32) -> i64 {
    (i64::from(partition) + 1).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(topic: &str, partition: i32) -> TopicPartition {
        (Topic::new(topic).expect("a topic"), partition)
    }

    #[test]
    fn rows_sort_by_arrival_within_their_lane_and_lanes_do_not_mix() {
        let name = DocumentName([7; 20]);
        for other in [lane("t", 10), lane("t", -1), lane("t0", 1), lane("t.a", 1), lane("t-a", 1), lane("ta", 1)] {
            let (from, to) = range(&lane("t", 1));
            let stray = order(&other, 5, &name);
            assert!(stray < from || stray >= to, "{stray}");
        }
        let orders = [0, 9, 10, 1 << 40, u64::MAX].map(|arrival| order(&lane("t", 1), arrival, &name));
        assert!(orders.is_sorted());
        let (from, to) = range_up_to(&lane("t", 1), 10);
        assert_eq!(orders.iter().filter(|order| **order >= from && **order < to).count(), 3);
        let (from, to) = range(&lane("t", 1));
        assert!(orders.iter().all(|order| *order > from && *order < to && order.as_str() > FIRST && order.as_str() < LAST));
    }

    #[test]
    fn an_order_is_read_back_and_what_is_aside_is_not_one() {
        for partition in [-1, 0, 2_147_483_646] {
            let row = order(&lane("a.b_c-d", partition), 77, &DocumentName([1; 20]));
            assert_eq!(parse(&row), Some((lane("a.b_c-d", partition), 77)));
            let aside = aside(&row);
            assert!(parse(&aside).is_none() && aside.as_str() >= ASIDE.0 && aside.as_str() < ASIDE.1 && aside.as_str() < FIRST);
        }
        for not_ours in [
            "",
            "t",
            "t/",
            "t/1",
            "t/0000000000",
            "t/x/1/a",
            "__consumer_offsets/1/1/a",
            "t/-5/1/a",
            "t/1/5/x",
            "t/0000000001/5/x",
            "t/+000000001/00000000000000000005/x",
        ] {
            assert!(parse(not_ours).is_none(), "{not_ours}");
        }
    }
}
