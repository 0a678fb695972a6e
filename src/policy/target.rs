//! Which Deployment a policy is about, and who owns its replicas (R18).
//!
//! What KServe does with the replicas of its Deployments, by `serving.kserve.io/autoscalerClass`, was measured (KServe
//! v0.15.2 and v0.17.0, Standard mode): `external` leaves them alone; `none` sets them back within a second; `hpa`, which is
//! also what no annotation means, makes an HPA on cpu named like the Deployment; `keda` makes a ScaledObject.

use std::sync::Arc;

use super::{DESIRED_METRIC, Mode, TargetKind, TargetRef};
use crate::cluster::{Autoscaler, AutoscalerClass, Deployment, InferenceService, Kind, ObjectKey, ScalingPolicy, View};

/// Why a policy cannot work. It then does nothing, and says this in its condition `Ready`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field whose value cannot be used, and which the schema lets pass.
    #[error("{field}: {why}")]
    Invalid {
        /// Path of the field.
        field: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// There is no such object.
    #[error("spec.targetRef: there is no {kind:?} {name} in this namespace")]
    NoTarget {
        /// Its kind.
        kind: TargetKind,
        /// Its name.
        name: String,
    },
    /// The InferenceService has no Deployment that could be scaled.
    #[error(
        "spec.targetRef: no Deployment serves InferenceService {0}: it is not deployed yet, or not in KServe's Standard mode"
    )]
    NoDeployment(String),
    /// It has several.
    #[error(
        "spec.targetRef: several Deployments serve InferenceService {name} ({deployments}): name one of them with kind Deployment"
    )]
    SeveralDeployments {
        /// The InferenceService.
        name: String,
        /// Its Deployments.
        deployments: String,
    },
    /// One replica is a group of Deployments.
    #[error(
        "spec.targetRef: InferenceService {0} is multi-node (spec.predictor.workerSpec): a replica is a head with its workers, and scaling the heads alone would break the groups"
    )]
    MultiNode(Arc<str>),
    /// KServe sets replicas back.
    #[error(
        "InferenceService {0} has serving.kserve.io/autoscalerClass: none, with which KServe sets the replicas back at once; make it external"
    )]
    ClassNone(Arc<str>),
    /// Somebody else writes the replicas, and so must we not.
    #[error("{0} already scales Deployment {1}; there must be one owner: remove it, or use mode Advise")]
    Owned(Owner, Arc<str>),
    /// Whether somebody else writes the replicas cannot be seen.
    #[error("{0} cannot be read, and so nobody knows who else scales Deployment {1}; mode Act needs to know")]
    OwnersUnknown(&'static str, Arc<str>),
    /// An older policy is about the same Deployment.
    #[error("spec.targetRef: ScalingPolicy {0} is older and scales the same Deployment; delete one of them")]
    SecondPolicy(Arc<str>),
    /// What there is in its namespace is not known.
    #[error("the cluster's state is not known yet: {0}")]
    ClusterUnknown(String),
    /// Nothing tells of demand while there are no replicas.
    #[error("spec.minReplicas: 0 cannot work, because nothing measures demand while there are no replicas; make it 1")]
    ScaleFromZero,
}

impl Refusal {
    /// One word, for the condition's `reason`.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "InvalidSpec",
            Self::NoTarget { .. } | Self::NoDeployment(_) => "TargetNotFound",
            Self::SeveralDeployments { .. } => "TargetAmbiguous",
            Self::MultiNode(_) => "MultiNode",
            Self::ClassNone(_) => "AutoscalerClassNone",
            Self::Owned(..) => "ForeignOwner",
            Self::OwnersUnknown(..) => "OwnersUnknown",
            Self::SecondPolicy(_) => "SecondPolicy",
            Self::ClusterUnknown(_) => "ClusterUnknown",
            Self::ScaleFromZero => "ScaleFromZero",
        }
    }
}

/// Who else scales a Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// An HPA of that name.
    Autoscaler(Arc<str>),
    /// A KEDA ScaledObject of that name.
    ScaledObject(Arc<str>),
    /// KServe, which makes an HPA or a ScaledObject for this InferenceService unless its class is `external`.
    KServe(Arc<str>, AutoscalerClass),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Autoscaler(name) => write!(f, "HorizontalPodAutoscaler {name}"),
            Self::ScaledObject(name) => write!(f, "KEDA's ScaledObject {name}"),
            Self::KServe(name, class) => write!(
                f,
                "KServe (InferenceService {name} has serving.kserve.io/autoscalerClass {class}, and needs external)"
            ),
        }
    }
}

impl std::fmt::Display for AutoscalerClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hpa => "hpa",
            Self::Keda => "keda",
            Self::External => "external",
            Self::None => "none",
            Self::Other(class) => class,
        })
    }
}

