//! Who and what a line is about, by dialect.

use super::*;

/// Card, instance, node, owner as `namespace/pod/container/uid` (`-` where absent), process.
type About = (String, Option<String>, Option<String>, Option<String>, Option<String>);

fn about(sample: &Sample) -> About {
    let text = |part: &Option<Arc<str>>| part.as_ref().map(ToString::to_string);
    let owner = sample.owner.as_ref().map(|o| {
        let part = |part: &Option<Arc<str>>| text(part).unwrap_or_else(|| "-".into());
        format!("{}/{}/{}/{}", o.namespace, o.pod, part(&o.container), part(&o.uid))
    });
    (sample.card.uuid.to_string(), text(&sample.card.instance), text(&sample.node), owner, text(&sample.process))
}

fn expected(card: &str, instance: &str, node: &str, owner: &str, process: &str) -> About {
    let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (card.into(), part(instance), part(node), part(owner), part(process))
}

#[test]
fn every_dialect_names_card_node_pod_and_process() {
    let cases = [
        (
            "ACK, a pod's process",
            r#"DCGM_CUSTOM_PROCESS_SM_UTIL{AllocateMode="exclusive",ContainerName="kserve-container",NamespaceName="prod",NodeName="cn-beijing.10.0.0.7",NodePoolId="np1",PodName="qwen-predictor-7c9-x2x",PodSource="ecs",ProcessId="31415",ProcessName="python3",ProcessType="C",UUID="GPU-f3e1",device="nvidia0",gpu="0",modelName="NVIDIA A10"} 63"#,
            expected("GPU-f3e1", "", "cn-beijing.10.0.0.7", "prod/qwen-predictor-7c9-x2x/kserve-container/-", "31415"),
        ),
        (
            "ACK, a process of no pod",
            r#"DCGM_CUSTOM_PROCESS_SM_UTIL{AllocateMode="none",ContainerName="",NamespaceName="",NodeName="n1",NodePoolId="default",PodName="",PodSource="ecs",ProcessId="1",ProcessName="x",ProcessType="C",UUID="GPU-1",device="nvidia0",gpu="0",modelName="m"} 0"#,
            expected("GPU-1", "", "n1", "", "1"),
        ),
        (
            "ACK, a card",
            r#"DCGM_FI_DEV_GPU_UTIL{Hostname="h1",NodeName="n1",NodePoolId="default",PodSource="ecs",UUID="GPU-1",device="nvidia0",gpu="0",modelName="m"} 12"#,
            expected("GPU-1", "", "n1", "", ""),
        ),
        (
            "ACK behind Prometheus: pod and namespace are the exporter's",
            r#"DCGM_CUSTOM_PROCESS_SM_UTIL{NamespaceName="prod",PodName="llm-0",ContainerName="c",NodeName="n1",ProcessId="9",UUID="GPU-1",namespace="arms-prom",pod="ack-prometheus-gpu-exporter-x",container="node-gpu-exporter"} 5"#,
            expected("GPU-1", "", "n1", "prod/llm-0/c/-", "9"),
        ),
        (
            "ACK behind Prometheus, a process of no pod: empty labels are gone",
            r#"DCGM_CUSTOM_PROCESS_SM_UTIL{NodeName="n1",ProcessId="9",UUID="GPU-1",namespace="arms-prom",pod="ack-prometheus-gpu-exporter-x"} 5"#,
            expected("GPU-1", "", "n1", "", "9"),
        ),
        (
            "ACK's first exporter",
            r#"DCGM_FI_DEV_GPU_UTIL{allocate_mode="exclusive",container_name="c",minor_number="2",name="A10",namespace_name="prod",node_name="n1",pod_name="llm-0",uuid="GPU-1"} 5"#,
            expected("GPU-1", "", "n1", "prod/llm-0/c/-", ""),
        ),
        (
            "ACS: the host's name is the pod's",
            r#"DCGM_FI_DEV_GPU_UTIL{namespace="prod",pod="llm-0",Hostname="llm-0",UUID="GPU-1",device="nvidia0",gpu="0",modelName="m"} 5"#,
            expected("GPU-1", "", "", "prod/llm-0/-/-", ""),
        ),
        (
            "ACS on a node of its own",
            r#"DCGM_FI_DEV_GPU_UTIL{namespace="prod",pod="llm-0",Hostname="llm-0",NodeName="n1",UUID="GPU-1",gpu="0"} 5"#,
            expected("GPU-1", "", "n1", "prod/llm-0/-/-", ""),
        ),
        (
            "dcgm-exporter, a shared card's pod",
            r#"DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",pci_bus_id="00000000:3B:00.0",device="nvidia0",modelName="NVIDIA A100",hostname="n1",container="c",namespace="prod",pod="llm-0",pod_uid="3a9e",vgpu="1"} 41"#,
            expected("GPU-1", "", "n1", "prod/llm-0/c/3a9e", ""),
        ),
        (
            "dcgm-exporter before 4.6.0-4.8.3",
            r#"DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",device="nvidia0",modelName="m",Hostname="n1",container="c",namespace="prod",pod="llm-0"} 41"#,
            expected("GPU-1", "", "n1", "prod/llm-0/c/-", ""),
        ),
        (
            "dcgm-exporter, a MIG instance",
            r#"DCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="0",UUID="GPU-1",device="nvidia0",modelName="m",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7",hostname="n1",container="c",namespace="prod",pod="llm-0"} 0.4"#,
            expected("GPU-1", "7", "n1", "prod/llm-0/c/-", ""),
        ),
        (
            "dcgm-exporter with --use-old-namespace",
            r#"DCGM_FI_DEV_GPU_UTIL{gpu="0",uuid="GPU-1",device="nvidia0",modelName="m",Hostname="n1",container_name="c",pod_namespace="prod",pod_name="llm-0"} 41"#,
            expected("GPU-1", "", "n1", "prod/llm-0/c/-", ""),
        ),
        (
            "old spellings behind Prometheus",
            r#"DCGM_FI_DEV_GPU_UTIL{uuid="GPU-1",pod_namespace="prod",pod_name="llm-0",namespace="gpu-operator",pod="dcgm-x",container="exporter"} 41"#,
            expected("GPU-1", "", "", "prod/llm-0/-/-", ""),
        ),
        (
            "dcgm-exporter behind Prometheus without honor_labels",
            r#"DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1",gpu="0",hostname="n1",container="exporter",namespace="gpu-operator",pod="dcgm-x",exported_container="c",exported_namespace="prod",exported_pod="llm-0",pod_uid="3a9e"} 41"#,
            expected("GPU-1", "", "n1", "prod/llm-0/c/3a9e", ""),
        ),
        (
            "an empty label is an absent one",
            r#"DCGM_FI_DEV_GPU_UTIL{UUID="",gpu_uuid="GPU-1",hostname="",Hostname="n1",exported_pod="",exported_namespace="",namespace="prod",pod="llm-0",container="",GPU_I_ID="",pod_uid=""} 41"#,
            expected("GPU-1", "", "n1", "prod/llm-0/-/-", ""),
        ),
        (
            "a pod without a namespace is nobody",
            r#"DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1",pod="llm-0"} 41"#,
            expected("GPU-1", "", "", "", ""),
        ),
        (
            "no UUID: the card's index on its node",
            r#"DCGM_FI_DEV_GPU_UTIL{gpu="3",device="nvidia3",hostname="n1"} 41"#,
            expected("gpu3", "", "n1", "", ""),
        ),
        (
            "no UUID and no gpu: the device's index",
            r#"DCGM_FI_DEV_GPU_UTIL{device="nvidia3",hostname="n1"} 41"#,
            expected("gpu3", "", "n1", "", ""),
        ),
        (
            "per-process lines of a device family",
            r#"DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1",pid="77",hostname="n1",namespace="prod",pod="llm-0"} 4096"#,
            expected("GPU-1", "", "n1", "prod/llm-0/-/-", "77"),
        ),
        (
            "escapes and odd bytes stay in their label",
            r#"DCGM_FI_DEV_GPU_UTIL{UUID="GPU\\1",err_msg="a, \"b\"=c} d",hostname="n1",namespace="prod",pod="llm-0"} 41"#,
            expected("GPU\\1", "", "n1", "prod/llm-0/-/-", ""),
        ),
    ];
    for (name, line, expected) in cases {
        assert_eq!(about(&one(line)), expected, "{name}");
    }
}

