//! The demo's table.

/// One line: what was tried, what must come of it, what came.
pub(crate) struct Row {
    pub(crate) tried: &'static str,
    pub(crate) expected: String,
    pub(crate) got: String,
    pub(crate) detail: Vec<String>,
}

impl Row {
    fn good(&self) -> bool {
        self.expected == self.got
    }
}

/// Prints the rows; whether all are as they must be.
pub(crate) fn print(rows: &[Row]) -> bool {
    let width = rows.iter().map(|row| row.tried.len()).max().unwrap_or(0);
    for row in rows {
        let mark = if row.good() { "ok  " } else { "FAIL" };
        println!("{mark}  {:width$}  {}", row.tried, row.got);
        if !row.good() {
            println!("        MUST BE: {}", row.expected);
        }
        for line in &row.detail {
            println!("        {line}");
        }
    }
    let good = rows.iter().filter(|row| row.good()).count();
    println!("\n{good} of {} as they must be.", rows.len());
    good == rows.len()
}
