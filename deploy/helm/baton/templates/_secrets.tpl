{{/* Secrets that are there, those that the chart mints, and a sign that one of them changed. */}}

{{/* (dict "root" $ "name" "x"): the data of a Secret, in JSON; empty where there is none, or no cluster to ask. */}}
{{- define "baton.secret.there" -}}
{{- dig "data" (dict) (lookup "v1" "Secret" .root.Release.Namespace .name | default dict) | default dict | toJson -}}
{{- end -}}

{{/* What the chart mints, in JSON: the cluster's secret in base64, passwords as they are. Kept if it is there, made once for all
templates of this rendering if not. */}}
{{- define "baton.minted" -}}
{{- if not (hasKey .Values "minted.in.this.rendering") -}}
{{- $name := include "baton.fullname" . -}}
{{- $cluster := include "baton.secret.there" (dict "root" . "name" (include "baton.secretName" .)) | fromJson -}}
{{- $kept := include "baton.secret.there" (dict "root" . "name" (printf "%s-redis-urls" $name)) | fromJson -}}
{{- if .Values.redis.embedded.enabled -}}
{{- $kept = merge (include "baton.redis.brought" . | fromJson) $kept -}}
{{- end -}}
{{- $minted := dict "secret" (get $cluster "secret" | default (randAlphaNum 48 | b64enc)) -}}
{{- range $key := list "worker" "router" "planner" -}}
{{- $_ := set $minted $key (get $kept $key | default (randAlphaNum 40 | b64enc) | b64dec) -}}
{{- end -}}
{{- $_ := set .Values "minted.in.this.rendering" $minted -}}
{{- end -}}
{{- index .Values "minted.in.this.rendering" | toJson -}}
{{- end -}}

{{/* Passwords that were brought, in JSON. All that are needed, or a refusal: half of them would be made anew each time. */}}
{{- define "baton.redis.brought" -}}
{{- $given := .Values.redis.embedded.existingSecret -}}
{{- $there := dict -}}
{{- if $given -}}
{{- $there = include "baton.secret.there" (dict "root" . "name" $given) | fromJson -}}
{{- if not $there -}}
{{- fail (printf "redis.embedded.existingSecret: there is no Secret %s in %s (it is read while installing)" $given .Release.Namespace) -}}
{{- end -}}
{{- range $key := ternary (list "worker" "router" "planner") (list "worker" "router") (eq (include "baton.hasPlanner" .) "true") -}}
{{- if not (get $there $key) -}}
{{- fail (printf "redis.embedded.existingSecret: the Secret %s has no password `%s`" $given $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $there -}}
{{- end -}}

{{- define "baton.redis.user" -}}
{{- get (dict "prefill" "worker" "decode" "worker" "router" "router" "planner" "planner") .role -}}
{{- end -}}

{{/* What processes read of Secrets once, at start: another content is a rollout. Certificates are read again as they change.
Nothing where a Secret cannot be seen from here. Mixed with the cluster's secret, so that it tells nothing of short passwords. */}}
{{- define "baton.secrets.checksum" -}}
{{- $root := .root -}}
{{- $seen := list -}}
{{- if eq .role "download" -}}
{{- with $root.Values.model.download.existingSecret -}}
{{- with include "baton.secret.there" (dict "root" $root "name" .) | fromJson -}}{{- $seen = append $seen (toJson .) -}}{{- end -}}
{{- end -}}
{{- else if eq .role "gateway" -}}
{{- with $root.Values.gateway.existingSecret -}}
{{- with get (include "baton.secret.there" (dict "root" $root "name" .) | fromJson) "credentials" -}}{{- $seen = append $seen . -}}{{- end -}}
{{- end -}}
{{- else -}}
{{- if and $root.Values.secret.existingSecret (ne .role "redis") -}}
{{- with get (include "baton.secret.there" (dict "root" $root "name" $root.Values.secret.existingSecret) | fromJson) "secret" -}}{{- $seen = append $seen . -}}{{- end -}}
{{- else if ne .role "redis" -}}
{{- $seen = append $seen "minted" -}}
{{- end -}}
{{- if not $root.Values.redis.embedded.enabled -}}
{{- $key := printf "%s-url" (include "baton.redis.user" .) -}}
{{- with get (include "baton.secret.there" (dict "root" $root "name" (include "baton.redisSecret" $root)) | fromJson) $key -}}{{- $seen = append $seen . -}}{{- end -}}
{{- else -}}
{{- $minted := include "baton.minted" $root | fromJson -}}
{{- range $user := ternary (list "worker" "router" "planner") (list (include "baton.redis.user" .)) (eq .role "redis") -}}
{{- $seen = append $seen (get $minted $user) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $seen -}}
{{- printf "%s %s" (include "baton.minted" $root | fromJson).secret (join " " $seen) | sha256sum -}}
{{- end -}}
{{- end -}}
