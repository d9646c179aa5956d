use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the files with an extension in a folder and all folders below, with their texts.
pub(crate) fn below(folder: &Path, extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = in_folder(folder, extension);
    for path in entries(folder) {
        if path.is_dir() && !path.ends_with("target") {
            found.extend(below(&path, extension));
        }
    }
    found
}

/// Returns the files with an extension in a folder, with their texts.
pub(crate) fn in_folder(folder: &Path, extension: &str) -> Vec<(PathBuf, String)> {
    let files = entries(folder)
        .into_iter()
        .filter(|path| path.is_file() && path.extension().is_some_and(|found| found == extension));
    files
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source is readable");
            (path, text)
        })
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}
