//! The questions that lanes are read by: ranges of the one indexed field.

use super::super::{fs, order};

use fs::structured_query::composite_filter::Operator as Joined;
use fs::structured_query::field_filter::Operator;
use fs::structured_query::filter::FilterType;
use fs::structured_query::{CollectionSelector, CompositeFilter, Direction, FieldFilter, FieldReference, Filter, Order, Projection};

/// The field that rows are ordered by.
const ORDER: &str = "order";

/// Documents of a collection whose order is in a range.
#[derive(Debug, Clone)]
pub struct Range<'a> {
    /// The collection.
    pub collection: &'a str,
    /// From here on, inclusive.
    pub from: &'a str,
    /// Up to here, exclusive.
    pub to: &'a str,
}

impl Range<'_> {
    /// The first ones.
    pub fn first(&self, limit: usize) -> fs::StructuredQuery {
        self.query(Some(limit), Direction::Ascending)
    }

    /// The last one.
    pub fn last(&self) -> fs::StructuredQuery {
        self.query(Some(1), Direction::Descending)
    }

    /// All, to be counted.
    pub fn all(&self) -> fs::StructuredQuery {
        self.query(None, Direction::Ascending)
    }

    fn query(&self, limit: Option<usize>, direction: Direction) -> fs::StructuredQuery {
        let bounds = [(Operator::GreaterThanOrEqual, self.from), (Operator::LessThan, self.to)];
        let filters = bounds.map(|(operator, bound)| filter(operator, ORDER, bound)).into();
        let within = CompositeFilter { op: Joined::And as i32, filters };
        fs::StructuredQuery {
            from: vec![CollectionSelector { collection_id: self.collection.to_owned(), all_descendants: false }],
            r#where: Some(Filter { filter_type: Some(FilterType::CompositeFilter(within)) }),
            order_by: vec![Order { field: Some(field(ORDER)), direction: direction as i32 }],
            limit: limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)),
            ..Default::default()
        }
    }
}

/// Documents of a collection in which a field is this text.
pub fn equal(collection: &str, name: &str, text: &str, limit: i32) -> fs::StructuredQuery {
    fs::StructuredQuery {
        from: vec![CollectionSelector { collection_id: collection.to_owned(), all_descendants: false }],
        r#where: Some(filter(Operator::Equal, name, text)),
        limit: Some(limit),
        ..Default::default()
    }
}

/// The same, but these fields alone come back.
pub fn only(query: fs::StructuredQuery, fields: &[&str]) -> fs::StructuredQuery {
    let fields = fields.iter().map(|name| field(name)).collect();
    fs::StructuredQuery { select: Some(Projection { fields }), ..query }
}

/// Everything that waits in a collection.
pub fn waiting(collection: &str) -> Range<'_> {
    Range { collection, from: order::FIRST, to: order::LAST }
}

/// Everything that is set aside in a collection.
pub fn aside(collection: &str) -> Range<'_> {
    Range { collection, from: order::ASIDE.0, to: order::ASIDE.1 }
}

fn field(name: &str) -> FieldReference {
    FieldReference { field_path: name.to_owned() }
}

fn filter(operator: Operator, name: &str, text: &str) -> Filter {
    let value = super::super::proto::text(text);
    let filter = FieldFilter { field: Some(field(name)), op: operator as i32, value: Some(value) };
    Filter { filter_type: Some(FilterType::FieldFilter(filter)) }
}
