//! The command line from the outside: the real program, the real networks, real faces.

#![allow(clippy::unwrap_used, reason = "a test says what failed by panicking")]

mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use image::RgbImage;
use limen::decode::MAX_STILL_BYTES;
use program::{Ended, Program, litert_library, models_folder, portrait};
use serde_json::{Value, json};

fn pixels(name: &str) -> RgbImage {
    image::open(portrait(name)).unwrap().into_rgb8()
}

/// Two portraits in one picture; the second one half as large as the first.
fn two_people(program: &Program) -> String {
    let (large, small) = (pixels("barack_obama_3"), pixels("joe_biden_1"));
    let small = image::imageops::thumbnail(&small, small.width() / 2, small.height() / 2);
    let mut both = RgbImage::new(large.width() + small.width(), large.height());
    image::imageops::replace(&mut both, &large, 0, 0);
    image::imageops::replace(&mut both, &small, i64::from(large.width()), 100);
    let path = program.path("two.png");
    both.save(&path).unwrap();
    path
}

/// A wall in evening light.
fn nobody(program: &Program) -> String {
    let wall = RgbImage::from_fn(400, 300, |x, y| image::Rgb([(x / 3) as u8, (y / 2) as u8, 90]));
    let path = program.path("wall.png");
    wall.save(&path).unwrap();
    path
}

fn with_obama() -> Program {
    let program = Program::new();
    program.ends(0, &["enrol", "Ada", &portrait("barack_obama_1"), &portrait("barack_obama_2")]);
    program
}

fn faces(value: &Value) -> &[Value] {
    value["faces"].as_array().unwrap()
}

mod enrol {
    use super::*;

    #[test]
    fn new_subject_is_enrolled_and_listed() {
        let program = Program::new();
        let pictures = [portrait("barack_obama_1"), portrait("barack_obama_2")];
        let ended = program.ends(0, &["enrol", "Ada Lovelace", &pictures[0], &pictures[1]]);
        assert_eq!(ended.out, "enrolled Ada Lovelace: 2 templates\n");
        // The first enrolment makes the key, and says where.
        ended.says(&["note: the root key is the file", "root.key"]);
        assert_eq!(program.enrolled(), [("Ada Lovelace".to_owned(), 2)]);
        let list = program.ends(0, &["subjects", "list"]);
        assert_eq!(list.out, "Ada Lovelace: 2 templates\n");
        assert!(!list.err.contains("root key"), "{}", list.err);
    }

    #[test]
    fn json_tells_what_was_done() {
        let program = Program::new();
        let (first, text) = (portrait("barack_obama_1"), program.path("notes.jpg"));
        fs::write(&text, "no picture").unwrap();
        let mut done = program.json(
            0,
            &["enrol", " Ada ", &first, &portrait("barack_obama_2"), &first, &text, "--skip-unusable"],
        );
        let subject = done["subject"].take();
        assert_eq!(subject.as_str().map(str::len), Some(32));
        let reason = "this is not a JPEG, PNG or WebP picture";
        let expected = json!({
            "subject": null, "name": "Ada", "created": true, "templates": 2, "duplicates": 1,
            "refused": [{ "picture": text, "reason": reason }], "looks_like": [],
        });
        assert_eq!(done, expected);
    }

    #[test]
    fn further_pictures_go_to_the_subject_of_that_name_however_it_is_written() {
        let program = Program::new();
        let first = program.json(0, &["enrol", "Ada Lovelace", &portrait("barack_obama_1")]);
        let second = program.json(0, &["enrol", "ada lovelace", &portrait("barack_obama_2")]);
        assert_eq!((&first["created"], &second["created"]), (&json!(true), &json!(false)));
        assert_eq!(first["subject"], second["subject"]);
        assert_eq!(program.enrolled(), [("Ada Lovelace".to_owned(), 2)]);
    }

    #[test]
    fn folder_stands_for_the_pictures_in_it_and_png_is_as_good_as_jpeg() {
        let program = Program::new();
        let folder = PathBuf::from(program.path("pictures"));
        fs::create_dir(&folder).unwrap();
        fs::copy(portrait("barack_obama_1"), folder.join("1.JPG")).unwrap();
        pixels("barack_obama_3").save(folder.join("3.png")).unwrap();
        fs::write(folder.join("notes.txt"), "not looked at").unwrap();
        let ended = program.ends(0, &["enrol", "Ada", folder.to_str().unwrap()]);
        assert_eq!(ended.out, "enrolled Ada: 2 templates\n");
        let found = program.json(0, &["identify", &portrait("barack_obama_3")]);
        assert!(faces(&found)[0]["score"].as_f64().unwrap() > 0.99, "{found}");
    }

    #[test]
    fn folder_without_pictures_is_refused() {
        let program = Program::new();
        let folder = program.path("empty");
        fs::create_dir(&folder).unwrap();
        program.ends(1, &["enrol", "Ada", &folder]).says(&["empty", "holds no .jpg"]);
    }

