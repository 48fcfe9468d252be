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
{{ include "baton.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: baton
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "baton.role.name" -}}
{{ include "baton.fullname" .root }}-{{ .role }}
{{- end -}}

{{- define "baton.role.selector" -}}
{{ include "baton.selector" .root }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "baton.role.labels" -}}
{{ include "baton.labels" .root }}
app.kubernetes.io/component: {{ .role }}
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
{{- if eq (dig "planner" "actuate" (dig "planner" "actuate" "none" .Values.config) .Values.planner.config) "kubernetes" -}}true{{- end -}}
{{- end -}}

{{/* Whether the planner talks to the API server: to read the front proxy's authority, or to set scales. */}}
{{- define "baton.plannerAsks" -}}
{{- if and (include "baton.hasPlanner" .) (or (eq .Values.autoscaling.mode "builtin") (include "baton.plannerSets" .)) -}}true{{- end -}}
{{- end -}}

{{/* What carries a role's pods: its version and kind, as in the object itself and in whatever scales it. */}}
{{- define "baton.workload.ref" -}}
{{- $kind := (index .root.Values .role).workload.kind -}}
apiVersion: {{ get (dict "Deployment" "apps/v1" "LeaderWorkerSet" "leaderworkerset.x-k8s.io/v1") $kind }}
kind: {{ $kind }}
{{- end -}}

{{- define "baton.serviceAccount" -}}
{{- if .root.Values.serviceAccount.create -}}{{ include "baton.role.name" . }}{{- else -}}default{{- end -}}
{{- end -}}

{{/* (dict "root" $ "image" .Values.images.router) */}}
{{- define "baton.image" -}}
{{- $repository := .image.repository -}}
{{- if and .root.Values.global.imageRegistry (not (regexMatch "^[^/]+[.:][^/]*/" $repository)) -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .root.Values.global.imageRegistry) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
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

{{- define "baton.tlsSecret" -}}
{{- if eq .root.Values.tls.mode "existingSecrets" -}}
{{ required (printf "tls.existingSecrets.%s is needed with tls.mode existingSecrets" .role) (index .root.Values.tls.existingSecrets .role) }}
{{- else -}}
{{ include "baton.role.name" . }}-tls
{{- end -}}
{{- end -}}

{{/* The DNS names in a role's certificate: who it stands for. See common/rpc/identity.py. */}}
{{- define "baton.tlsName" -}}
{{- $caller := get (dict "prefill" "worker" "decode" "worker") .role | default .role -}}
{{ $caller }}.{{ include "baton.cluster" .root }}.baton
{{- end -}}

{{/* All of them, in JSON. KEDA and the API server look for the planner's Service in its certificate. */}}
{{- define "baton.tlsNames" -}}
{{- $names := list (include "baton.tlsName" .) -}}
{{- if eq .role "planner" -}}
{{- $service := printf "%s.%s.svc" (include "baton.role.name" .) .root.Release.Namespace -}}
{{- $names = concat $names (list $service (printf "%s.cluster.local" $service)) -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* The chart's authority, in JSON: the one that is there, or one made for this rendering, the same for every template. */}}
{{- define "baton.ca" -}}
{{- if not (hasKey .Values "ca.of.this.rendering") -}}
{{- $name := include "baton.fullname" . -}}
{{- $there := lookup "v1" "Secret" .Release.Namespace (printf "%s-ca" $name) | default dict -}}
{{- $ca := dict -}}
{{- if $there.data -}}
{{- $ca = buildCustomCert (index $there.data "tls.crt") (index $there.data "tls.key") -}}
{{- else -}}
{{- $ca = genCAWithKey $name (int .Values.tls.days) (genPrivateKey "ecdsa") -}}
{{- end -}}
{{- $_ := set .Values "ca.of.this.rendering" (dict "Cert" $ca.Cert "Key" $ca.Key) -}}
{{- end -}}
{{- index .Values "ca.of.this.rendering" | toJson -}}
{{- end -}}

{{- define "baton.caBundle" -}}
{{- (include "baton.ca" . | fromJson).Cert | b64enc -}}
{{- end -}}
