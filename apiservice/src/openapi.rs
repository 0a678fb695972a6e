//! OpenAPI documents, versions 2 and 3, of what is served. kube-apiserver merges them into its own: only our paths are in
//! them. They never change while the server runs.

use serde_json::{Map, Value, json};

use crate::{
    api::{Api, Group},
    discovery::tag,
};

/// A document and its entity tag.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) body: Vec<u8>,
    pub(crate) tag: String,
}

/// All documents of a server.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) v2: Document,
    pub(crate) v3: Document,
    versions: Vec<(Api, Document)>,
}

impl Documents {
    /// The documents of these versions.
    pub(crate) fn new(served: &[Api], version: &str) -> Self {
        let versions: Vec<_> = served.iter().map(|api| (*api, Document::new(&v3(*api, version)))).collect();
        let paths: Map<_, _> = versions
            .iter()
            .map(|(api, document)| {
                let path = format!("apis/{}", api.group_version());
                let url = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", document.tag)});
                (path, url)
            })
            .collect();
        Self { v2: Document::new(&v2(served, version)), v3: Document::new(&json!({"paths": paths})), versions }
    }

    /// The version 3 document of one API.
    pub(crate) fn of(&self, api: Api) -> Option<&Document> {
        self.versions.iter().find(|(served, _)| *served == api).map(|(_, document)| document)
    }
}

impl Document {
    fn new(document: &Value) -> Self {
        let body = document.to_string().into_bytes();
        let tag = tag(&body);
        Self { body, tag }
    }
}

fn v2(served: &[Api], version: &str) -> Value {
    let mut all_paths = Map::new();
    let mut definitions = Map::new();
    for api in served {
        let list = json!({"$ref": format!("#/definitions/{}", schema_name(*api, api.list_kind()))});
        let answer = json!({"description": "OK", "schema": list});
        let parameter = |name: &str, place: &str| json!({"name": name, "in": place, "required": place == "path", "type": "string", "uniqueItems": true});
        let formats = json!(["application/json", "application/yaml"]);
        for (path, mut operation) in paths(*api, &answer, &parameter) {
            operation["get"]["produces"] = formats.clone();
            operation["get"]["schemes"] = json!(["https"]);
            all_paths.insert(path, operation);
        }
        definitions.extend(schemas(*api, "#/definitions/"));
    }
    json!({"swagger": "2.0", "info": info(version), "paths": all_paths, "definitions": definitions})
}

fn v3(api: Api, version: &str) -> Value {
    let list = json!({"schema": {"$ref": format!("#/components/schemas/{}", schema_name(api, api.list_kind()))}});
    let content = json!({"application/json": list, "application/yaml": list});
    let answer = json!({"description": "OK", "content": content});
    let parameter = |name: &str, place: &str| json!({"name": name, "in": place, "required": place == "path", "schema": {"type": "string", "uniqueItems": true}});
    let paths: Map<_, _> = paths(api, &answer, &parameter).into_iter().collect();
    let schemas: Map<_, _> = schemas(api, "#/components/schemas/").into_iter().collect();
    json!({"openapi": "3.0.0", "info": info(version), "paths": paths, "components": {"schemas": schemas}})
}

fn info(version: &str) -> Value {
    json!({"title": "Kubernetes metrics APIs", "version": version})
}

/// The paths of a version, with one operation each.
fn paths(api: Api, answer: &Value, parameter: &dyn Fn(&str, &str) -> Value) -> Vec<(String, Value)> {
    let root = format!("/apis/{}/", api.group_version());
    let kind = json!({"group": api.group().name(), "version": api.version(), "kind": api.item_kind()});
    let id = |verb: &str| format!("{verb}{}{}", camel(api.group().name()), camel(api.version()));
    let query = |tail: &str, description: &str, verb: &str| {
        let in_path = tail.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<_> = in_path.map(|name| parameter(name, "path")).collect();
        parameters.push(parameter("labelSelector", "query"));
        if api.group() == Group::Custom {
            parameters.push(parameter("metricLabelSelector", "query"));
        }
        let operation = json!({"get": {
            "description": description,
            "operationId": id(verb),
            "tags": [id("")],
            "parameters": parameters,
            "responses": {"200": answer},
            "x-kubernetes-action": "list",
            "x-kubernetes-group-version-kind": kind,
        }});
        (format!("{root}{tail}"), operation)
    };
    let resources = json!({"get": {
        "description": "get available resources",
        "operationId": id("getResources"),
        "tags": [id("")],
        "responses": {"200": {"description": "OK"}},
    }});
    let mut paths = vec![(root.clone(), resources)];
    match api.group() {
        Group::Custom => paths.extend([
            query("namespaces/{namespace}/metrics/{name}", "read a metric of a namespace", "listNamespaceMetric"),
            query(
                "namespaces/{namespace}/{resource}/{name}/{subresource}",
                "read a metric of objects in a namespace; name * selects by labels",
                "listNamespaced",
            ),
            query(
                "{resource}/{name}/{subresource}",
                "read a metric of objects of the cluster; name * selects by labels",
                "list",
            ),
        ]),
        Group::External => {
            paths.push(query("namespaces/{namespace}/{resource}", "read an external metric", "listNamespaced"));
        }
    }
    paths
}

