//! What a document has its reader do.

use std::{ffi::OsStr, path::Path};

/// A Markdown file of this repository.
#[derive(Debug, Clone, Copy)]
pub struct Document {
    /// Its path.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// One thing to do, or to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A YAML block whose first line names a file: `# hpa.yaml`.
    File {
        /// The name.
        name: &'a str,
        /// The whole block.
        text: &'a str,
    },
    /// A YAML block whose first line says of what it is a part: `# part of an InferenceService`.
    Part(&'a str),
    /// One command of an `sh` block, with its comment, over as many lines as it has.
    Command(&'a str),
    /// A path in the table of what is served: `| API | paths | … |`.
    Path {
        /// `custom` or `external`.
        api: &'a str,
        /// What follows the namespace.
        path: &'a str,
    },
}

impl Document {
    /// What there is to do, in the order of the document.
    ///
    /// # Panics
    /// A block in a language that nobody here understands, or a YAML block without a file name or what it is a part of.
    pub fn items(&self) -> impl Iterator<Item = Item<'static>> + use<> {
        let Self { name, text } = *self;
        let mut items = Vec::new();
        // Odd pieces are blocks: the opening fence is followed by the language.
        for (i, piece) in text.split("```").enumerate() {
            if i % 2 == 0 {
                items.extend(piece.lines().filter_map(row).flatten());
                continue;
            }
            let (language, block) = piece.split_once('\n').unwrap_or((piece, ""));
            match language {
                "sh" => items.extend(commands(block).map(Item::Command)),
                "yaml" => {
                    let head = block.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
                    let word = head.split(' ').next().unwrap_or_default();
                    items.push(match word {
                        "part" => Item::Part(block),
                        file if Path::new(file).extension() == Some(OsStr::new("yaml")) => {
                            Item::File { name: file, text: block }
                        }
                        _ => panic!("{name}: the first line names no file, nor of what this is a part:\n{block}"),
                    });
                }
                other => panic!("{name}: a block in {other:?}, which the walk does not read:\n{block}"),
            }
        }
        items.into_iter()
    }
}

/// The paths in a row of the table of what is served.
fn row(line: &'static str) -> Option<impl Iterator<Item = Item<'static>>> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    let (api, paths) = (cells.next()?, cells.next()?);
    let paths = paths.split('`').skip(1).step_by(2);
    matches!(api, "custom" | "external").then(|| paths.map(move |path| Item::Path { api, path }))
}

/// A block's commands: a line, and those after it while one ends with a backslash. Lines of comments are none.
fn commands(block: &str) -> impl Iterator<Item = &str> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            let line = rest[end..].split_inclusive('\n').next()?;
            end += line.len();
            if !line.trim_end().ends_with('\\') {
                break;
            }
        }
        let (command, after) = rest.split_at(end);
        rest = after;
        Some(command.trim())
    })
    .filter(|command| !command.is_empty() && !command.starts_with('#'))
}

/// A command without its comment and line breaks.
pub fn command(text: &str) -> String {
    let text = text.replace("\\\n", " ");
    let words = text.split_whitespace().take_while(|word| *word != "#");
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_documents_items_are_its_commands_files_and_paths_in_order() {
    let text = "# Title\n```sh\n# how\nkubectl get pods   # all\nhelm install \\\n  x\n```\ntext `kubectl no`\n\
                ```yaml\n# a.yaml (small)\na: 1\n```\n```yaml\n# part of it\nb: 2\n```\n| API | path |\n| custom | `pods/NAME/METRIC`, `x/METRIC` | that |\n";
    let items: Vec<Item<'_>> = Document { name: "x.md", text }.items().collect();
    let path = |path| Item::Path { api: "custom", path };
    assert_eq!(
        items,
        [
            Item::Command("kubectl get pods   # all"),
            Item::Command("helm install \\\n  x"),
            Item::File { name: "a.yaml", text: "# a.yaml (small)\na: 1\n" },
            Item::Part("# part of it\nb: 2\n"),
            path("pods/NAME/METRIC"),
            path("x/METRIC"),
        ]
    );
    assert_eq!(command("helm install \\\n  x  # now"), "helm install x");
}
