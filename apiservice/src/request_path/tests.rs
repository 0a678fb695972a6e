use proptest::prelude::*;

use super::{PathError, RequestPath};

#[test]
fn a_path_is_decoded_once_and_spelled_in_one_way() {
    let cases = [
        ("/", "/", "/"),
        ("/a", "/a", "/a"),
        ("/a/", "/a/", "/a/"),
        ("/%61/%2A/b%3Ac", "/a/*/b:c", "/a/*/b:c"),
        ("/a%25b", "/a%b", "/a%25b"),
        ("/a%3Fb%23", "/a?b#", "/a%3Fb%23"),
        ("/%C3%A9", "/é", "/%C3%A9"),
        ("/a+b c", "/a+b c", "/a+b%20c"),
    ];
    for (raw, decoded, canonical) in cases {
        let path = RequestPath::parse(raw).unwrap();
        assert_eq!(path.decoded(), decoded, "{raw}");
        assert_eq!(path.canonical(), canonical, "{raw}");
    }
}

#[test]
fn paths_that_can_be_read_in_two_ways_are_not_read() {
    for raw in ["", "*", "a", "//", "/a//b", "//a", "/./a", "/a/..", "/a/%2e%2E/b", "/a%2Fb", "/%2f", "/a%00", "/a//"] {
        assert!(matches!(RequestPath::parse(raw), Err(PathError::Ambiguous(_))), "{raw}");
    }
    for raw in ["/%", "/%1", "/%g0", "/%0g", "/a/%ff"] {
        assert!(matches!(RequestPath::parse(raw), Err(PathError::Encoding(_))), "{raw}");
    }
}

proptest! {
    #[test]
    fn the_canonical_spelling_is_read_as_the_same_path(raw in "(/([a-zA-Z0-9.*:%é _~-]|%[0-9A-F]{2}){0,5}){1,6}") {
        if let Ok(path) = RequestPath::parse(&raw) {
            let again = RequestPath::parse(&path.canonical()).unwrap();
            prop_assert_eq!(again.canonical(), path.canonical());
            prop_assert!(path.canonical().parse::<http::Uri>().is_ok());
            prop_assert_eq!(again, path);
        }
    }
}
