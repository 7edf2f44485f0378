//! The demo's table.

/// One line: what was tried, what must come of it, what came.
pub(crate) struct Row {
    pub(crate) tried: &'static str,
    pub(crate) expected: String,
    pub(crate) got: String,
    pub(crate) detail: String,
}

impl Row {
    fn good(&self) -> bool {
        self.expected == self.got
    }
}

/// Prints the rows; whether all are as they must be.
pub(crate) fn print(rows: &[Row]) -> bool {
    let width = |column: fn(&Row) -> &str| rows.iter().map(|r| column(r).len()).max().unwrap_or(0);
    let (tried, got) = (width(|r| r.tried), width(|r| &r.got));
    for row in rows {
        let mark = if row.good() { "ok  " } else { "FAIL" };
        println!("{mark}  {:tried$}  {:got$}  {}", row.tried, row.got, row.detail);
        if !row.good() {
            println!("      expected: {}", row.expected);
        }
    }
    let good = rows.iter().filter(|row| row.good()).count();
    println!("\n{good} of {} as they must be.", rows.len());
    good == rows.len()
}
