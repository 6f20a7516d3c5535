//! The door: its state, opening it by hand, its policy with a preview and a simulator. The REST API.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::access::{Access, AuditDetail, Caller, Role, Scope};
use super::faces::subject_id;
use super::operation::{Given, Operation};
use super::problem::Problem;
use super::site::Site;
use crate::clock::UnixMillis;
use crate::door::book::{DoorBook, PolicyState};
use crate::door::enter_pin;
use crate::door::policy::{
    Claim, FaceStrength, Hindrance, Locked, Needs, Pad, Person, Policy, PolicyDocument, PolicyProblem, Rule,
    Situation,
};
use crate::door::thread::{DoorInput, DoorState, Ruled};
use crate::gallery::{GroupId, SubjectId};

/// People who are named in a preview.
const MOST_NAMED: usize = 200;

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    let viewer = Access::Role(Role::Viewer);
    vec![
        Operation::get("/api/door", viewer, "show_door", show)
            .about("How the door is: relay, contact, alarms, lock-outs, and whether its policy is in force.")
            .scope(Scope::Door)
            .gives::<DoorView>(StatusCode::OK),
        Operation::post("/api/door/open", Role::Operator, "open_door", open)
            .about("Opens the door by hand. Recorded with the name of whoever asked; not more often than every second.")
            .scope(Scope::Door)
            .gives::<Ruled>(StatusCode::OK)
            .refuses(&[409, 503]),
        Operation::post("/api/door/pin", Role::Operator, "enter_pin", pin)
            .about("Enters a PIN, as from a keypad beside the door. What came of it says the answer.")
            .scope(Scope::Door)
            .takes::<PinBody>()
            .gives::<Ruled>(StatusCode::OK)
            .refuses(&[503]),
        Operation::post("/api/door/face-unlock", Role::Operator, "switch_face_unlock", face_unlock)
            .about("Switches whether faces may open the door at all; it stays so after a restart.")
            .takes::<SwitchBody>()
            .refuses(&[503]),
        Operation::post("/api/door/unlock", Role::Admin, "end_lock_out", unlock)
            .about("Ends every lock-out that failures have caused."),
        Operation::get("/api/door/policy", viewer, "show_policy", policy)
            .about("The policy: who may enter, when and with what.")
            .gives::<PolicyView>(StatusCode::OK),
        Operation::post("/api/door/policy", Role::Admin, "set_policy", set_policy)
            .about("Puts a policy in the place of the one before. Everything wrong with it is said at once.")
            .takes::<PolicyDocument>()
            .refuses(&[422, 503]),
        Operation::get("/api/door/preview", Access::Role(Role::Operator), "preview_policy", preview)
            .about("Who may enter now, by which rule and until when.")
            .gives::<Preview>(StatusCode::OK),
        Operation::post("/api/door/simulate", Role::Operator, "simulate_door", simulate)
            .about("What would happen if somebody came at a time and showed something, and why. Nothing is switched.")
            .takes::<SimulationBody>()
            .gives::<Simulation>(StatusCode::OK)
            .refuses(&[404, 422]),
    ]
}

/// The door.
#[derive(Serialize, JsonSchema)]
struct DoorView {
    /// What it is called.
    name: String,
    /// Whether faces may open it at all.
    face_unlock: bool,
    #[serde(flatten)]
    state: DoorState,
}

async fn show(State(site): State<Arc<Site>>) -> Json<DoorView> {
    let name = site.work.config.borrow().door.name.clone();
    let face_unlock = *site.store.face_unlock().borrow();
    let state = site.door.state().borrow().clone();
    Json(DoorView { name, face_unlock, state })
}

fn no_door() -> Problem {
    Problem::busy("the door does not answer; see the state of the device")
}

async fn open(State(site): State<Arc<Site>>, caller: Caller) -> Result<(AuditDetail, Json<Ruled>), Problem> {
    let ruled = site.door.open(caller.name).await.ok_or_else(no_door)?;
    if !ruled.granted {
        return Err(Problem::conflict(
            "too_often",
            "the door was opened just now, or too often within a minute",
        )
        .retry_after(2));
    }
    let switched = ruled.switched.map_or_else(String::new, |switched| format!("{switched:?}"));
    Ok((AuditDetail::new(switched), Json(ruled)))
}

/// A PIN.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PinBody {
    #[schemars(length(max = 40))]
    pin: String,
}

