//! The paths of a command: no output may overwrite an input or another output, and every output can be written. A command
//! checks this before it starts any work.
//!
//! Files are compared by what they are, not by their names: links are resolved, and two names of one file are one file.
//! A file that does not exist yet is the name in its folder, in the case that the file system has it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use updp_prune::work_folder;
use updp_trainer::files::{folder_of, sweep, temporary_prefix};

use crate::error::CliError;
use crate::model_file::{ModelFile, is_pipe};
use crate::test_vectors;

/// Endings of the files that are read from a folder of images. Other files may lie there, and be written.
const IMAGES: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "tar", "npz", "npy", "gz"];

/// What becomes of a path that a command writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file; one that exists is replaced.
    File,
    /// The model: the only output that may replace the model that it is made of.
    Model,
    /// The file beside the model that takes its tensors if they are large.
    ModelData,
    /// A file that is read first, and then replaced.
    Table,
    /// The folder of test vectors. It is replaced as a whole.
    Vectors,
    /// The work folder. It gains files of our own.
    Work,
}

/// A path that a command writes.
#[derive(Clone, Debug)]
struct Output {
    option: &'static str,
    path: PathBuf,
    kind: Kind,
}

/// A path that a command reads.
#[derive(Clone, Debug)]
struct Input {
    /// In messages: `the model`, `--data`.
    name: &'static str,
    path: PathBuf,
    is_model: bool,
}

/// Every path that a command reads or writes.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    is_in_place: bool,
}

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    Known(FileId),
    New { folder: FileId, name: OsString },
}

#[cfg(unix)]
type FileId = (u64, u64);
#[cfg(not(unix))]
type FileId = PathBuf;

impl Paths {
    /// Adds a model that is read, and the files of its tensors when they are needed.
    #[must_use]
    pub fn model(mut self, path: &Path) -> Self {
        self.inputs.push(Input { name: "the model", path: path.to_owned(), is_model: true });
        self
    }

    /// Adds paths that are read; a name that is no path (such as that of a preset) is ignored later.
    #[must_use]
    pub fn reads<P: AsRef<Path>>(
        mut self,
        name: &'static str,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        let input = |path: P| Input { name, path: path.as_ref().to_owned(), is_model: false };
        self.inputs.extend(paths.into_iter().map(input));
        self
    }

    /// Adds paths that are written.
    #[must_use]
    pub fn writes<P: AsRef<Path>>(
        mut self,
        option: &'static str,
        kind: Kind,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        let paths = paths.into_iter().map(|path| path.as_ref().to_owned());
        // Standard output, and no output at all.
        let paths = paths.filter(|path| !is_pipe(path) && !path.as_os_str().is_empty());
        for path in paths {
            if kind == Kind::Model
                && let Some(name) = path.file_name()
            {
                let mut name = name.to_owned();
                name.push(".data");
                let path = path.with_file_name(name);
                self.outputs.push(Output { option, path, kind: Kind::ModelData });
            }
            self.outputs.push(Output { option, path, kind });
        }
        self
    }

    /// Allows the model that is written to replace the one that is read.
    #[must_use]
    pub fn in_place(mut self, is_in_place: bool) -> Self {
        self.is_in_place = is_in_place;
        self
    }

