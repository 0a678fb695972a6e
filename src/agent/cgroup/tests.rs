use proptest::prelude::*;

use super::*;

const UID: &str = "1858680e-b044-4fd5-9dd4-f137e30e2180";
const OTHER_UID: &str = "a5ea884f-9e60-4912-bd62-fef9a31db47a";
const STATIC: &str = "9f2c6c9b3f1d4d6f8f6e0a1b2c3d4e5f";
const ID: &str = "e275d1a37782ab30008aa3ae6666cccefe53b3a14a2ab5a8dc459939107c8c0d";
const OUTER: &str = "88ea268ece65a02d68b169fd74bcbcb427eb7f28900db0e3b906fb2eeb7341df";

/// A line of the file; `U`, `_U`, `S`, `O`, `I` and `D` in angle brackets stand for the ids above, so that what differs
/// between runtimes can be seen.
fn line(text: &str) -> String {
    text.replace("<U>", UID)
        .replace("<_U>", &UID.replace('-', "_"))
        .replace("<S>", STATIC)
        .replace("<O>", OTHER_UID)
        .replace("<I>", ID)
        .replace("<D>", OUTER)
}

fn place(uid: &str, container: Option<&str>) -> Place {
    Place { pod_uid: uid.into(), container: container.map(Into::into) }
}

#[test]
fn every_runtime_and_driver_names_pod_and_container_in_its_own_way() {
    for (what, text) in [
        // cgroup v2: one line.
        ("containerd, systemd, guaranteed", "0::/kubepods.slice/kubepods-pod<_U>.slice/cri-containerd-<I>.scope"),
        (
            "containerd, systemd, burstable",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<_U>.slice/cri-containerd-<I>.scope",
        ),
        (
            "containerd, systemd, best effort",
            "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<_U>.slice/cri-containerd-<I>.scope",
        ),
        ("containerd, cgroupfs", "0::/kubepods/burstable/pod<U>/<I>"),
        ("containerd, cgroupfs, guaranteed", "0::/kubepods/pod<U>/<I>"),
        (
            "containerd, systemd inside of the container",
            "0::/kubepods.slice/kubepods-pod<_U>.slice/cri-containerd-<I>.scope/init.scope",
        ),
        (
            "containerd, systemd, workload with services",
            "0::/kubepods.slice/kubepods-pod<_U>.slice/cri-containerd-<I>.scope/system.slice/docker-<D>.scope",
        ),
        (
            "CRI-O, systemd",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<_U>.slice/crio-<I>.scope",
        ),
        ("CRI-O, systemd, crun's sub-folder", "0::/kubepods.slice/kubepods-pod<_U>.slice/crio-<I>.scope/container"),
        ("CRI-O, cgroupfs", "0::/kubepods/besteffort/pod<U>/crio-<I>"),
        (
            "Docker by cri-dockerd, systemd",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<_U>.slice/docker-<I>.scope",
        ),
        ("Docker by cri-dockerd, cgroupfs", "0::/kubepods/burstable/pod<U>/<I>"),
        (
            "kind, systemd",
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod<_U>.slice/cri-containerd-<I>.scope",
        ),
        ("kind, cgroupfs", "0::/kubelet/kubepods/burstable/pod<U>/<I>"),
        ("k3d: k3s in a Docker container", "0::/docker/<D>/kubepods/burstable/pod<U>/<I>"),
        (
            "kind seen from its host",
            "0::/system.slice/docker-<D>.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod<_U>.slice/cri-containerd-<I>.scope",
        ),
        ("Docker in Docker, cgroupfs", "0::/docker/<D>/kubelet/kubepods/burstable/pod<U>/<I>"),
        // A reader in a cgroup namespace of its own sees the others from where it stands.
        (
            "from a pod of another class",
            "0::/../../../kubepods-burstable.slice/kubepods-burstable-pod<_U>.slice/cri-containerd-<I>.scope",
        ),
        ("from a pod of the same class", "0::/../../kubepods-pod<_U>.slice/cri-containerd-<I>.scope"),
        ("from a pod, cgroupfs", "0::/../../pod<U>/<I>"),
        // cgroup v1: a line for each hierarchy.
        (
            "v1, containerd, cgroupfs",
            "11:devices:/kubepods/burstable/pod<U>/<I>\n4:memory:/kubepods/burstable/pod<U>/<I>\n1:name=systemd:/kubepods/burstable/pod<U>/<I>",
        ),
        ("v1, k3s", "9:pids:/kubepods/pod<U>/<I>\n8:cpu,cpuacct:/kubepods/pod<U>/<I>\n0::/system.slice/k3s.service"),
        (
            "v1, CRI-O, systemd",
            "12:hugetlb:/kubepods.slice/kubepods-pod<_U>.slice/crio-<I>.scope\n3:cpu,cpuacct:/kubepods.slice/kubepods-pod<_U>.slice/crio-<I>.scope\n2:rdma:/",
        ),
        (
            "v1, Docker, systemd",
            "8:freezer:/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<_U>.slice/docker-<I>.scope",
        ),
        (
            "v1, kubelet with systemd over containerd with cgroupfs",
            "5:memory:/system.slice/containerd.service/kubepods-burstable-pod<_U>.slice:cri-containerd:<I>\n0::/",
        ),
        (
            "v1, Docker in Docker",
            "14:name=systemd:/docker/<D>/kubelet/kubepods/burstable/pod<U>/<I>\n13:rdma:/\n12:pids:/docker/<D>/kubelet/kubepods/burstable/pod<U>/<I>",
        ),
    ] {
        assert_eq!(places(&line(text)), [place(UID, Some(ID))], "{what}: {text}");
    }
}

