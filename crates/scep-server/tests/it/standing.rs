//! Whether the gateway may issue, and what it shows of itself.

use crate::support::{Running, device_key};
use core::time::Duration;
use scep_ca::CaHealth;
use scep_message::FailInfo;
use scep_message::client::Reply;
use scep_policy::Denials;
use scep_server::{Availability, LinkStatus, Stage};
use scep_testkit::house::OPENS;
use scep_testkit::keys;
use scep_types::{DeviceId, Fault, ProfileId, Reason, TenantId};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const DAY: u64 = 86_400;

async fn health(running: &Running) -> (u16, Value) {
    let http = running.admin("/healthz").await;
    assert_eq!(http.header("content-type"), Some("application/json"));
    (http.status, serde_json::from_slice(&http.body).unwrap())
}

/// The value of a metric, with its labels as they are written.
async fn metric(running: &Running, name: &str) -> Option<i64> {
    let http = running.admin("/metrics").await;
    assert_eq!(http.status, 200);
    let text = http.text();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
    Some(line.rsplit(' ').next().unwrap().parse().unwrap())
}

async fn refuses_what_is_new(availability: Availability, reason: Reason, fault: Fault) {
    let running = Running::start().await;
    let before = running.house.enrolment(&device_key());
    let certificate = running.granted(&before).await;
    let after = running.house.enrolment(&keys::rsa2048(3));

    running.gateway.set_availability(availability);
    let reply = running.ask(&after).await;
    let Reply::Failure { fail_info, text: Some(text) } = reply else { panic!("{reply:?}") };
    assert_eq!(fail_info, FailInfo::BadRequest);
    assert!(text.starts_with("not now; try again later (ref "), "{text}");
    let trace = running.traces.last();
    assert_eq!((trace.reason, trace.reason.map(Reason::fault)), (Some(reason), Some(fault)));
    // Before the challenge was opened.
    assert_eq!(trace.stage, Stage::Proven);
    let counters = running.gateway.ledger().counters().await.unwrap();
    assert_eq!((counters.issued, counters.unsettled), (1, 0));
    assert_eq!(running.ca.calls().len(), 1);

    // An honest retry of what was issued before still gets its certificate.
    assert_eq!(running.granted(&before).await, certificate);
    // What says how to ask is served.
    assert_eq!(running.get("/scep?operation=GetCACert").await.status, 200);
    let (status, document) = health(&running).await;
    assert_eq!((status, &document["serving"]), (503, &json!(false)));
    assert_eq!(document["reason"], reason.code());
    let gauge = |reason: Reason| format!("scep_unavailable{{reason=\"{}\"}}", reason.code());
    for one in [Reason::IssuerOffline, Reason::LedgerNotBound] {
        assert_eq!(metric(&running, &gauge(one)).await, Some(i64::from(one == reason)));
    }

    // Nothing was spent.
    running.gateway.set_availability(Availability::Serving);
    running.granted(&after).await;
    let (status, document) = health(&running).await;
    assert_eq!(
        (status, &document["serving"], &document["reason"]),
        (200, &json!(true), &json!(null))
    );
    assert_eq!(metric(&running, &gauge(reason)).await, Some(0));
}

#[tokio::test]
async fn a_gateway_that_has_lost_its_issuer_issues_nothing_new() {
    let (reason, fault) = (Reason::IssuerOffline, Fault::OurDependency);
    refuses_what_is_new(Availability::Offline, reason, fault).await;
}

#[tokio::test]
async fn a_gateway_on_a_ledger_that_is_not_the_groups_issues_nothing_new() {
    let (reason, fault) = (Reason::LedgerNotBound, Fault::OurConfiguration);
    refuses_what_is_new(Availability::AnotherLedger, reason, fault).await;
}

#[tokio::test]
async fn the_silence_of_the_issuer_and_the_queue_are_shown() {
    let running = Running::start().await;
    assert_eq!(health(&running).await.1["link"], json!(null));
    assert_eq!(metric(&running, "scep_issuer_silent_seconds").await, Some(-1));

    let status = Arc::new(Mutex::new(LinkStatus::default()));
    let shown = Arc::clone(&status);
    running.gateway.set_link_status(move || shown.lock().unwrap().clone());
    running.house.clock.advance(Duration::from_secs(7));
    let never = json!({ "last_heard": null, "silent_seconds": 7, "trouble": null });
    assert_eq!(health(&running).await.1["link"], never);
    assert_eq!(metric(&running, "scep_issuer_silent_seconds").await, Some(7));

    let heard = OPENS.plus(Duration::from_secs(5));
    let trouble = Some("TokenNotAccepted: enrol again".to_owned());
    *status.lock().unwrap() = LinkStatus { last_heard: Some(heard), trouble };
    let (code, document) = health(&running).await;
    let seen = json!({
        "last_heard": heard.to_string(), "silent_seconds": 2, "trouble": "TokenNotAccepted: enrol again"
    });
    // Trouble alone takes no gateway out of service.
    assert_eq!((code, &document["link"]), (200, &seen));
    assert_eq!(metric(&running, "scep_issuer_silent_seconds").await, Some(2));

    assert_eq!(document["outbox"], 0);
    running.granted(&running.house.enrolment(&device_key())).await;
    // Issued, and after a while sent.
    assert!(health(&running).await.1["outbox"].as_u64().unwrap() >= 1);
    assert!(metric(&running, "scep_ledger_outbox").await.unwrap() >= 1);
}

