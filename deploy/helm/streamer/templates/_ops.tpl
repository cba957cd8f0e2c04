{{/* A Deployment of one pod that runs a command of the image without torch, and its Service:
(dict "root" $ "component" NAME "args" LIST "port" NUMBER "portName" NAME "values" .Values.NAME "env" LIST
"readiness" PROBE "job" NAME "tls" SECRET) */}}
{{- define "streamer.ops" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "streamer.metadata" . | nindent 2 }}
spec:
  replicas: 1
  selector:
    matchLabels:
      {{- include "streamer.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "streamer.labels" . | nindent 8 }}
      annotations:
        checksum/config: {{ .root.Values.config | sha256sum }}
    spec:
      {{- include "streamer.podBase" .root | nindent 6 }}
      {{- with .root.Values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .root.Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "streamer.image" (dict "root" .root "tag" .root.Values.image.opsTag "suffix" "ops") }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          args:
            {{- toYaml (concat .args (list "--config" "/etc/streamer/streamer.toml")) | nindent 12 }}
          {{- include "streamer.containerSecurity" . | nindent 10 }}
          env:
            {{- include "streamer.env" (dict "root" .root "first" .env "values" .values) | nindent 12 }}
          ports:
            - name: {{ .portName }}
              containerPort: {{ .port }}
          # No liveness: each ends by itself where a restart helps.
          readinessProbe:
            {{- toYaml (merge .readiness (dict "periodSeconds" 5 "timeoutSeconds" 5)) | nindent 12 }}
          resources:
            {{- toYaml .values.resources | nindent 12 }}
          volumeMounts:
            {{- include "streamer.mounts" .root | nindent 12 }}
            {{- if .tls }}
            - name: tls
              mountPath: /run/tls
              readOnly: true
            {{- end }}
      volumes:
        {{- with .tls }}
        - name: tls
          secret:
            secretName: {{ . }}
            defaultMode: 0440
        {{- end }}
        {{- include "streamer.volumes" (dict "root" .root "cache" (dict "emptyDir" (dict "sizeLimit" "256Mi"))) | nindent 8 }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "streamer.metadata" . | nindent 2 }}
    {{- with .job }}
    prometheus-job: {{ . }}
    {{- end }}
spec:
  selector:
    {{- include "streamer.selector" . | nindent 4 }}
  ports:
    - name: {{ .portName }}
      port: {{ .port }}
      targetPort: {{ .portName }}
{{- end -}}
