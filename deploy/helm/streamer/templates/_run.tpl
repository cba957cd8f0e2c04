{{/* The pods of `streamer run`. */}}
{{- define "streamer.runPod" -}}
{{- $facts := include "streamer.facts" . | fromJson -}}
{{- $labels := dict "root" . "component" "run" -}}
{{- $gpu := .Values.gpu -}}
metadata:
  labels:
    {{- include "streamer.labels" $labels | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed configuration is a rolling update.
    checksum/config: {{ .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "streamer.podBase" . | nindent 2 }}
  # SIGTERM lets the work in progress finish and settle, within stop_deadline_s.
  terminationGracePeriodSeconds: {{ add $facts.stopSeconds .Values.rollout.stopSlackSeconds }}
  {{- with and $gpu.enabled $gpu.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with merge (dict) .Values.nodeSelector (ternary $gpu.nodeSelector (dict) $gpu.enabled) }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with concat .Values.tolerations (ternary $gpu.tolerations (list) $gpu.enabled) }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  affinity:
    {{- if .Values.affinity }}
    {{- toYaml .Values.affinity | nindent 4 }}
    {{- else }}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "streamer.selector" $labels | nindent 16 }}
    {{- end }}
  containers:
    - name: streamer
      image: {{ include "streamer.image" (dict "root" . "tag" .Values.image.tag "suffix" (ternary "cuda" "cpu" $gpu.enabled)) }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run, --config, /etc/streamer/streamer.toml, --pipeline, {{ $facts.name | quote }}]
      {{- include "streamer.containerSecurity" . | nindent 6 }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        # A pod's name is its slot: a StatefulSet's pod comes back with its partitions and its transactional id.
        - name: {{ $facts.variable }}SLOT
          value: {{ printf "%s$(POD_NAME)" .Values.slotPrefix | quote }}
        - name: {{ $facts.variable }}STATIC_MEMBERSHIP
          value: {{ $facts.static | quote }}
        {{- $first := list (dict "name" "STREAMER_TELEMETRY__HTTP" "value" (printf "0.0.0.0:%v" $facts.port)) }}
        {{- if not .Values.model.volume }}
        {{- /* The image keeps what it downloads in /models. */}}
        {{- $first = append $first (dict "name" "HF_HOME" "value" "/var/lib/streamer/huggingface") }}
        {{- end }}
        {{- include "streamer.env" (dict "root" . "first" $first "values" dict) | nindent 8 }}
      ports:
        - name: http
          containerPort: {{ $facts.port }}
      # /livez answers once a model of the hub is downloaded, and while the model loads.
      startupProbe:
        httpGet: {path: /livez, port: http}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: {{ div (add $facts.loadSeconds 64) 5 }}
      # Only our own loops, never Kafka or Redis: a restart does not repair those.
      livenessProbe:
        httpGet: {path: /livez, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      # The model is loaded, and partitions are read.
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 3
      {{- $resources := deepCopy .Values.resources }}
      {{- if $gpu.enabled }}
      {{- $_ := set $resources "limits" (merge (dict $gpu.resourceName $gpu.count) ($resources.limits | default dict)) }}
      {{- $_ := set $resources "requests" (merge (dict $gpu.resourceName $gpu.count) ($resources.requests | default dict)) }}
      {{- end }}
      resources:
        {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        {{- include "streamer.mounts" . | nindent 8 }}
        - name: shm
          mountPath: /dev/shm
        {{- if .Values.model.volume }}
        - name: model
          mountPath: {{ .Values.model.mountPath }}
          readOnly: true
        {{- end }}
  volumes:
    {{- include "streamer.volumes" (dict "root" . "cache" .Values.cacheVolume) | nindent 4 }}
    - name: shm
      emptyDir:
        medium: Memory
        sizeLimit: {{ .Values.shmSize }}
    {{- with .Values.model.volume }}
    - name: model
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end -}}
