//! The kinds that are watched, and where.

use std::{fmt, sync::Arc};

/// A kind of object that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1` Pods.
    Pods,
    /// `apps/v1` Deployments.
    Deployments,
    /// `serving.kserve.io/v1beta1` InferenceServices; their CRD may be absent, appear and vanish.
    InferenceServices,
    /// `v1` Services.
    CoreServices,
    /// `v1` Nodes.
    Nodes,
    /// `autoscaling/v2` HorizontalPodAutoscalers.
    Autoscalers,
    /// `tidegate.dev/v1alpha1` ScalingPolicies; their CRD may be absent, appear and vanish.
    ScalingPolicies,
    /// `keda.sh/v1alpha1` ScaledObjects: who else scales (R18); their CRD may be absent, appear and vanish.
    ScaledObjects,
    /// `scheduling.alibabacloud.com/v1alpha1` ResourcePolicies: the order of pools (R19); their CRD may be absent.
    ResourcePolicies,
    /// `scheduling.sigs.x-k8s.io/v1alpha1` ResourcePolicies, as scheduler-plugins has them; their CRD may be absent.
    PluginResourcePolicies,
}

impl Kind {
    /// What readings are made of.
    pub const MEASURED: [Self; 6] =
        [Self::Pods, Self::Deployments, Self::InferenceServices, Self::CoreServices, Self::Nodes, Self::Autoscalers];

    /// What only decisions are made of: readings are served without them.
    pub const DECIDED: [Self; 2] = [Self::ScalingPolicies, Self::ScaledObjects];

    /// What the order of pools is made of.
    pub const ORDERED: [Self; 2] = [Self::ResourcePolicies, Self::PluginResourcePolicies];

    /// Without these it is not known for what there is to decide.
    pub const SUBJECTS: [Self; 3] = [Self::ScalingPolicies, Self::Deployments, Self::InferenceServices];

    /// How [`View::unsynced`](super::View::unsynced), logs and errors call it: the plural resource name, with its group
    /// where two kinds share one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Deployments => "deployments",
            Self::InferenceServices => "inferenceservices",
            Self::CoreServices => "services",
            Self::Nodes => "nodes",
            Self::Autoscalers => "horizontalpodautoscalers",
            Self::ScalingPolicies => "scalingpolicies",
            Self::ScaledObjects => "scaledobjects",
            Self::ResourcePolicies => "resourcepolicies",
            Self::PluginResourcePolicies => "resourcepolicies.scheduling.sigs.x-k8s.io",
        }
    }

    /// Group and version in a URL path.
    const fn api(self) -> &'static str {
        match self {
            Self::Pods | Self::CoreServices | Self::Nodes => "api/v1",
            Self::Deployments => "apis/apps/v1",
            Self::InferenceServices => "apis/serving.kserve.io/v1beta1",
            Self::Autoscalers => "apis/autoscaling/v2",
            Self::ScalingPolicies => "apis/tidegate.dev/v1alpha1",
            Self::ScaledObjects => "apis/keda.sh/v1alpha1",
            Self::ResourcePolicies => "apis/scheduling.alibabacloud.com/v1alpha1",
            Self::PluginResourcePolicies => "apis/scheduling.sigs.x-k8s.io/v1alpha1",
        }
    }

    /// Whether its objects live in namespaces.
    #[must_use]
    pub const fn namespaced(self) -> bool {
        !matches!(self, Self::Nodes)
    }

    /// Whether a 404 for the kind as a whole means "there are none". For all others it is an error: a proxy that answers
    /// 404 must never look like a cluster without pods.
    #[must_use]
    pub const fn may_be_absent(self) -> bool {
        matches!(
            self,
            Self::InferenceServices
                | Self::ScalingPolicies
                | Self::ScaledObjects
                | Self::ResourcePolicies
                | Self::PluginResourcePolicies
        )
    }

    /// The collection's URL path.
    #[must_use]
    pub fn path(self, scope: &Scope) -> String {
        let (plural, _) = self.name().split_once('.').unwrap_or((self.name(), ""));
        match scope {
            Scope::Namespace(namespace) if self.namespaced() => {
                format!("/{}/namespaces/{namespace}/{plural}", self.api())
            }
            Scope::Namespace(_) | Scope::Cluster => format!("/{}/{plural}", self.api()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one watch covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything.
    Cluster,
    /// One namespace.
    Namespace(Arc<str>),
}

impl Scope {
    /// Whether an object of that namespace (empty for objects of cluster scope) is covered.
    #[must_use]
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespace(own) => **own == *namespace,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("all namespaces"),
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_kubernetes_api() {
        let prod = Scope::Namespace("prod".into());
        for (kind, scope, path) in [
            (Kind::Pods, &Scope::Cluster, "/api/v1/pods"),
            (Kind::Pods, &prod, "/api/v1/namespaces/prod/pods"),
            (Kind::Deployments, &prod, "/apis/apps/v1/namespaces/prod/deployments"),
            (Kind::InferenceServices, &Scope::Cluster, "/apis/serving.kserve.io/v1beta1/inferenceservices"),
            (Kind::CoreServices, &Scope::Cluster, "/api/v1/services"),
            (Kind::Nodes, &prod, "/api/v1/nodes"),
            (
                Kind::PluginResourcePolicies,
                &prod,
                "/apis/scheduling.sigs.x-k8s.io/v1alpha1/namespaces/prod/resourcepolicies",
            ),
            (Kind::Autoscalers, &Scope::Cluster, "/apis/autoscaling/v2/horizontalpodautoscalers"),
            (Kind::ScalingPolicies, &prod, "/apis/tidegate.dev/v1alpha1/namespaces/prod/scalingpolicies"),
            (Kind::ScaledObjects, &Scope::Cluster, "/apis/keda.sh/v1alpha1/scaledobjects"),
        ] {
            assert_eq!(kind.path(scope), path);
        }
    }
}
