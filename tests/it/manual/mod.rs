//! The manual: every page is in its table of contents, no link leads nowhere, and its commands do what it says, in it and in
//! the documents beside it.

mod commands;

use std::fs;
use std::path::{Component, Path, PathBuf};

const BESIDE: [&str; 3] = ["README.md", ".github/SECURITY.md", "helm/holdfast/README.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages below a folder, as paths from the root.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        if root().join(&path).is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Its text without what stands in fences.
fn text(page: &Path) -> String {
    let text = fs::read_to_string(root().join(page)).unwrap();
    text.split("```").step_by(2).collect()
}

/// What its links lead to, as they are written.
fn links(page: &Path) -> Vec<String> {
    let text = text(page);
    let ends = text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split_once(')'));
    let local = ends.map(|(link, _)| link.to_owned()).filter(|link| !link.contains("://"));
    local.collect()
}

/// A link's file, from the root.
fn target(page: &Path, link: &str) -> PathBuf {
    let file = link.split('#').next().unwrap_or_default();
    if file.is_empty() {
        return page.to_owned();
    }
    let mut path = page.parent().unwrap().to_owned();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            other => path.push(other),
        }
    }
    path
}

/// What a heading is called in links.
fn anchors(page: &Path) -> Vec<String> {
    let text = text(page);
    let headings = text.lines().filter_map(|line| Some(line.strip_prefix('#')?.trim_start_matches('#')));
    headings
        .map(|heading| {
            let letters = heading.trim().to_lowercase();
            let letters =
                letters.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            letters.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
        })
        .collect()
}

/// The manual, and what is beside it.
fn documents() -> Vec<PathBuf> {
    let mut all: Vec<_> = BESIDE.map(PathBuf::from).to_vec();
    pages(Path::new("docs"), &mut all);
    all
}

#[test]
fn no_link_leads_nowhere() {
    let mut dead = Vec::new();
    for page in documents() {
        for link in links(&page) {
            let target = target(&page, &link);
            let anchor = link.split_once('#').map(|(_, anchor)| anchor);
            let is_page = target.extension().is_some_and(|extension| extension == "md");
            let found = root().join(&target).exists()
                && anchor
                    .is_none_or(|anchor| !is_page || anchors(&target).iter().any(|known| known == anchor));
            if !found {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let (summary, decisions) = (Path::new("docs/SUMMARY.md"), Path::new("docs/decisions/README.md"));
    let listed: Vec<_> = [summary, decisions]
        .iter()
        .flat_map(|page| links(page).into_iter().map(|link| target(page, &link)))
        .collect();
    let mut all = Vec::new();
    pages(Path::new("docs"), &mut all);
    let missing: Vec<_> = all.iter().filter(|page| *page != summary && !listed.contains(page)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
