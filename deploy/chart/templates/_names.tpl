{{/* Names, labels, and what more than one template says. */}}

{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "tidegate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Objects without a namespace: releases in two namespaces must not share them. */}}
{{- define "tidegate.clusterName" -}}
{{- if eq .Release.Namespace (include "tidegate.fullname" .) -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- printf "%s-%s" .Release.Namespace (include "tidegate.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tidegate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: adapter
{{- end -}}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "tidegate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tidegate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: which service account, if the chart creates none?" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the serving certificate. The first name is the adapter's own choice. */}}
{{- define "tidegate.certificateSecret" -}}
{{- if eq .Values.certificates.mode "selfManaged" -}}
tidegate-serving-certificate
{{- else if eq .Values.certificates.mode "certManager" -}}
{{- printf "%s-serving" (include "tidegate.fullname" .) -}}
{{- else -}}
{{- required "certificates.secret.name: the Secret with the serving certificate" .Values.certificates.secret.name -}}
{{- end -}}
{{- end -}}

{{/* The APIServices, as YAML: the higher version priority is the version that the HPA uses. */}}
{{- define "tidegate.apis" -}}
{{- if has "custom.metrics.k8s.io" .Values.groups }}
- {group: custom.metrics.k8s.io, version: v1beta1, priority: 100}
- {group: custom.metrics.k8s.io, version: v1beta2, priority: 200}
{{- end }}
{{- if has "external.metrics.k8s.io" .Values.groups }}
- {group: external.metrics.k8s.io, version: v1beta1, priority: 100}
{{- end }}
{{- end -}}

{{/* The configuration file: the values, and over them what the chart decides. */}}
{{- define "tidegate.config" -}}
{{- $serve := dict
  "listen" "0.0.0.0:6443"
  "groups" .Values.groups
  "serviceName" (include "tidegate.fullname" .)
  "serviceNamespace" .Release.Namespace -}}
{{- if ne .Values.certificates.mode "selfManaged" -}}
{{- $_ := set $serve "tlsCertFile" "/etc/tidegate/certificate/tls.crt" -}}
{{- $_ := set $serve "tlsKeyFile" "/etc/tidegate/certificate/tls.key" -}}
{{- end -}}
{{- $ours := dict "serve" $serve "telemetry" (dict "listen" "0.0.0.0:9090") -}}
{{- if include "tidegate.webhook" . -}}
{{- $burst := dict "webhookListen" "0.0.0.0:9443" -}}
{{- if eq .Values.certificates.mode "selfManaged" -}}
{{- $_ := set $burst "webhookConfiguration" (include "tidegate.clusterName" .) -}}
{{- end -}}
{{- $_ := set $ours "burst" $burst -}}
{{- end -}}
{{- if .Values.agent.enabled -}}
{{- $agent := dict "preset" "tidegate-agent" "namespace" (include "tidegate.agentNamespace" .) -}}
{{- $discover := append (dig "scrape" "discover" list .Values.config) $agent -}}
{{- $_ := set $ours "scrape" (dict "discover" $discover) -}}
{{- end -}}
{{- mergeOverwrite (deepCopy .Values.config) $ours | toYaml -}}
{{- end -}}

{{/* Namespaces that are watched, as a YAML list; empty: all. */}}
{{- define "tidegate.namespaces" -}}
{{- dig "aggregate" "namespaces" list .Values.config | toYaml -}}
{{- end -}}

{{/* Whether the admission webhook is registered. */}}
{{- define "tidegate.webhook" -}}
{{- if .Values.webhook.enabled -}}
{{- if not (include "tidegate.orders" .) -}}
{{- fail "webhook.enabled: needs config.burst.enabled, which keeps the order that the webhook begins" -}}
{{- end -}}
true
{{- end -}}
{{- end -}}
