//! Giving pictures: uploads and frames of the device camera, examined and put on the tray.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::access::{Access, Caller, Role, Scope, Who};
use super::faces::{FaceRef, FaceView};
use super::incoming::{announced, next_part};
use super::operation::{Named, Operation};
use super::problem::Problem;
use super::site::Site;
use super::tray::TrayPicture;
use crate::decode::MAX_STILL_BYTES;
use crate::examiner::{CROP_SIDE, Examined, ExaminedFace, Urgency};
use crate::frame::RgbImage;
use crate::gallery::{SampleOrigin, SamplePicture, SearchScratch};
use crate::picture::{Picture, Resampler};

/// Longest side of a preview, pixels.
const PREVIEW_SIDE: u32 = 1024;
const PREVIEW_QUALITY: u8 = 85;
/// Faces of a picture that are kept, the largest: more is a crowd.
const MOST_FACES: usize = 32;
/// While nobody is in view a look comes about once a second.
const CAMERA_PATIENCE: Duration = Duration::from_secs(4);
/// A large picture over a poor radio link, behind others.
const UPLOAD_WITHIN: Duration = Duration::from_secs(120);

/// The routes.
pub(super) fn operations() -> Vec<Operation> {
    let operator = Access::Role(Role::Operator);
    vec![
        Operation::post("/api/pictures", Role::Operator, "give_picture", upload)
            .about(
                "Examines a picture and keeps what was found for a quarter of an hour, in memory, for whoever \
                 gave it.",
            )
            .scope(Scope::Compare)
            .takes_bytes(&["image/jpeg", "image/png", "image/webp"], MAX_STILL_BYTES)
            .gives::<PictureView>(StatusCode::CREATED)
            .refuses(&[413, 415, 422, 503])
            .within(UPLOAD_WITHIN),
        Operation::post("/api/pictures/camera", Role::Operator, "take_picture", camera)
            .about("The same with the newest frame of the device camera.")
            .scope(Scope::Compare)
            .gives::<PictureView>(StatusCode::CREATED)
            .refuses(&[422, 503]),
        Operation::get("/api/pictures/{id}/preview", operator, "show_given_picture", preview)
            .about("A given picture, made small.")
            .scope(Scope::Compare)
            .gives_bytes(&["image/jpeg"])
            .refuses(&[404]),
        Operation::get("/api/pictures/{id}/faces/{index}", operator, "show_given_face", face)
            .about("One face of a given picture.")
            .scope(Scope::Compare)
            .gives_bytes(&["image/jpeg"])
            .refuses(&[404]),
        Operation::delete("/api/pictures/{id}", Role::Operator, "drop_picture", forget)
            .about("Forgets a given picture before its time.")
            .scope(Scope::Compare)
            .refuses(&[404]),
    ]
}

/// A picture that was given.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PictureView {
    id: String,
    /// Pixels, upright.
    width: u32,
    height: u32,
    /// Until when it is kept, milliseconds since 1970.
    expires_at: i64,
    /// Left to right.
    faces: Vec<FaceView>,
}

async fn upload(
    State(site): State<Arc<Site>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<PictureView>), Problem> {
    let announced = announced(&headers).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    // Before anything of it is read into memory, and until it is examined.
    let room = site.faces.room_for(announced)?;
    let bytes = read(body, announced.unwrap_or(0)).await?;
    let examined = site.faces.examiner.examine(bytes, Urgency::Interactive).await?;
    drop(room);
    answer(&site, caller.who, examined, SampleOrigin::File).await
}