    #[test]
    fn one_unusable_picture_enrols_nothing_unless_it_may_be_left_out() {
        let program = Program::new();
        let wall = nobody(&program);
        let arguments = ["enrol", "Ada", &portrait("barack_obama_1"), &wall];
        let refused = program.ends(1, &arguments);
        refused.says(&["wall.png: no face was found", "1 of 2 pictures", "--skip-unusable"]);
        assert_eq!(refused.out, "");
        assert_eq!(program.enrolled(), []);
        program.ends(3, &["identify", &portrait("barack_obama_1")]);

        let arguments: Vec<_> = arguments.into_iter().chain(["--skip-unusable"]).collect();
        program.ends(0, &arguments).says(&["wall.png: no face was found"]);
        assert_eq!(program.enrolled(), [("Ada".to_owned(), 1)]);
    }

    #[test]
    fn same_picture_is_enrolled_once() {
        let program = Program::new();
        let picture = portrait("grace_hopper_1");
        let ended = program.ends(0, &["enrol", "Ada", &picture, &picture]);
        assert_eq!(ended.out, "enrolled Ada: 1 template\n");
        ended.says(&["left out, the same face picture as"]);
        program.ends(1, &["enrol", "Ada", &picture]).says(&["every picture is enrolled already"]);
        assert_eq!(program.enrolled(), [("Ada".to_owned(), 1)]);
    }

    #[test]
    fn picture_of_two_people_needs_the_word_that_the_larger_one_is_meant() {
        let program = Program::new();
        let both = two_people(&program);
        program.ends(1, &["enrol", "Ada", &both]).says(&["2 faces were found", "--largest-face"]);
        assert_eq!(program.enrolled(), []);
        program.ends(0, &["enrol", "Ada", &both, "--largest-face"]);
        program.ends(0, &["identify", &portrait("barack_obama_1")]);
        program.ends(3, &["identify", &portrait("joe_biden_1")]);
    }

    #[test]
    fn files_that_are_no_usable_picture_are_refused_by_name_and_reason() {
        let program = Program::new();
        let jpeg = fs::read(portrait("joe_biden_1")).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(program.path(name), bytes).unwrap();
        write("text.jpg", b"Dear camera, this is a letter.");
        write("empty.jpg", b"");
        write("cut.jpg", &jpeg[..jpeg.len() / 2]);
        write("cut.png", &fs::read(nobody(&program)).unwrap()[..200]);
        let huge = fs::File::create(program.path("huge.jpg")).unwrap();
        huge.set_len(MAX_STILL_BYTES as u64 + 7).unwrap();
        fs::create_dir(program.path("folder.jpg")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            program.path("pipe.jpg"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let tiny = pixels("joe_biden_1");
        image::imageops::thumbnail(&tiny, 40, 51).save(program.path("tiny.png")).unwrap();
        let mut dark = pixels("joe_biden_1");
        dark.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(|level| level / 8));
        dark.save(program.path("dark.png")).unwrap();

        let cases = [
            ("text.jpg", "not a JPEG, PNG or WebP"),
            ("empty.jpg", "not a JPEG, PNG or WebP"),
            ("cut.jpg", "cut off"),
            ("cut.png", "damaged"),
            ("huge.jpg", "33554439 bytes; at most 33554432"),
            ("missing.jpg", "No such file"),
            ("pipe.jpg", "pipe"),
            ("wall.png", "no face was found"),
            ("tiny.png", "too far"),
            ("dark.png", "too dark"),
        ];
        for (file, reason) in cases {
            let path = program.path(file);
            let refused = program.ends(1, &["enrol", "Ada", &path]);
            refused.says(&[&format!("{path}: "), reason, "nothing was enrolled: 1 of 1 pictures"]);
        }
        program.ends(1, &["identify", &program.path("folder.jpg")]).says(&["folder.jpg: ", "no file"]);
        assert_eq!(program.enrolled(), []);
    }

    #[test]
    fn names_that_are_none_are_refused_before_anything_is_made() {
        let program = Program::new();
        let long = "a".repeat(300);
        for name in ["", "  ", "two\nlines", "bell\u{7}", "\u{202e}ada", &long] {
            let refused = program.ends(2, &["enrol", name, &portrait("barack_obama_1")]);
            refused.says(&["error: a name "]);
        }
        assert!(!program.state().exists());
    }

    #[test]
    fn same_person_under_another_name_is_enrolled_with_a_warning() {
        let program = with_obama();
        let twin = program.json(0, &["enrol", "Bob", &portrait("barack_obama_3")]);
        assert_eq!(twin["looks_like"][0]["name"], "Ada");
        assert!(twin["looks_like"][0]["score"].as_f64().unwrap() > 0.6, "{twin}");
        let stranger = program.json(0, &["enrol", "Eve", &portrait("eileen_collins_1")]);
        assert_eq!(stranger["looks_like"], json!([]));
        // Two subjects that are one person cannot be told apart, and neither is named.
        let found =
            program.json(3, &["identify", &portrait("barack_obama_3"), "--config", &ambiguous(&program)]);
        assert_eq!(faces(&found)[0]["why"]["reason"], "two_subjects_too_close");
    }

    /// A margin that the two entries of one person do not reach.
    fn ambiguous(program: &Program) -> String {
        let path = program.path("margin.toml");
        fs::write(&path, "[identification]\nmargin = 0.5\n").unwrap();
        path
    }

    #[test]
    fn pictures_of_different_people_are_refused_by_file() {
        let program = Program::new();
        let (obama, hopper) = (portrait("barack_obama_1"), portrait("grace_hopper_1"));
        let refused = program.ends(1, &["enrol", "Ada", &obama, &hopper]);
        refused.says(&[&format!("{obama}: looks like somebody else than {hopper}"), "different people"]);
        // The odd one out of three.
        let second = portrait("barack_obama_2");
        let arguments = ["enrol", "Ada", &obama, &hopper, &second];
        let refused = program.ends(1, &arguments);
        refused.says(&[&format!("{hopper}: looks like somebody else"), "1 of 3 pictures"]);
        assert_eq!(program.enrolled(), []);
        let done = program.json(0, &[&arguments[..], &["--skip-unusable"]].concat());
        assert_eq!((&done["templates"], &done["refused"][0]["picture"]), (&json!(2), &json!(hopper)));
        // Somebody else's picture does not get into a subject that is there.
        let refused = program.ends(1, &["enrol", "Ada", &hopper]);
        refused.says(&[&format!("{hopper}: does not look like this subject's own templates")]);
        assert_eq!(program.enrolled(), [("Ada".to_owned(), 2)]);
    }

    #[test]
    fn more_pictures_than_configured_are_refused() {
        let program = Program::new().with("LIMEN_ENROLMENT__MAXIMUM_PICTURES", "1");
        let pictures = [portrait("barack_obama_1"), portrait("barack_obama_2")];
        let refused = program.ends(2, &["enrol", "Ada", &pictures[0], &pictures[1]]);
        refused.says(&["enrolment.maximum_pictures is 1"]);
    }
}

mod identify {
    use super::*;

