//! Modules that import each other in a circle, and English that is hard to read.

mod circles;
mod english;
mod files;

use std::path::Path;

const CRATES: [&str; 6] = [
    "session-core",
    "session-memory",
    "session-redis",
    "session-axum",
    "session-bench",
    "integration-tests",
];

#[test]
fn project_keeps_its_style() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let findings = check(root);
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// Returns a line for each finding, and prints the figures of the English.
fn check(root: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    for name in CRATES {
        let folder = root.join(name);
        for circle in circles::find(&folder.join("src")) {
            findings.push(format!("{name}: modules in a circle: {circle}"));
        }
        for part in ["src", "tests", "examples", "benches"] {
            let sources = files::below(&folder.join(part), "rs");
            let text = sources.iter().flat_map(|(_, text)| english::of_comments(text)).collect();
            findings.extend(english::check(&format!("{name}/{part}"), text));
        }
        let pages = files::below(&folder, "md");
        let text = pages.iter().flat_map(|(_, text)| english::of_markdown(text)).collect();
        findings.extend(english::check(&format!("the pages of {name}"), text));
    }
    let pages = files::in_folder(root, "md");
    let text = pages.iter().flat_map(|(_, text)| english::of_markdown(text)).collect();
    findings.extend(english::check("the pages of the workspace", text));
    for (path, text) in pages.iter().filter(|(path, _)| path.ends_with("README.md")) {
        findings.extend(too_long(path, text, 150));
    }
    for name in CRATES {
        let readme = files::in_folder(&root.join(name), "md");
        for (path, text) in readme.iter().filter(|(path, _)| path.ends_with("README.md")) {
            // The others state results.
            if !["session-bench", "integration-tests"].contains(&name) {
                findings.extend(too_long(path, text, 120));
            }
        }
    }
    findings
}

fn too_long(path: &Path, text: &str, most: usize) -> Option<String> {
    let lines = text.lines().count();
    (lines > most).then(|| format!("{}: {lines} lines, at most {most}", path.display()))
}
