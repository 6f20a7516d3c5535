//! The OpenAPI document, made from the operations: what is served is what is described.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::http::StatusCode;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::access::{Access, Scope};
use super::operation::{Body, Gives, Operation};
use super::problem::ProblemBody;

const SESSION: &str = "session";
const SESSION_PLAIN: &str = "session_plain";
const CSRF: &str = "csrf";
const TOKEN: &str = "token";

/// Made once: the operations do not change while the program runs.
static DOCUMENT: LazyLock<Arc<Value>> = LazyLock::new(|| Arc::new(document(&super::operations())));

/// The route.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/openapi.json", Access::Public, "openapi", openapi)
            .about("This document.")
            .gives::<Map<String, Value>>(StatusCode::OK),
    ]
}

async fn openapi() -> Json<Arc<Value>> {
    Json(Arc::clone(&DOCUMENT))
}

/// The document of these operations.
pub(crate) fn document(operations: &[Operation]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<ProblemBody>().to_value();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let described = describe(operation, &mut generator);
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.as_str().to_lowercase()] = described;
    }
    // Every refusal has the one form.
    let refused: Map<String, Value> = operations
        .iter()
        .flat_map(refusals)
        .collect::<BTreeSet<u16>>()
        .into_iter()
        .map(|status| {
            let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            let content = json!({ "application/json": { "schema": problem } });
            (status.to_string(), json!({ "description": reason.unwrap_or("Refused"), "content": content }))
        })
        .collect();
    let header = |name: &str, about: &str| json!({ "type": "apiKey", "in": "header", "name": name, "description": about });
    let cookie = |name: &str, about: &str| json!({ "type": "apiKey", "in": "cookie", "name": name, "description": about });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "limen",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Local face recognition for a mounted door or kiosk camera. Times are milliseconds \
                since 1970 UTC; scores are comparison scores from -1 to 1. Lists continue behind `next`, which \
                goes into `after`. A page that asks by itself says so with the header `X-Limen-Background: 1`; \
                such a request does not count as a use of the session.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": refused,
            "securitySchemes": {
                SESSION: cookie("__Host-limen", "The session of a browser, over TLS."),
                SESSION_PLAIN: cookie("limen", "The session of a browser on the device itself, without TLS."),
                CSRF: header("X-CSRF-Token", "With every change in a session: `csrf` of GET /api/session."),
                TOKEN: { "type": "http", "scheme": "bearer", "description": "An API token of POST /api/tokens." },
            },
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut about = operation.about.to_owned();
    if let Access::Role(role) | Access::LocalOr(role) = operation.access {
        about.push_str(&format!("\n\nLeast role: {}.", role.name()));
    }
    if matches!(operation.access, Access::LocalOr(_)) {
        about.push_str(" Programs on the device itself need none.");
    }
    if let Some(scope) = operation.scope {
        about.push_str(&format!("\n\nScope of API tokens: `{}`.", scope_name(scope)));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.about,
        "description": about,
        "tags": [tag(operation.path)],
        "parameters": parameters(operation, generator),
        "responses": responses(operation, generator),
        "security": security(operation),
    });
    match operation.body {
        Body::None => {}
        Body::Json(schema) => {
            let schema = schema(generator).to_value();
            described["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
        Body::Bytes { types, .. } => {
            let content: Map<String, Value> =
                types.iter().map(|media_type| ((*media_type).to_owned(), json!({}))).collect();
            described["requestBody"] = json!({ "required": true, "content": content });
        }
    }
    described
}

/// `/api/subjects/{id}` is about subjects.
fn tag(path: &str) -> &str {
    let path = path.strip_prefix("/api").unwrap_or(path);
    path.split('/').nth(1).unwrap_or_default()
}

fn scope_name(scope: Scope) -> String {
    serde_json::to_value(scope).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn security(operation: &Operation) -> Value {
    let mut ways = Vec::new();
    match operation.access {
        Access::Public => return json!([]),
        // Nothing at all is a way, for programs on the device.
        Access::LocalOr(_) => ways.push(json!({})),
        Access::Role(_) => {}
    }
    for session in [SESSION, SESSION_PLAIN] {
        let mut way = Map::from_iter([(session.to_owned(), json!([]))]);
        if operation.changes() {
            way.insert(CSRF.to_owned(), json!([]));
        }
        ways.push(way.into());
    }
    if operation.scope.is_some() {
        ways.push(json!({ TOKEN: [] }));
    }
    ways.into()
}

fn parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut all: Vec<Value> = path_parts(operation.path)
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if let Some(schema) = operation.query {
        let schema = resolved(schema(generator).to_value(), generator);
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let mut property = property.clone();
            let about = property.as_object_mut().and_then(|property| property.remove("description"));
            let mut parameter = json!({
                "name": name,
                "in": "query",
                "required": required.contains(&name.as_str()),
                "schema": property,
            });
            if let Some(about) = about {
                parameter["description"] = about;
            }
            all.push(parameter);
        }
    }
    all.into()
}

