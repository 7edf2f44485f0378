//! The routes and their OpenAPI document, made from the same list.

use crate::service::problem::{Kind, Problem};
use crate::service::{
    Service, alarms, assignments, certificates, challenges, connectors, contacts, denials, groups,
    health, link, objects, revocations_api, upkeep,
};
use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) const BASE: &str = "/api/v1";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "scep-issuer",
        description = "Tenants, profiles, users, devices, gateways and challenges of a Sceptic issuer."
    ),
    components(schemas(Problem))
)]
struct Document;

fn routes() -> OpenApiRouter<Service> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(objects::list_tenants))
        .routes(routes!(objects::read_tenant))
        .routes(routes!(objects::list_profiles, objects::create_profile))
        .routes(routes!(objects::read_profile, objects::replace_profile, objects::delete_profile))
        .routes(routes!(objects::list_users, objects::create_user))
        .routes(routes!(objects::read_user, objects::replace_user, objects::delete_user))
        .routes(routes!(objects::list_devices, objects::create_device))
        .routes(routes!(objects::read_device, objects::replace_device, objects::delete_device))
        .routes(routes!(objects::re_enrol_device))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::read, groups::replace, groups::delete))
        .routes(routes!(groups::release_ledger))
        .routes(routes!(connectors::list_tokens, connectors::create_token))
        .routes(routes!(connectors::read_token, connectors::withdraw_token))
        .routes(routes!(connectors::list))
        .routes(routes!(connectors::read, connectors::remove))
        .routes(routes!(connectors::confirm))
        .routes(routes!(connectors::resolve_clone))
        .routes(routes!(assignments::list, assignments::create))
        .routes(routes!(assignments::read, assignments::delete))
        .routes(routes!(challenges::list, challenges::create))
        .routes(routes!(challenges::read))
        .routes(routes!(certificates::list))
        .routes(routes!(certificates::read))
        .routes(routes!(certificates::list_events))
        .routes(routes!(certificates::list_ledgers))
        .routes(routes!(certificates::read_ledger))
        .routes(routes!(certificates::accept_gap))
        .routes(routes!(revocations_api::list, revocations_api::create))
        .routes(routes!(revocations_api::confirm_all))
        .routes(routes!(revocations_api::decline_all))
        .routes(routes!(revocations_api::read))
        .routes(routes!(revocations_api::confirm))
        .routes(routes!(revocations_api::decline))
        .routes(routes!(alarms::list))
        .routes(routes!(alarms::read))
        .routes(routes!(alarms::acknowledge))
        .routes(routes!(upkeep::read))
        .routes(routes!(denials::list, denials::create))
        .routes(routes!(denials::delete))
        .routes(routes!(contacts::read))
        .routes(routes!(contacts::set_log_level))
        .routes(routes!(contacts::list_renewals, contacts::order_renewal))
}

/// The API as a service.
pub(crate) fn router(service: Service) -> Router {
    let document = axum::routing::get(|| async {
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text())
    });
    let (router, _) = routes().split_for_parts();
    router
        .merge(link::router())
        .route(&format!("{BASE}/openapi.json"), document)
        .route("/healthz", axum::routing::get(health::health))
        .fallback(|| async { Problem::new(Kind::NotFound, "no such path") })
        .method_not_allowed_fallback(|| async { Problem::new(Kind::MethodNotAllowed, "") })
        .layer(axum::middleware::from_fn(log))
        .with_state(service)
}

/// One line for each request: what was asked and how it ended. Neither bodies nor headers, where the secrets are.
async fn log(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await.into_response();
    let (status, route) = (response.status().as_u16(), route.as_deref().unwrap_or("none"));
    tracing::info!(%method, route, status, "request");
    response
}

/// The document, completed with what holds for every route and would only be repeated beside each.
pub(crate) fn text() -> String {
    let document = routes().into_openapi();
    let mut document = serde_json::to_value(document).unwrap_or_default();
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, item) in paths {
            let Some(item) = item.as_object_mut() else { continue };
            for (method, operation) in item {
                if let Some(operation) = operation.as_object_mut() {
                    complete(path, method, operation);
                }
            }
        }
    }
    if let Some(document) = document.as_object_mut() {
        document.insert("security".into(), json!([{ "token": [] }]));
        if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
            let token = json!({ "token": { "type": "http", "scheme": "bearer" } });
            components.insert("securitySchemes".into(), token);
        }
    }
    document.to_string()
}

fn complete(path: &str, method: &str, operation: &mut serde_json::Map<String, Value>) {
    let problem = json!({
        "description": "What went wrong",
        "content": {
            "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } }
        }
    });
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    if let Some(responses) = responses.as_object_mut() {
        responses.insert("default".into(), problem);
    }
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    let Some(parameters) = parameters.as_array_mut() else { return };
    for name in ["tenant", "id"] {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(json!({
                "name": name, "in": "path", "required": true,
                "schema": { "type": "string", "pattern": "^[A-Za-z0-9._:@-]+$", "maxLength": 128 }
            }));
        }
    }
    if path.contains("{kind}") {
        parameters.push(json!({
            "name": "kind", "in": "path", "required": true,
            "schema": { "type": "string", "enum": ["device", "user", "profile"] }
        }));
    }
    if method == "post" {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A repetition within 24 hours with the same key has one effect and the same answer.",
            "schema": { "type": "string", "pattern": "^[!-~]{1,128}$" }
        }));
    }
}