#[test]
fn a_pod_is_known_where_the_container_is_not() {
    for (what, text) in [
        ("the pod's own folder", "0::/kubepods.slice/kubepods-pod<_U>.slice"),
        ("CRI-O's helper", "0::/kubepods.slice/kubepods-pod<_U>.slice/crio-conmon-<I>.scope"),
        ("a folder that is no container's", "0::/kubepods/pod<U>/system"),
    ] {
        assert_eq!(places(&line(text)), [place(UID, None)], "{what}");
    }
}

#[test]
fn a_static_pod_goes_by_the_hash_of_its_manifest() {
    for text in [
        "0::/kubepods/burstable/pod<S>/<I>",
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<S>.slice/cri-containerd-<I>.scope",
    ] {
        assert_eq!(places(&line(text)), [place(STATIC, Some(ID))], "{text}");
    }
}

#[test]
fn of_a_cluster_inside_of_a_pod_both_pods_are_named_the_outer_one_first() {
    let text = line("0::/kubepods/burstable/pod<U>/<I>/docker/<D>/kubelet/kubepods/burstable/pod<O>/<D>");
    assert_eq!(places(&text), [place(UID, Some(ID)), place(OTHER_UID, Some(OUTER))]);
}

#[test]
fn processes_of_no_pod_have_no_place() {
    for (what, text) in [
        ("a login session", "0::/user.slice/user-1000.slice/session-1.scope"),
        ("a service of the node", "0::/system.slice/kubelet.service"),
        ("the root", "0::/"),
        ("v1, all roots", "2:cpu,cpuacct:/\n1:name=systemd:/"),
        ("a Docker container of nobody's", "0::/docker/<D>"),
        ("a Docker container, systemd", "0::/system.slice/docker-<D>.scope"),
        ("podman", "0::/machine.slice/libpod-<D>.scope"),
        ("a slice that only looks like it", "0::/system.slice/tripod<_U>.slice"),
        ("no UID", "0::/kubepods/podinfo/<I>"),
        ("a UID of another form", "0::/kubepods/pod1858680e-b044-4fd5-9dd4-f137e30e218/<I>"),
        ("an empty file", ""),
        ("not a cgroup file", "hello: world"),
    ] {
        assert_eq!(places(&line(text)), [], "{what}: {text}");
    }
}

#[test]
fn hierarchies_that_disagree_name_no_pod() {
    let text = line("4:memory:/kubepods/pod<U>/<I>\n3:cpu:/kubepods/pod<O>/<I>");
    assert_eq!(places(&text), []);
}

proptest! {
    #[test]
    fn no_file_makes_it_panic_and_every_place_has_a_uid(text in "([0-9]:[a-z]*:)?(/|pod|kubepods|-|_|\\.slice|:|[0-9a-f]{1,12}|\\PC){0,40}") {
        for place in places(&text) {
            prop_assert!(uid(&place.pod_uid).is_some(), "{place:?}");
        }
    }
}
