// CRDs of others that the chart makes objects of, so that the real API server checks those objects. `../build` fetches the two
// archives and nothing that they depend on; no program is built of them.
module tidegate.dev/tests/controlplane/crds

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
