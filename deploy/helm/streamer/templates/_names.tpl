{{- define "streamer.name" -}}
{{- $name := .Values.nameOverride | default .Release.Name -}}
{{- if gt (len $name) 45 }}{{ fail (printf "nameOverride: the release's name %s is longer than 45 characters, and Kubernetes takes no longer ones with what is added; set nameOverride" $name) }}{{ end -}}
{{- $name -}}
{{- end -}}

{{/* The labels that select a component's pods: (dict "root" $ "component" "run"). */}}
{{- define "streamer.selector" -}}
app.kubernetes.io/name: streamer
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "streamer.labels" -}}
{{ include "streamer.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "streamer.metadata" -}}
{{- $name := include "streamer.name" .root -}}
name: {{ ternary $name (printf "%s-%s" $name .component) (eq .component "run") }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "streamer.labels" . | nindent 2 }}
{{- end -}}

{{- define "streamer.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "streamer.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* (dict "root" $ "tag" TAG "suffix" "ops") */}}
{{- define "streamer.image" -}}
{{- $image := .root.Values.image -}}
{{- $repository := required "image.repository: name the registry and the image that you built with deploy/docker" $image.repository -}}
{{ $repository }}:{{ .tag | default (printf "%s-%s" .root.Chart.AppVersion .suffix) }}
{{- end -}}