async fn pin(State(site): State<Arc<Site>>, Given(body): Given<PinBody>) -> Result<Json<Ruled>, Problem> {
    let ruled = enter_pin(&site.door, Zeroizing::new(body.pin)).await;
    ruled.map(Json).ok_or_else(no_door)
}

/// On or off.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SwitchBody {
    on: bool,
}

async fn face_unlock(
    State(site): State<Arc<Site>>,
    Given(body): Given<SwitchBody>,
) -> Result<(AuditDetail, StatusCode), Problem> {
    site.store.set_face_unlock(body.on).await?;
    Ok((AuditDetail::new(if body.on { "on" } else { "off" }), StatusCode::NO_CONTENT))
}

async fn unlock(State(site): State<Arc<Site>>) -> StatusCode {
    site.door.tell(DoorInput::Unlock);
    StatusCode::NO_CONTENT
}

/// The policy.
#[derive(Serialize, JsonSchema)]
struct PolicyView {
    /// Null where nobody has written one: the door opens for nobody.
    policy: Option<PolicyDocument>,
    /// Why the one that is kept cannot be used.
    problems: Vec<PolicyProblem>,
    /// One to begin with.
    example: PolicyDocument,
}

async fn policy(State(site): State<Arc<Site>>) -> Json<PolicyView> {
    let book = site.door.book();
    let problems = match &book.policy {
        PolicyState::Unusable(problems) => problems.clone(),
        PolicyState::None | PolicyState::InForce(_) => Vec::new(),
    };
    let policy = book.in_force().map(|policy| policy.document().clone());
    Json(PolicyView { policy, problems, example: PolicyDocument::default() })
}

async fn group_ids(site: &Site) -> Result<Vec<GroupId>, Problem> {
    Ok(site.store.groups().await?.into_iter().map(|group| group.id).collect())
}

fn check(document: &PolicyDocument, groups: &[GroupId]) -> Result<Policy, Problem> {
    Policy::check(document, groups).map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        let text = format!("the policy has {} problems; the first: {first}", problems.len());
        let details = serde_json::to_value(&problems).unwrap_or_default();
        Problem::unusable("policy", text).with(details)
    })
}

async fn set_policy(
    State(site): State<Arc<Site>>,
    Given(document): Given<PolicyDocument>,
) -> Result<(AuditDetail, StatusCode), Problem> {
    check(&document, &group_ids(&site).await?)?;
    let (rules, dry_run) = (document.rules.len(), document.dry_run);
    site.store.set_door_policy(document).await?;
    let detail = format!("{rules} rules, {}", if dry_run { "dry run" } else { "in force" });
    Ok((AuditDetail::new(detail), StatusCode::NO_CONTENT))
}

/// Who may enter now.
#[derive(Serialize, JsonSchema)]
struct Preview {
    /// When that is, milliseconds since 1970.
    at: i64,
    /// The time of the clock beside the door.
    local: Option<String>,
    /// Whether the clock can be right.
    clock_trusted: bool,
    /// The rules in their order.
    rules: Vec<RulePreview>,
}

/// One rule, now.
#[derive(Serialize, JsonSchema)]
struct RulePreview {
    name: String,
    needs: Needs,
    /// Whether its schedule is open, or it has none.
    open: bool,
    /// When its schedule opens or closes next; null where it has none, or not within a year.
    changes_at: Option<i64>,
    /// How many enrolled people it is for.
    people: usize,
    /// Their names, the first 200.
    names: Vec<String>,
}

async fn preview(State(site): State<Arc<Site>>) -> Json<Preview> {
    let (book, now) = (site.door.book(), site.clock.wall());
    let trusted = site.door.state().borrow().clock_trusted;
    let gallery = site.store.gallery().current();
    let policy = book.in_force();
    let preview = |policy: &Policy, rule: &Rule| {
        let valid = |person: &Person| person.expires_at.is_none_or(|at| now < at);
        let members = book.people.iter().filter(|(_, person)| rule.is_for(person) && valid(person));
        let (mut people, mut names) = (0, Vec::new());
        for (id, _) in members {
            people += 1;
            if names.len() < MOST_NAMED {
                names.extend(gallery.subject(*id).map(|subject| subject.name.as_str().to_owned()));
            }
        }
        names.sort_unstable();
        RulePreview {
            name: rule.name.clone(),
            needs: rule.needs,
            open: policy.is_open(rule, now),
            changes_at: policy.next_change(rule, now).map(|at| at.0),
            people,
            names,
        }
    };
    let rules = |policy: &Arc<Policy>| policy.rules().iter().map(|rule| preview(policy, rule)).collect();
    Json(Preview {
        at: now.0,
        local: policy.and_then(|policy| policy.calendar().local_text(now)),
        clock_trusted: trusted,
        rules: policy.map(rules).unwrap_or_default(),
    })
}

