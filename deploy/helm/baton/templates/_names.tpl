{{/* Names and labels. Most helpers take the root context; those of a role take (dict "root" $ "role" "router"). */}}

{{- define "baton.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "baton.cluster" -}}
{{- default (include "baton.fullname" .) .Values.clusterName -}}
{{- end -}}

{{- define "baton.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "baton.labels" -}}
{{- $own := include "baton.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "app.kubernetes.io/part-of" "baton" -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- merge $own (default (dict) .Values.commonLabels) | toYaml -}}
{{- end -}}

{{- define "baton.role.name" -}}
{{ include "baton.fullname" .root }}-{{ .role }}
{{- end -}}

{{- define "baton.role.selector" -}}
{{ include "baton.selector" .root }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "baton.role.labels" -}}
{{- merge (include "baton.role.selector" . | fromYaml) (include "baton.labels" .root | fromYaml) | toYaml -}}
{{- end -}}

{{/* The roles that are rendered, as a list in JSON. */}}
{{- define "baton.roles" -}}
{{- $roles := list "router" "prefill" "decode" -}}
{{- if .Values.gateway.enabled -}}{{- $roles = append $roles "gateway" -}}{{- end -}}
{{- if include "baton.hasPlanner" . -}}{{- $roles = append $roles "planner" -}}{{- end -}}
{{- toJson $roles -}}
{{- end -}}

{{/* A planner runs where somebody reads what it says, or where it is asked for. */}}
{{- define "baton.hasPlanner" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if or .Values.planner.enabled (has $scaling.mode (list "keda-push" "builtin")) (and (has $scaling.mode (list "hpa" "keda")) (eq $scaling.by "planner")) -}}true{{- end -}}
{{- end -}}

{{/* Whether the planner sets scales itself, as its configuration says: its own, laid over that of all processes. */}}
{{- define "baton.plannerSets" -}}
{{- if eq (dig "planner" "actuate" (dig "planner" "actuate" "none" (default (dict) .Values.config)) (default (dict) .Values.planner.config)) "kubernetes" -}}true{{- end -}}
{{- end -}}

{{/* Whether the planner writes in Kubernetes, and so holds a Lease: scales, or what its pods cost. */}}
{{- define "baton.plannerWrites" -}}
{{- if or .Values.planner.deletionCosts (include "baton.plannerSets" .) -}}true{{- end -}}
{{- end -}}

{{/* Whether the planner talks to the API server: to read the front proxy's authority, or to write. */}}
{{- define "baton.plannerAsks" -}}
{{- if and (include "baton.hasPlanner" .) (or (eq .Values.autoscaling.mode "builtin") (include "baton.plannerWrites" .)) -}}true{{- end -}}
{{- end -}}

{{/* What carries a role's pods: its version and kind, as in the object itself and in whatever scales it. */}}
{{- define "baton.workload.ref" -}}
{{- $kind := (index .root.Values .role).workload.kind -}}
apiVersion: {{ get (dict "Deployment" "apps/v1" "LeaderWorkerSet" "leaderworkerset.x-k8s.io/v1") $kind }}
kind: {{ $kind }}
{{- end -}}

{{- define "baton.role.image" -}}
{{- $images := .root.Values.images -}}
{{- if eq .role "planner" -}}{{ toJson $images.planner }}
{{- else if has .role (list "router" "gateway") -}}{{ toJson $images.router }}
{{- else if (index .root.Values .role).gpu.enabled -}}{{ toJson $images.workerCuda }}
{{- else -}}{{ toJson $images.workerCpu }}
{{- end -}}
{{- end -}}

{{- define "baton.port" -}}
{{- get (dict "router" "7450" "prefill" "7460" "decode" "7460" "gateway" "8000" "planner" "7470") . -}}
{{- end -}}

{{- define "baton.secretName" -}}
{{- default (printf "%s-cluster" (include "baton.fullname" .)) .Values.secret.existingSecret -}}
{{- end -}}

{{- define "baton.redisSecret" -}}
{{- if .Values.redis.embedded.enabled -}}
{{ include "baton.fullname" . }}-redis-urls
{{- else -}}
{{ required "redis.external.existingSecret is needed when redis.embedded.enabled is false" .Values.redis.external.existingSecret }}
{{- end -}}
{{- end -}}