/// A body as one run of bytes, never held twice: that is what room was made for.
async fn read(mut body: Body, announced: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(announced.min(MAX_STILL_BYTES));
    while let Some(frame) = next_part(&mut body).await {
        let frame = frame.map_err(|error| Problem::invalid(format!("the upload broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_STILL_BYTES {
            let text = format!("a picture may have at most {} MB", MAX_STILL_BYTES >> 20);
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn camera(
    State(site): State<Arc<Site>>,
    caller: Caller,
) -> Result<(StatusCode, Json<PictureView>), Problem> {
    let image = next_frame(&site, CAMERA_PATIENCE).await?;
    let examined = site.faces.examiner.examine_image(image, Urgency::Interactive).await?;
    answer(&site, caller.who, examined, SampleOrigin::Camera).await
}

/// What the camera sees next.
async fn next_frame(site: &Site, patience: Duration) -> Result<RgbImage, Problem> {
    let mut looks = site.looks.watch();
    let seen = timeout_at(Instant::now() + patience, looks.changed()).await;
    let look = looks.borrow_and_update().clone().filter(|_| matches!(seen, Ok(Ok(()))));
    look.map(|look| look.picture.clone()).ok_or_else(no_camera)
}

pub(super) fn no_camera() -> Problem {
    let text = "the camera gives no picture; see the state of the device";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_camera", text).retry_after(5)
}

async fn answer(
    site: &Arc<Site>,
    owner: Who,
    examined: Examined,
    origin: SampleOrigin,
) -> Result<(StatusCode, Json<PictureView>), Problem> {
    if examined.faces.is_empty() {
        return Err(Problem::unusable(
            "no_face",
            "no face was found; give a picture in which the face is upright and at least a tenth as wide as \
             the picture",
        ));
    }
    let (rules, gallery) = (site.faces.rules(), Arc::clone(site.store.gallery()));
    // Encoding and searching, tens of milliseconds of work.
    let work = tokio::task::spawn_blocking(move || {
        let picture = TrayPicture::new(examined, origin);
        let (known, mut scratch) = (gallery.current(), SearchScratch::new());
        let faces = picture.faces.iter().enumerate();
        let faces = faces.map(|(at, (face, _))| FaceView::new(at, face, &rules, &known, &mut scratch));
        let faces = faces.collect();
        (picture, faces)
    });
    let (picture, faces) = work.await.map_err(|error| Problem::failed("preparing the picture", &error))?;
    let (width, height) = (picture.size.width, picture.size.height);
    let (id, expires_at) = put(site, owner, picture)?;
    Ok((StatusCode::CREATED, Json(PictureView { id, width, height, expires_at, faces })))
}

/// Puts a picture on the tray: its id, and until when it is kept.
pub(super) fn put(site: &Site, owner: Who, picture: TrayPicture) -> Result<(String, i64), Problem> {
    let (id, until) = site
        .faces
        .tray
        .put(owner, Arc::new(picture))
        .map_err(|_| Problem::failed("keeping the picture", &"the system gives no random numbers"))?;
    Ok((id, until.0))
}

impl TrayPicture {
    pub(super) fn new(mut examined: Examined, origin: SampleOrigin) -> Self {
        if examined.faces.len() > MOST_FACES {
            examined.faces.sort_by(|a, b| b.detection.bbox.area().total_cmp(&a.detection.bbox.area()));
            examined.faces.truncate(MOST_FACES);
            examined.faces.sort_by(|a, b| a.detection.bbox.left.total_cmp(&b.detection.bbox.left));
        }
        let pictures: Vec<_> = examined
            .faces
            .iter()
            .map(|face| SamplePicture::encode(&examined.crop(face, CROP_SIDE)))
            .collect();
        let preview = preview_of(&examined.image).to_jpeg(PREVIEW_QUALITY).unwrap_or_default();
        Self {
            size: examined.image.size(),
            origin,
            preview,
            faces: examined.faces.into_iter().zip(pictures).collect(),
        }
    }
}

/// The picture, its longest side at most [`PREVIEW_SIDE`].
fn preview_of(image: &RgbImage) -> RgbImage {
    let longest = image.width().max(image.height());
    if longest <= PREVIEW_SIDE {
        return image.clone();
    }
    let mut square = RgbImage::black(0, 0);
    let fitted = Resampler::default().letterbox(&Picture::from(image), PREVIEW_SIDE, 1.0, &mut square);
    // Only pictures without pixels cannot be fitted.
    let Ok(fit) = fitted else { return RgbImage::black(1, 1) };
    let row = PREVIEW_SIDE as usize * 3;
    let (left, width) = (fit.left as usize * 3, fit.width as usize * 3);
    let rows = square.pixels().chunks_exact(row).skip(fit.top as usize).take(fit.height as usize);
    let pixels = rows.flat_map(|row| &row[left..left + width]).copied().collect();
    RgbImage::from_pixels(fit.width, fit.height, pixels).expect("rows and columns were cut to this size")
}

/// A face that was given and is still there.
pub(super) struct GivenFace {
    picture: Arc<TrayPicture>,
    at: usize,
}

impl GivenFace {
    pub(super) fn face(&self) -> &ExaminedFace {
        &self.picture.faces[self.at].0
    }

    pub(super) fn sample_picture(&self) -> Option<SamplePicture> {
        self.picture.faces[self.at].1.clone()
    }

    pub(super) fn origin(&self) -> SampleOrigin {
        self.picture.origin
    }
}

/// The face a request names; a problem if it is not there (any more).
pub(super) fn given(site: &Site, owner: Who, wanted: &FaceRef) -> Result<GivenFace, Problem> {
    let gone = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "picture_gone",
            "the picture is not there any more: it is kept for a quarter of an hour; give it again",
        )
        .with(serde_json::json!({ "picture": wanted.picture, "face": wanted.face }))
    };
    let picture = site.faces.tray.get(owner, &wanted.picture).ok_or_else(gone)?;
    let at = wanted.face;
    if at < picture.faces.len() { Ok(GivenFace { picture, at }) } else { Err(gone()) }
}

fn jpeg(bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "image/jpeg")], bytes).into_response()
}

async fn preview(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Response, Problem> {
    let picture = site.faces.tray.get(caller.who, &id).ok_or_else(|| Problem::missing("picture"))?;
    Ok(jpeg(picture.preview.clone()))
}

async fn face(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named((id, index)): Named<(String, usize)>,
) -> Result<Response, Problem> {
    let given = given(&site, caller.who, &FaceRef { picture: id, face: index })?;
    let picture = given.sample_picture().ok_or_else(|| Problem::missing("picture"))?;
    Ok(jpeg(picture.jpeg().to_vec()))
}

async fn forget(
    State(site): State<Arc<Site>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<StatusCode, Problem> {
    if site.faces.tray.remove(caller.who, &id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::missing("picture"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preview_keeps_the_form_of_a_picture_and_bounds_its_sides() {
        for (size, expected) in
            [((4000, 1000), (1024, 256)), ((300, 900), (300, 900)), ((1000, 3000), (341, 1024))]
        {
            let mut image = RgbImage::black(size.0, size.1);
            image.pixels_mut().fill(90);
            let preview = preview_of(&image);
            assert_eq!((preview.width(), preview.height()), expected);
            assert!(preview.pixels().iter().all(|value| *value == 90), "nothing of the padding is left");
        }
    }
}
