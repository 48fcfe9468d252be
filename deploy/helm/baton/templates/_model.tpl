{{/* Where the model comes from: scheme, folder seen by the processes, and the volume behind it. */}}

{{- define "baton.model.scheme" -}}
{{- regexFind "^[a-z0-9]+" .Values.model.uri -}}
{{- end -}}

{{- define "baton.model.rest" -}}
{{- regexReplaceAll "^[a-z0-9]+://" .Values.model.uri "" -}}
{{- end -}}

{{- define "baton.model.isFetched" -}}
{{- if has (include "baton.model.scheme" .) (list "hf" "s3") -}}true{{- end -}}
{{- end -}}

{{- define "baton.model.path" -}}
{{- $scheme := include "baton.model.scheme" . -}}
{{- $rest := include "baton.model.rest" . -}}
{{- if eq $scheme "file" -}}{{ $rest }}
{{- else if eq $scheme "pvc" -}}{{ printf "/models/%s" (join "/" (rest (splitList "/" $rest))) | trimSuffix "/" }}
{{- else if eq $scheme "image" -}}/models
{{- else -}}/models/{{ base $rest }}
{{- end -}}
{{- end -}}

{{/* Changes with the uri and its revision: another model is another claim and another Job. */}}
{{- define "baton.model.claim" -}}
{{- $what := printf "%s%s" .Values.model.uri (.Values.model.download.revision | empty | ternary "" (printf "@%s" .Values.model.download.revision)) -}}
{{ include "baton.fullname" . }}-model-{{ sha256sum $what | trunc 8 }}
{{- end -}}

{{- define "baton.model.volume" -}}
{{- $scheme := include "baton.model.scheme" . -}}
{{- $rest := include "baton.model.rest" . -}}
{{- if ne $scheme "file" }}
- name: model
  {{- if eq $scheme "image" }}
  {{- if semverCompare "<1.31.0-0" $.Capabilities.KubeVersion.Version }}
  {{- fail (printf "model.uri %s: image volumes need Kubernetes 1.31 with the feature gate ImageVolume, this is %s; use pvc://, hf:// or s3://" .Values.model.uri .Capabilities.KubeVersion.Version) }}
  {{- end }}
  image:
    reference: {{ $rest | quote }}
    pullPolicy: IfNotPresent
  {{- else if eq $scheme "pvc" }}
  persistentVolumeClaim:
    claimName: {{ first (splitList "/" $rest) | quote }}
    readOnly: true
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ include "baton.model.claim" . }}
    readOnly: true
  {{- end }}
{{- end }}
{{- end -}}
