{{/* The pod of a role. */}}

{{- define "baton.env" -}}
{{- $isWorker := has .role (list "prefill" "decode") -}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: BATON_LISTEN__HOST, value: {{ .root.Values.listenHost | quote }}}
- {name: BATON_LISTEN__PORT, value: {{ include "baton.port" .role | quote }}}
- {name: BATON_LISTEN__METRICS_PORT, value: "9400"}
{{ include "baton.tls.env" . }}
{{- if and (ne .role "gateway") (include "baton.redis.ca" .root) }}
- {name: BATON_CLUSTER__REDIS_CA_FILE, value: /etc/baton/redis-ca/{{ .root.Values.redis.external.caSecret.key }}}
{{- end }}
{{- if eq .role "gateway" }}
- {name: BATON_GATEWAY__ROUTERS, value: {{ printf "dns:///%s-router-headless.%s.svc:7450" (include "baton.fullname" .root) .root.Release.Namespace | quote }}}
{{- with .root.Values.gateway.existingSecret }}
- {name: BATON_GATEWAY__CREDENTIALS_FILE, value: /etc/baton/credentials/credentials}
{{- end }}
{{- else if eq .role "planner" }}
{{- $scaling := .root.Values.autoscaling }}
- {name: BATON_CLUSTER__SECRET_FILE, value: /etc/baton/secret/secret}
- name: BATON_CLUSTER__REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ include "baton.redisSecret" .root | quote }}, key: planner-url}}
- {name: BATON_PLANNER__NAMESPACE, value: {{ .root.Release.Namespace | quote }}}
- {name: BATON_PLANNER__RELEASE, value: {{ include "baton.fullname" .root | quote }}}
- {name: BATON_PLANNER__MIN_PREFILL, value: {{ $scaling.prefill.minReplicas | quote }}}
- {name: BATON_PLANNER__MAX_PREFILL, value: {{ $scaling.prefill.maxReplicas | quote }}}
- {name: BATON_PLANNER__MIN_DECODE, value: {{ $scaling.decode.minReplicas | quote }}}
- {name: BATON_PLANNER__MAX_DECODE, value: {{ $scaling.decode.maxReplicas | quote }}}
{{- if and $scaling.tolerance (semverCompare ">=1.33.0-0" .root.Capabilities.KubeVersion.Version) }}
- {name: BATON_PLANNER__HPA_TOLERANCE, value: {{ $scaling.tolerance | quote }}}
{{- end }}
{{- if .root.Values.planner.deletionCosts }}
- {name: BATON_PLANNER__DELETION_COSTS, value: "true"}
{{- end }}
{{- if eq $scaling.mode "keda-push" }}
- {name: BATON_PLANNER__KEDA, value: "true"}
{{- end }}
{{- if eq $scaling.mode "builtin" }}
- {name: BATON_METRICS_API__ENABLED, value: "true"}
- {name: BATON_METRICS_API__CERT_FILE, value: /etc/baton/tls/tls.crt}
- {name: BATON_METRICS_API__KEY_FILE, value: /etc/baton/tls/tls.key}
{{- end }}
{{- else }}
- {name: BATON_MODEL__PATH, value: {{ include "baton.model.path" .root | quote }}}
- {name: BATON_CLUSTER__SECRET_FILE, value: /etc/baton/secret/secret}
- name: BATON_CLUSTER__REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ include "baton.redisSecret" .root | quote }}, key: {{ ternary "worker-url" "router-url" $isWorker }}}}
{{- end }}
{{- if $isWorker }}
# Where peers dial it: what it listens on is no address.
- {name: BATON_LISTEN__ADVERTISE, value: $(POD_IP)}
- {name: BATON_TRANSFER__HOST, value: $(POD_IP)}
{{- end }}
{{- with (index .root.Values .role).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "baton.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
- {name: config, mountPath: /etc/baton/config, readOnly: true}
- {name: tls, mountPath: /etc/baton/tls, readOnly: true}
{{- if ne .role "gateway" }}
- {name: secret, mountPath: /etc/baton/secret, readOnly: true}
{{- if include "baton.redis.ca" .root }}
- {name: redis-ca, mountPath: /etc/baton/redis-ca, readOnly: true}
{{- end }}
{{- if and (ne .role "planner") (ne (include "baton.model.scheme" .root) "file") }}
- {name: model, mountPath: /models, readOnly: true}
{{- end }}
{{- else if .root.Values.gateway.existingSecret }}
- {name: credentials, mountPath: /etc/baton/credentials, readOnly: true}
{{- end }}
{{- with (index .root.Values .role).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "baton.volumes" -}}
{{- $block := index .root.Values .role -}}
- {name: tmp, emptyDir: {sizeLimit: {{ $block.tmpSize | quote }}}}
- {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ $block.shmSize | quote }}}}
- {name: config, configMap: {name: {{ include "baton.role.name" . }}}}
- {name: tls, secret: {secretName: {{ include "baton.tlsSecret" . | quote }}, defaultMode: 0440}}
{{- if ne .role "gateway" }}
- {name: secret, secret: {secretName: {{ include "baton.secretName" .root | quote }}, defaultMode: 0440}}
{{- with include "baton.redis.ca" .root }}
- {name: redis-ca, secret: {secretName: {{ . | quote }}, defaultMode: 0440}}
{{- end }}
{{- if ne .role "planner" }}
{{- include "baton.model.volume" .root }}
{{- end }}
{{- else if .root.Values.gateway.existingSecret }}
- {name: credentials, secret: {secretName: {{ .root.Values.gateway.existingSecret | quote }}, defaultMode: 0440}}
{{- end }}
{{- with $block.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Liveness is progress of the loops and depends on nobody else: a Redis outage must not restart the fleet. */}}
{{- define "baton.probes" -}}
startupProbe:
  httpGet: {path: {{ ternary "/readyz" "/healthz" (has .role (list "prefill" "decode")) }}, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ max 1 (div (index .root.Values .role).startupSeconds 5) }}
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{- define "baton.resources" -}}
{{- $block := index .root.Values .role -}}
{{- $resources := deepCopy (default (dict) $block.resources) -}}
{{- if $block.gpu.enabled -}}
{{- $_ := set $resources "limits" (mergeOverwrite (default (dict) $resources.limits) (dict $block.gpu.resource $block.gpu.count)) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}

{{- define "baton.container" -}}
{{- $block := index .root.Values .role -}}
{{- $image := include "baton.role.image" . | fromJson -}}
- name: {{ .role }}
  image: {{ include "baton.image" (dict "root" .root "image" $image) | quote }}
  imagePullPolicy: {{ $image.pullPolicy }}
  command: [python, -m, services.{{ .role }}]
  args:
    - --name=$(POD_NAME)
    - --config=/etc/baton/config/baton.toml
    {{- with $block.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  env: {{- include "baton.env" . | nindent 4 }}
  {{- with $block.extraEnvFrom }}
  envFrom: {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - {name: {{ ternary "http" "grpc" (eq .role "gateway") }}, containerPort: {{ include "baton.port" .role }}, protocol: TCP}
    - {name: metrics, containerPort: 9400, protocol: TCP}
    {{- if and (eq .role "planner") (eq .root.Values.autoscaling.mode "builtin") }}
    - {name: https, containerPort: 6443, protocol: TCP}
    {{- end }}
  {{- include "baton.probes" . | nindent 2 }}
  {{- if $block.preStopSeconds }}
  lifecycle:
    preStop:
      exec: {command: [sleep, {{ $block.preStopSeconds | quote }}]}
  {{- end }}
  resources: {{- include "baton.resources" . | nindent 4 }}
  securityContext: {{- include "baton.containerSecurity" .root | nindent 4 }}
  volumeMounts: {{- include "baton.mounts" . | nindent 4 }}
{{- end -}}

{{/* Ends with an error when a fetch failed, so that pods show it; Kubernetes starts it again, and it waits for the next try. */}}
{{- define "baton.waitForModel" -}}
{{- $image := include "baton.role.image" . | fromJson -}}
- name: wait-for-model
  image: {{ include "baton.image" (dict "root" .root "image" $image) | quote }}
  imagePullPolicy: {{ $image.pullPolicy }}
  command:
    - sh
    - -euc
    - |
      # The first process of a container hears only of signals that it asks for: a pod that waits leaves at once.
      trap 'exit 143' TERM INT
      model={{ include "baton.model.path" .root }}
      waited=0
      until test -e "$model/.complete"; do
        if test -e "$model/.failed"; then cat "$model/.failed" >&2; exit 1; fi
        if test "$waited" -ge {{ .root.Values.model.download.deadlineSeconds }}; then echo "no model after $waited s" >&2; exit 1; fi
        sleep 2 & wait $!
        waited=$((waited + 2))
      done
  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
  securityContext: {{- include "baton.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - {name: model, mountPath: /models, readOnly: true}
{{- end -}}

{{- define "baton.waits" -}}
{{- if and (has .role (list "router" "prefill" "decode")) (include "baton.model.isFetched" .root) -}}true{{- end -}}
{{- end -}}

{{- define "baton.pod" -}}
{{- $block := index .root.Values .role -}}
{{ include "baton.pod.setting" (dict "root" .root "role" .role "block" $block) }}
# preStop, then drain, then a moment for last words.
terminationGracePeriodSeconds: {{ add $block.preStopSeconds .root.Values.drainSeconds 15 }}
{{- if or (include "baton.waits" .) $block.initContainers }}
initContainers:
  {{- if include "baton.waits" . }}
  {{- include "baton.waitForModel" . | nindent 2 }}
  {{- end }}
  {{- with $block.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
containers:
  {{- include "baton.container" . | nindent 2 }}
  {{- with $block.sidecars }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes: {{- include "baton.volumes" . | nindent 2 }}
topologySpreadConstraints:
  {{- if $block.topologySpreadConstraints }}
  {{- toYaml $block.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "baton.role.selector" . | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "baton.podTemplate" -}}
{{- $block := index .root.Values .role -}}
{{- /* Configuration and Secrets are read once, at start: a change of them is a rollout. */}}
{{- $annotations := dict "checksum/config" (include "baton.config" . | sha256sum) -}}
{{- with include "baton.secrets.checksum" . -}}{{- $_ := set $annotations "checksum/secrets" . -}}{{- end -}}
metadata: {{- include "baton.pod.metadata" (dict "root" .root "role" .role "block" $block "annotations" $annotations) | nindent 2 }}
spec: {{- include "baton.pod" . | nindent 2 }}
{{- end -}}