fn path_parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// A schema that may only refer to another one.
fn resolved(schema: Value, generator: &SchemaGenerator) -> Value {
    let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    match name.and_then(|name| generator.definitions().get(name)) {
        Some(found) => found.clone(),
        None => schema,
    }
}

/// What may be answered: that all goes well, the operation's own refusals, and those that follow from
/// who may call it and what it takes.
fn responses(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let (status, gives) = operation.gives;
    let mut all = Map::new();
    let good = match gives {
        Gives::Nothing => json!({ "description": "Done." }),
        Gives::WebSocket => json!({ "description": "The connection goes on as a WebSocket." }),
        Gives::Json(schema) => {
            let schema = schema(generator).to_value();
            json!({ "description": "Done.", "content": { "application/json": { "schema": schema } } })
        }
        Gives::Bytes(types) => {
            let content: serde_json::Map<_, _> = types
                .iter()
                .map(|media_type| {
                    let text =
                        ["text/", "application/openmetrics"].iter().any(|kind| media_type.starts_with(kind));
                    let schema = if text { json!({ "type": "string" }) } else { json!({}) };
                    ((*media_type).to_owned(), json!({ "schema": schema }))
                })
                .collect();
            json!({ "description": "Done.", "content": content })
        }
    };
    all.insert(status.as_u16().to_string(), good);
    if operation.revalidated {
        let unchanged = "Nothing has changed since the answer whose `ETag` came as `If-None-Match`.";
        all.insert("304".to_owned(), json!({ "description": unchanged }));
    }
    for refusal in refusals(operation) {
        let refused = || json!({ "$ref": format!("#/components/responses/{refusal}") });
        all.entry(refusal.to_string()).or_insert_with(refused);
    }
    all.into()
}

fn refusals(operation: &Operation) -> Vec<u16> {
    // Whatever is sent where nothing is taken, a busy device, a fault of it, and too much at once.
    let mut all = vec![413, 429, 500, 503];
    all.extend(operation.refuses);
    // A token that is none is told so everywhere.
    all.push(401);
    if operation.access != Access::Public || operation.changes() {
        all.push(403);
    }
    if path_parts(operation.path).next().is_some() {
        all.push(404);
    }
    if operation.query.is_some() {
        all.push(400);
    }
    match operation.body {
        Body::None => {}
        Body::Json(_) => all.extend([400, 408, 415, 422]),
        Body::Bytes { .. } => all.extend([400, 408, 415]),
    }
    if matches!(operation.gives.1, Gives::WebSocket) {
        all.extend([400, 403, 426]);
    }
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_document_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        let text = serde_json::to_string_pretty(&*DOCUMENT).unwrap() + "\n";
        if std::env::var_os("LIMEN_WRITE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "docs/openapi.json is not what the operations say; `make docs` writes it anew");
    }

    #[test]
    fn every_operation_is_described_once_under_a_name_of_its_own() {
        let operations = super::super::operations();
        let names: BTreeSet<_> = operations.iter().map(|operation| operation.id).collect();
        assert_eq!(names.len(), operations.len(), "two operations have one name");
        let document = document(&operations);
        let described: usize =
            document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
        assert_eq!(described, operations.len(), "two operations have one method and path");
        for operation in &operations {
            assert!(operation.about.ends_with('.'), "{} says nothing about itself", operation.id);
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        fn walk(value: &Value, document: &Value, found: &mut usize) {
            if let Some(reference) = value["$ref"].as_str() {
                *found += 1;
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            match value {
                Value::Object(fields) => fields.values().for_each(|field| walk(field, document, found)),
                Value::Array(items) => items.iter().for_each(|item| walk(item, document, found)),
                _ => {}
            }
        }
        let mut found = 0;
        walk(&DOCUMENT, &DOCUMENT, &mut found);
        assert!(found > 20, "{found}");
    }

    #[test]
    fn change_names_the_token_against_forgery_and_a_public_one_needs_nothing() {
        let changes = &DOCUMENT["paths"]["/api/users/{id}"]["patch"];
        assert_eq!(changes["security"][0], json!({ SESSION: [], CSRF: [] }));
        assert_eq!(changes["parameters"][0]["name"], "id");
        for status in ["200", "400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "503"] {
            assert!(changes["responses"][status].is_object(), "{status}");
        }
        assert_eq!(DOCUMENT["paths"]["/api/sign-in"]["post"]["security"], json!([]));
        assert_eq!(DOCUMENT["paths"]["/metrics"]["get"]["security"][0], json!({}));
        let limit = &DOCUMENT["paths"]["/api/audit"]["get"]["parameters"][1];
        assert_eq!((&limit["name"], &limit["required"]), (&json!("limit"), &json!(false)));
    }
}
