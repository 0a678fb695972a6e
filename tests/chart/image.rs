//! The Dockerfile, as far as it can be checked without building the image, which `tests/image/run` does: what it says must
//! agree with the rest.

use super::helm::{objects, only, render};

const DOCKERFILE: &str = include_str!("../../deploy/Dockerfile");

#[test]
fn the_image_is_built_by_the_compiler_that_the_repository_pins() {
    let toolchain = include_str!("../../rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"')).unwrap();
    assert!(DOCKERFILE.contains(&format!("FROM rust:{channel}-")), "{channel}");
    assert!(DOCKERFILE.contains(&format!("RUSTUP_TOOLCHAIN={channel}\n")), "{channel}");
}

#[test]
fn image_chart_and_program_agree_on_user_and_version() {
    let objects = objects(&render("{}").unwrap());
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    let user = pod["securityContext"]["runAsUser"].as_u64().unwrap();
    let group = pod["securityContext"]["runAsGroup"].as_u64().unwrap();
    assert!(DOCKERFILE.contains(&format!("\nUSER {user}:{group}\n")), "{user}:{group}");
    let image = pod["containers"][0]["image"].as_str().unwrap();
    assert_eq!(image.rsplit(':').next(), Some(env!("CARGO_PKG_VERSION")));
}