    /// Refuses outputs that cannot be written, and those that are an input or another output.
    ///
    /// # Errors
    /// C0001 for a report of another format; C0003 for an output that cannot be written; C0023 for one that would overwrite something of this command; T0006 for
    /// a work folder that is not ours.
    pub fn check(&self) -> Result<(), CliError> {
        let mut folders = Folders::default();
        let mut known: Vec<(&Output, Identity)> = Vec::new();
        for output in &self.outputs {
            let failed = |error: io::Error| CliError::Write {
                path: output.path.clone(),
                detail: error.to_string(),
            };
            match place(output, &mut folders) {
                Ok(Some(identity)) => known.push((output, identity)),
                // Most models need no such file.
                Err(error) if output.kind != Kind::ModelData => return Err(failed(error)),
                _ => {}
            }
        }
        self.refuse_inputs(&known)?;
        refuse_outputs(&known)?;
        self.outputs.iter().try_for_each(refuse_format)?;
        for (output, _) in known {
            match output.kind {
                Kind::Vectors => test_vectors::refuse_foreign(&output.path)?,
                Kind::Work => work_folder::refuse_foreign(&output.path)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses an output that is an input, or part of one.
    fn refuse_inputs(&self, known: &[(&Output, Identity)]) -> Result<(), CliError> {
        let exists = known.iter().any(|(_, identity)| matches!(identity, Identity::Known(_)));
        for input in &self.inputs {
            let Ok(metadata) = input.path.metadata() else { continue };
            if metadata.is_dir() {
                for (output, identity) in known {
                    refuse_folder(input, output, identity, &metadata)?;
                }
                continue;
            }
            if !metadata.is_file() {
                continue;
            }
            let own = Identity::Known(id(&input.path, &metadata));
            for (output, identity) in known {
                let is_inside = output.kind == Kind::Vectors && is_below(&input.path, &output.path);
                if *identity != own && !is_inside {
                    continue;
                }
                if input.is_model && output.kind == Kind::Model && self.is_in_place {
                    continue;
                }
                return Err(overwrites(output, named(input.name, &input.path)));
            }
            if input.is_model && exists {
                refuse_tensors(input, known)?;
            }
        }
        Ok(())
    }
}

/// Refuses a report whose name promises a format that no report has.
fn refuse_format(output: &Output) -> Result<(), CliError> {
    let ending = output.path.extension().map(|it| it.to_string_lossy().to_lowercase());
    let is_known = ending.is_none_or(|it| ["json", "html"].contains(&it.as_str()));
    if output.option != "--report" || is_known {
        return Ok(());
    }
    let path = output.path.display();
    Err(CliError::Usage {
        detail: format!("--report {path}: a report is JSON (FILE.json) or a page (FILE.html)"),
    })
}

/// Refuses two outputs in one place.
fn refuse_outputs(known: &[(&Output, Identity)]) -> Result<(), CliError> {
    for (at, (first, own)) in known.iter().enumerate() {
        for (second, other) in &known[at + 1..] {
            let is_inside = |around: &Output, file: &Output| {
                around.kind == Kind::Vectors && is_below(&file.path, &around.path)
            };
            if own == other || is_inside(first, second) || is_inside(second, first) {
                let path = first.path.display().to_string();
                let what = format!("what {} writes to {path:?}", first.option);
                return Err(overwrites(second, what));
            }
        }
    }
    Ok(())
}

/// Refuses an output that is a file of a folder of images, or that folder.
fn refuse_folder(
    input: &Input,
    output: &Output,
    identity: &Identity,
    folder: &Metadata,
) -> Result<(), CliError> {
    let own = Identity::Known(id(&input.path, folder));
    let is_inside = output.kind == Kind::Vectors && is_at_or_below(&input.path, &output.path);
    let mut found = (is_inside || own == *identity).then(|| input.path.clone());
    let is_file = matches!(identity, Identity::Known(_)) && output.path.is_file();
    if found.is_none() && is_file {
        found = find(&input.path, identity, 16);
    }
    found.map_or(Ok(()), |path| Err(overwrites(output, named(input.name, &path))))
}

/// Refuses an output that is a file with the tensors of the model.
fn refuse_tensors(input: &Input, known: &[(&Output, Identity)]) -> Result<(), CliError> {
    // A model that cannot be read is told later.
    let Ok(model) = ModelFile::open(&input.path) else { return Ok(()) };
    for file in &model.source.data_files {
        let Ok(metadata) = file.metadata() else { continue };
        let own = Identity::Known(id(file, &metadata));
        for (output, identity) in known {
            let is_inside = output.kind == Kind::Vectors && is_below(file, &output.path);
            // A replaced model gets new tensors. Whether another one gets such a file is known, and checked, later.
            let is_own = *identity == own && output.kind != Kind::ModelData;
            if is_own || is_inside {
                return Err(overwrites(output, named("the tensors of the model", file)));
            }
        }
    }
    Ok(())
}

fn named(name: &str, path: &Path) -> String {
    format!("{name} {:?}", path.display().to_string())
}

fn overwrites(output: &Output, what: String) -> CliError {
    CliError::Overwrites { option: output.option, path: output.path.clone(), what }
}

/// What an output stands for; `None` for devices and pipes, which are written to and never replaced.
///
/// # Errors
/// The reason why it cannot be written.
fn place(output: &Output, folders: &mut Folders) -> io::Result<Option<Identity>> {
    let path = &output.path;
    let is_folder = matches!(output.kind, Kind::Vectors | Kind::Work);
    match path.metadata() {
        Ok(known) if known.is_dir() && !is_folder => Err(io::Error::other("it is a folder")),
        Ok(known) if !known.is_dir() && is_folder => Err(io::Error::other("it is no folder")),
        Ok(known) if !known.is_dir() && !known.is_file() => {
            // Opening a pipe would wait for its reader.
            if is_character_device(&known) {
                fs::OpenOptions::new().write(true).open(path)?;
            }
            Ok(None)
        }
        Ok(known) => {
            if output.kind != Kind::Work {
                // A link stays a link: the file is replaced where it really is.
                let real = path.canonicalize()?;
                folders.writable(folder_of(&real))?;
            }
            Ok(Some(Identity::Known(id(path, &known))))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let name = path.file_name().ok_or_else(|| io::Error::other("it has no file name"))?;
            let mut folder = folder_of(path);
            // The work folder is made with the folders around it.
            while output.kind == Kind::Work && !folder.exists() {
                folder = folder_of(folder);
            }
            if !folder.is_dir() {
                let detail = format!("there is no folder {:?}", folder.display().to_string());
                return Err(io::Error::other(detail));
            }
            let ignores_case = folders.writable(folder)?;
            let name = if ignores_case { folded(name) } else { name.to_owned() };
            let folder = id(folder, &folder.metadata()?);
            Ok(Some(Identity::New { folder, name }))
        }
        Err(error) => Err(error),
    }
}

/// Folders that were tried, each with whether it takes `A` and `a` for one name.
#[derive(Default)]
struct Folders(Vec<(PathBuf, bool)>);

impl Folders {
    /// Makes a file in the folder and removes it again. Returns whether the folder ignores the case of names.
    ///
    /// # Errors
    /// The reason why no file can be made there.
    fn writable(&mut self, folder: &Path) -> io::Result<bool> {
        if let Some((_, known)) = self.0.iter().find(|(tried, _)| tried == folder) {
            return Ok(*known);
        }
        sweep(folder);
        let probe = tempfile::Builder::new().prefix(&temporary_prefix()).tempfile_in(folder)?;
        let name = probe.path().file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let ignores_case = folder.join(name).exists();
        self.0.push((folder.to_owned(), ignores_case));
        Ok(ignores_case)
    }
}

fn folded(name: &OsStr) -> OsString {
    name.to_string_lossy().to_lowercase().into()
}

/// Whether a path lies in a folder, or in a folder below it. Neither has to exist.
fn is_below(path: &Path, folder: &Path) -> bool {
    let Ok(real) = folder.canonicalize() else { return false };
    let around = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
    let around = around.or_else(|| folder_of(path).canonicalize().ok());
    around.is_some_and(|around| around.starts_with(real))
}

fn is_at_or_below(path: &Path, folder: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| folder.canonicalize().is_ok_and(|it| path.starts_with(it)))
}

/// The file of a folder of images that has this identity. Hidden names are left out, as in the readers of images, and
/// links to folders are followed only at the top.
fn find(folder: &Path, wanted: &Identity, deeper: usize) -> Option<PathBuf> {
    let mut below = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let Ok(kind) = entry.file_type() else { continue };
        let name = name.to_string_lossy().to_ascii_lowercase();
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if kind.is_dir() {
            below.push(path);
        } else if (IMAGES.contains(&ending) || name.ends_with("ubyte"))
            && may_be(&entry, wanted)
            && let Ok(known) = path.metadata()
            && known.is_file()
            && Identity::Known(id(&path, &known)) == *wanted
        {
            return Some(path);
        }
    }
    let deeper = deeper.checked_sub(1)?;
    below.into_iter().find_map(|folder| find(&folder, wanted, deeper))
}

/// Whether an entry can be that file, without asking for more than its folder holds.
#[cfg(unix)]
fn may_be(entry: &fs::DirEntry, wanted: &Identity) -> bool {
    use std::os::unix::fs::DirEntryExt;
    let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
    is_link || matches!(wanted, Identity::Known((_, inode)) if *inode == entry.ino())
}

#[cfg(not(unix))]
fn may_be(_: &fs::DirEntry, _: &Identity) -> bool {
    true
}

#[cfg(unix)]
fn id(_: &Path, metadata: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn id(path: &Path, _: &Metadata) -> FileId {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(unix)]
fn is_character_device(metadata: &Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_char_device(&metadata.file_type())
}

#[cfg(not(unix))]
fn is_character_device(_: &Metadata) -> bool {
    false
}
