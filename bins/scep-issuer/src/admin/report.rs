//! `report`: what does not fit together, or needs somebody's attention.

use crate::admin::client::Tenant;
use crate::admin::table::{self, Form};
use crate::error::IssuerError;
use serde_json::Value;

/// The lists, with a heading for people.
const LISTS: [(&str, &str); 4] = [
    ("device_gone", "live certificates whose device is gone, wiped or disabled"),
    ("renewal_overdue", "live certificates past their renewal, without a new request"),
    ("expiring", "live certificates that end within 30 days, without a newer one"),
    ("withheld", "certificates that the CA has made otherwise than approved, not revoked"),
];

/// The numbers.
const COUNTS: [(&str, &str); 4] = [
    ("possible_orphans", "certificates that may exist without a record"),
    ("unused_challenges", "challenges that expired without a certificate"),
    ("held_revocations", "revocations that wait for an operator"),
    ("open_revocations", "revocations that no CRL shows yet"),
];

pub(crate) async fn run(tenant: Tenant<'_>) -> Result<(), IssuerError> {
    let report = tenant.get("/reconciliation").await?;
    if tenant.form() == Form::Json {
        table::object(Form::Json, &report);
        return Ok(());
    }
    let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
    println!("as of {}", report.get("at").and_then(Value::as_str).unwrap_or("-"));
    for (name, heading) in LISTS {
        let list = report.get(name).unwrap_or(&Value::Null);
        let count = number(list.get("count").or_else(|| list.get("within_30_days")));
        println!("\n{count} {heading}");
        let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        if !items.is_empty() {
            let columns = ["thumbprint", "device", "profile", "not_after", "why"];
            table::list(Form::People, &items, &columns.map(|name| (name, name)));
        }
    }
    println!();
    for (name, heading) in COUNTS {
        println!("{} {heading}", number(report.get(name)));
    }
    Ok(())
}
