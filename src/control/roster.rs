//! What is decided for at this moment, by the cluster's view: every ScalingPolicy, and every Deployment without one whose HPA
//! reads one of our metrics. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    cluster::{Autoscaler, Deployment, Kind, ObjectKey, ScalingPolicy, View},
    gpu::Vocabulary,
    policy::{
        Mode,
        settings::Settings,
        target::{Following, Refusal, autoscalers, find, first, following, may},
    },
};

/// On whose behalf.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A policy's.
    Policy(Arc<ScalingPolicy>),
    /// An HPA's, which reads one of our metrics: nobody has asked for a decision, and so it is advice at most.
    Implied(Arc<Autoscaler>),
}

impl Subject {
    /// The policy, if there is one.
    #[must_use]
    pub fn policy(&self) -> Option<&Arc<ScalingPolicy>> {
        match self {
            Self::Policy(policy) => Some(policy),
            Self::Implied(_) => None,
        }
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// On whose behalf.
    pub subject: Subject,
    /// Who writes the replicas.
    pub mode: Mode,
    /// The Deployment, as far as one was found.
    pub deployment: Option<Arc<Deployment>>,
    /// What decides, or why nothing may be decided.
    pub work: Result<Work, Refusal>,
}

/// What decides for one Deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// The engine's policy and the pools.
    pub settings: Settings,
    /// Who does what is advised.
    pub following: Following,
}

/// Everything that is decided for. `ours` tells our metrics by name. What is in a namespace of which not everything is listed
/// is there as it was known last, and refused.
///
/// # Errors
/// What is not listed of the cluster, without which nothing can be decided for anybody.
pub fn roster(view: &View, vocabulary: &Vocabulary, ours: impl Fn(&str) -> bool) -> Result<Vec<Entry>, Arc<str>> {
    if let Some(kind) = Kind::SUBJECTS.iter().find(|kind| view.unsynced.contains(kind.name())) {
        return Err(format!("the cluster's state is not known yet: {kind} are not listed").into());
    }
    let mut entries: Vec<Entry> = view.policies.values().map(|policy| entry(view, vocabulary, policy)).collect();
    refuse_twins(&mut entries);
    let taken: BTreeSet<ObjectKey> =
        entries.iter().filter_map(|entry| Some(entry.deployment.as_ref()?.key.clone())).collect();
    entries.extend(implied(view, vocabulary, ours, &taken));
    Ok(entries)
}

/// Whether no watched namespace may have subjects that the roster lacks.
#[must_use]
pub fn is_whole(view: &View) -> bool {
    let lacking = |namespace: &Arc<str>| view.unknown(&Kind::SUBJECTS, namespace).is_some();
    !view.unsynced_in.keys().any(lacking)
}

/// Nothing may be decided in a namespace of which it is not known what there is.
fn known(view: &View, namespace: &str) -> Result<(), Refusal> {
    view.unknown(&Kind::SUBJECTS, namespace).map_or(Ok(()), |why| Err(Refusal::ClusterUnknown(why)))
}

fn entry(view: &View, vocabulary: &Vocabulary, policy: &Arc<ScalingPolicy>) -> Entry {
    let subject = Subject::Policy(Arc::clone(policy));
    let spec = match &policy.spec {
        Ok(spec) => spec,
        Err(why) => {
            let refusal = Refusal::Invalid { field: "spec".into(), why: why.to_string() };
            return Entry { subject, mode: Mode::Advise, deployment: None, work: Err(refusal) };
        }
    };
    let mode = spec.mode;
    let namespace = &policy.key.namespace;
    let deployment = match find(view, namespace, &spec.target_ref) {
        Ok(deployment) => deployment,
        Err(refusal) => {
            let refusal = known(view, namespace).err().unwrap_or(refusal);
            return Entry { subject, mode, deployment: None, work: Err(refusal) };
        }
    };
    let work = known(view, namespace)
        .and_then(|()| may(view, deployment, mode))
        .and_then(|()| Settings::of(spec, vocabulary))
        .map(|settings| Work { settings, following: following(view, deployment) });
    Entry { subject, mode, deployment: Some(Arc::clone(deployment)), work }
}

/// Of several policies for one Deployment all but the first are refused.
fn refuse_twins(entries: &mut [Entry]) {
    let mut by_deployment: BTreeMap<ObjectKey, Vec<Arc<ScalingPolicy>>> = BTreeMap::new();
    for entry in &*entries {
        if let (Some(deployment), Some(policy)) = (&entry.deployment, entry.subject.policy()) {
            by_deployment.entry(deployment.key.clone()).or_default().push(Arc::clone(policy));
        }
    }
    for entry in entries {
        let Some(deployment) = &entry.deployment else { continue };
        let Some(all) = by_deployment.get(&deployment.key).filter(|all| all.len() > 1) else { continue };
        let elder = first(&all.iter().collect::<Vec<_>>()).map(|policy| Arc::clone(&policy.key.name));
        if let (Some(elder), Some(own)) = (elder, entry.subject.policy())
            && own.key.name != elder
        {
            entry.work = Err(Refusal::SecondPolicy(elder));
        }
    }
}

fn implied<'a>(
    view: &'a View,
    vocabulary: &'a Vocabulary,
    ours: impl Fn(&str) -> bool + 'a,
    taken: &'a BTreeSet<ObjectKey>,
) -> impl Iterator<Item = Entry> + 'a {
    view.autoscalers.values().filter_map(move |hpa| {
        if &*hpa.target_kind != "Deployment" {
            return None;
        }
        let key = ObjectKey { namespace: Arc::clone(&hpa.key.namespace), name: Arc::clone(&hpa.target_name) };
        let deployment = view.deployments.get(&key).filter(|_| !taken.contains(&key))?;
        // Of several HPAs none scales; advice for the first of them would be for nobody.
        if autoscalers(view, &key).count() > 1 {
            return None;
        }
        let settings = Settings::implied(hpa, vocabulary, &ours)?;
        let work = known(view, &key.namespace)
            .and_then(|()| may(view, deployment, Mode::Advise))
            .map(|()| Work { settings, following: following(view, deployment) });
        let subject = Subject::Implied(Arc::clone(hpa));
        Some(Entry { subject, mode: Mode::Advise, deployment: Some(Arc::clone(deployment)), work })
    })
}

#[cfg(test)]
mod tests;