    /// The same photograph, mirrored and a fifth smaller.
    fn mirrored(program: &Program, name: &str) -> String {
        let picture = pixels(name);
        let smaller = image::imageops::thumbnail(&picture, picture.width() * 4 / 5, picture.height() * 4 / 5);
        let path = program.path(&format!("{name}.png"));
        image::imageops::flip_horizontal(&smaller).save(&path).unwrap();
        path
    }

    #[test]
    fn subjects_are_named_on_other_pictures_and_everybody_else_is_unknown() {
        let program = with_obama();
        program.ends(0, &["enrol", "Eve", &portrait("eileen_collins_1")]);
        program.ends(0, &["enrol", "Grace", &portrait("grace_hopper_1")]);
        let cases = [
            (portrait("barack_obama_3"), Some("Ada")),
            (mirrored(&program, "eileen_collins_1"), Some("Eve")),
            (mirrored(&program, "grace_hopper_1"), Some("Grace")),
            (portrait("joe_biden_1"), None),
            (mirrored(&program, "joe_biden_1"), None),
        ];
        let arguments: Vec<_> =
            ["identify", "--json"].into_iter().chain(cases.iter().map(|(path, _)| path.as_str())).collect();
        let lines = program.ends(0, &arguments).json_lines();
        assert_eq!(lines.len(), cases.len());
        for (line, (path, name)) in lines.iter().zip(&cases) {
            assert_eq!(line["picture"], *path);
            let [face] = faces(line) else { panic!("{line}") };
            let decision = if name.is_some() { "match" } else { "no_match" };
            assert_eq!((&face["name"], &face["decision"]), (&json!(name), &json!(decision)), "{line}");
        }

        // The control: with only a stranger enrolled nobody above but the stranger is named.
        let other = Program::new();
        other.ends(0, &["enrol", "Joe", &portrait("joe_biden_1")]);
        let named = other.run(&arguments).json_lines();
        let names: Vec<_> = named.iter().map(|line| &faces(line)[0]["name"]).collect();
        assert_eq!(names, [&json!(null), &json!(null), &json!(null), &json!("Joe"), &json!("Joe")]);
    }

    #[test]
    fn exit_code_says_match_no_match_failure_or_wrong_usage() {
        let program = Program::new();
        let empty = program.ends(3, &["identify", &portrait("barack_obama_3")]);
        assert!(empty.out.contains("unknown (nobody is enrolled)"), "{}", empty.out);
        program.ends(0, &["enrol", "Ada", &portrait("barack_obama_1")]);
        let named = program.ends(0, &["identify", &portrait("barack_obama_3")]);
        assert!(named.out.contains("barack_obama_3.jpg: Ada (score 0."), "{}", named.out);
        let unknown = program.ends(3, &["identify", &portrait("joe_biden_1")]);
        assert!(unknown.out.contains("unknown (best score"), "{}", unknown.out);
        let wall = program.ends(3, &["identify", &nobody(&program)]);
        assert!(wall.out.contains("wall.png: no face"), "{}", wall.out);
        let missing = program.ends(1, &["identify", "missing.jpg"]);
        assert_eq!(missing.err.matches("missing.jpg").count(), 1, "{}", missing.err);
        program.ends(2, &["identify"]);
        program.ends(2, &["identify", "--draw", "a.png", "b.jpg", "c.jpg"]).says(&["--draw takes one"]);
    }