/// The Deployment that is to be scaled.
pub fn find<'v>(view: &'v View, namespace: &str, target: &TargetRef) -> Result<&'v Arc<Deployment>, Refusal> {
    let TargetRef { kind, name } = target;
    let key = |name: &str| ObjectKey { namespace: namespace.into(), name: name.into() };
    let missing = || Refusal::NoTarget { kind: *kind, name: name.clone() };
    match kind {
        TargetKind::Deployment => view.deployments.get(&key(name)).ok_or_else(missing),
        TargetKind::InferenceService => {
            view.inference_services.get(&key(name)).ok_or_else(missing)?;
            let serves = |deployment: &Arc<Deployment>| deployment.inference_service.as_deref() == Some(&**name);
            if let Some(usual) = view.deployments.get(&key(&format!("{name}-predictor")))
                && serves(usual)
            {
                return Ok(usual);
            }
            let all: Vec<_> = view.deployments_in(namespace).filter(|deployment| serves(deployment)).collect();
            match all[..] {
                [only] => Ok(only),
                [] => Err(Refusal::NoDeployment(name.clone())),
                _ => {
                    let names: Vec<&str> = all.iter().map(|deployment| &*deployment.key.name).collect();
                    Err(Refusal::SeveralDeployments { name: name.clone(), deployments: names.join(", ") })
                }
            }
        }
    }
}

/// Whether this Deployment may be scaled in that mode by us.
pub fn may(view: &View, deployment: &Deployment, mode: Mode) -> Result<(), Refusal> {
    let service = inference_service(view, deployment);
    if let Some(service) = service {
        if service.multi_node {
            return Err(Refusal::MultiNode(Arc::clone(&service.key.name)));
        }
        if service.autoscaler == AutoscalerClass::None {
            return Err(Refusal::ClassNone(Arc::clone(&service.key.name)));
        }
    }
    match mode {
        Mode::Advise => Ok(()),
        Mode::Act => {
            let name = || Arc::clone(&deployment.key.name);
            if let Some(owner) = owners(view, deployment).next() {
                return Err(Refusal::Owned(owner, name()));
            }
            let namespace = &deployment.key.namespace;
            match [Kind::Autoscalers, Kind::ScaledObjects].iter().find(|kind| !view.knows(**kind, namespace)) {
                Some(kind) => Err(Refusal::OwnersUnknown(kind.name(), name())),
                None => Ok(()),
            }
        }
    }
}

fn inference_service<'v>(view: &'v View, deployment: &Deployment) -> Option<&'v Arc<InferenceService>> {
    let name = Arc::clone(deployment.inference_service.as_ref()?);
    view.inference_services.get(&ObjectKey { namespace: Arc::clone(&deployment.key.namespace), name })
}

/// Everybody else who writes its replicas. What is there goes before what KServe is about to make.
pub fn owners<'v>(view: &'v View, deployment: &'v Deployment) -> impl Iterator<Item = Owner> + 'v {
    let key = &deployment.key;
    let autoscalers = autoscalers(view, key).map(|hpa| Owner::Autoscaler(Arc::clone(&hpa.key.name)));
    let scaled = view.scaled_objects.values().filter(move |object| {
        object.key.namespace == key.namespace && &*object.target_kind == "Deployment" && object.target_name == key.name
    });
    let scaled = scaled.map(|object| Owner::ScaledObject(Arc::clone(&object.key.name)));
    let kserve = inference_service(view, deployment)
        .filter(|service| matches!(service.autoscaler, AutoscalerClass::Hpa | AutoscalerClass::Keda))
        .map(|service| Owner::KServe(Arc::clone(&service.key.name), service.autoscaler.clone()));
    autoscalers.chain(scaled).chain(kserve)
}

/// The HPAs of that Deployment.
pub fn autoscalers<'v>(view: &'v View, deployment: &'v ObjectKey) -> impl Iterator<Item = &'v Arc<Autoscaler>> + 'v {
    let first = ObjectKey { namespace: Arc::clone(&deployment.namespace), name: "".into() };
    view.autoscalers
        .range(first..)
        .map(|(_, hpa)| hpa)
        .take_while(|hpa| hpa.key.namespace == deployment.namespace)
        .filter(|hpa| &*hpa.target_kind == "Deployment" && hpa.target_name == deployment.name)
}

/// Who does what the engine advises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Following {
    /// This HPA.
    By {
        /// Its name.
        autoscaler: Arc<str>,
        /// Whether it follows every single step; otherwise its tolerance of 10 % swallows them from ten replicas up.
        exact: bool,
    },
    /// Nobody.
    Nobody,
    /// Somebody who goes by other things.
    Other(Owner),
    /// Several HPAs: each of them then refuses to scale (`AmbiguousSelector`).
    Several(Vec<Arc<str>>),
}

/// Who does what is advised for that Deployment.
#[must_use]
pub fn following(view: &View, deployment: &Deployment) -> Following {
    let hpas: Vec<_> = autoscalers(view, &deployment.key).collect();
    match hpas[..] {
        [only] if follows(only) => Following::By { autoscaler: Arc::clone(&only.key.name), exact: only.exact },
        [_] | [] => owners(view, deployment).next().map_or(Following::Nobody, Following::Other),
        _ => Following::Several(hpas.iter().map(|hpa| Arc::clone(&hpa.key.name)).collect()),
    }
}

/// Whether the HPA follows the engine's advice.
#[must_use]
pub fn follows(hpa: &Autoscaler) -> bool {
    hpa.metrics.iter().any(|(metric, _)| &**metric == DESIRED_METRIC)
}

/// The first of all policies whose target is the same Deployment: the oldest, and by name among equals.
#[must_use]
pub fn first<'v>(policies: &[&'v Arc<ScalingPolicy>]) -> Option<&'v Arc<ScalingPolicy>> {
    policies.iter().copied().min_by_key(|policy| (policy.created, &policy.key.name))
}

#[cfg(test)]
mod tests;
