//! Guided capture over a WebSocket: frames of a browser's camera or of the device's, what to ask of the
//! person, and the samples kept, which land on the tray.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{Access, Caller, Role, Scope, Who};
use super::compare::{FRAME_BYTES, STREAM_IDLE, examine, next_frame, say_problem};
use super::faces::{FaceRules, FaceView, LikenessView};
use super::operation::{Asked, Operation};
use super::pictures::{no_camera, put};
use super::problem::Problem;
use super::site::Site;
use super::socket::{self, Gone, Peer};
use super::tray::TrayPicture;
use crate::enrol::EnrolmentRules;
use crate::examiner::{Examined, Urgency};
use crate::gallery::{GallerySnapshot, SampleOrigin, SearchScratch};
use crate::guide::{Guide, GuideRules, Pose, Step};

/// Of the device camera's frames.
const JPEG_QUALITY: u8 = 80;
/// Without a frame of the device camera for this long the page is told why.
const CAMERA_PATIENCE: Duration = Duration::from_secs(3);

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/enrol/guide", Access::Role(Role::Operator), "guide_enrolment", guide)
            .about(
                "Guided capture. `browser`: binary messages with a JPEG, each answered with one text message. \
                 `device`: binary messages as of the live view, the next after the word `next`.",
            )
            .scope(Scope::EditSubjects)
            .query::<GuideQuery>()
            .gives_socket()
            .refuses(&[503]),
    ]
}

/// Whose camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// Of whoever asks.
    Browser,
    /// Of this device.
    Device,
}

/// Where frames come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GuideQuery {
    source: Source,
}

/// What to do next.
#[derive(Serialize)]
struct StepView {
    want: &'static str,
    hint: &'static str,
    taken: usize,
    needed: usize,
}

/// A sample on the tray.
#[derive(Clone, Serialize)]
struct KeptView {
    picture: String,
    face: usize,
    pose: &'static str,
    /// Quality score, 0 to 1.
    score: f32,
}

/// The answer to one frame.
#[derive(Serialize)]
struct GuideAnswer {
    frame: u64,
    width: u32,
    height: u32,
    faces: Vec<FaceView>,
    step: StepView,
    kept: Vec<KeptView>,
    looks_like: Vec<LikenessView>,
}