#[tokio::test]
async fn trouble_with_a_ca_is_shown_and_takes_no_gateway_out_of_service() {
    let running = Running::start().await;
    let seconds = "scep_ca_trouble_seconds{ca=\"main\"}";
    let (status, document) = health(&running).await;
    let well = json!([{ "name": "main", "well": true, "trouble": null, "since": null }]);
    assert_eq!((status, &document["authorities"]), (200, &well));
    assert_eq!(metric(&running, seconds).await, Some(0));

    let since = Instant::now().checked_sub(Duration::from_secs(3)).unwrap();
    running.ca.set_health(CaHealth::Degraded { why: "server: sealed".into(), since });
    let (status, document) = health(&running).await;
    let one = &document["authorities"][0];
    assert_eq!(
        (status, &one["well"], &one["trouble"]),
        (200, &json!(false), &json!("server: sealed"))
    );
    // By the gateway's clock.
    let text = one["since"].as_str().unwrap();
    assert!(text < OPENS.to_string().as_str(), "{text}");
    assert!(metric(&running, seconds).await.unwrap() >= 3);
    running.ca.set_health(CaHealth::Ok);
    assert_eq!(health(&running).await.1["authorities"], well);
    assert_eq!(metric(&running, seconds).await, Some(0));
    assert_eq!(running.ca.calls().len(), 0, "no CA is asked for it");
}

#[tokio::test]
async fn the_ledger_and_what_is_disabled_are_shown() {
    let running = Running::start().await;
    let document = health(&running).await.1;
    assert_eq!(document["ledger"], running.gateway.ledger().id().to_string());
    assert_eq!(document["denials"], 0);
    let tenant = TenantId::new("contoso").unwrap();
    let device = |name: &str| (tenant.clone(), DeviceId::new(name).unwrap());
    let denials = Denials {
        devices: [device("a"), device("b")].into(),
        profiles: [(tenant.clone(), ProfileId::new("wifi").unwrap())].into(),
        ..Denials::default()
    };
    running.gateway.set_denials(denials);
    assert_eq!(health(&running).await.1["denials"], 3);
}

#[tokio::test]
async fn what_expires_is_shown_with_its_alarm() {
    let running = Running::start().await;
    assert_eq!(health(&running).await.1["certificates"], json!([]));
    let days = |days: u64| OPENS.plus(Duration::from_secs(days * DAY));
    running.gateway.set_expiries(vec![("ra-signing".into(), days(40)), ("ca".into(), days(400))]);
    let row = |name: &str, at: u64, left: i64, alarm: Value| json!({ "name": name, "not_after": days(at).to_string(), "days_left": left, "alarm_days": alarm });
    let expected =
        json!([row("ra-signing", 40, 40, Value::Null), row("ca", 400, 400, Value::Null)]);
    assert_eq!(health(&running).await.1["certificates"], expected);
    let left = "scep_certificate_days_left{certificate=\"ra-signing\"}";
    let alarm = "scep_certificate_alarm_days{certificate=\"ra-signing\"}";
    assert_eq!((metric(&running, left).await, metric(&running, alarm).await), (Some(40), None));

    for (day, threshold) in [(11, 30), (27, 14), (34, 7), (41, 0)] {
        running.house.clock.set(days(day));
        let (code, document) = health(&running).await;
        let expected = row("ra-signing", 40, 40 - i64::try_from(day).unwrap(), json!(threshold));
        assert_eq!((code, &document["certificates"][0]), (200, &expected));
        assert_eq!(metric(&running, alarm).await, Some(threshold));
    }
    assert_eq!(metric(&running, left).await, Some(-1));

    // Renewed, and one that is no longer listed.
    running.gateway.set_expiries(vec![("ra-signing".into(), days(400))]);
    let (_, document) = health(&running).await;
    assert_eq!(document["certificates"], json!([row("ra-signing", 400, 359, Value::Null)]));
    assert_eq!((metric(&running, left).await, metric(&running, alarm).await), (Some(359), None));
    assert_eq!(metric(&running, "scep_certificate_days_left{certificate=\"ca\"}").await, None);
    assert_eq!(running.gateway.expiries().len(), 1);
}
