{{/* A role's baton.toml. toToml writes 5 as 5.0, which is no whole number; JSON spells numbers and strings as TOML does. */}}

{{- define "baton.config" -}}
{{- $merged := mergeOverwrite (deepCopy .root.Values.config) (deepCopy (index .root.Values .role).config) -}}
{{- $_ := set $merged "cluster" (mergeOverwrite (default (dict) $merged.cluster) (dict "name" (include "baton.cluster" .root))) -}}
{{- $_ := set $merged "liveness" (mergeOverwrite (default (dict) $merged.liveness) (dict "drain_s" .root.Values.drainSeconds)) -}}
{{- range $section := keys $merged | sortAlpha }}
[{{ $section }}]
{{- $table := index $merged $section }}
{{- range $name := keys $table | sortAlpha }}
{{ $name }} = {{ index $table $name | toJson }}
{{- end }}
{{ end -}}
{{- end -}}
