//! `tidegate policy`: what goes with a ScalingPolicy.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Subcommand;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, api::ListParams};

use super::adapter::client;
use crate::policy::{
    ScalingPolicy, TargetKind,
    hpa::{Follower, TOLERANCE_SINCE},
    schema,
};

const EXAMPLES: &str = "Examples:
  tidegate policy hpa qwen-chat -n prod | kubectl apply -f -
  tidegate policy hpa --file policy.yaml --kubernetes 1.34
  tidegate policy crd | kubectl apply -f -";

/// Print the HorizontalPodAutoscaler that follows a ScalingPolicy's advice, or the CustomResourceDefinition.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the HPA that follows a policy: it transports the engine's number and adds nothing of its own.
    Hpa(Hpa),
    /// Print the CustomResourceDefinition of ScalingPolicies.
    Crd,
}

#[derive(Debug, clap::Args)]
struct Hpa {
    /// Name of the policy, to be read from the cluster.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    name: Option<String>,
    /// Namespace [default: the kubeconfig's, or the file's].
    #[arg(short, long)]
    namespace: Option<String>,
    /// Read the policy from this YAML file instead; no cluster is asked.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The cluster's version, such as 1.34 [default: what the cluster says, or the newest].
    #[arg(long, value_name = "VERSION", value_parser = minor)]
    kubernetes: Option<u32>,
    /// Kubeconfig to use instead of the service account or $KUBECONFIG.
    #[arg(long, env = "TIDEGATE_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// `1.34`, `v1.34.2` → 34.
fn minor(text: &str) -> Result<u32, String> {
    let version = text.trim_start_matches('v').strip_prefix("1.");
    let minor = version.and_then(|rest| rest.split('.').next()?.parse().ok());
    minor.ok_or_else(|| format!("expected a version such as 1.34, got {text:?}"))
}

/// Prints what is asked for.
///
/// # Errors
/// A policy that cannot be read or whose target is not there.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Crd => print!("{}", serde_saphyr::to_string(&schema::definition())?),
        What::Hpa(args) => print!("{}", follower(args)?.yaml()?),
    }
    Ok(ExitCode::SUCCESS)
}

fn follower(args: Hpa) -> anyhow::Result<Follower> {
    let Hpa { name, namespace, file, kubernetes, kubeconfig } = args;
    let tolerance = |minor: Option<u32>| minor.is_none_or(|minor| minor >= TOLERANCE_SINCE);
    if let Some(file) = file {
        let text = std::fs::read_to_string(&file).with_context(|| format!("--file {}", file.display()))?;
        let policy: ScalingPolicy =
            serde_saphyr::from_str(&text).with_context(|| format!("--file {}: not a ScalingPolicy", file.display()))?;
        let deployment = usual_deployment(&policy);
        return of(&policy, namespace, deployment, tolerance(kubernetes));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let client = client(kubeconfig).await?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let name = name.unwrap_or_default();
        let policies: Api<ScalingPolicy> = Api::namespaced(client.clone(), &namespace);
        let policy = policies.get(&name).await.with_context(|| format!("ScalingPolicy {name} in {namespace}"))?;
        let minor = match kubernetes {
            Some(minor) => Some(minor),
            // Some providers write `35+`.
            None => client.apiserver_version().await.ok().and_then(|v| v.minor.trim_end_matches('+').parse().ok()),
        };
        let deployment = deployment(&client, &policy, &namespace).await?;
        of(&policy, Some(namespace), deployment, tolerance(minor))
    })
}

fn of(
    policy: &ScalingPolicy,
    namespace: Option<String>,
    deployment: String,
    tolerance: bool,
) -> anyhow::Result<Follower> {
    let spec = &policy.spec;
    let Some(name) = policy.metadata.name.clone() else { bail!("metadata.name: the policy has none") };
    let namespace = namespace.or_else(|| policy.metadata.namespace.clone()).unwrap_or_else(|| "default".into());
    let (min, max) = (spec.min_replicas, spec.max_replicas);
    Ok(Follower { policy: name, namespace, deployment, min, max, tolerance })
}

/// KServe's name for the Deployment of a predictor.
fn usual_deployment(policy: &ScalingPolicy) -> String {
    let target = &policy.spec.target_ref;
    match target.kind {
        TargetKind::Deployment => target.name.clone(),
        TargetKind::InferenceService => format!("{}-predictor", target.name),
    }
}

/// The Deployment, as the adapter has found it, or else as it would be found.
async fn deployment(client: &Client, policy: &ScalingPolicy, namespace: &str) -> anyhow::Result<String> {
    if let Some(found) = policy.status.as_ref().and_then(|status| status.deployment.clone()) {
        return Ok(found);
    }
    let usual = usual_deployment(policy);
    let target = &policy.spec.target_ref;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    if target.kind == TargetKind::Deployment || deployments.get_opt(&usual).await?.is_some() {
        return Ok(usual);
    }
    let labels = format!("serving.kserve.io/inferenceservice={},component=predictor", target.name);
    let found = deployments.list_metadata(&ListParams::default().labels(&labels)).await?;
    match &found.items[..] {
        [only] => Ok(only.metadata.name.clone().unwrap_or_default()),
        [] => bail!("no Deployment serves InferenceService {} in {namespace} yet", target.name),
        _ => bail!("several Deployments serve InferenceService {}: use targetRef kind Deployment", target.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_the_forms_in_which_people_write_them() {
        for (text, expected) in [("1.34", 34), ("v1.36.3", 36), ("1.35.0", 35)] {
            assert_eq!(minor(text), Ok(expected));
        }
        for wrong in ["2.1", "34", "", "1.x"] {
            assert!(minor(wrong).unwrap_err().contains("1.34"), "{wrong}");
        }
    }

    #[test]
    fn a_policy_in_a_file_is_followed_without_asking_a_cluster() {
        let file = std::env::temp_dir().join(format!("tidegate-policy-{}.yaml", std::process::id()));
        std::fs::write(
            &file,
            "apiVersion: tidegate.dev/v1alpha1\nkind: ScalingPolicy\nmetadata: {name: llm, namespace: prod}\n\
             spec: {targetRef: {kind: InferenceService, name: llm}, minReplicas: 2, maxReplicas: 12}\n",
        )
        .unwrap();
        let args =
            |kubernetes| Hpa { name: None, namespace: None, file: Some(file.clone()), kubernetes, kubeconfig: None };
        let follower = follower(args(None)).unwrap();
        assert_eq!((&*follower.deployment, &*follower.namespace), ("llm-predictor", "prod"));
        assert_eq!((follower.min, follower.max, follower.tolerance), (2, 12, true));
        assert!(!super::follower(args(Some(34))).unwrap().tolerance);
        std::fs::remove_file(&file).unwrap();
    }
}
