//! No output touches an input, and what cannot be written is told before anything runs.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use updp_testkit::{Micro, conv, encode, prove, read_model, seeded};

use crate::prune::command::{ends, run, succeeds};

/// A model of a few operators.
fn micro() -> Micro {
    let mut m = Micro::new(402);
    let x = m.input("x", &[1, 8, 8]);
    m.weight("w", &[4, 1, 3, 3], &seeded(1, 36));
    let y = m.conv_with(&x, &conv(4).kernel(3).pad(1), "w", None);
    let y = m.bn(&y);
    m.output(&y);
    m
}

struct Scene {
    folder: TempDir,
}

impl Scene {
    /// A folder with `model.onnx`, `updp.toml` and two classes of one image each.
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(scene.path("model.onnx"), encode(&micro().build())).expect("written");
        std::fs::write(scene.path("updp.toml"), "quiet = true\n").expect("written");
        for class in ["a", "b"] {
            std::fs::create_dir_all(scene.path("images").join(class)).expect("made");
            std::fs::write(scene.path("images").join(class).join("1.png"), class).expect("written");
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Every file with its contents.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn below(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(folder).expect("readable").flatten() {
                let path = entry.path();
                if entry.file_type().expect("known").is_dir() {
                    below(&path, found);
                } else {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    found.push((path, bytes));
                }
            }
        }
        let mut found = Vec::new();
        below(self.folder.path(), &mut found);
        found.sort();
        found
    }

    /// The command is refused with C0023 and this text, and no file changes.
    #[track_caller]
    fn refuses(&self, line: &str, message: &str) {
        let before = self.contents();
        let words: Vec<String> = line.split(' ').map(|word| self.word(word)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = ends(&words, 2, "error[C0023]: ");
        assert!(told.contains(message), "{line}: no {message:?} in {told:?}");
        assert!(self.contents() == before, "{line}: a file has changed");
    }

    /// `@name` is a path in this folder.
    fn word(&self, word: &str) -> String {
        word.strip_prefix('@').map_or_else(|| word.to_owned(), |name| self.text(name))
    }
}

#[test]
fn no_output_of_any_command_is_an_input() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("sub")).expect("made");
    std::fs::hard_link(scene.path("model.onnx"), scene.path("hard.onnx")).expect("linked");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("model.onnx", scene.path("link.onnx")).expect("linked");
        std::os::unix::fs::symlink(scene.path("images/b/1.png"), scene.path("images/a/2.png"))
            .expect("linked");
        scene.refuses("@model.onnx -o @link.onnx", "the model");
        scene.refuses("@link.onnx -o @model.onnx", "--in-place");
    }
    for (line, message) in [
        ("@model.onnx -o @model.onnx", "the model"),
        ("@model.onnx @model.onnx", "--in-place"),
        ("compile @model.onnx -o @sub/../model.onnx", "the model"),
        ("@model.onnx -o @hard.onnx", "the model"),
        ("@model.onnx -o @out.onnx --report @model.onnx", "--report"),
        ("@model.onnx -o @out.onnx --config @updp.toml --report @updp.toml", "--config"),
        ("inspect @model.onnx --map @model.onnx", "--map"),
        ("inspect @model.onnx --latency --latency-table @model.onnx", "--latency-table"),
        ("bench @model.onnx --per-block --latency-table @model.onnx", "--latency-table"),
        ("evaluate @hard.onnx @model.onnx --data @images --report @model.onnx", "--report"),
        ("evaluate @model.onnx --data @images --report @images/a/1.png", "a/1.png"),
        ("train @model.onnx --data @images -o @model.onnx", "--in-place"),
        ("train @model.onnx --data @images --emit-step @model.onnx", "--emit-step"),
        ("train @model.onnx --data @images -o @images/b/1.png", "--data"),
        ("prune @model.onnx --prune 1 --data @images -o @model.onnx", "--in-place"),
        ("prune @model.onnx --prune 1 --data @images -o @o --front @model.onnx", "--front"),
        ("prune @model.onnx --prune 1 --data @images -o @o --work @images", "--work"),
        ("prune @model.onnx --prune 1 --data @images -o @o --latency-table @model.onnx", "table"),
    ] {
        scene.refuses(line, message);
    }
}