    #[test]
    fn failure_is_json_too() {
        let ended = Program::new().ends(1, &["identify", "--json", "missing.jpg"]);
        let last: Value = serde_json::from_str(ended.err.lines().last().unwrap()).unwrap();
        assert!(last["error"].as_str().unwrap().contains("missing.jpg"), "{last}");
        assert_eq!(ended.out, "");
    }

    #[test]
    fn people_in_one_picture_are_told_from_left_to_right() {
        let program = with_obama();
        let found = program.json(0, &["identify", &two_people(&program)]);
        let names: Vec<_> = faces(&found).iter().map(|face| &face["name"]).collect();
        assert_eq!(names, [&json!("Ada"), &json!(null)]);
        let middle = |face: &Value| {
            (face["box"]["left"].as_f64().unwrap() + face["box"]["right"].as_f64().unwrap()) / 2.0
        };
        assert!(middle(&faces(&found)[0]) < 512.0 && middle(&faces(&found)[1]) > 512.0, "{found}");
    }

    #[test]
    fn drawn_picture_has_its_size_and_marks_the_face() {
        let program = with_obama();
        let target = program.path("marked.png");
        program.ends(0, &["identify", &portrait("barack_obama_3"), "--draw", &target]).says(&["marked.png"]);
        assert!(fs::read(&target).unwrap().starts_with(b"\x89PNG\r\n"));
        let (before, after) = (pixels("barack_obama_3"), image::open(&target).unwrap().into_rgb8());
        assert_eq!(before.dimensions(), after.dimensions());
        let apart =
            |(a, b): &(&image::Rgb<u8>, &image::Rgb<u8>)| (0..3).any(|c| a.0[c].abs_diff(b.0[c]) > 60);
        let changed = before.pixels().zip(after.pixels()).filter(apart).count();
        let all = (before.width() * before.height()) as usize;
        assert!((500..all / 4).contains(&changed), "{changed} of {all} pixels");

        let nowhere = program.path("no/such/folder.png");
        let refused = program.ends(1, &["identify", &portrait("barack_obama_3"), "--draw", &nowhere]);
        refused.says(&["cannot write", "folder.png"]);
    }
}

mod verify {
    use super::*;

    #[test]
    fn two_pictures_match_or_not() {
        let program = Program::new();
        let same = program.json(0, &["verify", &portrait("barack_obama_1"), &portrait("barack_obama_3")]);
        let other = program.json(3, &["verify", &portrait("barack_obama_1"), &portrait("joe_biden_1")]);
        let score = |value: &Value| value["score"].as_f64().unwrap();
        assert!(score(&same) > 0.6 && score(&other) < 0.35, "{same} {other}");
        assert_eq!((&same["match"], &other["match"]), (&json!(true), &json!(false)));
        // No gallery is needed, and none is made.
        assert!(!program.state().exists());
    }

    #[test]
    fn picture_is_compared_with_a_subject() {
        let program = with_obama();
        program.ends(0, &["enrol", "Joe", &portrait("joe_biden_1")]);
        let picture = portrait("barack_obama_3");
        let same = program.ends(0, &["verify", "--subject", "Ada", &picture]);
        assert!(same.out.starts_with("match: score 0."), "{}", same.out);
        let other = program.ends(3, &["verify", "--subject", "Joe", &picture]);
        assert!(other.out.starts_with("no match: score"), "{}", other.out);
        program.ends(1, &["verify", "--subject", "Eve", &picture]).says(&["limen subjects list"]);
    }

    #[test]
    fn wrong_usage_is_told_before_anything_is_read() {
        let program = Program::new().with("LIMEN_MODELS__FOLDER", "/nonexistent");
        program.ends(2, &["verify", "one.jpg"]).says(&["--subject NAME"]);
        program.ends(2, &["verify", "one.jpg", "two.jpg", "--subject", "Ada"]).says(&["one picture"]);
        program.ends(2, &["verify"]);
        program.ends(2, &["verify", "one.jpg", "two.jpg", "three.jpg"]);
        program.ends(2, &["verify", "one.jpg", "--subject", ""]).says(&["a name "]);
    }
}

mod subjects {
    use super::*;

    #[test]
    fn empty_gallery_says_how_to_fill_it() {
        let program = Program::new();
        let list = program.ends(0, &["subjects", "list"]);
        assert!(list.out.contains("limen enrol NAME PICTURE"), "{}", list.out);
        assert_eq!(program.enrolled(), []);
    }