/// The types of a version: its list and its item.
fn schemas(api: Api, references: &str) -> [(String, Value); 2] {
    let (list, item) = (schema_name(api, api.list_kind()), schema_name(api, api.item_kind()));
    let kind = json!([{"group": api.group().name(), "version": api.version(), "kind": api.list_kind()}]);
    let list_schema = json!({
        "description": "a list of values of one metric",
        "type": "object",
        "required": ["metadata", "items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "items": {"type": "array", "items": {"$ref": format!("{references}{item}")}},
        },
        "x-kubernetes-group-version-kind": kind,
    });
    [(list, list_schema), (item, item_schema(api))]
}

fn item_schema(api: Api) -> Value {
    let string = json!({"type": "string"});
    let seconds = json!({"type": "integer", "format": "int64"});
    let mut properties = json!({
        "timestamp": {"type": "string", "format": "date-time", "description": "when it was measured"},
        "value": {"type": "string", "description": "a quantity, such as 33500m"},
    });
    let object = json!({"type": "object", "properties":
        {"kind": string, "namespace": string, "name": string, "apiVersion": string}});
    let selector =
        json!({"type": "object", "nullable": true, "description": "the metric's label selector, if there was one"});
    match api {
        Api::CustomV1Beta1 => {
            properties["describedObject"] = object;
            properties["metricName"] = string;
            properties["window"] = seconds;
            properties["selector"] = selector;
        }
        Api::CustomV1Beta2 => {
            properties["describedObject"] = object;
            properties["metric"] = json!({"type": "object", "properties": {"name": string, "selector": selector}});
            properties["windowSeconds"] = seconds;
        }
        Api::ExternalV1Beta1 => {
            properties["metricName"] = string.clone();
            properties["metricLabels"] = json!({"type": "object", "additionalProperties": string});
            properties["window"] = seconds;
        }
    }
    json!({"description": "a value of a metric", "type": "object", "required": ["timestamp", "value"], "properties": properties})
}

/// The name that the Go packages give these types; it has to be unique in the merged document.
fn schema_name(api: Api, kind: &str) -> String {
    let package = match api.group() {
        Group::Custom => "custom_metrics",
        Group::External => "external_metrics",
    };
    format!("io.k8s.metrics.pkg.apis.{package}.{}.{kind}", api.version())
}

/// `custom.metrics.k8s.io` as `CustomMetricsK8sIo`.
fn camel(name: &str) -> String {
    name.split('.')
        .flat_map(|part| {
            let mut letters = part.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::Documents;
    use crate::api::Api;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema_and_every_path_parameter_is_described() {
        let documents = Documents::new(&Api::ALL, "v1");
        let mut bodies = vec![&documents.v2.body];
        bodies.extend(Api::ALL.iter().map(|api| &documents.of(*api).expect("served").body));
        for body in bodies {
            let document: Value = serde_json::from_slice(body).expect("json");
            let mut found = Vec::new();
            references(&document, &mut found);
            assert!(!found.is_empty());
            for reference in found {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            for (path, operation) in document["paths"].as_object().expect("paths") {
                for part in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                    let described = operation["get"]["parameters"].as_array().expect("parameters");
                    assert!(described.iter().any(|parameter| parameter["name"] == part), "{path}: {part}");
                }
            }
        }
    }

    #[test]
    fn operation_ids_are_unique_in_the_merged_document() {
        let document: Value = serde_json::from_slice(&Documents::new(&Api::ALL, "v1").v2.body).expect("json");
        let mut ids: Vec<_> = document["paths"]
            .as_object()
            .expect("paths")
            .values()
            .map(|path| path["get"]["operationId"].as_str().expect("an id").to_owned())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), count), (10, 10));
    }
}
