//! Which collection a topic's rows are kept in.

use crate::auth::grants::Grant;
use crate::event::Topic;

/// The collections that Sluicegate drains itself: one for all topics, those that routes name, and those of earlier settings.
#[derive(Debug, Clone, Default)]
pub struct Collections {
    routes: Vec<(Grant, Option<String>)>,
    otherwise: String,
    former: Vec<String>,
}

impl Collections {
    /// The routes in their order, each with the collection that it names for rows of the general shape.
    pub fn new(routes: Vec<(Grant, Option<String>)>, otherwise: String, former: Vec<String>) -> Self {
        Self { routes, otherwise, former }
    }

    /// Where a topic's rows are: what its route says, also when there is no such route any more.
    pub fn of(&self, topic: &Topic) -> &str {
        let named = self.routes.iter().find(|(grant, _)| grant.covers(topic)).and_then(|(_, collection)| collection.as_deref());
        named.unwrap_or(&self.otherwise)
    }

    /// All of them, each once.
    pub fn all(&self) -> Vec<&str> {
        let mut all = vec![self.otherwise.as_str()];
        let named = self.routes.iter().filter_map(|(_, collection)| collection.as_deref());
        for collection in named.chain(self.former.iter().map(String::as_str)) {
            if !all.contains(&collection) {
                all.push(collection);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_fits_says_where() {
        let grant = |text: &str| text.parse::<Grant>().expect("a grant");
        let routes = vec![
            (grant("a"), Some("own".to_owned())),
            (grant("a*"), None),
            (grant("*"), Some("rest".to_owned())),
            (grant("b"), Some("own".to_owned())),
        ];
        let collections = Collections::new(routes, "inbox".to_owned(), vec!["old".to_owned(), "own".to_owned()]);
        let of = |topic: &str| collections.of(&Topic::new(topic).expect("a topic")).to_owned();
        assert_eq!([of("a"), of("ab"), of("b")], ["own", "inbox", "rest"]);
        assert_eq!(collections.all(), ["inbox", "own", "rest", "old"]);
    }
}
