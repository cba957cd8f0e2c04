{{/* What the chart needs to know of streamer.toml, with streamer's defaults; refuses what can't be run as it says. */}}
{{- define "streamer.facts" -}}
{{- $config := fromToml (required "config: give streamer.toml: --set-file config=streamer.toml" .Values.config) -}}
{{- with $config.Error }}{{ fail (printf "config: this is no TOML: %s" .) }}{{ end -}}
{{- $all := $config.pipelines | default dict -}}
{{- $names := keys $all | sortAlpha -}}
{{- $name := .Values.pipeline -}}
{{- if not $name -}}
{{- if ne (len $names) 1 }}{{ fail (printf "pipeline: config has %d pipelines (%s): name the one that this release runs" (len $names) (join ", " $names)) }}{{ end -}}
{{- $name = first $names -}}
{{- else if not (hasKey $all $name) }}{{ fail (printf "pipeline: config has no pipeline %s, only: %s" $name (join ", " $names)) }}{{ end -}}
{{- $own := get $all $name -}}
{{- $here := printf "config: pipelines.%s" $name -}}
{{- if not (and $own.input $own.output) }}{{ fail (printf "%s: input and output must be given" $here) }}{{ end -}}
{{- if $own.slot }}{{ fail (printf "%s.slot: all pods would have this slot. Remove it: the name of each pod is its slot" $here) }}{{ end -}}
{{- $guarantee := $own.guarantee | default "exactly_once" -}}
{{- $kind := .Values.kind | default (ternary "StatefulSet" "Deployment" (eq $guarantee "exactly_once")) -}}
{{- if and (eq $kind "Deployment") (eq $guarantee "exactly_once") }}{{ fail (printf "kind: a Deployment gives each pod a new name, which can't end the transaction that the last one left open. Leave kind out, or set guarantee = \"at_least_once\" in %s" $here) }}{{ end -}}
{{- $static := dig "static_membership" (eq $kind "StatefulSet") $own -}}
{{- if and (eq $kind "Deployment") $static }}{{ fail (printf "%s.static_membership: the pods of a Deployment do not keep their names. Remove it, or set kind: StatefulSet" $here) }}{{ end -}}
{{- $kafka := $config.kafka | default dict -}}
{{- $cache := $config.cache | default dict -}}
{{- $telemetry := $config.telemetry | default dict -}}
{{- $health := $config.health | default dict -}}
{{- $environment := dict -}}
{{- range .Values.env }}{{ $_ := set $environment .name .value }}{{ end -}}
{{- range .Values.secretEnv }}{{ $_ := set $environment .name "" }}{{ end -}}
{{- if and (or $cache.url $cache.url_file (hasKey $environment "STREAMER_CACHE__URL")) (not (or $cache.key_file .Values.cacheKey.secret (hasKey $environment "STREAMER_CACHE__KEY_FILE"))) -}}
{{- fail "cacheKey.secret: there is a cache.url but no key, so that each pod would make its own and none could read what another one wrote. Name a Secret, or write cache.key_file = \"none\" in config" -}}
{{- end -}}
{{- $http := dig "http" "127.0.0.1:9464" $telemetry -}}
{{- if not $http }}{{ fail "config: telemetry.http: the probes need it. Remove it, or give it a port" }}{{ end -}}
{{- $healthHttp := dig "http" "127.0.0.1:9470" $health -}}
{{- if and .Values.health.enabled (not $healthHttp) }}{{ fail "config: health.http: the probes need it. Remove it, or give it a port" }}{{ end -}}
{{- if and (or .Values.autoscaling.enabled .Values.strimzi.enabled) (not .Values.inputPartitions) }}{{ fail "inputPartitions: give the number of the input's partitions: it is the most replicas that have work, and results need as many" }}{{ end -}}
{{- $replicas := ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled | int -}}
{{- if and .Values.inputPartitions (gt $replicas (int .Values.inputPartitions)) }}{{ fail (printf "replicas: there can't be %d, since the input has %v partitions: a pod without one does not become ready" $replicas .Values.inputPartitions) }}{{ end -}}
{{- $brokers := get $environment "STREAMER_KAFKA__BOOTSTRAP_SERVERS" | default $kafka.bootstrap_servers | default "localhost:9092" -}}
{{- if regexMatch "(^|,) *(localhost|127\\.|\\[::1\\])" $brokers }}{{ fail (printf "config: kafka.bootstrap_servers: %s is each pod itself. Write the brokers' addresses in the cluster, e.g. my-cluster-kafka-bootstrap.kafka:9092" $brokers) }}{{ end -}}
{{- $port := regexFind "[0-9]+$" $http | int -}}
{{- $input := ternary (list $own.input) $own.input (kindIs "string" $own.input) -}}
{{- dict
  "name" $name
  "variable" (printf "STREAMER_PIPELINES__%s__" ($name | upper | replace "-" "_"))
  "kind" $kind
  "guarantee" $guarantee
  "static" $static
  "input" $input
  "output" $own.output
  "deadLetter" ($own.dead_letter | default (printf "%s.dlq" $own.output))
  "group" ($own.group | default (printf "streamer.%s" $name))
  "stopSeconds" (ceil (dig "stop_deadline_s" 25 $own) | int)
  "loadSeconds" (ceil (dig "load_s" 900 $own) | int)
  "brokers" $brokers
  "cacheUrl" (get $environment "STREAMER_CACHE__URL" | default $cache.url | default "")
  "port" $port
  "ports" (untilStep $port (add $port (max 1 (dig "members" 1 $own | int)) | int) 1)
  "healthPort" (regexFind "[0-9]+$" $healthHttp | int)
  "reports" (dig "reports" "streamer.reports" $telemetry)
  "spans" (dig "spans" "otlp_spans" $telemetry)
  "health" (dig "topic" "streamer.health" $health)
  "feedback" (dig "feedback" "streamer.feedback" $health)
  | toJson -}}
{{- end -}}