/// Somebody who comes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SimulationBody {
    /// An enrolled subject.
    subject: Option<String>,
    /// Or else a visitor for whom the rules of this group hold.
    group: Option<i64>,
    /// When, milliseconds since 1970; now if not said.
    #[schemars(range(min = 0, max = 253402300799999_i64))]
    at: Option<i64>,
    /// Whether the face is recognised.
    #[serde(default)]
    face: bool,
    /// By how much the comparison score is above the threshold.
    #[schemars(range(min = -1.0, max = 1.0))]
    score_above: Option<f32>,
    /// Probes in a row that agree.
    probes: Option<u32>,
    /// Whether their PIN is entered.
    #[serde(default)]
    pin: bool,
    /// Whether their pass is shown.
    #[serde(default)]
    pass: bool,
    /// A policy to try; the one in force if not given.
    policy: Option<PolicyDocument>,
}

/// What would happen.
#[derive(Serialize, JsonSchema)]
struct Simulation {
    /// Whether the door would open.
    granted: bool,
    /// What is in the way.
    reason: Option<Hindrance>,
    /// The rule that decides.
    rule: Option<String>,
    /// When that rule opens or closes next.
    until: Option<i64>,
    /// The time beside the door.
    local: Option<String>,
    /// Each rule by itself, in their order: null where it would open.
    by_rule: BTreeMap<String, Option<Hindrance>>,
}

async fn simulate(
    State(site): State<Arc<Site>>,
    Given(body): Given<SimulationBody>,
) -> Result<Json<Simulation>, Problem> {
    let book = site.door.book();
    let policy = match &body.policy {
        Some(document) => Arc::new(check(document, &group_ids(&site).await?)?),
        None => book.in_force().cloned().ok_or_else(|| {
            Problem::unusable("no_policy", "no policy is in force: the door opens for nobody")
        })?,
    };
    let person = person(&book, &body)?;
    let state = site.door.state().borrow().clone();
    let at = body.at.map_or_else(|| site.clock.wall(), UnixMillis);
    let strength = FaceStrength {
        score_above: body.score_above.unwrap_or(0.5),
        probes: body.probes.unwrap_or(20),
        pad: Pad::NotEvaluated,
    };
    let claim =
        Claim { person: &person, face: body.face.then_some(strength), pin: body.pin, pass: body.pass };
    let situation = Situation {
        now: at,
        // At a time that is given the clock is what was given.
        clock_trusted: state.clock_trusted || body.at.is_some(),
        face_unlock: *site.store.face_unlock().borrow(),
        locked: Locked { face: state.faces_locked, pin: state.pins_locked, pass: state.passes_locked },
        cooling_down: false,
        too_often: false,
    };
    let weighed = policy.weigh(&claim, &situation);
    let rule = weighed.rule.map(|place| &policy.rules()[place]);
    let by_rule = policy
        .rules()
        .iter()
        .map(|rule| (rule.name.clone(), policy.weigh_by(rule, &claim, &situation).err()))
        .collect();
    Ok(Json(Simulation {
        granted: weighed.result.is_ok(),
        reason: weighed.result.err(),
        rule: rule.map(|rule| rule.name.clone()),
        until: rule.and_then(|rule| policy.next_change(rule, at)).map(|at| at.0),
        local: policy.calendar().local_text(at),
        by_rule,
    }))
}

fn person(book: &DoorBook, body: &SimulationBody) -> Result<Person, Problem> {
    match (&body.subject, body.group) {
        (Some(subject), None) => {
            let id: SubjectId = subject_id(subject)?;
            book.people.get(&id).cloned().ok_or_else(|| Problem::missing("subject"))
        }
        (None, group) => Ok(Person { groups: group.map(GroupId).into_iter().collect(), expires_at: None }),
        (Some(_), Some(_)) => {
            Err(Problem::unusable("invalid", "somebody is a subject or a visitor of a group, not both"))
        }
    }
}
