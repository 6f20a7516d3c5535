//! Groups of subjects: the REST API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{Access, Role, Scope};
use super::operation::{Given, Named, Operation};
use super::problem::Problem;
use super::site::Site;
use super::subjects::bad_name;
use crate::gallery::{GroupId, GroupName};

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/groups", Access::Role(Role::Viewer), "list_groups", list_groups)
            .about("Groups in the order of their names.")
            .scope(Scope::ReadSubjects)
            .gives::<GroupList>(StatusCode::OK)
            .refuses(&[503])
            .revalidated(),
        Operation::post("/api/groups", Role::Operator, "make_group", make_group)
            .about("Makes a group.")
            .scope(Scope::EditSubjects)
            .takes::<GroupBody>()
            .gives::<GroupView>(StatusCode::CREATED)
            .refuses(&[409, 422, 503]),
        Operation::patch("/api/groups/{id}", Role::Operator, "rename_group", rename_group)
            .about("Gives a group another name.")
            .scope(Scope::EditSubjects)
            .takes::<GroupBody>()
            .gives::<GroupView>(StatusCode::OK)
            .refuses(&[404, 409, 422, 503]),
        Operation::delete("/api/groups/{id}", Role::Operator, "remove_group", remove_group)
            .about("Removes a group. Its members stay, without it.")
            .scope(Scope::EditSubjects)
            .refuses(&[404, 503]),
    ]
}

/// A group.
#[derive(Debug, Serialize, JsonSchema)]
struct GroupView {
    id: i64,
    name: String,
    /// Subjects in it.
    members: u64,
}

/// All groups.
#[derive(Debug, Serialize, JsonSchema)]
struct GroupList {
    groups: Vec<GroupView>,
}

/// The name of a group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GroupBody {
    #[schemars(length(max = 120))]
    name: String,
}

async fn groups(site: &Site) -> Result<Vec<GroupView>, Problem> {
    let groups = site.store.groups().await?;
    let view = groups.into_iter().map(|group| GroupView {
        id: group.id.0,
        name: group.name.as_str().to_owned(),
        members: group.members,
    });
    Ok(view.collect())
}

async fn list_groups(State(site): State<Arc<Site>>) -> Result<Json<GroupList>, Problem> {
    Ok(Json(GroupList { groups: groups(&site).await? }))
}

async fn group(site: &Site, id: GroupId) -> Result<GroupView, Problem> {
    let all = groups(site).await?;
    all.into_iter().find(|group| group.id == id.0).ok_or_else(|| Problem::missing("group"))
}

async fn make_group(
    State(site): State<Arc<Site>>,
    Given(body): Given<GroupBody>,
) -> Result<(StatusCode, Json<GroupView>), Problem> {
    let id = site.store.add_group(GroupName::new(&body.name).map_err(bad_name)?).await?;
    Ok((StatusCode::CREATED, Json(group(&site, id).await?)))
}

async fn rename_group(
    State(site): State<Arc<Site>>,
    Named(id): Named<i64>,
    Given(body): Given<GroupBody>,
) -> Result<Json<GroupView>, Problem> {
    let id = GroupId(id);
    site.store.rename_group(id, GroupName::new(&body.name).map_err(bad_name)?).await?;
    Ok(Json(group(&site, id).await?))
}

async fn remove_group(State(site): State<Arc<Site>>, Named(id): Named<i64>) -> Result<StatusCode, Problem> {
    site.store.remove_group(GroupId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
