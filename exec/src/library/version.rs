//! Versions of libraries, as the names of files tell them.

use std::path::Path;

/// The numbers of a version: 1, 27 and 0 of `1.27.0`.
pub(super) fn numbers(version: &str) -> Vec<u64> {
    let leading = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    version.split('.').map_while(|part| leading(part).parse().ok()).collect()
}

/// The version of a library: in its own name, in the name of the file that a link leads to, or in that of the
/// `onnxruntime*.dist-info` beside its package. `None` if none of them tells it.
pub(super) fn of_library(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok();
    let named = [Some(path), real.as_deref()].into_iter().flatten().find_map(in_name);
    named.or_else(|| of_package(path))
}

/// `1.27.0` of `libonnxruntime.so.1.27.0` and of `libonnxruntime.1.27.0.dylib`.
fn in_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    let parts: Vec<&str> = name.split('.').skip(1).filter(is_number).collect();
    (parts.len() > 1).then(|| parts.join("."))
}

/// `1.27.0` of `site-packages/onnxruntime_gpu-1.27.0.dist-info`, for a library in `site-packages/onnxruntime/capi`.
fn of_package(path: &Path) -> Option<String> {
    let packages = path.parent()?.parent()?.parent()?;
    let version = |name: &str| {
        let (package, version) = name.strip_suffix(".dist-info")?.split_once('-')?;
        package.starts_with("onnxruntime").then(|| version.to_owned())
    };
    let entries = std::fs::read_dir(packages).ok()?.flatten();
    let found = entries.filter_map(|entry| version(entry.file_name().to_str()?));
    found.max_by_key(|version| numbers(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_versions() {
        let of = |name: &str| in_name(Path::new(name));
        assert_eq!(of("/a.1/libonnxruntime.so.1.27.0").as_deref(), Some("1.27.0"));
        assert_eq!(of("libonnxruntime.1.31.1.dylib").as_deref(), Some("1.31.1"));
        // The number of an interface, not a version.
        assert_eq!(of("libonnxruntime.so.1"), None);
        assert_eq!(of("libonnxruntime.so"), None);
        assert_eq!(of("onnxruntime.dll"), None);
        assert!(numbers("1.9.9") < numbers("1.24") && numbers("1.24.0") >= numbers("1.24"));
        assert_eq!(numbers("1.25.0rc1"), [1, 25, 0]);
    }
}
