//! Tables of SNMP, and the search in them.
//!
//! A table is a prefix, columns, and rows by index; every column has every row. A group of scalars is a table of one row
//! with the index 0. Cells are made when they are asked for, so a tree costs what its rows cost.

use super::oid::{Oid, Value};
use super::pdu::Range;

/// Makes the cell of a column and of the row at a place.
pub type Cell = Box<dyn Fn(u32, usize) -> Value + Send + Sync>;

/// A table.
pub struct Table {
    prefix: Oid,
    columns: &'static [u32],
    indexes: Vec<Vec<u32>>,
    cell: Cell,
}

impl Table {
    /// A table; rows must be in the order of their indexes, columns rising.
    pub fn new(prefix: Oid, columns: &'static [u32], indexes: Vec<Vec<u32>>, cell: Cell) -> Self {
        Table { prefix, columns, indexes, cell }
    }

    fn get(&self, oid: &Oid) -> Option<Value> {
        let (column, index) = oid.behind(&self.prefix)?.split_first()?;
        self.columns.contains(column).then(|| {
            let place = self.indexes.binary_search_by(|at| at.as_slice().cmp(index));
            place.map_or(Value::NoSuchInstance, |place| (self.cell)(*column, place))
        })
    }

    /// The first cell behind `oid`, or at it.
    fn next(&self, oid: &Oid, include: bool) -> Option<(Oid, Value)> {
        let mut at = 0;
        let mut place = 0;
        match oid.behind(&self.prefix) {
            None if *oid > self.prefix => return None,
            None | Some([]) => {}
            Some([column, index @ ..]) => {
                at = self.columns.partition_point(|known| known < column);
                if self.columns.get(at) == Some(column) {
                    let is_before = |known: &Vec<u32>| match include {
                        true => known.as_slice() < index,
                        false => known.as_slice() <= index,
                    };
                    place = self.indexes.partition_point(is_before);
                    if place == self.indexes.len() {
                        (at, place) = (at + 1, 0);
                    }
                }
            }
        }
        let (column, index) = (self.columns.get(at)?, self.indexes.get(place)?);
        Some((self.prefix.with(&[*column]).with(index), (self.cell)(*column, place)))
    }
}

/// All tables.
#[derive(Default)]
pub struct Tree(Vec<Table>);

impl Tree {
    /// A tree of these tables; no prefix may be part of another one's tables.
    pub fn new(mut tables: Vec<Table>) -> Self {
        tables.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        Tree(tables)
    }

    /// The value of a variable.
    pub fn get(&self, oid: &Oid) -> Value {
        self.0.iter().find_map(|table| table.get(oid)).unwrap_or(Value::NoSuchObject)
    }

    /// The first variable of a range.
    pub fn next(&self, range: &Range) -> (Oid, Value) {
        let found = self.0.iter().find_map(|table| table.next(&range.start, range.include));
        let is_inside = |oid: &Oid| range.end.0.is_empty() || *oid < range.end;
        found.filter(|(oid, _)| is_inside(oid)).unwrap_or_else(|| (range.start.clone(), Value::EndOfMibView))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ten times the column and the place.
    fn tree() -> Tree {
        let cell = || -> Cell { Box::new(|column, place| Value::Integer((column * 10) as i32 + place as i32)) };
        let table = Table::new([1, 2, 2, 1].into(), &[1, 3], vec![vec![5], vec![5, 0], vec![7]], cell());
        let scalars = Table::new([1, 2, 1].into(), &[1], vec![vec![0]], cell());
        let empty = Table::new([1, 2, 3].into(), &[1, 2], Vec::new(), cell());
        Tree::new(vec![empty, table, scalars])
    }

    fn walk(tree: &Tree) -> Vec<(Oid, Value)> {
        let mut found = Vec::new();
        let mut at = Range { start: [1].into(), include: false, end: Oid::default() };
        loop {
            let (oid, value) = tree.next(&at);
            if value == Value::EndOfMibView {
                return found;
            }
            assert!(oid > at.start, "{oid} behind {}", at.start);
            found.push((oid.clone(), value));
            at.start = oid;
        }
    }

    #[test]
    fn a_walk_is_in_order_ends_and_gets_what_get_gets() {
        let tree = tree();
        let all = walk(&tree);
        let names: Vec<String> = all.iter().map(|(oid, _)| oid.to_string()).collect();
        let want =
            ["1.2.1.1.0", "1.2.2.1.1.5", "1.2.2.1.1.5.0", "1.2.2.1.1.7", "1.2.2.1.3.5", "1.2.2.1.3.5.0", "1.2.2.1.3.7"];
        assert_eq!(names, want);
        for (oid, value) in all {
            assert_eq!(tree.get(&oid), value);
        }
        assert_eq!(tree.get(&[1, 2, 2, 1, 1, 6].into()), Value::NoSuchInstance);
        assert_eq!(tree.get(&[1, 2, 2, 1, 2, 5].into()), Value::NoSuchObject);
    }

    #[test]
    fn a_range_may_include_its_beginning_and_never_its_end() {
        let tree = tree();
        let next = |start: &[u32], include, end: &[u32]| {
            tree.next(&Range { start: Oid(start.to_vec()), include, end: Oid(end.to_vec()) })
        };
        assert_eq!(next(&[1, 2, 2, 1, 1, 7], true, &[]).0, [1, 2, 2, 1, 1, 7].into());
        assert_eq!(next(&[1, 2, 2, 1, 1, 7], false, &[]).0, [1, 2, 2, 1, 3, 5].into());
        let end = next(&[1, 2, 2, 1, 1, 7], false, &[1, 2, 2, 1, 3, 5]);
        assert_eq!(end, ([1, 2, 2, 1, 1, 7].into(), Value::EndOfMibView));
        assert_eq!(next(&[1, 2, 3], false, &[]).1, Value::EndOfMibView);
    }

    proptest! {
        #[test]
        fn next_is_the_first_of_the_walk_that_is_behind(start in proptest::collection::vec(0u32..8, 0..7), include in any::<bool>()) {
            let tree = tree();
            let start = Oid(start);
            let want = walk(&tree).into_iter().find(|(oid, _)| *oid > start || (include && *oid == start));
            let (oid, value) = tree.next(&Range { start: start.clone(), include, end: Oid::default() });
            prop_assert_eq!((oid, value), want.unwrap_or((start, Value::EndOfMibView)));
        }
    }
}
