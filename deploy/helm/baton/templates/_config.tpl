{{/* A role's baton.toml. toToml writes 5 as 5.0, which is no whole number; JSON spells numbers and strings as TOML does. */}}

{{- define "baton.config" -}}
{{- $merged := mergeOverwrite (deepCopy (default (dict) .root.Values.config)) (deepCopy (default (dict) (index .root.Values .role).config)) -}}
{{- $_ := set $merged "cluster" (mergeOverwrite (default (dict) $merged.cluster) (dict "name" (include "baton.cluster" .root))) -}}
{{- $_ := set $merged "liveness" (mergeOverwrite (default (dict) $merged.liveness) (dict "drain_s" .root.Values.drainSeconds)) -}}
{{- $scaling := .root.Values.autoscaling -}}
{{- if and (eq .role "router") (or (ne $scaling.mode "none") (include "baton.plannerSets" .root)) (eq (int $scaling.decode.minReplicas) 0) -}}
{{- $hold := min 3600 (add .root.Values.decode.startupSeconds 60) -}}
{{- $_ := set $merged "router" (mergeOverwrite (dict "hold_s" $hold) (default (dict) $merged.router)) -}}
{{- end -}}
{{- range $section := keys $merged | sortAlpha }}
[{{ $section }}]
{{- $table := index $merged $section }}
{{- range $name := keys $table | sortAlpha }}
{{ $name }} = {{ index $table $name | toJson }}
{{- end }}
{{ end -}}
{{- end -}}
