{{/* What all pods have in common, whatever runs in them. They take (dict "root" $ "role" "redis" "block" .Values.redis.embedded). */}}

{{- define "baton.serviceAccount" -}}
{{- $account := .root.Values.serviceAccount -}}
{{- $own := .root.Values.model.download.serviceAccount.name -}}
{{- if and (eq .role "download") $own -}}{{ $own }}
{{- else if $account.create -}}{{ ternary "default" (include "baton.role.name" .) (eq .role "test") }}
{{- else -}}{{ default "default" $account.name }}
{{- end -}}
{{- end -}}

{{/* Ours win over a block's, and these over those of everything: a label that selects must stay what it is. */}}
{{- define "baton.pod.metadata" -}}
labels: {{- merge (include "baton.role.selector" . | fromYaml) (default (dict) .block.podLabels) (default (dict) .root.Values.commonLabels) | toYaml | nindent 2 }}
{{- with merge (default (dict) .annotations) (default (dict) .block.podAnnotations) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Everything of a pod's spec but its containers and volumes. */}}
{{- define "baton.pod.setting" -}}
{{- $isPlanner := and (eq .role "planner") (include "baton.plannerAsks" .root) -}}
serviceAccountName: {{ include "baton.serviceAccount" . | quote }}
automountServiceAccountToken: {{ if $isPlanner }}true{{ else }}false{{ end }}
# Service links would look like misspelled settings: BATON_ROUTER_PORT.
enableServiceLinks: false
{{- with mergeOverwrite (deepCopy (default (dict) .root.Values.podSecurityContext)) (default (dict) .block.podSecurityContext) }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .block.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $gpu := dig "gpu" dict .block }}
{{- if or $gpu.enabled .block.tolerations }}
tolerations:
  {{- if $gpu.enabled }}
  - {key: {{ $gpu.resource }}, operator: Exists, effect: NoSchedule}
  {{- end }}
  {{- with .block.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .block.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "priorityClassName" "schedulerName" "runtimeClassName" }}
{{- with index $.block $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "baton.containerSecurity" -}}
{{- toYaml .Values.containerSecurityContext -}}
{{- end -}}

{{- define "baton.tls.env" -}}
- {name: BATON_CLUSTER__TLS_CERT_FILE, value: /etc/baton/tls/tls.crt}
- {name: BATON_CLUSTER__TLS_KEY_FILE, value: /etc/baton/tls/tls.key}
- {name: BATON_CLUSTER__TLS_CA_FILE, value: /etc/baton/tls/ca.crt}
{{- end -}}

{{/* (dict "root" $ "image" .Values.images.router) */}}
{{- define "baton.image" -}}
{{- $repository := .image.repository -}}
{{- if and .root.Values.global.imageRegistry (not (regexMatch "^([^/]+[.:][^/]*|localhost)/" $repository)) -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .root.Values.global.imageRegistry) $repository -}}
{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}
