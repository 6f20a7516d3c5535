//! One route of the API: declared once, and what router, access check and OpenAPI document are made
//! from.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Json, RequestExt};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::access::{Access, Gate, Role, Scope, guard};
use super::problem::Problem;
use super::revalidate::revalidate;
use super::site::Site;

/// A body of plain JSON.
pub(crate) const SMALL_BODY: usize = 64 << 10;

/// Makes the schema of a type.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a request carries.
#[derive(Clone, Copy)]
pub(crate) enum Body {
    /// Nothing.
    None,
    /// JSON of this form.
    Json(SchemaOf),
    /// Bytes of one of these media types, at most so many.
    Bytes {
        /// Media types.
        types: &'static [&'static str],
        /// Bytes.
        most: usize,
    },
}

/// What an operation answers when all goes well.
#[derive(Clone, Copy)]
pub(crate) enum Gives {
    /// No content.
    Nothing,
    /// JSON of this form.
    Json(SchemaOf),
    /// Something else, of one of these media types.
    Bytes(&'static [&'static str]),
    /// The connection goes on as a WebSocket.
    WebSocket,
}

/// One route.
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// As axum and OpenAPI both write it: `/api/subjects/{id}`.
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    /// Name in the OpenAPI document and in the audit log.
    pub(crate) id: &'static str,
    pub(crate) about: &'static str,
    /// The scope by which an API token may call it; without one, tokens may not.
    pub(crate) scope: Option<Scope>,
    pub(crate) query: Option<SchemaOf>,
    pub(crate) body: Body,
    pub(crate) gives: (StatusCode, Gives),
    /// Refusals of its own, besides those that follow from access, body and method.
    pub(crate) refuses: &'static [u16],
    /// How long the whole request may take, where that is not the usual time.
    pub(crate) within: Option<Duration>,
    /// In the audit log although it changes nothing, for what it carries away.
    pub(crate) audited: bool,
    /// Whoever has the present answer already is told just that.
    pub(crate) revalidated: bool,
    pub(crate) handler: MethodRouter<Arc<Site>>,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Operation {
    fn new<H, T>(
        (method, filter): (Method, MethodFilter),
        path: &'static str,
        access: Access,
        id: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<Site>>,
        T: 'static,
    {
        Self {
            method,
            path,
            access,
            id,
            about: "",
            scope: None,
            query: None,
            body: Body::None,
            gives: (StatusCode::NO_CONTENT, Gives::Nothing),
            refuses: &[],
            within: None,
            audited: false,
            revalidated: false,
            handler: on(filter, handler),
        }
    }

    /// Reads.
    pub(crate) fn get<H, T>(path: &'static str, access: Access, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Site>>,
        T: 'static,
    {
        Self::new((Method::GET, MethodFilter::GET), path, access, id, handler)
    }

    /// Makes or starts something.
    pub(crate) fn post<H, T>(path: &'static str, role: Role, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Site>>,
        T: 'static,
    {
        Self::new((Method::POST, MethodFilter::POST), path, Access::Role(role), id, handler)
    }

    /// Changes some of what is there.
    pub(crate) fn patch<H, T>(path: &'static str, role: Role, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Site>>,
        T: 'static,
    {
        Self::new((Method::PATCH, MethodFilter::PATCH), path, Access::Role(role), id, handler)
    }

    /// Takes something away.
    pub(crate) fn delete<H, T>(path: &'static str, role: Role, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Site>>,
        T: 'static,
    {
        Self::new((Method::DELETE, MethodFilter::DELETE), path, Access::Role(role), id, handler)
    }

    /// Open to anybody.
    pub(crate) fn public(mut self) -> Self {
        self.access = Access::Public;
        self
    }

    /// A sentence for the document.
    pub(crate) fn about(mut self, text: &'static str) -> Self {
        self.about = text;
        self
    }

    /// Tokens with this scope may call it.
    pub(crate) fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Takes these parameters behind the question mark. The handler takes [`Asked`].
    pub(crate) fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(schema::<T>);
        self
    }

    /// Takes JSON. The handler takes [`Given`].
    pub(crate) fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Body::Json(schema::<T>);
        self
    }

    /// Takes bytes of these media types, at most `most`.
    pub(crate) fn takes_bytes(mut self, types: &'static [&'static str], most: usize) -> Self {
        self.body = Body::Bytes { types, most };
        self
    }

    /// Answers JSON.
    pub(crate) fn gives<T: JsonSchema>(mut self, status: StatusCode) -> Self {
        self.gives = (status, Gives::Json(schema::<T>));
        self
    }

    /// Answers nothing but a status.
    pub(crate) fn gives_nothing(mut self, status: StatusCode) -> Self {
        self.gives = (status, Gives::Nothing);
        self
    }

    /// Answers bytes of one of these media types.
    pub(crate) fn gives_bytes(mut self, types: &'static [&'static str]) -> Self {
        self.gives = (StatusCode::OK, Gives::Bytes(types));
        self
    }

    /// Goes on as a WebSocket.
    pub(crate) fn gives_socket(mut self) -> Self {
        self.gives = (StatusCode::SWITCHING_PROTOCOLS, Gives::WebSocket);
        self
    }

    /// May refuse with these, besides what follows from access, body and method.
    pub(crate) fn refuses(mut self, statuses: &'static [u16]) -> Self {
        self.refuses = statuses;
        self
    }

    /// The whole request may take this long.
    pub(crate) fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// Goes into the audit log although it only reads. Changes do anyway.
    pub(crate) fn audited(mut self) -> Self {
        self.audited = true;
        self
    }

    /// Answers 304 to whoever has the present answer already.
    pub(crate) fn revalidated(mut self) -> Self {
        self.revalidated = true;
        self
    }

    /// Changes something on the device, so that the CSRF check and the audit log are due.
    pub(crate) fn changes(&self) -> bool {
        self.method != Method::GET
    }
}

/// The router over all operations, each behind its [`Gate`]: the only way to a handler.
pub(crate) fn router(operations: Vec<Operation>, site: &Arc<Site>) -> Router<Arc<Site>> {
    operations.into_iter().fold(Router::new(), |router, operation| {
        let gate = Arc::new(Gate::new(site, &operation));
        let handler = match operation.revalidated {
            true => operation.handler.route_layer(from_fn(revalidate)),
            false => operation.handler,
        };
        // The gate is the outermost: nobody learns what an answer would be who may not have it.
        router.route(operation.path, handler.route_layer(from_fn_with_state(gate, guard)))
    })
}

/// The JSON body of a request.
pub(crate) struct Given<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + 'static> FromRequest<S> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body: Result<Json<T>, JsonRejection> = request.extract().await;
        body.map(|Json(value)| Self(value)).map_err(|rejection| {
            let code = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => "too_large",
                StatusCode::UNSUPPORTED_MEDIA_TYPE => "media_type",
                _ => "invalid",
            };
            Problem::new(rejection.status(), code, rejection.body_text())
        })
    }
}

/// The parameters behind the question mark.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}

/// The parts of the path. One that cannot be read names nothing that is there.
pub(crate) struct Named<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value)).map_err(|_| Problem::missing("thing"))
    }
}