    #[test]
    fn templates_are_shown_with_their_quality() {
        let program = with_obama();
        let subject = program.json(0, &["subjects", "show", "Ada"]);
        assert_eq!((&subject["name"], &subject["templates"]), (&json!("Ada"), &json!(2)));
        let samples = subject["samples"].as_array().unwrap();
        assert_eq!(samples.len(), 2);
        for sample in samples {
            assert!((0.4..=1.0).contains(&sample["quality"].as_f64().unwrap()), "{sample}");
            assert!((40.0..200.0).contains(&sample["eye_distance_px"].as_f64().unwrap()), "{sample}");
            assert!(sample["embedding_space"].as_str().is_some_and(|space| !space.is_empty()));
            assert_eq!(sample.get("embedding"), None);
        }
        let text = program.ends(0, &["subjects", "show", "Ada"]).out;
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn renamed_subject_keeps_templates_and_goes_by_the_new_name_only() {
        let program = with_obama();
        program.ends(0, &["enrol", "Joe", &portrait("joe_biden_1")]);
        program.ends(0, &["subjects", "rename", "Ada", "Bob"]);
        assert_eq!(program.enrolled(), [("Bob".to_owned(), 2), ("Joe".to_owned(), 1)]);
        let found = program.json(0, &["identify", &portrait("barack_obama_3")]);
        assert_eq!(faces(&found)[0]["name"], "Bob");
        program.ends(1, &["subjects", "rename", "Ada", "Eve"]).says(&["nobody is enrolled as Ada"]);
        program.ends(1, &["subjects", "rename", "Bob", "joe"]).says(&["another subject has this name"]);
        program.ends(2, &["subjects", "rename", "Bob", ""]).says(&["a name "]);
        assert_eq!(program.enrolled(), [("Bob".to_owned(), 2), ("Joe".to_owned(), 1)]);
    }

    #[test]
    fn expiry_is_set_shown_and_taken_back() {
        let program = with_obama();
        program.ends(0, &["subjects", "expire", "Ada", "--days", "3"]);
        let shown = program.json(0, &["subjects", "show", "Ada"]);
        let (now, at) = (unix_millis(), shown["expires_at"].as_i64().unwrap());
        assert!((at - now - 3 * 86_400_000).abs() < 600_000, "{at}");
        assert!(program.ends(0, &["subjects", "list"]).out.contains("expires in 3.0 days"));
        program.ends(0, &["identify", &portrait("barack_obama_3")]);
        program.ends(0, &["subjects", "expire", "Ada", "--never"]);
        assert_eq!(program.json(0, &["subjects", "show", "Ada"])["expires_at"], Value::Null);
        program.ends(2, &["subjects", "expire", "Ada"]).says(&["--days", "--never"]);
        program.ends(2, &["subjects", "expire", "Ada", "--never", "--days", "3"]);
        program.ends(2, &["subjects", "expire", "Ada", "--days", "0"]);
    }

    fn unix_millis() -> i64 {
        use limen::clock::{Clock, SystemClock};
        SystemClock.wall().0
    }

    #[test]
    fn nobody_is_removed_without_being_asked_about_or_yes() {
        let program = with_obama();
        program.ends(2, &["subjects", "remove", "Ada"]).says(&["--yes"]);
        assert_eq!(program.enrolled(), [("Ada".to_owned(), 2)]);
    }

    #[test]
    fn removed_subject_is_unknown_from_then_on() {
        let program = with_obama();
        program.ends(0, &["identify", &portrait("barack_obama_3")]);
        let removed = program.ends(0, &["subjects", "remove", "--yes", "Ada"]);
        assert_eq!(removed.out, "erased Ada with 2 templates and from 0 events\n");
        assert_eq!(program.enrolled(), []);
        let found = program.json(3, &["identify", &portrait("barack_obama_3")]);
        assert_eq!(
            (&faces(&found)[0]["decision"], &faces(&found)[0]["name"]),
            (&json!("no_match"), &json!(null))
        );
        program.ends(1, &["subjects", "remove", "--yes", "Ada"]).says(&["nobody is enrolled as Ada"]);
    }
}

mod config {
    use super::*;

    #[test]
    fn template_is_a_configuration_that_check_accepts() {
        let program = Program::new();
        let file = program.path("made.toml");
        fs::write(&file, program.ends(0, &["config", "template"]).out).unwrap();
        let checked = program.ends(0, &["config", "check", "--config", &file]);
        assert!(checked.out.starts_with("ok: ") && checked.out.contains("made.toml"), "{}", checked.out);
    }

    #[test]
    fn misspelt_key_is_refused_and_the_nearest_one_named() {
        let program = Program::new();
        let file = program.path("wrong.toml");
        fs::write(&file, "[camera]\nwidht = 640\n").unwrap();
        let refused = program.ends(2, &["config", "check", "--config", &file]);
        refused.says(&["camera.widht", "wrong.toml, line 2", "did you mean camera.width?"]);
        // Every command refuses it, before it touches anything.
        program.ends(2, &["subjects", "list", "--config", &file]).says(&["camera.widht"]);
        assert!(!program.state().exists());
        let program = program.with("LIMEN_CAMERA__WIDHT", "640");
        program.ends(2, &["config", "check"]).says(&["did you mean LIMEN_CAMERA__WIDTH?"]);
    }

