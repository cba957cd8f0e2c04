{{/* What all pods share. */}}
{{- define "streamer.podBase" -}}
serviceAccountName: {{ include "streamer.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "streamer.containerSecurity" -}}
securityContext:
  runAsUser: 10001
  runAsGroup: 10001
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* (dict "root" $ "first" LIST "values" VALUES): the variables for all, then those of VALUES, of which the same name
wins. */}}
{{- define "streamer.env" -}}
{{- $found := dict -}}
{{- range list .root.Values .values -}}
{{- range .env }}{{ $_ := set $found .name . }}{{ end -}}
{{- range .secretEnv }}{{ $_ := set $found .name (dict "name" .name "valueFrom" (dict "secretKeyRef" (dict "name" .secret "key" .key))) }}{{ end -}}
{{- end -}}
{{- $all := .first -}}
{{- with .root.Values.cacheKey }}{{ if .secret }}{{ $all = append $all (dict "name" "STREAMER_CACHE__KEY_FILE" "value" (printf "/run/secrets/cache-key/%s" .key)) }}{{ end }}{{ end -}}
{{- range $name := keys $found | sortAlpha }}{{ $all = append $all (get $found $name) }}{{ end -}}
{{- toYaml $all -}}
{{- end -}}

{{- define "streamer.mounts" -}}
- name: config
  mountPath: /etc/streamer
  readOnly: true
- name: tmp
  mountPath: /tmp
- name: cache
  mountPath: /var/lib/streamer
{{- if .Values.cacheKey.secret }}
- name: cache-key
  mountPath: /run/secrets/cache-key
  readOnly: true
{{- end }}
{{- range .Values.secretFiles }}
- name: secret-{{ .name }}
  mountPath: /run/secrets/{{ .name }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* (dict "root" $ "cache" VOLUME) */}}
{{- define "streamer.volumes" -}}
- name: config
  configMap:
    name: {{ include "streamer.name" .root }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .root.Values.tmpSize }}
- name: cache
  {{- toYaml .cache | nindent 2 }}
{{- with .root.Values.cacheKey.secret }}
- name: cache-key
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- range .root.Values.secretFiles }}
- name: secret-{{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
{{- end }}
{{- end -}}
