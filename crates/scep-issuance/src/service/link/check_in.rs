//! What a connector is told.

use crate::service::Service;
use crate::service::link::answer::Refusal;
use axum::extract::State;
use axum::response::Response;

pub(crate) async fn check_in(State(service): State<Service>) -> Result<Response, Refusal> {
    let _ = service;
    todo!()
}