    #[test]
    fn values_out_of_range_and_missing_files_are_refused() {
        let program = Program::new().with("LIMEN_CAMERA__WIDTH", "3");
        program.ends(2, &["config", "check"]).says(&["camera.width", "160 to 3840"]);
        let program = Program::new();
        program.ends(2, &["config", "check", "--config", "missing.toml"]).says(&["missing.toml"]);
        program.ends(2, &["run", "--source", "rtsp://camera/1"]).says(&["camera.source"]);
    }

    #[test]
    fn show_tells_every_value_and_its_origin() {
        let program = Program::new().with("LIMEN_CAMERA__WIDTH", "1280");
        let file = program.path("some.toml");
        fs::write(&file, "[camera]\nwidth = 320\nheight = 720\n").unwrap();
        let shown = program.json(0, &["config", "show", "--config", &file]);
        let value = |key: &str| (&shown["camera"][key]["value"], shown["camera"][key]["origin"].to_string());
        let (width, from) = value("width");
        assert!(*width == 1280 && from.contains("LIMEN_CAMERA__WIDTH"), "{width} {from}");
        let (height, from) = value("height");
        assert!(*height == 720 && from.contains("some.toml"), "{height} {from}");
        let text = program.ends(0, &["config", "show", "--config", &file]).out;
        assert!(text.contains("1280") && text.contains("some.toml"), "{text}");
    }
}

mod program_itself {
    use super::*;

    fn commands(program: &Program) -> Vec<String> {
        let help = program.ends(0, &["--help"]).out;
        let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        list.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
    }

    #[test]
    fn help_of_every_command_has_an_example() {
        let program = Program::new();
        let commands = commands(&program);
        assert!(commands.len() >= 10, "{commands:?}");
        for command in commands.iter().filter(|command| *command != "help") {
            let help = program.ends(0, &["help", command]).out;
            let example = help.split("Example").nth(1).unwrap_or_else(|| panic!("{command}: {help}"));
            assert!(
                example.contains(&format!("limen {command}")) || example.contains("config check"),
                "{help}"
            );
        }
    }

    #[test]
    fn completions_know_every_command_and_bash_reads_them() {
        let program = Program::new();
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = program.ends(0, &["completions", shell]).out;
            for command in commands(&program) {
                assert!(script.contains(&command), "{shell}: {command}");
            }
        }
        let script = program.ends(0, &["completions", "bash"]).out;
        assert_cmd::Command::new("bash").args(["-n"]).write_stdin(script).assert().success();
    }

    #[test]
    fn selftest_recognises_with_a_lead_on_both_sides() {
        let report = Program::new().json(0, &["selftest"]);
        let number = |key: &str| report[key].as_f64().unwrap();
        assert!(number("different_people") < number("threshold"), "{report}");
        assert!(number("threshold") < number("same_person"), "{report}");
        let text = Program::new().ends(0, &["selftest"]).out;
        assert!(text.starts_with("ok: models verified, LiteRT"), "{text}");
    }

    #[test]
    fn without_a_command_it_shows_the_help() {
        let bare = assert_cmd::Command::new(env!("CARGO_BIN_EXE_limen")).output().unwrap();
        assert_eq!(bare.status.code(), Some(2));
        let help = String::from_utf8(bare.stderr).unwrap();
        assert!(help.contains("Usage: limen") && help.contains("Exit codes:"), "{help}");
    }
}

mod what_it_is_made_of {
    use super::*;

    /// A models folder that can be changed; unchanged files are links.
    fn models(program: &Program) -> PathBuf {
        let folder = PathBuf::from(program.path("models"));
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(models_folder()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::os::unix::fs::symlink(&path, folder.join(path.file_name().unwrap())).unwrap();
            }
        }
        folder
    }

    /// Puts a changed copy in the place of a link.
    fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn manifest(folder: &Path, from: &str, to: &str) {
        change(&folder.join("manifest.toml"), |bytes| {
            let text = String::from_utf8(std::mem::take(bytes)).unwrap();
            assert_eq!(text.matches(from).count(), 1, "{from}");
            *bytes = text.replace(from, to).into_bytes();
        });
    }

    fn selftest(program: Program, models: &Path, code: i32) -> Ended {
        program.with("LIMEN_MODELS__FOLDER", models).ends(code, &["selftest"])
    }

    #[test]
    fn untouched_copy_of_the_models_is_accepted() {
        let program = Program::new();
        let folder = models(&program);
        selftest(program, &folder, 0);
    }

