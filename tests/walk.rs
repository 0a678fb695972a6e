//! README.md and deploy/README.md as a new user follows them: every command as it is printed, in the order in which it is
//! printed, on a real control plane with nothing of ours on it.
//!
//! What stands in for what cannot be here: kwok plays the pods of an installed release, and what they would run is a process
//! with their configuration and their account. `cargo run --release` runs the program that cargo has built for the tests.
//! `REGISTRY` is a name. What is not run at all stands in [`commands::COMMANDS`] with its reason.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::cluster::controlplane::untouched;

mod commands;
mod document;
mod reader;
mod scene;

use commands::{COMMANDS, Outcome, outcome};
use document::{Document, Item};
use reader::Reader;
use scene::Scene;

const README: Document = Document { name: "README.md", text: include_str!("../README.md") };
const DEPLOY: Document = Document { name: "deploy/README.md", text: include_str!("../deploy/README.md") };

/// A document may tell two ways of installing: its reader takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Helm,
    Manifest,
}

impl Way {
    /// Whether whoever goes this way runs the command.
    fn takes(self, command: &str) -> bool {
        match self {
            Self::Helm => !command.contains("-f deploy/"),
            Self::Manifest => !command.contains("helm "),
        }
    }
}

/// Follows a document from its first line to its last.
async fn follow(document: &Document, way: Way, reader: &Reader, scene: &mut Scene<'_>) {
    for item in document.items() {
        match item {
            Item::File { name, text } => reader.write(name, text),
            Item::Command(text) if way.takes(text) => {
                let begun = Instant::now();
                let (command, outcome) = outcome(text).unwrap_or_else(|| panic!("{}: {text}", document.name));
                scene.before(outcome).await;
                if let Err(error) = reader.run(text, outcome).await {
                    panic!("{}: {command}\n{error}\n{}", document.name, scene.logs());
                }
                scene.after(outcome).await;
                eprintln!("({:.1} s: {command})", begun.elapsed().as_secs_f64());
            }
            Item::Command(_) | Item::Part(_) => {}
            Item::Path { api, path } => scene.is_served(api, path).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_documents_works_as_it_is_printed_and_in_that_order() {
    let plane = untouched();
    let reader = Reader::new(&plane);
    let mut scene = Scene::set(&plane).await;
    follow(&README, Way::Helm, &reader, &mut scene).await;
    let uninstall = "helm uninstall tidegate --namespace tidegate";
    reader.run(uninstall, &Outcome::Removes).await.unwrap();
    scene.after(&Outcome::Removes).await;
    follow(&DEPLOY, Way::Helm, &reader, &mut scene).await;
    follow(&DEPLOY, Way::Manifest, &reader, &mut scene).await;
    reader.finish().await;
}

#[test]
fn what_the_documents_print_and_what_is_tried_are_the_same_commands() {
    let documents = [README, DEPLOY];
    let printed: BTreeSet<String> = documents
        .iter()
        .flat_map(Document::items)
        .filter_map(|item| if let Item::Command(text) = item { Some(document::command(text)) } else { None })
        .collect();
    let known: BTreeSet<String> = COMMANDS.iter().map(|(command, _)| (*command).to_owned()).collect();
    assert_eq!(printed, known, "left: the documents'; right: those of tests/walk/commands.rs");
}

#[test]
fn what_is_shown_as_part_of_an_object_is_yaml() {
    for document in [README, DEPLOY] {
        for item in document.items() {
            let Item::Part(text) = item else { continue };
            let read: Result<serde_json::Value, _> = serde_saphyr::from_str(text);
            assert!(read.is_ok_and(|object| object.is_object()), "{}:\n{text}", document.name);
        }
    }
}

#[test]
fn every_file_that_a_document_shows_is_read_by_a_command_after_it() {
    for document in [README, DEPLOY] {
        let items: Vec<Item<'_>> = document.items().collect();
        for (i, item) in items.iter().enumerate() {
            let Item::File { name, .. } = item else { continue };
            let read = items[i..].iter().any(|item| matches!(item, Item::Command(text) if text.contains(name)));
            assert!(read, "{}: no command after {name} reads it", document.name);
        }
    }
}
