use std::fmt;

/// A Markdown table with aligned columns, readable as plain text.
#[derive(Debug)]
pub struct Table {
    text_columns: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table. The first `text_columns` columns hold text, and the others hold numbers.
    #[must_use]
    pub fn new(text_columns: usize, heads: &[&str]) -> Self {
        Self { text_columns, rows: vec![heads.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row, with a dash for each missing value.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Option<String>>) {
        let dash = || "–".to_owned();
        let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(dash));
        self.rows.push(cells.collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(3)
            })
            .collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                // Names to the left, numbers to the right.
                if column < self.text_columns {
                    write!(f, "| {cell:<width$} ")?;
                } else {
                    write!(f, "| {cell:>width$} ")?;
                }
            }
            writeln!(f, "|")?;
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let line = "-".repeat(*width);
                    let right = if column < self.text_columns { ' ' } else { ':' };
                    write!(f, "| {line}{right}")?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(2, &["server", "route", "requests/s"]);
        table.row([Some("a".to_owned()), Some("read".to_owned()), None]);
        assert_eq!(
            table.to_string(),
            "| server | route | requests/s |\n\
             | ------ | ----- | ----------:|\n\
             | a      | read  |          – |\n"
        );
    }
}