    #[test]
    fn one_changed_bit_in_any_model_is_refused_by_file() {
        let mut refused = 0;
        for entry in fs::read_dir(models_folder()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "tflite") {
                continue;
            }
            let program = Program::new();
            let folder = models(&program);
            let file = path.file_name().unwrap().to_str().unwrap();
            change(&folder.join(file), |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            });
            selftest(program, &folder, 1).says(&[file, "sha256", "the manifest says"]);
            refused += 1;
        }
        assert_eq!(refused, 3);
    }

    #[test]
    fn nothing_starts_with_a_model_that_is_cut_short_or_missing() {
        let program = Program::new();
        let folder = models(&program);
        let file = folder.join("sface-int8.tflite");
        change(&file, |bytes| bytes.truncate(100));
        let program = program.with("LIMEN_MODELS__FOLDER", &folder);
        let ended = program.ends(1, &["run", "--demo", "--json", "--seconds", "1"]);
        assert_eq!(ended.out, "");
        ended.says(&["sface-int8.tflite has 100 bytes"]);
        fs::remove_file(&file).unwrap();
        program.ends(1, &["selftest"]).says(&["cannot read", "sface-int8.tflite"]);
        let picture = portrait("joe_biden_1");
        program.ends(1, &["enrol", "Ada", &picture]).says(&["sface-int8.tflite"]);
    }

    #[test]
    fn model_that_is_not_as_the_manifest_says_is_refused_with_both() {
        for (from, to, expected) in [
            ("shape = [1, 1, 1, 1]", "shape = [1, 1, 1, 2]", ["face-mesh", "[1, 1, 1, 2]", "[1, 1, 1, 1]"]),
            ("scale = 1.0\nzero_point", "scale = 2.0\nzero_point", ["sface", "input 0", "the file has"]),
            ("shape = [1, 112, 112, 3]", "shape = [1, 96, 96, 3]", ["sface", "96", "112"]),
        ] {
            let program = Program::new();
            let folder = models(&program);
            if to.contains("96") {
                // The alignment template has to fit the smaller crop.
                manifest(&folder, "[70.7299, 92.2041]", "[70.7299, 90.0]");
            }
            manifest(&folder, from, to);
            selftest(program, &folder, 1).says(&expected);
        }
    }

    #[test]
    fn models_that_are_not_there_are_told_with_what_to_do() {
        let program = Program::new().with("LIMEN_MODELS__FOLDER", "/nonexistent");
        let refused = program.ends(1, &["run", "--seconds", "1"]);
        refused.says(&["/nonexistent/manifest.toml", "models.folder", "make run"]);
    }

    #[test]
    fn changed_or_missing_runtime_library_is_refused() {
        let program = Program::new();
        let library = program.path("libLiteRt.so");
        fs::copy(litert_library(), &library).unwrap();
        change(Path::new(&library), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        let program = program.with("LIMEN_LITERT__LIBRARY", &library);
        program.ends(1, &["selftest"]).says(&["libLiteRt.so", "sha256", "pinned"]);
        let program = program.with("LIMEN_LITERT__LIBRARY", "/nonexistent.so");
        program.ends(1, &["selftest"]).says(&["/nonexistent.so", "litert.library"]);
    }
}