#[test]
fn no_two_outputs_are_one_file() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("sub")).expect("made");
    for (line, message) in [
        ("@model.onnx -o @out.onnx --report @out.onnx", "what -o writes"),
        ("@model.onnx -o @out.onnx --report @sub/../out.onnx", "what -o writes"),
        ("@model.onnx -o @out.onnx --report @out.onnx.data", "what -o writes"),
        ("@model.onnx -o @out.onnx --report @r.json --report @r.json", "--report"),
        ("@model.onnx -o @sub/out.onnx --test-vectors @sub", "what -o writes"),
        ("@model.onnx -o @v --test-vectors @v", "what -o writes"),
        ("train @model.onnx --data @images --emit-step @s.onnx --report @s.json -o @o", "s.json"),
        ("train @model.onnx --data @images -o @o --work @o", "--work"),
        ("inspect @model.onnx --latency --map @t.json --latency-table @t.json", "--map"),
        (
            "prune @model.onnx --prune 1 --data @images -o @o --front @f.tsv --report @f.tsv",
            "f.tsv",
        ),
    ] {
        scene.refuses(line, message);
    }
    // Devices are written to, and never replaced.
    #[cfg(unix)]
    succeeds(&[&scene.text("model.onnx"), "-o", "/dev/null", "--report", "/dev/null"]);
}

#[test]
fn the_model_is_written_over_where_that_is_said() {
    let scene = Scene::new();
    let (model, copy) = (scene.text("model.onnx"), scene.path("copy.onnx"));
    std::fs::copy(&model, &copy).expect("copied");
    succeeds(&[&model, "--in-place"]);
    let once = std::fs::read(&model).expect("there");
    assert!(once != std::fs::read(&copy).expect("there"), "it was compiled");
    prove(&read_model(&copy), &read_model(Path::new(&model)));
    succeeds(&[&copy.display().to_string(), "-o", &copy.display().to_string(), "--in-place"]);
    assert!(once == std::fs::read(&copy).expect("there"));
    // The permission is for this file alone.
    scene.refuses("@model.onnx --in-place --report @model.onnx", "--report");
}

#[test]
fn the_tensors_of_the_model_are_an_input() {
    let scene = Scene::new();
    let (model, with_data) = (scene.text("model.onnx"), scene.text("d.onnx"));
    std::fs::write(scene.path("images/a/notes.json"), "{}").expect("written");
    let mut heavy = Micro::new(403);
    let x = heavy.input("x", &[16, 7, 6]);
    heavy.weight("w", &[16, 16, 3, 3], &seeded(1, 16 * 16 * 9));
    let y = heavy.conv_with(&x, &conv(16).kernel(3).pad(1), "w", None);
    let y = heavy.bn(&y);
    heavy.output(&y);
    std::fs::write(&model, encode(&heavy.build())).expect("written");
    succeeds(&[&model, "-o", &with_data, "--external-data"]);
    assert!(scene.path("d.onnx.data").is_file());
    std::fs::hard_link(scene.path("d.onnx.data"), scene.path("x.json")).expect("linked");
    for line in [
        "@d.onnx -o @d.onnx.data",
        "@d.onnx -o @out.onnx --report @d.onnx.data",
        "@d.onnx -o @out.onnx --report @x.json",
        "inspect @d.onnx --map @x.json",
        "@d.onnx --in-place --report @x.json",
    ] {
        scene.refuses(line, "the tensors of the model");
    }
    succeeds(&[&with_data, "--in-place", "--external-data"]);
    prove(&read_model(Path::new(&model)), &read_model(Path::new(&with_data)));
}

