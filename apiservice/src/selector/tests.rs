use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use proptest::prelude::*;

use super::{Condition, Requirement, Selector};

fn selector(text: &str) -> Selector {
    text.parse().expect(text)
}

fn selects(text: &str, labels: &[(&str, &'static str)]) -> bool {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    selector(text).matches(|key| labels.get(key).copied())
}

#[test]
fn every_operator_selects_as_in_kubernetes() {
    let labels = [("app", "llm"), ("tier", "a"), ("gpus", "8"), ("empty", "")];
    for (text, expected) in [
        ("", true),
        ("app=llm", true),
        ("app==llm", true),
        ("app=other", false),
        ("app!=other", true),
        ("app!=llm", false),
        ("missing!=x", true),
        ("missing=", false),
        ("empty=", true),
        ("empty", true),
        ("app", true),
        ("!app", false),
        ("!missing", true),
        ("missing", false),
        ("tier in (a,b)", true),
        ("tier in (b,c)", false),
        ("missing in (b,c)", false),
        ("tier notin (b,c)", true),
        ("tier notin (a)", false),
        ("missing notin (a)", true),
        ("empty in (,a)", true),
        ("empty in (a,)", true),
        ("empty in (,)", true),
        ("gpus>7", true),
        ("gpus>8", false),
        ("gpus<9", true),
        ("gpus < -1", false),
        ("app>1", false),
        ("missing<1", false),
        ("app=llm,tier in (a),!missing,gpus>1", true),
        ("app=llm,tier=b", false),
        ("  app = llm , tier notin ( x , y ) ", true),
        ("app in (llm)\t,\n tier", true),
    ] {
        assert_eq!(selects(text, &labels), expected, "{text:?}");
    }
}

#[test]
fn in_and_notin_may_be_keys_and_values() {
    assert!(selects("in in (notin)", &[("in", "notin")]));
    assert!(selects("notin=in", &[("notin", "in")]));
    assert!(selects("!in", &[]));
    assert!(selects("in", &[("in", "x")]));
}

#[test]
fn what_is_written_is_canonical() {
    for (text, expected) in [
        ("", ""),
        ("  ", ""),
        ("b=2, a==1", "a=1,b=2"),
        ("x in (c, b ,a,b)", "x in (a,b,c)"),
        ("x notin (a)", "x notin (a)"),
        ("x in (,a)", "x in (,a)"),
        ("x in (,)", "x in (,)"),
        ("x=", "x="),
        ("x!=", "x!="),
        ("!x, y", "!x,y"),
        ("x>007", "x>7"),
        ("x<-3", "x<-3"),
        ("example.com/x=1", "example.com/x=1"),
    ] {
        let parsed = selector(text);
        assert_eq!(parsed.to_string(), expected, "{text:?}");
        assert_eq!(selector(expected), parsed, "{text:?}");
    }
}

#[test]
fn what_is_no_selector_is_refused_with_what_was_expected() {
    let long = "x".repeat(64);
    for (text, part) in [
        ("a,", "label key"),
        (",a", "label key"),
        (",", "label key"),
        ("a,,b", "label key"),
        ("!", "label key"),
        ("!!a", "label key"),
        ("=b", "label key"),
        ("(a)", "label key"),
        ("!a=b", "after '!key'"),
        ("a b", "= == != > < in notin"),
        ("a!b", "= == != > < in notin"),
        ("a in", "'('"),
        ("a in b", "'('"),
        ("a in (", "',' or ')'"),
        ("a in (b", "',' or ')'"),
        ("a in (b c)", "',' or ')'"),
        ("a in (b))", "',' or the end"),
        ("a in ()", "at least one value"),
        ("a notin ()", "at least one value"),
        ("a=b c", "',' or the end"),
        ("a=(b)", "a value"),
        ("a=b=c", "',' or the end"),
        ("a===b", "a value"),
        ("a=!b", "a value"),
        ("a>", "integer"),
        ("a>b", "integer"),
        ("a<1.5", "integer"),
        ("a=>1", "a value"),
        ("-a=b", "label key \"-a\""),
        ("a-=b", "label key"),
        ("/a=b", "label key"),
        ("a/=b", "label key"),
        ("a/b/c=d", "label key"),
        ("A.com/b=c", "label key"),
        ("a..b/c", "label key"),
        ("ä=b", "label key"),
        ("a=b/c", "value \"b/c\""),
        ("a=-b", "value \"-b\""),
        ("a=ä", "value"),
        ("a=\"b\"", "value"),
        ("a in (b,$)", "value"),
        ("a\0b", "= == != > < in notin"),
        (long.as_str(), "at most 63"),
        (&format!("a={long}"), "at most 63"),
        (&format!("{}/a", "x".repeat(254)), "at most 253"),
    ] {
        let error = text.parse::<Selector>().expect_err(text).to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn the_wire_form_keeps_the_meaning_and_has_none_for_comparisons() {
    let json = |text: &str| serde_json::to_string(&selector(text).to_label_selector().expect(text)).expect("json");
    assert_eq!(json(""), "{}");
    assert_eq!(json("b=2,a==1"), r#"{"matchLabels":{"a":"1","b":"2"}}"#);
    assert_eq!(
        json("a=1,a=2"),
        r#"{"matchLabels":{"a":"1"},"matchExpressions":[{"key":"a","operator":"In","values":["2"]}]}"#
    );
    assert_eq!(
        json("a!=1,b in (x,y),c notin (z),d,!e"),
        concat!(
            r#"{"matchExpressions":[{"key":"a","operator":"NotIn","values":["1"]},"#,
            r#"{"key":"b","operator":"In","values":["x","y"]},{"key":"c","operator":"NotIn","values":["z"]},"#,
            r#"{"key":"d","operator":"Exists"},{"key":"e","operator":"DoesNotExist"}]}"#
        )
    );
    assert_eq!(selector("a>1").to_label_selector(), None);
    assert_eq!(selector("a=1,b<1").to_label_selector(), None);
}

#[test]
fn an_objects_selector_is_read() {
    let wire = |operator: &str, values: Option<&[&str]>| meta::LabelSelector {
        match_labels: Some([("app".to_owned(), "llm".to_owned())].into()),
        match_expressions: Some(vec![meta::LabelSelectorRequirement {
            key: "tier".to_owned(),
            operator: operator.to_owned(),
            values: values.map(|values| values.iter().map(|&value| value.to_owned()).collect()),
        }]),
    };
    for (operator, values, expected) in [
        ("In", Some(["b", "a"].as_slice()), "app=llm,tier in (a,b)"),
        ("NotIn", Some(&["a"]), "app=llm,tier notin (a)"),
        ("Exists", None, "app=llm,tier"),
        ("DoesNotExist", Some(&[]), "app=llm,!tier"),
    ] {
        assert_eq!(Selector::try_from(&wire(operator, values)).expect(operator), selector(expected));
    }
    for (operator, values) in
        [("In", None), ("NotIn", None), ("Exists", Some(["a"].as_slice())), ("Gt", Some(&["1"])), ("", None)]
    {
        Selector::try_from(&wire(operator, values)).expect_err(operator);
    }
    assert!(Selector::try_from(&meta::LabelSelector::default()).expect("empty").is_everything());
}

#[test]
fn plain_labels_make_a_selector() {
    let made = Selector::from_match_labels([("b", "2"), ("a", "1")]).expect("valid");
    assert_eq!(made, selector("a=1,b=2"));
    assert_eq!(made.requirements()[0].key(), "a");
    assert_eq!(made.requirements()[0].condition(), &Condition::Equals("1".to_owned()));
    Selector::from_match_labels([("not a key", "1")]).expect_err("a key with blanks");
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let value = "[a-z0-9]([a-z0-9._-]{0,5}[a-z0-9])?|";
    let condition = prop_oneof![
        value.prop_map(Condition::Equals),
        value.prop_map(Condition::NotEquals),
        prop::collection::vec(value, 1..4).prop_map(Condition::In),
        prop::collection::vec(value, 1..4).prop_map(Condition::NotIn),
        Just(Condition::Exists),
        Just(Condition::DoesNotExist),
        any::<i64>().prop_map(Condition::GreaterThan),
        any::<i64>().prop_map(Condition::LessThan),
    ];
    ("([a-z]{1,5}\\.[a-z]{1,3}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,5}[A-Za-z0-9])?|in|notin", condition)
        .prop_map(|(key, condition)| Requirement::new(key, condition).expect("valid by construction"))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(requirements in prop::collection::vec(requirement(), 0..6)) {
        let original = Selector::from(requirements);
        prop_assert_eq!(original.to_string().parse::<Selector>().expect("canonical text"), original);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-c=!<>(), \\t]{0,20}|(in|notin|a|,|=|\\(|\\)| |1|/){0,12}|.{0,20}") {
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(selector.to_string().parse::<Selector>().expect("canonical text"), selector);
        }
    }
}