#[test]
fn a_card_behind_prometheus_does_not_belong_to_its_exporter() {
    let page = read(concat!(
        r#"DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1",namespace="gpu-operator",pod="dcgm-x"} 95"#,
        "\n",
        r#"DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1",namespace="gpu-operator",pod="dcgm-x",exported_namespace="prod",exported_pod="llm-0"} 90"#,
        "\n",
        r#"DCGM_FI_DEV_GPU_UTIL{UUID="GPU-2",namespace="prod",pod="serverless-0"} 80"#,
        "\n",
    ));
    let owners: Vec<_> = page.samples.iter().map(|sample| about(sample).3).collect();
    let pod = |name: &str| Some(name.to_owned());
    assert_eq!(owners, [None, pod("prod/llm-0/-/-"), pod("prod/serverless-0/-/-")]);
}

#[test]
fn configured_labels_are_tried_after_the_built_in_ones() {
    let labels = [
        ("namespace", vec!["k8s_ns"]),
        ("pod", vec!["k8s_pod", "workload"]),
        ("container", vec!["k8s_container"]),
        ("node", vec!["host"]),
        ("process", vec!["proc"]),
        ("uuid", vec!["serial"]),
        ("instance", vec!["slice"]),
        ("podUid", vec!["k8s_uid"]),
    ];
    let labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v.into_iter().map(String::from).collect())).collect();
    let config = config::Vocabulary { labels, ..config::Vocabulary::default() };
    let vocabulary = Vocabulary::new(&config).expect("a right configuration");
    let cases = [
        (
            r#"{serial="S1",slice="2",host="n1",k8s_ns="prod",workload="w",k8s_pod="llm-0",k8s_container="c",k8s_uid="u",proc="7"}"#,
            expected("S1", "2", "n1", "prod/llm-0/c/u", "7"),
        ),
        (r#"{serial="S1",k8s_ns="prod",workload="w"}"#, expected("S1", "", "", "prod/w/-/-", "")),
        (r#"{serial="S1",namespace="prod",workload="w"}"#, expected("S1", "", "", "prod/w/-/-", "")),
        (
            r#"{serial="S1",UUID="GPU-1",host="h",NodeName="n1",k8s_ns="x",k8s_pod="y",namespace="prod",pod="llm-0",ProcessId="8",proc="7"}"#,
            expected("GPU-1", "", "n1", "x/y/-/-", "8"),
        ),
        (
            r#"{UUID="GPU-1",k8s_ns="x",k8s_pod="y",namespace="prod",pod="llm-0"}"#,
            expected("GPU-1", "", "", "prod/llm-0/-/-", ""),
        ),
    ];
    for (labels, expected) in cases {
        let page = read_with(&vocabulary, &format!("DCGM_FI_DEV_GPU_UTIL{labels} 5\n"));
        assert_eq!(about(&page.samples[0]), expected, "{labels}");
    }
}