#[test]
fn what_cannot_be_written_is_told_before_the_model_is_read() {
    let scene = Scene::new();
    let missing = scene.text("missing.onnx");
    let (out, folder) = (scene.text("out.onnx"), scene.text("images"));
    let nowhere = scene.text("no/such/r.json");
    for arguments in [
        vec!["-o", &folder],
        vec!["-o", &nowhere],
        vec!["-o", &out, "--report", &nowhere],
        vec!["-o", &out, "--report", &folder],
        vec!["-o", &out, "--test-vectors", &folder],
    ] {
        let line = [vec![missing.as_str()], arguments].concat();
        ends(&line, 2, "error[C0003]: ");
    }
    if cfg!(target_os = "linux") {
        ends(&[&missing, "-o", "/proc/out.onnx"], 2, "error[C0003]: ");
        ends(&[&missing, "-o", &out, "--report", "/proc/r.json"], 2, "error[C0003]: ");
        let long = format!("{out}{}", "x".repeat(300));
        ends(&[&missing, "-o", &long], 2, "error[C0003]: ");
        // A device that takes nothing is an error like a full disk.
        ends(&[&scene.text("model.onnx"), "-o", "/dev/full"], 2, "error[C0003]: ");
    }
    assert_eq!(scene.contents().len(), 4, "nothing is left");
}

#[cfg(unix)]
#[test]
fn files_that_are_replaced_keep_their_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let (model, out, report) =
        (scene.text("model.onnx"), scene.text("o.onnx"), scene.text("r.json"));
    let all = [&model, "-o", &out, "--report", &report, "--external-data"];
    let mode = |path: &str| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    succeeds(&all);
    for (path, private) in [(&out, 0o600), (&report, 0o640)] {
        let permissions = std::fs::Permissions::from_mode(private);
        std::fs::set_permissions(path, permissions).expect("set");
    }
    succeeds(&all);
    assert_eq!((mode(&out), mode(&report)), (0o600, 0o640));
    // What a private model keeps in a file beside it is private too.
    let mut heavy = Micro::new(404);
    let x = heavy.input("x", &[16, 7, 6]);
    heavy.weight("w", &[16, 16, 3, 3], &seeded(1, 16 * 16 * 9));
    let y = heavy.conv_with(&x, &conv(16).kernel(3).pad(1), "w", None);
    heavy.output(&y);
    std::fs::write(&model, encode(&heavy.build())).expect("written");
    succeeds(&all);
    assert_eq!((mode(&out), mode(&scene.text("o.onnx.data"))), (0o600, 0o600));
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_killed_run_left_is_swept_by_the_next() {
    let scene = Scene::new();
    let mut dead = std::process::Command::new("true").spawn().expect("it starts");
    dead.wait().expect("it ends");
    let left = scene.path(&format!(".updp-{}-a1B2c3", dead.id()));
    std::fs::create_dir(&left).expect("made");
    std::fs::write(left.join("updp-compile.lock"), "").expect("written");
    std::fs::write(left.join("out.onnx"), "half").expect("written");
    let mine = scene.path(".updp-notes");
    std::fs::create_dir(&mine).expect("made");
    succeeds(&[&scene.text("model.onnx"), "-o", &scene.text("out.onnx")]);
    assert!(!left.exists() && mine.exists());
}

/// The bytes are on the disk before they get their name, and the name before the program ends.
#[cfg(target_os = "linux")]
#[test]
fn files_are_flushed_before_they_are_renamed() {
    let scene = Scene::new();
    let trace = scene.text("trace");
    let program = env!("CARGO_BIN_EXE_updp-compile");
    let (model, out) = (scene.text("model.onnx"), scene.text("out.onnx"));
    let calls = "trace=fsync,fdatasync,rename,renameat,renameat2";
    let strace = std::process::Command::new("strace")
        .args(["-f", "-e", calls, "-o", &trace, program, &model, "-o", &out, "-q"])
        .output();
    // Containers may lack the program, or the right to trace.
    let Ok(true) = strace.map(|ran| ran.status.success()) else { return };
    let trace = std::fs::read_to_string(&trace).expect("written");
    let calls: Vec<&str> = trace
        .lines()
        .filter(|line| {
            line.contains("sync(") || line.contains("rename") && !line.contains("resumed")
        })
        .map(|line| if line.contains("sync(") { "sync" } else { "rename" })
        .collect();
    assert_eq!(calls, ["sync", "rename", "sync"], "{trace}");
    assert_eq!(run(&[&model, "-o", &out]).status.code(), Some(0));
}
