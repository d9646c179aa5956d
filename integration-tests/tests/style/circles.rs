//! Modules of one crate that import each other in a circle.
//!
//! ```text
//!  each file ─▶ its paths into the crate ─▶ the modules that they lead to, through `pub use`
//!                                                        │
//!  of each folder: its modules as nodes, the paths between them as arrows ─▶ circles
//! ```
//!
//! A module of a folder includes all modules below it. Tests do not count, and macros are not seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use syn::{
    Attribute, File, Item, ItemMod, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

use crate::files;

/// The path of a module: its names below the crate.
type Name = Vec<String>;
type Modules = BTreeMap<Name, File>;

/// Returns a text for each circle in a crate, given its folder `src`.
pub(crate) fn find(src: &Path) -> Vec<String> {
    let modules = read(src);
    let mut arrows = BTreeSet::new();
    for (here, file) in modules.iter().filter(|(here, _)| !here.is_empty()) {
        let mut paths = Paths::default();
        paths.visit_file(file);
        let leads = paths.found.iter().filter_map(|path| resolve(&modules, path, here, 0));
        arrows.extend(leads.filter(|to| !to.is_empty()).map(|to| (here.clone(), to)));
    }
    let deepest = modules.keys().map(Vec::len).max().unwrap_or_default();
    (1..=deepest).flat_map(|depth| circles(&arrows, depth)).collect()
}

fn read(src: &Path) -> Modules {
    let mut modules = Modules::new();
    for (path, text) in files::below(src, "rs") {
        let path = path.strip_prefix(src).expect("the file is below").with_extension("");
        let mut name: Name = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let last = name.last().map_or("", |last| last);
        if name[0] == "bin" || last == "tests" || last == "main" {
            continue;
        }
        if last == "mod" || name == ["lib"] {
            name.pop();
        }
        modules.insert(name, syn::parse_file(&text).expect("a source that compiles"));
    }
    modules
}

/// The paths of a module, as segments.
#[derive(Default)]
struct Paths {
    found: Vec<Name>,
    /// The number of modules inside of the file around the place.
    inline: usize,
}

impl Paths {
    fn add(&mut self, mut path: Name) {
        // Inside of an inline module, `super` leads to the file.
        for _ in 0..self.inline {
            if path.first().is_some_and(|first| first == "super") {
                path.remove(0);
            }
        }
        self.found.push(path);
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if module.attrs.iter().any(is_cfg_test) {
            return;
        }
        self.inline += 1;
        visit::visit_item_mod(self, module);
        self.inline -= 1;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for path in flatten(&item.tree) {
            self.add(path);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|option| option == "test")
}

/// Returns the paths of a `use`.
fn flatten(tree: &UseTree) -> Vec<Name> {
    match tree {
        UseTree::Path(path) => {
            let head = path.ident.to_string();
            let tails = flatten(&path.tree).into_iter();
            tails.map(|tail| [vec![head.clone()], tail].concat()).collect()
        }
        UseTree::Name(name) if name.ident == "self" => vec![vec![]],
        UseTree::Name(name) => vec![vec![name.ident.to_string()]],
        UseTree::Rename(rename) => vec![vec![rename.ident.to_string()]],
        UseTree::Glob(_) => vec![vec![]],
        UseTree::Group(group) => group.items.iter().flat_map(flatten).collect(),
    }
}

/// Returns the module to which a path leads, and `None` if the path leads out of the crate.
fn resolve(modules: &Modules, path: &[String], here: &[String], depth: usize) -> Option<Name> {
    let mut at: Name = here.to_vec();
    let mut rest = path;
    match &**rest.first()? {
        "crate" => (at, rest) = (Name::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|first| first == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        first => {
            let child = [here, &[first.to_owned()]].concat();
            if !modules.contains_key(&child) {
                return None;
            }
        }
    }
    while let Some(first) = rest.first() {
        let child = [&*at, std::slice::from_ref(first)].concat();
        if !modules.contains_key(&child) {
            break;
        }
        (at, rest) = (child, &rest[1..]);
    }
    // A chain of re-exports is short; a longer one is a circle of `use`.
    if depth < 8
        && let Some(item) = rest.first()
        && let Some(again) = re_exported(modules, &at, item)
        && let Some(deeper) = resolve(modules, &again, &at, depth + 1)
    {
        return Some(deeper);
    }
    Some(at)
}

/// Returns the path by which a module makes a name public.
fn re_exported(modules: &Modules, module: &[String], name: &str) -> Option<Name> {
    modules.get(module)?.items.iter().find_map(|item| match item {
        Item::Use(item) if !matches!(item.vis, Visibility::Inherited) => flatten(&item.tree)
            .into_iter()
            .find(|path| path.last().is_some_and(|last| last == name)),
        _ => None,
    })
}

/// Returns the circles between the modules of each folder at a depth.
fn circles(arrows: &BTreeSet<(Name, Name)>, depth: usize) -> Vec<String> {
    let mut graph: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for (from, to) in arrows {
        let are_siblings = from.len() >= depth
            && to.len() >= depth
            && from[..depth - 1] == to[..depth - 1]
            && from[depth - 1] != to[depth - 1];
        if are_siblings {
            graph.entry(&from[..depth]).or_default().insert(&to[..depth]);
        }
    }
    let reach = |start| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(node) = open.pop() {
            for next in graph.get(node).into_iter().flatten().copied() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&[String], _> = graph.keys().map(|node| (*node, reach(*node))).collect();
    let mut circles = BTreeSet::new();
    for (node, targets) in &reached {
        let goes_back =
            |other: &&&[String]| reached.get(**other).is_some_and(|targets| targets.contains(node));
        let circle: BTreeSet<_> = targets.iter().filter(goes_back).collect();
        if !circle.is_empty() {
            let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
            circles.insert(names.join(", "));
        }
    }
    circles.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn circles_of(sources: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in sources {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        find(folder.path())
    }

    #[test]
    fn circle_is_found_through_re_exports_and_expressions() {
        let lib = ("lib.rs", "mod a; mod b; pub use b::B;");
        let b = ("b.rs", "pub struct B; fn f() { crate::a::g(); }");
        assert_eq!(circles_of(&[lib, ("a.rs", "use crate::B; pub fn g() {}"), b]), ["a, b"]);
        assert!(circles_of(&[lib, ("a.rs", "pub fn g() {}"), b]).is_empty());
    }

    #[test]
    fn circle_inside_of_a_folder_is_found() {
        let sources = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod x; mod y;"),
            ("a/x.rs", "use super::y::Y; pub struct X;"),
            ("a/y.rs", "use super::x::X; pub struct Y;"),
        ];
        assert_eq!(circles_of(&sources), ["a::x, a::y"]);
    }

    #[test]
    fn tests_and_the_way_up_to_a_parent_do_not_count() {
        let sources = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A; #[cfg(test)] mod tests { use super::A; }"),
            ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
        ];
        assert!(circles_of(&sources).is_empty());
    }
}
