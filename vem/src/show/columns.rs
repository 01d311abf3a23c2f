//! Columns that are as wide as what stands in them.

/// A table under construction: the first row is its head.
pub struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// A table with this head.
    pub fn new(head: &[&str]) -> Columns {
        Columns { rows: vec![head.iter().map(|word| (*word).to_owned()).collect()] }
    }

    /// A row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines; of no rows at all, `none`.
    pub fn text(&self, none: &str) -> String {
        if self.rows.len() < 2 {
            return format!("{none}\n");
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |at: usize| self.rows.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|at| widest(at).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let mut table = Columns::new(&["Port", "VLAN"]);
        assert_eq!(table.text("no ports"), "no ports\n");
        table.row(["Vethernet12".to_owned(), String::new()]);
        table.row(["-".to_owned(), "10".to_owned()]);
        assert_eq!(table.text("no ports"), "Port         VLAN\nVethernet12\n-            10\n");
    }
}
