//! The API groups and versions that can be served. The only place where their names stand.

/// A metrics API group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Metrics that describe objects of the cluster.
    Custom,
    /// Metrics that describe anything else.
    External,
}

impl Group {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Custom => "custom.metrics.k8s.io",
            Self::External => "external.metrics.k8s.io",
        }
    }
}

/// A version of a metrics API group. Later ones are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// `custom.metrics.k8s.io/v1beta1`
    CustomV1Beta1,
    /// `custom.metrics.k8s.io/v1beta2`
    CustomV1Beta2,
    /// `external.metrics.k8s.io/v1beta1`
    ExternalV1Beta1,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CustomV1Beta1, Self::CustomV1Beta2, Self::ExternalV1Beta1];

    /// Its group.
    #[must_use]
    pub const fn group(self) -> Group {
        match self {
            Self::CustomV1Beta1 | Self::CustomV1Beta2 => Group::Custom,
            Self::ExternalV1Beta1 => Group::External,
        }
    }

    /// The version's name within its group.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::CustomV1Beta1 | Self::ExternalV1Beta1 => "v1beta1",
            Self::CustomV1Beta2 => "v1beta2",
        }
    }

    /// Group and version as they stand in `apiVersion` and in paths.
    #[must_use]
    pub const fn group_version(self) -> &'static str {
        match self {
            Self::CustomV1Beta1 => "custom.metrics.k8s.io/v1beta1",
            Self::CustomV1Beta2 => "custom.metrics.k8s.io/v1beta2",
            Self::ExternalV1Beta1 => "external.metrics.k8s.io/v1beta1",
        }
    }

    /// Kind of its lists, and of its resources in discovery.
    #[must_use]
    pub const fn list_kind(self) -> &'static str {
        match self.group() {
            Group::Custom => "MetricValueList",
            Group::External => "ExternalMetricValueList",
        }
    }

    /// Kind of one item.
    #[must_use]
    pub const fn item_kind(self) -> &'static str {
        match self.group() {
            Group::Custom => "MetricValue",
            Group::External => "ExternalMetricValue",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Api;

    #[test]
    fn group_and_version_agree_with_their_joint_form() {
        for api in Api::ALL {
            assert_eq!(api.group_version(), format!("{}/{}", api.group().name(), api.version()));
        }
    }
}
