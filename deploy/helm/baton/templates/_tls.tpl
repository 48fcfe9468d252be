{{/* Certificates: which Secret holds a role's, what it says, who signed it. */}}

{{/* Modes have Secrets of their own: what one owner wrote, another could not take over. */}}
{{- define "baton.tlsSecret" -}}
{{- if eq .root.Values.tls.mode "existingSecrets" -}}
{{ required (printf "tls.existingSecrets.%s is needed with tls.mode existingSecrets" .role) (index .root.Values.tls.existingSecrets .role) }}
{{- else -}}
{{ include "baton.role.name" . }}-{{ ternary "cert" "tls" (eq .root.Values.tls.mode "certManager") }}
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

{{/* The chart's authority, in JSON: the one that is there, be it cert-manager's, or one made for this rendering. The same for
every template. */}}
{{- define "baton.ca" -}}
{{- if not (hasKey .Values "ca.of.this.rendering") -}}
{{- $name := include "baton.fullname" . -}}
{{- $there := include "baton.secret.there" (dict "root" . "name" (printf "%s-ca" $name)) | fromJson -}}
{{- if not $there -}}{{- $there = include "baton.secret.there" (dict "root" . "name" (printf "%s-authority" $name)) | fromJson -}}{{- end -}}
{{- $ca := dict -}}
{{- if $there -}}
{{- $ca = buildCustomCert (index $there "tls.crt") (index $there "tls.key") -}}
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