async fn guide(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Asked(asked): Asked<GuideQuery>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Problem> {
    let here = Arc::clone(&site);
    socket::open_for(
        FRAME_BYTES,
        upgrade,
        &here.faces.streams,
        &here,
        (&caller, Role::Operator),
        move |mut peer| async move {
            let capture = Capture::new(site, caller.who, asked.source);
            // However it ends, there is nobody left to tell.
            let _ = match asked.source {
                Source::Browser => capture.of_browser(&mut peer).await,
                Source::Device => capture.of_device(&mut peer).await,
            };
            peer.close().await;
        },
    )
}

/// One capture: what is kept so far, and on whose tray.
struct Capture {
    site: Arc<Site>,
    owner: Who,
    origin: SampleOrigin,
    guide: Guide,
    frame: u64,
    kept: BTreeMap<Pose, KeptView>,
    looks_like: Vec<LikenessView>,
}

impl Capture {
    fn new(site: Arc<Site>, owner: Who, source: Source) -> Self {
        let rules = site.faces.rules();
        let rules = GuideRules {
            minimum_quality: rules.minimum_quality,
            agreement: EnrolmentRules::agreement(&rules.thresholds),
            // Browsers mirror what they show, not what they send.
            mirrored: source == Source::Device && rules.mirrored,
        };
        let origin = if source == Source::Device { SampleOrigin::Camera } else { SampleOrigin::File };
        let guide = Guide::new(rules);
        Self { site, owner, origin, guide, frame: 0, kept: BTreeMap::new(), looks_like: Vec::new() }
    }

    async fn of_browser(mut self, peer: &mut Peer) -> Result<(), Gone> {
        loop {
            let bytes = next_frame(peer).await?;
            let result = match examine(&self.site, bytes).await {
                Ok(examined) => self.take(examined).await.map(|(answer, _)| answer),
                Err(problem) => Err(problem),
            };
            match result {
                Ok(answer) => peer.say(serde_json::to_string(&answer).map_err(|_| Gone)?).await?,
                Err(problem) => say_problem(peer, problem).await?,
            }
        }
    }

    async fn of_device(mut self, peer: &mut Peer) -> Result<(), Gone> {
        let mut looks = self.site.looks.watch();
        loop {
            let image = tokio::select! {
                changed = tokio::time::timeout(CAMERA_PATIENCE, looks.changed()) => match changed {
                    Ok(Ok(())) => looks.borrow_and_update().as_ref().map(|look| look.picture.clone()),
                    Ok(Err(_)) => return Err(Gone),
                    Err(_) => {
                        say_problem(peer, no_camera()).await?;
                        None
                    }
                },
                // Said too early, or the other side is gone: without a camera nothing else would tell.
                word = peer.next() => {
                    word?;
                    None
                }
            };
            // The picture is forgotten when nobody watches.
            let Some(image) = image else { continue };
            let examined = self.site.faces.examiner.examine_image(image, Urgency::Interactive).await;
            let result = match examined {
                Ok(examined) => self.take(examined).await,
                Err(error) => Err(error.into()),
            };
            let result = match result {
                Ok((answer, examined)) => tokio::task::spawn_blocking(move || framed(&answer, &examined))
                    .await
                    .unwrap_or_else(|error| Err(Problem::failed("encoding a frame", &error))),
                Err(problem) => Err(problem),
            };
            match result {
                Ok(message) => peer.send(Message::Binary(message)).await?,
                Err(problem) => say_problem(peer, problem).await?,
            }
            // Meanwhile newer frames take the place of older ones.
            match tokio::time::timeout(STREAM_IDLE, peer.next()).await {
                Ok(said) => drop(said?),
                Err(_) => return Err(Gone),
            }
        }
    }

    /// Takes in one examined frame; gives the frame back.
    async fn take(&mut self, examined: Examined) -> Result<(GuideAnswer, Arc<Examined>), Problem> {
        self.frame += 1;
        let step = self.guide.frame(&examined.faces);
        let examined = Arc::new(examined);
        if let Some((pose, index)) = step.keep {
            self.keep(pose, index, Arc::clone(&examined)).await?;
        }
        let (rules, gallery) = (self.site.faces.rules(), Arc::clone(self.site.store.gallery()));
        let work = tokio::task::spawn_blocking({
            let examined = Arc::clone(&examined);
            move || views(&examined, &rules, &gallery.current())
        });
        let faces = work.await.map_err(|error| Problem::failed("looking at a frame", &error))?;
        if let Some((_, index)) = step.keep
            && let Some(like) = faces.get(index).and_then(|face| face.looks_like.clone())
        {
            self.looks_like.retain(|other| other.subject != like.subject);
            self.looks_like.push(like);
        }
        let Step { wanted, hint, taken, .. } = step;
        if self.origin == SampleOrigin::Camera {
            // Whoever stands at the door sees it there.
            self.site.live.set_guide(Some(wanted.map_or("done", Pose::name)));
        }
        let (width, height) = (examined.image.width(), examined.image.height());
        let answer = GuideAnswer {
            frame: self.frame,
            width,
            height,
            faces,
            step: StepView { want: wanted.map_or("done", Pose::name), hint, taken, needed: Pose::ALL.len() },
            kept: self.kept.values().cloned().collect(),
            looks_like: self.looks_like.clone(),
        };
        Ok((answer, examined))
    }

    /// Puts a face of a frame on the tray, in the place of an earlier one of the same pose.
    async fn keep(&mut self, pose: Pose, index: usize, examined: Arc<Examined>) -> Result<(), Problem> {
        let origin = self.origin;
        let work = tokio::task::spawn_blocking(move || {
            let face = examined.faces.get(index)?.clone();
            let score = face.quality.map_or(0.0, |quality| quality.score.get());
            let one = examined.of_one(face);
            Some((TrayPicture::new(one, origin), score))
        });
        let kept = work.await.map_err(|error| Problem::failed("keeping a frame", &error))?;
        let Some((picture, score)) = kept else { return Ok(()) };
        let (id, _) = put(&self.site, self.owner, picture)?;
        let view = KeptView { picture: id, face: 0, pose: pose.name(), score };
        if let Some(before) = self.kept.insert(pose, view) {
            self.site.faces.tray.remove(self.owner, &before.picture);
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.origin == SampleOrigin::Camera {
            self.site.live.set_guide(None);
        }
    }
}

fn views(examined: &Examined, rules: &FaceRules, known: &GallerySnapshot) -> Vec<FaceView> {
    let mut scratch = SearchScratch::new();
    let faces = examined.faces.iter().enumerate();
    faces.map(|(at, face)| FaceView::new(at, face, rules, known, &mut scratch)).collect()
}

/// Length of the JSON, JSON, JPEG: as the live view sends it.
fn framed(answer: &GuideAnswer, examined: &Examined) -> Result<Bytes, Problem> {
    let jpeg = examined.image.to_jpeg(JPEG_QUALITY);
    let jpeg = jpeg.ok_or_else(|| Problem::failed("encoding a frame", &"it is too large"))?;
    let json = serde_json::to_vec(answer).map_err(|error| Problem::failed("encoding a frame", &error))?;
    let mut bytes = Vec::with_capacity(4 + json.len() + jpeg.len());
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.extend_from_slice(&jpeg);
    Ok(bytes.into())
}
