//! How a refusal is told: one JSON form for every error of the API.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::event_store::StoreRefusal;

/// What was wrong with a request, and what to do about it. Holds no secret, no name and no content.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// HTTP status.
    #[serde(skip)]
    pub(crate) status: StatusCode,
    /// For programs: words joined by underscores, steady over versions.
    pub(crate) code: &'static str,
    /// For people: what was tried, what was found, what to do.
    pub(crate) message: String,
    /// More, depending on the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<Value>,
    /// Seconds after which trying again makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_s: Option<u32>,
}

/// The body of every error answer.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ProblemBody {
    /// The problem.
    error: Problem,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: None, retry_after_s: None }
    }

    /// 400: the request cannot be understood.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    /// 404: `what` is not there.
    pub(crate) fn missing(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}, or no longer"))
    }

    /// 409: it contradicts what is there.
    pub(crate) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 422: understood, but it cannot be done with these values.
    pub(crate) fn unusable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// 503: for now.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).retry_after(2)
    }

    /// 500: a fault of the device. The reason goes to the log, not to the asker.
    pub(crate) fn failed(what: &str, reason: &dyn std::fmt::Display) -> Self {
        tracing::warn!(%reason, "{what} failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed",
            format!("{what} failed; the log of the device says why"),
        )
    }

    /// Adds what a program may want to know.
    pub(crate) fn with(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Says when to come again.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, wait) = (self.status, self.retry_after_s);
        let mut response = (status, Json(ProblemBody { error: self })).into_response();
        if let Some(seconds) = wait {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreRefusal> for Problem {
    fn from(refusal: StoreRefusal) -> Self {
        match refusal {
            StoreRefusal::Busy => Self::busy("the store is busy; try again"),
            StoreRefusal::Ended => Self::busy("the program is ending"),
            StoreRefusal::Failed(reason) => Self::failed("reading or writing the database", &reason),
        }
    }
}