mod state {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn state_folder_and_everything_in_it_is_private() {
        let program = with_obama();
        assert_eq!(mode(&program.state()), 0o700);
        let files: Vec<_> =
            fs::read_dir(program.state()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 2, "{files:?}");
        let pictures =
            fs::read_dir(program.state().join("media")).unwrap().map(|entry| entry.unwrap().path());
        let pictures: Vec<_> = pictures.collect();
        assert!(!pictures.is_empty());
        for file in files.iter().chain(&pictures) {
            let expected = if file.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(file), expected, "{}", file.display());
        }
    }

    #[test]
    fn export_of_a_subject_holds_all_of_theirs_and_nothing_of_others() {
        let program = with_obama();
        program.ends(0, &["enrol", "Grace Hopper", &portrait("grace_hopper_1")]);
        let source = format!("replay:{}", recording(&program));
        program.ends(0, &["run", "--source", &source, "--once", "--json"]);
        let file = program.path("export.zip");
        let to = file.as_str();
        program.ends(0, &["subjects", "export", "Ada", "--to", to]);
        assert_eq!(mode(file.as_ref()), 0o600);
        let mut zip = zip::ZipArchive::new(fs::File::open(&file).unwrap()).unwrap();
        let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
        let data: Value = serde_json::from_reader(zip.by_name("data.json").unwrap()).unwrap();
        let samples = data["samples"].as_array().unwrap();
        assert!(!samples.is_empty());
        for sample in samples {
            assert!(names.contains(&format!("pictures/sample-{}.jpg", sample["sample"])), "{names:?}");
        }
        assert_eq!(data["templates"].as_array().unwrap().len(), samples.len());
        assert_eq!(data["templates"][0]["values"].as_array().unwrap().len(), 128);
        assert_eq!(data["subject"]["name"], "Ada");
        let events = data["events"].as_array().unwrap();
        assert!(events.iter().any(|event| event["kind"] == "identified"), "{events:?}");
        assert!(!data.to_string().contains("Hopper"));
        assert!(names.iter().any(|name| name == "README.txt"));
        // Never over a file that is there, and nothing half done is left.
        program.ends(1, &["subjects", "export", "Ada", "--to", to]);
        let log = program.ends(0, &["audit", "list"]).out;
        assert!(
            log.contains("export_subject /api/subjects/~") && log.contains("command line enrol"),
            "{log}"
        );
        assert!(!log.contains("Obama"), "{log}");
        let verified = program.ends(0, &["audit", "verify"]).out;
        assert!(verified.contains("as they were written"), "{verified}");
    }

    #[test]
    fn root_key_is_shown_and_changed() {
        let program = with_obama();
        let shown = program.ends(0, &["key", "status"]);
        assert!(shown.out.contains("root.key") && shown.err.contains("whoever takes the whole storage"));
        let key = || fs::read_to_string(program.state().join("root.key")).unwrap();
        let before = key();
        program.ends(0, &["key", "rotate"]);
        assert_ne!(key(), before);
        assert!(program.ends(0, &["subjects", "list"]).out.contains("Ada"));
        let new = program.ends(0, &["key", "new"]).out;
        assert!(new.trim_end().len() == 64 && new.trim_end() != key().trim_end());
    }

    #[test]
    fn key_that_others_can_read_is_refused() {
        let program = with_obama();
        let key = program.state().join("root.key");
        for bad in [0o640, 0o604] {
            fs::set_permissions(&key, fs::Permissions::from_mode(bad)).unwrap();
            let refused = program.ends(1, &["subjects", "list"]);
            refused.says(&["root.key", &format!("{bad:04o}"), "0600"]);
            assert_eq!(refused.out, "");
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(program.enrolled(), [("Ada".to_owned(), 2)]);
    }

    #[test]
    fn lost_or_wrong_key_opens_nothing_and_makes_no_new_one() {
        let program = with_obama();
        let key = program.state().join("root.key");
        let right = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        program.ends(1, &["subjects", "list"]).says(&["gallery.db is there but its key is not"]);
        assert!(!key.exists());
        fs::write(&key, "00".repeat(32)).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        program.ends(1, &["subjects", "list"]);
        fs::write(&key, right).unwrap();
        assert_eq!(program.enrolled(), [("Ada".to_owned(), 2)]);
    }

    #[test]
    fn state_folder_that_others_can_write_to_is_refused() {
        let program = with_obama();
        fs::set_permissions(program.state(), fs::Permissions::from_mode(0o770)).unwrap();
        program.ends(1, &["identify", &portrait("joe_biden_1")]).says(&["0770", "0700"]);
    }

    /// A recording of two seconds in which one person stands before the camera.
    fn recording(program: &Program) -> String {
        let path = program.path("door.mjpeg");
        fs::write(&path, fs::read(portrait("barack_obama_3")).unwrap().repeat(30)).unwrap();
        path
    }

    #[test]
    fn names_stand_on_standard_output_and_nowhere_else() {
        for format in ["text", "json"] {
            let program = Program::new().with("LIMEN_LOG__LEVEL", "trace").with("LIMEN_LOG__FORMAT", format);
            let (first, second) = (portrait("barack_obama_1"), portrait("barack_obama_2"));
            program.ends(0, &["enrol", "Zebedee Quuxington", &first, &second]);
            let source = format!("replay:{}", recording(&program));
            let ended = program.ends(0, &["run", "--source", &source, "--once", "--json"]);
            // The name comes out where it should, and there is a log at that level.
            assert!(ended.out.contains("Zebedee Quuxington"), "{}", ended.out);
            ended.says(&["camera stream opened"]);
            let log = ended.err.to_lowercase();
            assert!(!log.contains("zebedee") && !log.contains("quuxington"), "{}", ended.err);
            let mut read = 0;
            let folders = [program.state(), program.state().join("media")];
            let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
            for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
                let bytes = fs::read(&path).unwrap().to_ascii_lowercase();
                for word in ["zebedee", "quuxington"] {
                    let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
                    assert!(!found && !path.to_string_lossy().contains(word), "{}", path.display());
                }
                read += bytes.len();
            }
            assert!(read > 10_000, "{read} bytes");
        }
    }
}

#[test]
fn consent_is_recorded_shown_in_the_export_and_withdrawn() {
    let program = Program::new();
    program.ends(0, &["enrol", "Joe", &portrait("joe_biden_1")]);
    program.ends(2, &["subjects", "consent", "Joe"]);
    let recorded = program.json(
        0,
        &[
            "subjects",
            "consent",
            "Joe",
            "--given-by",
            "Joe himself",
            "--way",
            "written",
            "--text-version",
            "7",
        ],
    );
    assert_eq!(recorded["text_version"], "7");
    let consent = |to: &str| {
        program.ends(0, &["subjects", "export", "Joe", "--to", to]);
        let mut zip = zip::ZipArchive::new(std::fs::File::open(to).unwrap()).unwrap();
        let text = std::io::read_to_string(zip.by_name("data.json").unwrap()).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["consent"].clone()
    };
    let kept = consent(&program.path("one.zip"));
    assert_eq!((&kept["given_by"], &kept["text_version"]), (&"Joe himself".into(), &"7".into()), "{kept}");
    assert_eq!(program.json(0, &["subjects", "consent", "Joe", "--withdraw"])["withdrawn"], true);
    assert!(consent(&program.path("two.zip")).is_null());
}
